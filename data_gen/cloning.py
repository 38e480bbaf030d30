"""Behavioural cloning of many datasets at once: one lane each, on the first steps of the same demonstrations."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sibench.batches import statistics
from sibench.data import load_privileged, observation_index
from sibench.data.collect import player
from sibench.errors import require_no_frames
from sibench.heldout import nll
from sibench.networks import Model, Stats, descend, init_model
from sibench.rollout import rollout, seeds
from sibench.tasks import Task

HELD_OUT = 50
"""Expert episodes that nothing is trained on, to measure likelihood."""


class Demonstrated(NamedTuple):
    """Steps of the expert, to learn from and to be judged by."""

    obs: jax.Array  # [N, O]
    action: jax.Array  # [N, A]
    offsets: np.ndarray  # the first d demonstrations are the first offsets[d] steps
    stats: Stats  # of all demonstrations, however few of them a clone learns from: the scale of the inputs is given
    held_out_obs: jax.Array
    held_out_action: jax.Array
    expert_nll: float | None  # of the expert's own actions on the held-out steps: what no clone can better
    content_sha256: str


def demonstrations(task: Task) -> Demonstrated:
    require_no_frames(task.name, "its ladder is its twin's")
    demos = load_privileged(f"{task.name}/expert-v1", build=True)
    act, params, expert = player(task, "expert")
    other = rollout(task, act, params, seeds("select", f"{task.id}/expert", HELD_OUT), record=True)
    held_out_obs = jnp.asarray(other.obs[:, :-1][other.in_step])
    held_out_action = jnp.asarray(other.action[other.in_step])
    return Demonstrated(
        obs=jnp.asarray(demos.observations[observation_index(demos.offsets)]),
        stats=statistics(demos.observations),
        action=jnp.asarray(demos.actions),
        offsets=demos.offsets,
        held_out_obs=held_out_obs,
        held_out_action=held_out_action,
        expert_nll=expert and nll(expert, held_out_obs, held_out_action),
        content_sha256=demos.card["content_sha256"],
    )


class State(NamedTuple):
    model: Model
    num_updates: jax.Array
    key: jax.Array


class Cloning(NamedTuple):
    init: Any  # (keys [L]) -> State of L lanes
    chunk: Any  # (State, num_steps [L], obs, action, number of updates) -> (State, mean loss of the chunk [L])
    loss: Any  # (State, obs, action) -> [L]


def make(network: nn.Module, stats: Stats, batch_size: int, learning_rate: float, num_updates: int) -> Cloning:
    """`network` maps observations to a distribution. The learning rate decays to zero along a cosine."""
    adam = optax.adam(optax.cosine_decay_schedule(learning_rate, num_updates))

    def loss(params: Any, obs: jax.Array, action: jax.Array) -> jax.Array:
        """BC: the mean negative log-likelihood of the actions."""
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
