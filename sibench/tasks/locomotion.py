"""HalfCheetah-v5, Hopper-v5, Walker2d-v5 and Ant-v5 of Gymnasium: dynamics, reward, reset noise and termination.

The models are read from the installed gymnasium package. Ant's observation leaves out the contact forces
(`include_cfrc_ext_in_observation=False`), but its reward keeps their cost.
"""

import functools
from pathlib import Path
from typing import ClassVar

import gymnasium
import jax
import jax.numpy as jnp

from sibench.tasks.base import Task
from sibench.tasks.physics import MjModel, PhysicsState, difference, load_model

MODELS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"


class Locomotion(Task):
    """Run forward: velocity, plus a bonus for staying healthy where the task has one, minus the cost of control."""

    family = "locomotion"
    xml: str
    ctrl_cost: float
    reset_noise: float
    fields = ("qpos", "qvel")

    @functools.cached_property
    def model(self) -> MjModel:
        return load_model(MODELS / self.xml)

    @property
    def dt(self) -> float:
        return self.model.opt.timestep * self.frame_skip

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        qpos_key, qvel_key = jax.random.split(key)
        qpos = jax.random.uniform(qpos_key, (self.model.nq,), minval=-self.reset_noise, maxval=self.reset_noise)
        return self.model.qpos0 + qpos, self.velocity_noise(qvel_key)

    def velocity_noise(self, key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, (self.model.nv,), minval=-self.reset_noise, maxval=self.reset_noise)

    def reward(self, before: PhysicsState, action: jax.Array, after: PhysicsState) -> jax.Array:
        velocity = difference(after, before, "qpos")[0] / self.dt
        return velocity - self.ctrl_cost * jnp.sum(action**2) + self.bonus(after)

    def bonus(self, after: PhysicsState) -> jax.Array | float:
        """Return Gymnasium's healthy_reward: 1 for each step that does not end in a fall."""
        return 1.0 - self.terminal(after)

    def observe(self, state: PhysicsState) -> jax.Array:
        return jnp.concatenate([state.fields["qpos"][1:], state.fields["qvel"]])


class HalfCheetah(Locomotion):
    name, version = "halfcheetah", 1
    gymnasium_id = "HalfCheetah-v5"
    xml, frame_skip, ctrl_cost, reset_noise = "half_cheetah.xml", 5, 0.1, 0.1

    def velocity_noise(self, key: jax.Array) -> jax.Array:
        return self.reset_noise * jax.random.normal(key, (self.model.nv,))

    def bonus(self, after: PhysicsState) -> float:
        return 0.0

    def terminal(self, state: PhysicsState) -> jax.Array:
        return jnp.zeros(())


class Hopper(Locomotion):
    name, version = "hopper", 1
    gymnasium_id = "Hopper-v5"
    xml, frame_skip, ctrl_cost, reset_noise = "hopper.xml", 4, 1e-3, 5e-3

    def observe(self, state: PhysicsState) -> jax.Array:
        return jnp.concatenate([state.fields["qpos"][1:], jnp.clip(state.fields["qvel"], -10, 10)])

    def terminal(self, state: PhysicsState) -> jax.Array:
        qpos, qvel = state.fields["qpos"], state.fields["qvel"]
        in_range = jnp.all(jnp.abs(jnp.concatenate([qpos[2:], qvel])) < 100)
        return 1.0 - (in_range & (qpos[1] > 0.7) & (jnp.abs(qpos[2]) < 0.2))


class Walker2d(Locomotion):
    name, version = "walker2d", 1
    gymnasium_id = "Walker2d-v5"
    xml, frame_skip, ctrl_cost, reset_noise = "walker2d_v5.xml", 4, 1e-3, 5e-3

    observe = Hopper.observe

    def terminal(self, state: PhysicsState) -> jax.Array:
        qpos = state.fields["qpos"]
        return 1.0 - ((qpos[1] > 0.8) & (qpos[1] < 2.0) & (jnp.abs(qpos[2]) < 1.0))


class Ant(Locomotion):
    name, version = "ant", 1
    gymnasium_id = "Ant-v5"
    gymnasium_options: ClassVar[dict] = {"include_cfrc_ext_in_observation": False}
    xml, frame_skip, ctrl_cost, reset_noise = "ant.xml", 5, 0.5, 0.1
    contact_cost = 5e-4
    fields = ("qpos", "qvel", "xpos", "cfrc_ext")

    velocity_noise = HalfCheetah.velocity_noise

    def reward(self, before: PhysicsState, action: jax.Array, after: PhysicsState) -> jax.Array:
        # Gymnasium reads the torso's xpos, which mj_step leaves at its last Runge-Kutta stage
        velocity = difference(after, before, "xpos")[1, 0] / self.dt
        contact = jnp.sum(jnp.clip(after.fields["cfrc_ext"], -1, 1) ** 2)
        costs = self.ctrl_cost * jnp.sum(action**2) + self.contact_cost * contact
        return velocity + self.bonus(after) - costs

    def observe(self, state: PhysicsState) -> jax.Array:
        return jnp.concatenate([state.fields["qpos"][2:], state.fields["qvel"]])

    def terminal(self, state: PhysicsState) -> jax.Array:
        qpos, qvel = state.fields["qpos"], state.fields["qvel"]
        finite = jnp.isfinite(qpos).all() & jnp.isfinite(qvel).all()
        return 1.0 - (finite & (qpos[2] >= 0.2) & (qpos[2] <= 1.0))
