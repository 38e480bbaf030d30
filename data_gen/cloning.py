"""Behavioural cloning of many datasets at once: each lane learns from the first steps of the same demonstrations."""

import functools
import itertools
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sibench import policies, tasks
from sibench.core import assets, files, provenance
from sibench.core.errors import UserError
from sibench.data import load_privileged, observation_index
from sibench.data.collect import player
from sibench.learning import checkpoint
from sibench.learning.convergence import nll
from sibench.learning.optimiser import Model, descend, init_model
from sibench.learning.progress import Progress
from sibench.learning.sampling import statistics
from sibench.policies.evaluation import evaluate
from sibench.policies.networks import BinsPolicy, Stats
from sibench.tasks import Task
from sibench.tasks.rollout import rollout, seeds

HELD_OUT = 50
"""Expert episodes that nothing is trained on, to measure likelihood."""
EXTENSIBLE = ("levels", "checkpoint_every", "eval_episodes", "out", "ship")
"""Settings that may change when a run is continued."""


class Demonstrations(NamedTuple):
    """Steps of the expert, to learn from and to be judged by."""

    obs: jax.Array  # [N, O]
    action: jax.Array  # [N, A]
    offsets: np.ndarray  # the first d demonstrations are the first offsets[d] steps
    stats: Stats  # of all demonstrations, however few a clone learns from: the scale of the inputs is known
    held_out_obs: jax.Array
    held_out_action: jax.Array
    expert_nll: float | None  # of the expert's own actions on the held-out steps, which no clone can beat
    content_sha256: str


class State(NamedTuple):
    """Everything that learning changes."""

    model: Model
    num_updates: jax.Array
    key: jax.Array


class Cloning(NamedTuple):
    """The learner of several lanes."""

    init: Any  # (keys [L]) -> State of L lanes
    chunk: Any  # (State, num_steps [L], obs, action, number of updates) -> (State, mean loss of the chunk [L])
    loss: Any  # (State, obs, action) -> [L]


def demonstrations(task: Task) -> Demonstrations:
    """Load the expert's dataset, and play held-out episodes."""
    demos = load_privileged(f"{task.name}/expert-v1", build=True)
    act, params, expert = player(task, "expert")
    played = rollout(task, act, params, seeds("select", f"{task.id}/expert", HELD_OUT), record=True)
    assert played.obs is not None and played.action is not None
    held_out_obs = jnp.asarray(played.obs[:, :-1][played.in_step])
    held_out_action = jnp.asarray(played.action[played.in_step])
    return Demonstrations(
        obs=jnp.asarray(demos.observations[observation_index(demos.offsets)]),
        stats=statistics(demos.observations),
        action=jnp.asarray(demos.actions),
        offsets=demos.offsets,
        held_out_obs=held_out_obs,
        held_out_action=held_out_action,
        expert_nll=expert and nll(expert, held_out_obs, held_out_action),
        content_sha256=demos.card["content_sha256"],
    )


def make(network: nn.Module, stats: Stats, batch_size: int, learning_rate: float, num_updates: int) -> Cloning:
    """Return a learner of `network`, whose learning rate decays to zero along a cosine."""
    adam = optax.adam(optax.cosine_decay_schedule(learning_rate, num_updates))

    def loss(params: Any, obs: jax.Array, action: jax.Array) -> jax.Array:
        """Return the mean negative log-likelihood of the actions."""
        return -network.apply(params, obs).log_prob(action).mean()

    @jax.jit
    @jax.vmap
    def init(key: jax.Array) -> State:
        params_key, key = jax.random.split(key)
        model = init_model(network, adam, params_key, stats, stats.mean[None])
        return State(model, jnp.zeros((), jnp.int32), key)

    def update(state: State, num_steps: jax.Array, obs: jax.Array, action: jax.Array) -> tuple[State, jax.Array]:
        batch_key, key = jax.random.split(state.key)
        index = jax.random.randint(batch_key, (batch_size,), 0, num_steps)
        model, value = descend(state.model, adam, lambda params: loss(params, obs[index], action[index]))
        return State(model, state.num_updates + 1, key), value

    lanes = jax.vmap(update, in_axes=(0, 0, None, None))

    @functools.partial(jax.jit, donate_argnums=0, static_argnums=4)
    def chunk(states: State, num_steps: jax.Array, obs: jax.Array, action: jax.Array, num: int):
        states, losses = jax.lax.scan(lambda s, _: lanes(s, num_steps, obs, action), states, length=num)
        return states, losses.mean(0)

    @jax.jit
    def losses(states: State, obs: jax.Array, action: jax.Array) -> jax.Array:
        return jax.vmap(loss, in_axes=(0, None, None))(states.model.params, obs, action)

    return Cloning(init, chunk, losses)


def make_ladder(task: Task, config: Any) -> None:
    """Train or resume the policies of a task, measure them, and ship them if asked to."""
    folder, levels = config.out / task.name, config.levels or task.ladder
    with files.sole_user(folder):
        demos = demonstrations(task)
        settings = {name: value for name, value in asdict(config).items() if name not in EXTENSIBLE}
        settings |= {"task": task.name, "engine": task.backend, "demonstrations_from": demos.content_sha256}
        run = provenance.start_run(folder, settings)
        # on a CPU lanes cost as much as one after the other, and single lanes show results sooner
        group = config.updates if jax.default_backend() == "gpu" else lambda level: level
        for _, members in itertools.groupby(sorted(levels), group):
            together = tuple(members)
            if not all((folder / f"bc-{level}.json").exists() for level in together):
                train(config, task, demos, run, together, folder)
        judge(config, task, levels, folder)


def train(
    config: Any, task: Task, demos: Demonstrations, run: dict[str, Any], levels: tuple[int, ...], folder: Path
) -> None:
    """Train the policies of some levels as lanes of one program. A lane's draws do not depend on the others."""
    num_updates, name = config.updates(levels[0]), f"{task.name} bc {', '.join(map(str, levels))}"
    network = BinsPolicy(task.action_size, (config.width, config.width))
    learner = make(network, demos.stats, config.batch_size, config.learning_rate, num_updates)
    num_steps = jnp.array([demos.offsets[level] for level in levels])
    key = jax.random.key(config.seed)
    states = learner.init(jnp.stack([jax.random.fold_in(key, level) for level in levels]))
    checkpoints = folder / "checkpoints" / "-".join(map(str, levels))
    if restored := checkpoint.restore(checkpoints, states):
        states = restored[1]
        print(f"{name}: resumed at update {restored[0]}", flush=True)
    progress = Progress(name, num_updates, int(states.num_updates[0]))
    while (done := int(states.num_updates[0])) < num_updates:
        num = min(config.checkpoint_every, num_updates - done)
        states, train_nll = learner.chunk(states, num_steps, demos.obs, demos.action, num)
        if not jnp.isfinite(train_nll).all():
            raise UserError(f"{name}: diverged before update {done + num}; try a lower --learning-rate")
        checkpoint.save(checkpoints, done + num, states)
        held_out = learner.loss(states, demos.held_out_obs, demos.held_out_action)
        pairs = zip(levels, train_nll, held_out, strict=True)
        shown = [f"bc-{level} {trained:.2f}, {other:.2f}" for level, trained, other in pairs]
        progress.show(done + num, "nll (train, held out)", *shown)

    held_out = learner.loss(states, demos.held_out_obs, demos.held_out_action)
    for lane, level in enumerate(levels):
        steps = slice(0, min(int(num_steps[lane]), len(demos.held_out_obs)))
        lane_state = jax.tree.map(lambda leaf, lane=lane: leaf[lane : lane + 1], states)
        card = {
            "task": task.id,
            "demonstrations": level,
            "num_updates": num_updates,
            "nll_train": float(learner.loss(lane_state, demos.obs[steps], demos.action[steps])[0]),
            "nll_held_out": float(held_out[lane]),
            "nll_held_out_expert": demos.expert_nll,
            "command": provenance.command(),
            **run,
        }
        params = jax.tree.map(lambda leaf, lane=lane: leaf[lane], states.model.params)
        policies.save(folder / f"bc-{level}", policies.Policy(network, params, task.observation_size), card, np.float16)


def judge(config: Any, task: Task, levels: tuple[int, ...], folder: Path) -> None:
    """Measure each policy as stored, write `<folder>/judged.json`, and ship the policies if asked to."""
    judged = {}
    print(f"{'policy':<10}{'return':>10}{'std':>10}{'quality':>9}{'nll train':>11}{'held out':>10}{'expert':>10}")
    for level in levels:
        policy = policies.load(folder / f"bc-{level}")
        returns = evaluate(policy, task.name, config.eval_episodes, block="select", engine=task.backend).returns
        card = policies.read_description(folder / f"bc-{level}")["card"]
        expert_nll = math.nan if card["nll_held_out_expert"] is None else card["nll_held_out_expert"]  # of a script
        quality = tasks.quality(task.name, returns.mean())
        judged[f"bc-{level}"] = {"quality": quality, "engine": task.backend, "returns": returns.tolist(), "card": card}
        files.write_atomic(folder / "judged.json", files.to_json(judged))
        print(
            f"bc-{level:<7}{returns.mean():>10.4g}{returns.std():>10.3g}{quality:>9.2f}"
            f"{card['nll_train']:>11.2f}{card['nll_held_out']:>10.2f}{expert_nll:>10.2f}",
            flush=True,
        )
        if config.ship:
            assets.ship(task.name, *(folder / f"bc-{level}{suffix}" for suffix in (".safetensors", ".json")))
