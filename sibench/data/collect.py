"""Make a dataset: play a shipped policy from fixed seeds.

A recipe says everything that determines the episodes: task, policy, seeds, number. A stored dataset whose card has
another recipe than this version of the package is stale and refused.
"""

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from sibench import tasks
from sibench.core import files, provenance
from sibench.core.errors import UserError
from sibench.core.ids import Id
from sibench.data import storage
from sibench.data.dataset import Dataset
from sibench.data.frames import Pixels
from sibench.policies import Policy, shipped
from sibench.policies.evaluation import policy_act
from sibench.tasks import cameras, demonstrator
from sibench.tasks.rollout import Act, Script, rollout, seeds

Report = Callable[[int, int], None]
"""Called now and then with the numbers of episodes and steps that are done."""


def silent(episodes: int, steps: int) -> None:
    """Report nothing."""


# --- recipes ----------------------------------------------------------------------------------------------------------


def parts(id: Id) -> list[Id]:
    """Return the stored datasets behind an id: expert and random for a mix, which is a view on them."""
    return [Id(id.task, source, id.episodes) for source in ("expert", "random")] if id.kind == "mix" else [id]


def recipe(id: Id) -> dict[str, Any]:
    """Return what determines the episodes of a dataset, save for the engine."""
    return {
        "id": str(id),
        "task": tasks.task_id(id.task),
        "policy": player_id(id),
        "mode": "sample",
        "seeds": f"collect/{seed_name(id)}",
        "num_episodes": id.episodes,
    }


def seed_name(id: Id) -> str:
    """Return the name from which the episode seeds of a dataset are drawn; the same for a task and its state twin."""
    return f"{tasks.task_id(tasks.state_twin(id.task))}/{id.source}"


def recipe_sha256(id: Id) -> str:
    """Return the hash of the policies and seeds that a dataset is played from, whatever machine plays it."""
    share = [f"last {id.num_experts}"] if id.kind == "mix" else []
    recipes = [] if id.kind == "other" else [recipe(part) for part in parts(id)]
    return canonical_sha256([str(id), *share, *recipes])


def canonical_sha256(value: Any) -> str:
    """Return the hash of a value in canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def content_key(id: Id) -> str:
    """Return the content hash of a dataset on this machine, without loading it; a mix names its parts."""
    hashes = []
    for part in parts(id):
        card = storage.read_card(part)
        check_recipe(part, card)
        hashes.append(card["content_sha256"])
    return f"last {id.num_experts} of {' and first of '.join(hashes)}" if id.kind == "mix" else hashes[0]


# --- who plays --------------------------------------------------------------------------------------------------------


def player_id(id: Id) -> str:
    """Return what identifies the player of a dataset: the hash of a shipped policy, or a name."""
    if id.source == "random":
        return "uniform"
    script = tasks.task_type(id.task).script
    return script if script and id.source == "expert" else shipped.policy_sha256(id.task, id.source)


def player(task: tasks.Task, source: str) -> tuple[Act | Script, Any, Policy | None]:
    """Return the player of a source and its parameters, and the policy if it is one."""
    if source == "random":
        return uniform_act(task.action_size), None, None
    if source == "expert" and task.script:
        return demonstrator.script(tasks.state_twin(task.name)), None, None
    policy = shipped.load_policy(task.name, source)
    return policy_act(policy.network, "sample"), policy.params, policy


@functools.cache
def uniform_act(action_dim: int) -> Act:
    """Return an `Act` that draws uniform actions."""

    def act(params: Any, obs: jax.Array, keys: jax.Array) -> jax.Array:
        return jax.vmap(lambda key: jax.random.uniform(key, (action_dim,), minval=-1.0, maxval=1.0))(keys)

    return act


# --- stored datasets --------------------------------------------------------------------------------------------------


def read_current(id: Id) -> Dataset:
    """Read a stored dataset; refuse it if it is stale or has not the shape of its task."""
    dataset = storage.read(id)
    check_recipe(id, dataset.card)
    check_widths(id, dataset)
    return dataset


def check_recipe(id: Id, card: dict[str, Any]) -> None:
    """Raise `UserError` if a stored dataset has another recipe than this version of the package."""
    if id.kind == "other":
        return
    for name, value in recipe(id).items():
        if card.get(name) != value:
            raise UserError(
                f"{storage.folder(id)} is stale: its {name} is {card.get(name)!r}, this version of sibench has "
                f"{value!r}; {storage.remedy(id)}"
            )


def check_widths(id: Id, dataset: Dataset) -> None:
    """Raise `UserError` if the arrays of a dataset have not the shape of its task."""
    task = tasks.make(id.task, "c")
    states = dataset.initial_states.shape[1]
    width = dataset.observations.shape[1]
    sizes = (width if dataset.pixels is None else 4 * width + cameras.NUM_BYTES, dataset.actions.shape[1])
    if sizes != (task.observation_size, task.action_size) or states not in (0, task.model.nq + task.model.nv):
        raise UserError(
            f"{storage.folder(id)}: {sizes[0]} observations, {sizes[1]} actions and {states} numbers of state are not "
            f"those of {task.id}; {storage.remedy(id)}"
        )


def check_engine(id: Id, engine: str) -> None:
    """Raise `UserError` if a stored dataset was made on another engine than the one asked for."""
    if engine not in ("auto", stored := storage.read_card(id)["engine"]):
        raise UserError(
            f"{storage.folder(id)} was made on engine {stored}, not {engine}: delete it to make it anew, or leave "
            "--engine out"
        )


def is_built(id: Id) -> bool:
    """Return whether a dataset is on this machine, intact, and of the current recipe."""
    try:
        check_recipe(id, storage.read_card(id))
        return storage.is_intact(id)
    except UserError:
        return False


# --- collecting -------------------------------------------------------------------------------------------------------


def build(id: Id, engine: str = "auto", report: Report = silent) -> None:
    """Make a dataset unless it is on this machine already; refuse one that was made on another engine."""
    if id.kind == "mix":
        for part in parts(id):
            build(part, engine, report)
        return
    if id.kind == "other":
        raise UserError(f"dataset {id} is not one of the benchmark's: it cannot be collected, only imported")
    with files.sole_user(storage.folder(id), wait=True):
        if is_built(id):
            check_engine(id, engine)
        else:
            storage.write(id, collect(id, engine, report))


def collect(id: Id, engine: str = "auto", report: Report = silent) -> Dataset:
    """Play the episodes of a dataset; one with frames shows the episodes of its state twin through the cameras."""
    task = tasks.make(id.task, engine)
    card = recipe(id) | {"command": f"{storage.build_command(id)} --engine {task.backend}"}
    if tasks.observes_pixels(id.task):
        cameras.backend()  # fails now rather than after all episodes of the twin
        twin = replace(id, task=tasks.state_twin(id.task))
        build(twin, engine, report)
        return through_cameras(task, read_current(twin), card, report)
    act, params, _ = player(task, id.source)
    return play(task, act, params, card, report)


def play(task: tasks.Task, act: Act | Script, params: Any, card: dict[str, Any], report: Report = silent) -> Dataset:
    """Record the episodes that a card describes by its `seeds` and `num_episodes`."""
    block, name = card["seeds"].split("/", 1)
    played = rollout(task, act, params, seeds(block, name, card["num_episodes"]), record=True, progress=report)
    if played.nonfinite.any():
        num = played.nonfinite.sum()
        raise UserError(f"{card['id']}: the policy gave actions that are not finite in {num} episodes")
    assert played.obs is not None and played.action is not None and played.reward is not None
    offsets = np.concatenate([[0], np.cumsum(played.length)])
    terminal, truncated = np.zeros((2, offsets[-1]), bool)
    terminal[offsets[1:] - 1] = played.terminal
    truncated[offsets[1:] - 1] = ~played.terminal
    card |= {"engine": task.backend, "code": provenance.code_version(), "versions": provenance.versions()}
    dataset = Dataset(
        observations=played.obs[np.arange(task.horizon + 1) <= played.length[:, None]],
        actions=played.action[played.in_step],
        rewards=played.reward[played.in_step],
        terminal=terminal,
        truncated=truncated,
        offsets=offsets,
        seeds=played.seed,
        initial_states=played.initial_state,
        card=card,
    )
    if tasks.observes_pixels(task.name):
        return through_cameras(task, dataset, card)
    card |= statistics(dataset, task.name)
    return dataset


def through_cameras(task: tasks.Task, dataset: Dataset, card: dict[str, Any], report: Report = silent) -> Dataset:
    """Return a dataset of the state twin as one of a task with frames, which are drawn when they are read."""
    states = dataset.observations

    def read(rows: np.ndarray) -> np.ndarray:
        frames = task.frames(states[rows])
        report(int((dataset.offsets[1:] + np.arange(dataset.num_episodes) <= rows[-1]).sum()), int(rows[-1]))
        return frames

    seen = dataset._replace(
        observations=states[:, : task.proprioception_size], pixels=Pixels(read, np.arange(len(states)))
    )
    played = {name: dataset.card[name] for name in ("engine", "code", "versions")}
    drawn = {"gl": cameras.backend(), "code": provenance.code_version(), "versions": provenance.versions()}
    card = card | played | {"frames": drawn}
    return seen._replace(card=card | statistics(seen, task.name))


def statistics(dataset: Dataset, task: str) -> dict[str, Any]:
    """Return the numbers of a card: returns, lengths, quality."""
    returns = dataset.returns
    return {
        "num_episodes": dataset.num_episodes,
        "num_steps": int(dataset.offsets[-1]),
        "obs_dim": dataset.observations.shape[1],
        "action_dim": dataset.actions.shape[1],
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_min": float(returns.min()),
        "return_max": float(returns.max()),
        "length_mean": float(dataset.lengths.mean()),
        "terminal_share": float(dataset.terminal.sum() / dataset.num_episodes),
        "quality": tasks.quality(task, float(returns.mean())),
        "returns": np.round(returns, 3).tolist(),
    }
