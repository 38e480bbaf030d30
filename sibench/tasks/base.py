"""What a task is: an MDP as a `brax.envs.Env`, which brax's wrappers and trainers take as it is."""

import functools
from typing import ClassVar

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from brax.envs.base import Env, State

from sibench.ids import LADDER
from sibench.physics import PhysicsState, make_physics


class Task(Env):
    """A task family subclasses this and gives what has no value below; `reset` and `step` are the same for all.

    Actions are clipped to [-1, 1], as every task here has it. A time-out is not part of `step`: whoever
    rolls out counts to `horizon` and marks the last step `truncated`, and `done` means `terminal`.
    """

    name: str
    version: int
    gymnasium_id: str | None = None
    """The environment of Gymnasium that it is the same as, if there is one."""
    modelled_on: str = ""
    """What it resembles, if it is not the same."""
    gymnasium_options: ClassVar[dict] = {}
    horizon: int = 1000
    frame_skip: int
    fields: tuple[str, ...]
    """MjData's that the members below read."""

    ladder: tuple[int, ...] = LADDER
    """Numbers of demonstrations that its behaviour policies are cloned from."""
    script: str | None = None
    """Name and version of the script (sibench/scripted.py) that is the task's expert, if that is no policy."""

    model: mujoco.MjModel

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A draw of the first qpos and qvel."""
        raise NotImplementedError

    def observe(self, state: PhysicsState) -> jax.Array:
        raise NotImplementedError

    def recorded(self, state: State) -> jax.Array:
        """What a recording keeps of an observation; `seen` makes it whole."""
        return state.obs

    def seen(self, recorded: np.ndarray) -> np.ndarray:
        """Observations [N, O] of what was kept of them."""
        return recorded

    def reward(self, before: PhysicsState, action: jax.Array, after: PhysicsState) -> jax.Array:
        raise NotImplementedError

    def terminal(self, state: PhysicsState) -> jax.Array:
        """1.0 where the task ends for good, so that nothing is earned afterwards."""
        raise NotImplementedError

    def progress(self, state: PhysicsState) -> jax.Array | None:
        """How far one has come, in [0, 1], in a task that rewards nothing but success; None in others."""
        return None

    def control(self, state: PhysicsState, action: jax.Array) -> jax.Array:
        """What the actuators are told: the action itself, if a task does not say otherwise."""
        return action

    def __init__(self, engine: str = "auto"):
        self.physics = make_physics(self.model, self.frame_skip, self.fields, engine)

    @property
    def id(self) -> str:
        return f"{self.name}-v{self.version}"

    def reset(self, rng: jax.Array) -> State:
        return self.reset_to(*self.initial(rng))

    def reset_to(self, qpos: jax.Array, qvel: jax.Array) -> State:
        physics = self.physics.reset(qpos, qvel)
        return State(physics, self.observe(physics), reward=jnp.zeros(()), done=jnp.zeros(()))

    def step(self, state: State, action: jax.Array) -> State:
        action = jnp.clip(action, -1.0, 1.0)
        physics = self.physics.step(state.pipeline_state, self.control(state.pipeline_state, action))
        return state.replace(
            pipeline_state=physics,
            obs=self.observe(physics),
            reward=self.reward(state.pipeline_state, action, physics).astype(jnp.float32),
            done=self.terminal(physics).astype(jnp.float32),  # not a weak type: what scans states would compile twice
        )

    @functools.cached_property
    def observation_size(self) -> int:
        return jax.eval_shape(self.reset, jax.random.key(0)).obs.shape[-1]

    @property
    def action_size(self) -> int:
        return self.model.nu

    @property
    def backend(self) -> str:
        return self.physics.engine

    @property
    def observation_space(self) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(-np.inf, np.inf, (self.observation_size,), np.float32)

    @property
    def action_space(self) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(-1.0, 1.0, (self.action_size,), np.float32)
