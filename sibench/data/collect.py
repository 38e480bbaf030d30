"""Making a dataset: a shipped policy, played from fixed seeds."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from sibench import assets, cameras, files, provenance, scripted, tasks
from sibench.data import Dataset, load_privileged, pixels, storage
from sibench.errors import UserError
from sibench.evaluation import policy_act
from sibench.ids import Id, has_frames, twin
from sibench.policies import Policy
from sibench.rollout import Act, Script, rollout, seeds


def recipe(id: Id) -> dict[str, Any]:
    """What a dataset is made of, save the engine; a stored one with another recipe is stale."""
    return {
        "id": str(id),
        "task": tasks.task_id(id.task),
        "policy": player_id(id),
        "mode": "sample",
        "seeds": f"collect/{seed_name(id)}",
        "num_episodes": id.episodes,
    }


def player_id(id: Id) -> str:
    """Who plays: the hash of a shipped policy, or the name of what is none."""
    if id.source == "random":
        return "uniform"
    script = tasks.task_type(id.task).script
    return script if script and id.source == "expert" else assets.policy_sha256(id.task, id.source)


def player(task: tasks.Task, source: str) -> tuple[Act | Script, Any, Policy | None]:
    """What acts, its parameters, and the policy if it is one."""
    if source == "random":
        return uniform_act(task.action_size), None, None
    if source == "expert" and task.script:
        return scripted.script(twin(task.name)), None, None
    policy = assets.load_policy(task.name, source)
    return policy_act(policy.network, "sample"), policy.params, policy


def seed_name(id: Id) -> str:
    return f"{tasks.task_id(twin(id.task))}/{id.source}"


def check_recipe(id: Id, card: dict[str, Any]) -> None:
    if id.kind == "other":
        return
    expected = recipe(id)
    for name, value in expected.items():
        if card.get(name) != value:
            raise UserError(
                f"{storage.folder(id)} is stale: its {name} is {card.get(name)!r}, this version of sibench has "
                f"{value!r}; {storage.remedy(id)}"
            )


def is_built(id: Id) -> bool:
    """Whether the dataset is there, intact, and of the present recipe."""
    try:
        check_recipe(id, storage.read_card(id))
        return storage.is_intact(id)
    except UserError:
        return False


def check_engine(id: Id, engine: str) -> None:
    """Refuse a stored dataset that was made on another engine than is asked for."""
    if engine not in ("auto", made_on := storage.read_card(id)["engine"]):
        raise UserError(
            f"{storage.folder(id)} was made on engine {made_on}, not {engine}: remove it to make it anew, or leave "
            "--engine out"
        )


def check_widths(id: Id, dataset: Dataset) -> None:
    """Refuse a dataset whose arrays are not of its task's shape."""
    task = tasks.make(id.task, "c")
    states = dataset.initial_states.shape[1]
    width = dataset.observations.shape[1]
    got = (width if dataset.pixels is None else 4 * width + cameras.NUM_BYTES, dataset.actions.shape[1])
    if got != (task.observation_size, task.action_size) or states not in (0, task.model.nq + task.model.nv):
        raise UserError(
            f"{storage.folder(id)}: {got[0]} observations, {got[1]} actions and {states} numbers of state are not "
            f"those of {task.id}; {storage.remedy(id)}"
        )


def parts(id: Id) -> list[Id]:
    """The stored datasets that an id is made of: a mix is a view on two."""
    return [Id(id.task, source, id.episodes) for source in ("expert", "random")] if id.kind == "mix" else [id]


def build(id: Id, engine: str = "auto", progress: Callable[[int, int], None] = lambda episodes, steps: None) -> None:
    """Collect a dataset and store it; do nothing if it is there already, made on this engine or `engine` is auto."""
    if id.kind == "mix":
        for part in parts(id):
            build(part, engine, progress)
        return
    if id.kind == "other":
        raise UserError(f"dataset {id} is not one of the benchmark's: it cannot be collected, only imported")
    with files.sole_user(storage.folder(id), wait=True):
        if not is_built(id):
            storage.write(id, collect(id, engine, progress))
        else:
            check_engine(id, engine)


def collect(
    id: Id, engine: str = "auto", progress: Callable[[int, int], None] = lambda episodes, steps: None
) -> Dataset:
    """Play the episodes of a dataset; those with frames are their twin's, seen once more."""
    task = tasks.make(id.task, engine)
    card = recipe(id) | {"command": f"{storage.command(id)} --engine {task.backend}"}
    if has_frames(id.task):
        cameras.backend()  # rather than after all episodes of the twin
        build(played := replace(id, task=twin(id.task)), engine, progress)
        return through_cameras(task, load_privileged(str(played)), card, progress)
    act, params, _ = player(task, id.source)
    return play(task, act, params, card, progress)


def play(
    task: tasks.Task,
    act: Act | Script,
    params: Any,
    card: dict[str, Any],
    progress: Callable[[int, int], None] = lambda episodes, steps: None,
) -> Dataset:
    """Record the episodes that a card names: its `id`, `seeds` and `num_episodes`."""
    seed = seeds(*card["seeds"].split("/", 1), card["num_episodes"])
    played = rollout(task, act, params, seed, record=True, progress=progress)
    if played.nonfinite.any():
        raise UserError(
            f"{card['id']}: the policy gave actions that are not finite in {played.nonfinite.sum()} episodes"
        )
    offsets = np.concatenate([[0], np.cumsum(played.length)])
    terminal, truncated = np.zeros((2, offsets[-1]), bool)
    terminal[offsets[1:] - 1] = played.terminal
    truncated[offsets[1:] - 1] = ~played.terminal
    card |= {
        "engine": task.backend,
        "code": provenance.code_version(),
        "versions": provenance.versions(),
    }
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
    if has_frames(task.name):
        return through_cameras(task, dataset, card)
    card |= statistics(dataset, task.name)
    return dataset


def through_cameras(
    task: tasks.Task,
    dataset: Dataset,
    card: dict[str, Any],
    progress: Callable[[int, int], None] = lambda episodes, steps: None,
) -> Dataset:
    """A dataset of whole observations as one of this task's: with frames, and of the numbers what is left of them."""
    whole = dataset.observations

    def read(rows: np.ndarray) -> np.ndarray:
        frames = task.frames(whole[rows])
        progress(int((dataset.offsets[1:] + np.arange(dataset.num_episodes) <= rows[-1]).sum()), int(rows[-1]))
        return frames

    seen = dataset._replace(observations=whole[:, : task.num_kept], pixels=pixels.Pixels(read, np.arange(len(whole))))
    kept = ("engine", "code", "versions")
    drawn = {"gl": cameras.backend(), "code": provenance.code_version(), "versions": provenance.versions()}
    card = card | {name: dataset.card[name] for name in kept} | {"frames": drawn}
    return seen._replace(card=card | statistics(seen, task.name))


@functools.cache
def uniform_act(action_dim: int):
    """An `Act` that draws uniform actions."""

    def act(params, obs, keys):
        return jax.vmap(lambda key: jax.random.uniform(key, (action_dim,), minval=-1.0, maxval=1.0))(keys)

    return act


def statistics(dataset: Dataset, task: str) -> dict[str, Any]:
    """The numbers of a card: returns, lengths, quality."""
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
