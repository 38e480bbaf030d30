"""Lift, Can and Square: a gripper, an object, and a place to put it; modelled on Robomimic's tasks of these names.

They are not Robomimic's: docs/tasks.md says what differs. The table is at height 0. The step that succeeds earns 1 and
ends the episode.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from sibench.core.ids import FEW
from sibench.tasks import cameras
from sibench.tasks.base import State, Task
from sibench.tasks.physics import MjModel, PhysicsState, load_model, on_host

SCENES = Path(__file__).parent / "scenes"
MOVE, TURN = 0.05, 0.5
"""Metres and radians from the gripper's pose that an action of 1 commands."""
OPEN = 0.0208
"""Metres of each finger from the middle, at reset."""
Pose = tuple[jax.Array, jax.Array]
"""Position, and rotation as a quaternion xyzw."""


class Manipulation(Task):
    """Move an object with a gripper until a condition holds. A task defines the members that have no value here."""

    family = "manipulation"
    horizon = 400
    frame_skip = 10
    fields = ("qpos", "qvel")
    action_size = 7  # pyright: ignore[reportAssignmentType]
    ladder = FEW
    script = "scripted-1"
    at_rest: float  # height of the object's centre on the table
    low: tuple[float, float]  # least x and y of the object at reset
    high: tuple[float, float]  # greatest x and y of the object at reset
    rise: float = 0.1  # metres that the object must be lifted
    place: tuple[float, float] | None = None  # x and y of the place where the object must be put, if any

    @functools.cached_property
    def model(self) -> MjModel:
        return load_model(SCENES / f"{self.state_twin or self.name}.xml")

    def initial(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(key, 4)
        position = jnp.array([-0.02, 0.0, 0.19]) + 0.01 * jax.random.normal(keys[0], (3,))
        angles = 0.02 * jax.random.normal(keys[1], (3,))
        object_xy = jax.random.uniform(keys[2], (2,), minval=jnp.array(self.low), maxval=jnp.array(self.high))
        half = jax.random.uniform(keys[3], minval=-jnp.pi / 2, maxval=jnp.pi / 2)
        rotation = jnp.array([jnp.cos(half), 0.0, 0.0, jnp.sin(half)])
        fingers, height = jnp.array([OPEN, OPEN]), jnp.array([self.at_rest])
        return jnp.concatenate([position, angles, fingers, object_xy, height, rotation]), jnp.zeros(self.model.nv)

    def control(self, state: PhysicsState, action: jax.Array) -> jax.Array:
        """An action moves, turns (about x, y, z) and grips: 1 closes the fingers with 20 N, -1 opens them."""
        joints = state.fields["qpos"][:6]
        goal = joints + jnp.concatenate([MOVE * action[:3], TURN * action[5:2:-1]])
        return jnp.concatenate([goal, -action[6:], -action[6:]])

    def observe(self, state: PhysicsState) -> jax.Array:
        """Return robot0_eef_pos, robot0_eef_quat, robot0_gripper_qpos, object; quaternions are xyzw as in robosuite."""
        qpos = state.fields["qpos"]
        eef, eef_rotation = gripper_pose(qpos)
        position, rotation = qpos[8:11], jnp.concatenate([qpos[12:15], qpos[11:12]])
        relative = self.relative_pose((eef, eef_rotation), (position, rotation))
        return jnp.concatenate([eef, eef_rotation, qpos[6:7], -qpos[7:8], position, rotation, *relative])

    def relative_pose(self, gripper: Pose, thing: Pose) -> tuple[jax.Array, ...]:
        """Return the object's pose in the gripper's frame."""
        inverse = gripper[1] * jnp.array([-1.0, -1.0, -1.0, 1.0])
        return rotate(inverse, thing[0] - gripper[0]), multiply(inverse, thing[1])

    def reward(self, before: PhysicsState, action: jax.Array, after: PhysicsState) -> jax.Array:
        return self.terminal(after)

    def terminal(self, state: PhysicsState) -> jax.Array:
        qpos = state.fields["qpos"]
        return self.success(qpos[:3], qpos[8:11]).astype(jnp.float32)

    def progress(self, state: PhysicsState) -> jax.Array:
        """Return 1 on success, else the mean of how near the gripper, how high and how near its place the object is."""
        eef, position = state.fields["qpos"][:3], state.fields["qpos"][8:11]
        near = 1 - jnp.tanh(10 * jnp.linalg.norm(eef - position))
        risen = jnp.clip((position[2] - self.at_rest) / self.rise, 0.0, 1.0)
        stages = [near, risen]
        if self.place:
            stages.append(risen * (1 - jnp.tanh(5 * jnp.linalg.norm(position[:2] - jnp.array(self.place)))))
        return jnp.where(self.success(eef, position), 1.0, jnp.stack(stages).mean())

    def success(self, eef: jax.Array, position: jax.Array) -> jax.Array:
        """Return whether the task is solved, given the positions of the gripper and the object."""
        raise NotImplementedError


class Lift(Manipulation):
    name, version, modelled_on = "lift", 1, "robosuite's Lift"
    at_rest = 0.021
    low, high = (-0.03, -0.03), (0.03, 0.03)
    rise = 0.019

    def relative_pose(self, gripper: Pose, thing: Pose) -> tuple[jax.Array, ...]:
        return (gripper[0] - thing[0],)

    def success(self, eef: jax.Array, position: jax.Array) -> jax.Array:
        return position[2] > 0.04


class Can(Manipulation):
    """Put a can on the other side of a wall, and let go."""

    name, version, modelled_on = "can", 1, "robosuite's PickPlaceCan"
    at_rest = 0.04
    low, high = (-0.13, -0.35), (0.13, -0.05)
    place = (0.1, 0.17)

    def success(self, eef: jax.Array, position: jax.Array) -> jax.Array:
        assert self.place is not None
        inside = (jnp.abs(position - jnp.array([*self.place, 0.05])) < jnp.array([0.1, 0.12, 0.05])).all()
        return inside & let_go(eef, position)


class Square(Manipulation):
    """Put a square nut over a peg, holding it by its handle.

    The handle is 5.6 cm from the nut's centre, so robosuite's condition counts the nut as let go while it is held.
    """

    name, version, modelled_on = "square", 1, "robosuite's NutAssemblySquare"
    at_rest = 0.01
    low, high = (-0.115, 0.11), (-0.11, 0.225)
    place = (0.23, 0.1)

    def success(self, eef: jax.Array, position: jax.Array) -> jax.Array:
        on_peg = (jnp.abs(position[:2] - jnp.array(self.place)) < 0.03).all() & (position[2] < 0.05)
        return on_peg & let_go(eef, position)


class ThroughCameras(Manipulation):
    """The same task through two cameras: frames replace the part of the observation about the object.

    Recordings store the observations of the state; the same driver draws the same frames from the same numbers.
    """

    observes_pixels = True
    proprioception_size = 9  # numbers of an observation about the gripper, which stay

    @functools.cached_property
    def _add_frames(self) -> Callable:
        """`full_observation` of one observation, for use in compiled functions."""
        shape = (4 * self.proprioception_size + cameras.NUM_BYTES,)
        return on_host(lambda stored: [self.full_observation(stored)], [(shape, jnp.uint8)])

    def observe(self, state: PhysicsState) -> jax.Array:
        return self._add_frames(super().observe(state))[0]

    def stored_observation(self, state: State) -> jax.Array:
        return super().observe(state.pipeline_state)

    def full_observation(self, stored: np.ndarray) -> np.ndarray:
        return cameras.pack(stored[..., : self.proprioception_size], self.frames(stored))

    def frames(self, stored: np.ndarray) -> np.ndarray:
        """Draw the frames [..., 2, 84, 84, 3] of observations [..., O] of the state."""
        stored = np.asarray(stored)
        drawn = cameras.studio(self.model).draw(joints(stored.reshape(-1, stored.shape[-1])))
        return drawn.reshape(*stored.shape[:-1], *cameras.FRAMES)

    @property
    def observation_space(self) -> gymnasium.spaces.Box:
        return gymnasium.spaces.Box(0, 255, (self.observation_size,), np.uint8)


class LiftImage(ThroughCameras, Lift):
    name, version, state_twin, modelled_on = "lift-image", 1, "lift", "`lift`, through two cameras"


class CanImage(ThroughCameras, Can):
    name, version, state_twin, modelled_on = "can-image", 1, "can", "`can`, through two cameras"


class SquareImage(ThroughCameras, Square):
    name, version, state_twin, modelled_on = "square-image", 1, "square", "`square`, through two cameras"


def joints(observations: np.ndarray) -> np.ndarray:
    """Return the qpos [N, 15] of observations [N, O] of the state."""
    roll, pitch, yaw = angles(observations[:, 3:7].T.astype(np.float64), np)
    fingers, rotation = observations[:, 7:9] * [1, -1], observations[:, [15, 12, 13, 14]]
    return np.column_stack([observations[:, :3], yaw, pitch, roll, fingers, observations[:, 9:12], rotation])


def angles(rotation: Any, numpy: Any = jnp) -> tuple[Any, Any, Any]:
    """Return roll, pitch and yaw of a quaternion, xyzw, that turns by yaw, then pitch, then roll."""
    x, y, z, w = rotation
    roll = numpy.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = numpy.arcsin(numpy.clip(2 * (w * y - z * x), -1, 1))
    yaw = numpy.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return roll, pitch, yaw


def let_go(eef: jax.Array, position: jax.Array) -> jax.Array:
    """Return robosuite's condition for letting go: the gripper is at least 4 cm from the object."""
    return 1 - jnp.tanh(10 * jnp.linalg.norm(eef - position)) < 0.6


def gripper_pose(qpos: jax.Array) -> Pose:
    """Return the pose of the gripper, whose joints are x, y, z, yaw, pitch, roll."""
    half = qpos[3:6] / 2
    axes = jnp.eye(4)[jnp.array([2, 1, 0])]
    yaw, pitch, roll = jnp.sin(half)[:, None] * axes + jnp.cos(half)[:, None] * jnp.eye(4)[3]
    return qpos[:3], multiply(multiply(yaw, pitch), roll)


def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
    """Multiply two quaternions, xyzw."""
    u, v = a[:3], b[:3]
    return jnp.concatenate([a[3] * v + b[3] * u + jnp.cross(u, v), (a[3] * b[3] - u @ v)[None]])


def rotate(rotation: jax.Array, vector: jax.Array) -> jax.Array:
    """Rotate a vector by a quaternion, xyzw."""
    twice = 2 * jnp.cross(rotation[:3], vector)
    return vector + rotation[3] * twice + jnp.cross(rotation[:3], twice)
