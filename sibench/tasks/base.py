"""What a task is: an MDP as a `brax.envs.Env`, which brax's wrappers and trainers accept unchanged."""

from sibench.tasks.physics import ENGINES, MjModel, PhysicsState, pick_engine  # isort: skip  # explains import errors

import functools
from typing import ClassVar

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from brax.envs.base import Env, State

from sibench.core.ids import LADDER


class Task(Env):
    """Base class of tasks. A task defines the members that have no value here; `reset` and `step` are shared.

    Actions are clipped to [-1, 1]. `done` means a terminal state. Time-outs are not part of `step`: a rollout counts
    to `horizon` and marks its last step `truncated`.
    """

    name: str
    version: int
    family: str = ""  # group of tasks that share defaults, such as `manipulation`
    gymnasium_id: str | None = None  # Gymnasium environment that the task reproduces, if any
    gymnasium_options: ClassVar[dict] = {}
    modelled_on: str = ""  # what the task resembles, if it reproduces nothing
    observes_pixels: bool = False  # whether observations contain camera frames
    state_twin: str = ""  # name of the same task observed by its state, for a task observed through cameras
    ladder: tuple[int, ...] = LADDER  # numbers of demonstrations that its behaviour policies are cloned from
    script: str | None = None  # name and version of the script that demonstrates the task instead of a policy
    horizon: int = 1000
    frame_skip: int  # simulation steps in a task step
    fields: tuple[str, ...]  # MjData fields that the methods below read
    model: MjModel

    def __init__(self, engine: str = "auto"):
        self.physics = ENGINES[pick_engine(engine)](self.model, self.frame_skip, self.fields)

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Draw an initial qpos and qvel."""
        raise NotImplementedError

    def observe(self, state: PhysicsState) -> jax.Array:
        """Return the observation of a simulation state."""
        raise NotImplementedError

    def reward(self, before: PhysicsState, action: jax.Array, after: PhysicsState) -> jax.Array:
        """Return the reward of a step."""
        raise NotImplementedError

    def terminal(self, state: PhysicsState) -> jax.Array:
        """Return 1.0 for a state after which nothing more is earned, else 0.0."""
        raise NotImplementedError

    def progress(self, state: PhysicsState) -> jax.Array | None:
        """Return the progress towards success, in [0, 1]; None for tasks with a dense reward."""
        return None

    def control(self, state: PhysicsState, action: jax.Array) -> jax.Array:
        """Return the actuators' targets for an action."""
        return action

    def stored_observation(self, state: State) -> jax.Array:
        """Return what a recording stores of an observation; `full_observation` restores the rest."""
        return state.obs  # pyright: ignore[reportReturnType]

    def full_observation(self, stored: np.ndarray) -> np.ndarray:
        """Return the observations [N, O] that belong to stored ones."""
        return stored

    @property
    def id(self) -> str:
        return f"{self.name}-v{self.version}"

    def reset(self, rng: jax.Array) -> State:
        return self.reset_to(*self.initial(rng))

    def reset_to(self, qpos: jax.Array, qvel: jax.Array) -> State:
        """Begin an episode in a given state."""
        physics = self.physics.reset(qpos, qvel)
        return State(physics, self.observe(physics), reward=jnp.zeros(()), done=jnp.zeros(()))

    def step(self, state: State, action: jax.Array) -> State:
        action = jnp.clip(action, -1.0, 1.0)
        physics = self.physics.step(state.pipeline_state, self.control(state.pipeline_state, action))
        return state.replace(
            pipeline_state=physics,
            obs=self.observe(physics),
            # a weak type would make programs that scan states compile twice
            reward=self.reward(state.pipeline_state, action, physics).astype(jnp.float32),
            done=self.terminal(physics).astype(jnp.float32),
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
