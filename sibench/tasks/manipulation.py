"""Lift, Can and Square: a gripper, an object, and somewhere to put it; modelled on Robomimic's tasks of these names.

They are not Robomimic's: a gripper on Cartesian joints stands for the arm, and shapes are primitive (`scenes/`), so
that both engines run them. Control at 20 Hz, 400 steps, the layout of observations and actions, and the conditions of
success are those of robosuite's Lift, PickPlaceCan and NutAssemblySquare; its frames are not: here the table is at
height 0. The step that succeeds earns 1 and ends the episode.
"""

import functools
import os

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from brax.envs.base import State

from sibench import cameras
from sibench.ids import FEW, twin
from sibench.physics import PhysicsState, load_model, on_host
from sibench.tasks.base import Task

SCENES = os.path.join(os.path.dirname(__file__), "scenes")
MOVE, TURN = 0.05, 0.5
"""Metres and radians that an action of 1 asks for, from where the gripper is."""
OPEN = 0.0208
"""Metres of each finger from the middle, at reset."""


class Manipulation(Task):
    horizon = 400
    frame_skip = 10
    fields = ("qpos", "qvel")
    action_size = 7
    ladder = FEW
    script = "scripted-1"
    at_rest: float
    """Height of the object's centre on the table."""
    low: tuple[float, float]
    high: tuple[float, float]
    """Where the object may stand at reset: x and y."""
    rise: float = 0.1
    """Metres that it is to be lifted."""
    place: tuple[float, float] | None = None
    """Where it is to be put then, if anywhere: x and y."""

    @functools.cached_property
    def model(self) -> mujoco.MjModel:
        return load_model(os.path.join(SCENES, f"{twin(self.name)}.xml"))

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(key, 4)
        position = jnp.array([-0.02, 0.0, 0.19]) + 0.01 * jax.random.normal(keys[0], (3,))
        angles = 0.02 * jax.random.normal(keys[1], (3,))
        place = jax.random.uniform(keys[2], (2,), minval=jnp.array(self.low), maxval=jnp.array(self.high))
        half = jax.random.uniform(keys[3], minval=-jnp.pi / 2, maxval=jnp.pi / 2)
        rotation = jnp.array([jnp.cos(half), 0.0, 0.0, jnp.sin(half)])
        fingers, height = jnp.array([OPEN, OPEN]), jnp.array([self.at_rest])
        return jnp.concatenate([position, angles, fingers, place, height, rotation]), jnp.zeros(self.model.nv)

    def control(self, state: PhysicsState, action: jax.Array) -> jax.Array:
        """An action moves, turns (about x, y, z) and grips: 1 closes the fingers with 20 N, -1 opens them."""
        joints = state.fields["qpos"][:6]
        goal = joints + jnp.concatenate([MOVE * action[:3], TURN * action[5:2:-1]])
        return jnp.concatenate([goal, -action[6:], -action[6:]])

    def observe(self, state: PhysicsState) -> jax.Array:
        """robot0_eef_pos, robot0_eef_quat, robot0_gripper_qpos, object; quaternions are xyzw, as robosuite has them."""
        qpos = state.fields["qpos"]
        eef, rotation = pose(qpos)
        turned = jnp.concatenate([qpos[12:15], qpos[11:12]])
        robot = [eef, rotation, qpos[6:7], -qpos[7:8]]
        return jnp.concatenate([*robot, qpos[8:11], turned, *self.relative(eef, rotation, qpos[8:11], turned)])

    def relative(self, eef, rotation, position, turned) -> tuple[jax.Array, ...]:
        """The object's pose, seen from the gripper."""
        back = rotation * jnp.array([-1.0, -1.0, -1.0, 1.0])
        return rotate(back, position - eef), multiply(back, turned)

    def reward(self, before: PhysicsState, action: jax.Array, after: PhysicsState) -> jax.Array:
        return self.terminal(after)

    def terminal(self, state: PhysicsState) -> jax.Array:
        qpos = state.fields["qpos"]
        return self.success(qpos[:3], qpos[8:11]).astype(jnp.float32)

    def progress(self, state: PhysicsState) -> jax.Array:
        """How near the gripper came, how high the object rose, and how near its place it then was; all, on success."""
        eef, position = state.fields["qpos"][:3], state.fields["qpos"][8:11]
        near = 1 - jnp.tanh(10 * jnp.linalg.norm(eef - position))
        risen = jnp.clip((position[2] - self.at_rest) / self.rise, 0.0, 1.0)
        stages = [near, risen]
        if self.place is not None:
            stages.append(risen * (1 - jnp.tanh(5 * jnp.linalg.norm(position[:2] - jnp.array(self.place)))))
        return jnp.where(self.success(eef, position), 1.0, jnp.stack(stages).mean())

    def success(self, eef: jax.Array, position: jax.Array) -> jax.Array:
        raise NotImplementedError


class Lift(Manipulation):
    """A cube, to be lifted."""

    name, version, modelled_on = "lift", 1, "robosuite's Lift"
    at_rest = 0.021
    low, high = (-0.03, -0.03), (0.03, 0.03)
    rise = 0.019

    def relative(self, eef, rotation, position, turned):
        return (eef - position,)

    def success(self, eef, position):
        return position[2] > 0.04


class Can(Manipulation):
    """A can, to be put on the other side of a wall, and let go."""

    name, version, modelled_on = "can", 1, "robosuite's PickPlaceCan"
    at_rest = 0.04
    low, high = (-0.13, -0.35), (0.13, -0.05)
    place = (0.1, 0.17)

    def success(self, eef, position):
        inside = (jnp.abs(position - jnp.array([*self.place, 0.05])) < jnp.array([0.1, 0.12, 0.05])).all()
        return inside & let_go(eef, position)


class Square(Manipulation):
    """A square nut with a handle, to be put over a peg.

    Holding the handle, the gripper is 5.6 cm from the nut's centre, which robosuite's condition takes for letting go.
    """

    name, version, modelled_on = "square", 1, "robosuite's NutAssemblySquare"
    at_rest = 0.01
    low, high = (-0.115, 0.11), (-0.11, 0.225)
    place = (0.23, 0.1)

    def success(self, eef, position):
        on_peg = (jnp.abs(position[:2] - jnp.array(self.place)) < 0.03).all() & (position[2] < 0.05)
        return on_peg & let_go(eef, position)


class Seen(Manipulation):
    """The same through two cameras: of the observation only what is about the gripper is left, and frames are added."""

    num_kept = 9

    @functools.cached_property
    def look(self):
        """`seen` of one observation, inside compiled functions."""
        return on_host(lambda whole: [self.seen(whole)], [((4 * self.num_kept + cameras.NUM_BYTES,), jnp.uint8)])

    def observe(self, state: PhysicsState) -> jax.Array:
        return self.look(super().observe(state))[0]

    def recorded(self, state: State) -> jax.Array:
        return super().observe(state.pipeline_state)

    def seen(self, recorded: np.ndarray) -> np.ndarray:
        return cameras.pack(recorded[..., : self.num_kept], self.frames(recorded))

    def frames(self, recorded: np.ndarray) -> np.ndarray:
        """[..., O] -> [..., 2, 84, 84, 3]. With the same driver, the same numbers give the same frames."""
        recorded = np.asarray(recorded)
        drawn = cameras.studio(self.model).draw(joints(recorded.reshape(-1, recorded.shape[-1])))
        return drawn.reshape(*recorded.shape[:-1], *cameras.FRAMES)

    @property
    def observation_space(self) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(0, 255, (self.observation_size,), np.uint8)


class LiftImage(Seen, Lift):
    name, version, modelled_on = "lift-image", 1, "`lift`, through two cameras"


class CanImage(Seen, Can):
    name, version, modelled_on = "can-image", 1, "`can`, through two cameras"


class SquareImage(Seen, Square):
    name, version, modelled_on = "square-image", 1, "`square`, through two cameras"


def joints(observations: np.ndarray) -> np.ndarray:
    """qpos [N, 15] of observations [N, O] of the state."""
    x, y, z, w = observations[:, 3:7].T.astype(np.float64)
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y**2 + z**2))
    pitch = np.arcsin(np.clip(2 * (w * y - z * x), -1, 1))
    roll = np.arctan2(2 * (w * x + y * z), 1 - 2 * (x**2 + y**2))
    fingers, turned = observations[:, 7:9] * [1, -1], observations[:, [15, 12, 13, 14]]
    return np.column_stack([observations[:, :3], yaw, pitch, roll, fingers, observations[:, 9:12], turned])


def let_go(eef: jax.Array, position: jax.Array) -> jax.Array:
    """robosuite's: the gripper is 4 cm from the object or more."""
    return 1 - jnp.tanh(10 * jnp.linalg.norm(eef - position)) < 0.6


def pose(qpos: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Position and rotation of the gripper, whose joints are x, y, z, yaw, pitch, roll."""
    half = qpos[3:6] / 2
    axes = jnp.eye(4)[jnp.array([2, 1, 0])]
    yaw, pitch, roll = jnp.sin(half)[:, None] * axes + jnp.cos(half)[:, None] * jnp.eye(4)[3]
    return qpos[:3], multiply(multiply(yaw, pitch), roll)


def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
    """Of quaternions, xyzw."""
    u, v = a[:3], b[:3]
    return jnp.concatenate([a[3] * v + b[3] * u + jnp.cross(u, v), (a[3] * b[3] - u @ v)[None]])


def rotate(rotation: jax.Array, vector: jax.Array) -> jax.Array:
    twice = 2 * jnp.cross(rotation[:3], vector)
    return vector + rotation[3] * twice + jnp.cross(rotation[:3], twice)
