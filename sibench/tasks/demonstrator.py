"""The demonstrator of the manipulation tasks: a script that is as varied as human demonstrations.

It sees what a policy sees, and keeps internal state that policies lack. It hovers, descends, grips, raises, carries,
lowers and lets go, and starts again if it drops the object. Each episode draws its own speed, height, accuracy, grasp
side and path; the hand drifts, and pauses at random.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sibench.tasks.manipulation import MOVE, TURN, Can, Square, angles, rotate
from sibench.tasks.rollout import Script

PEG = np.array(Square.place, np.float32)
HOVER, DESCEND, GRIP, RAISE, CARRY, LOWER, LEAVE = range(7)
UP = np.array([0.0, 0.0, 1.0], np.float32)


class Memory(NamedTuple):
    """The internal state of one episode, and the style drawn for it."""

    phase: jax.Array
    time: jax.Array  # steps in this phase
    pause: jax.Array  # steps left of a pause
    drift: jax.Array  # [6] of the hand
    speed: jax.Array
    hover: jax.Array  # metres above the grasp
    aim: jax.Array  # [3] error of its aim, in metres
    side: jax.Array  # preferred yaw of the grasp, in radians
    detour: jax.Array  # [2] metres off the straight path while it carries
    patience: jax.Array  # steps that it grips before it lifts
    tolerance: jax.Array  # metres that are close enough


class View(NamedTuple):
    """What the demonstrator derives from an observation."""

    eef: jax.Array  # [3] position of the gripper
    thing: jax.Array  # [3] position of the object
    roll: jax.Array  # of the gripper
    pitch: jax.Array
    grasp: jax.Array  # [3] point to grasp
    to_grasp: jax.Array  # radians of yaw to the grasp
    to_goal: jax.Array  # [2] metres to the place of the object
    distance: jax.Array  # length of `to_goal`
    to_place: jax.Array | float  # radians of yaw to the place


@functools.cache
def script(task: str) -> Script:
    """Return the demonstrator of `lift`, `can` or `square`; one object for each task, so that it compiles once."""
    return Script(jax.vmap(begin), jax.vmap(functools.partial(act, task)))


def begin(key: jax.Array) -> Memory:
    """Draw the style of an episode."""
    draws = jax.random.split(key, 7)

    def uniform(index: int, low: float, high: float, shape: tuple[int, ...] = ()) -> jax.Array:
        return jax.random.uniform(draws[index], shape, minval=low, maxval=high)

    zero = jnp.zeros((), jnp.int32)
    return Memory(
        phase=zero,
        time=zero,
        pause=zero,
        drift=jnp.zeros(6),
        speed=uniform(0, 0.45, 1.0),
        hover=uniform(1, 0.04, 0.11),
        aim=0.006 * jax.random.normal(draws[2], (3,)),
        side=uniform(3, -1.5, 1.5),
        detour=uniform(4, -0.1, 0.1, (2,)),
        patience=uniform(5, 8.0, 14.0),
        tolerance=uniform(6, 0.006, 0.014),
    )


def act(task: str, memory: Memory, obs: jax.Array, key: jax.Array) -> tuple[Memory, jax.Array]:
    """Choose the action of one step, and advance the memory."""
    view = look(task, memory, obs)
    target, turn = goal_pose(task, memory, view)
    arrived = has_arrived(task, memory, view, target)

    pause_key, length_key, drift_key = jax.random.split(key, 3)
    pauses = arrived & jax.random.bernoulli(pause_key, 0.3)
    slowness = jnp.where(memory.pause > 0, 0.03, 1.0)
    haste = jnp.array([1.0, 0.8, 0.2, 1.0, 1.0, 0.7, 1.0])[memory.phase]
    move = haste * slowness * 1.3 * (target - view.eef) / MOVE
    turns = 1.2 * jnp.stack([-view.roll, -view.pitch, jnp.clip(turn, -0.6, 0.6) * slowness]) / TURN
    limit = 0.9 * memory.speed
    scale = jnp.array([0.05] * 3 + [0.02] * 3)
    drift = 0.8 * memory.drift + scale * jax.random.normal(drift_key, (6,))
    fine = (task == "square") & ((memory.phase == CARRY) | (memory.phase == LOWER))
    action = jnp.clip(jnp.concatenate([move, turns]), -limit, limit) + drift * jnp.where(fine, 0.4, 1.0)
    closed = (memory.phase >= GRIP) & (memory.phase < LEAVE)

    phase = next_phase(task, memory, view, arrived)
    memory = memory._replace(
        phase=phase,
        time=jnp.where(phase == memory.phase, memory.time + 1, 0),
        pause=jnp.where(pauses, jax.random.randint(length_key, (), 2, 9), jnp.maximum(memory.pause - 1, 0)),
        drift=drift,
    )
    return memory, jnp.concatenate([action, jnp.where(closed, 1.0, -1.0)[None]])


def look(task: str, memory: Memory, obs: jax.Array) -> View:
    """Locate the gripper, the object, the grasp and the goal."""
    eef, thing = obs[:3], obs[9:12]
    roll, pitch, yaw = angles(obs[3:7])
    heading = angles(obs[12:16])[2]
    handle = thing + rotate(obs[12:16], jnp.array([0.056, 0.0, 0.0]))
    grasp, period = {
        "lift": (thing, jnp.pi / 2),  # any two faces of the cube
        "can": (thing + 0.01 * UP, None),
        "square": (handle, jnp.pi),
    }[task]
    to_grasp = memory.side - yaw if period is None else memory.side + wrap(heading - memory.side, period) - yaw
    to_can_place = jnp.array(Can.place) + 3 * memory.aim[:2] - eef[:2]
    to_goal = {"lift": jnp.zeros(2), "can": to_can_place, "square": PEG - thing[:2]}[task]
    to_place = wrap(-heading, jnp.pi / 2) if task == "square" else 0.0
    return View(eef, thing, roll, pitch, grasp, to_grasp, to_goal, jnp.linalg.norm(to_goal), to_place)


def goal_pose(task: str, memory: Memory, view: View) -> tuple[jax.Array, jax.Array]:
    """Return the position that the current phase moves to, and the radians of yaw that it still turns."""
    eef, grasp = view.eef, view.grasp
    bend = memory.detour * jnp.clip(view.distance / 0.15 - 0.4, 0.0, 1.0)  # fades out on arrival
    path = eef[:2] + view.to_goal + bend
    carried = {"lift": 0.14, "can": 0.16, "square": eef[2] + 0.14 - view.thing[2]}[task]
    lowered = {"lift": 0.14, "can": 0.06, "square": eef[2] - 0.05}[task]
    position = jnp.stack(
        [
            grasp + UP * memory.hover + 0.7 * memory.aim,
            grasp,
            grasp,
            jnp.array([eef[0], eef[1], 0.17]),
            jnp.array([path[0], path[1], carried]),
            jnp.array([eef[0] + view.to_goal[0], eef[1] + view.to_goal[1], lowered]),
            eef + 0.06 * UP * (memory.time > 5),
        ]
    )
    to_grasp, to_place = view.to_grasp, view.to_place
    turn = jnp.array([to_grasp, to_grasp, 0.2 * to_grasp, 0.0, to_place, to_place, 0.0])
    return position[memory.phase], turn[memory.phase]


def has_arrived(task: str, memory: Memory, view: View, target: jax.Array) -> jax.Array:
    """Return whether the current phase is complete."""
    away = jnp.abs(target - view.eef)
    eef_height, height, square = view.eef[2], view.thing[2], task == "square"
    return jnp.array(
        [
            (jnp.linalg.norm(away[:2]) < 1.6 * memory.tolerance) & (away[2] < 0.03) & (jnp.abs(view.to_grasp) < 0.08),
            (away[2] < 0.008) & (jnp.linalg.norm(away[:2]) < 0.012) | (memory.time > 40),
            memory.time > memory.patience,
            (height > 0.13) if square else (eef_height > 0.145),
            (view.distance < (0.004 if square else 0.025)) & (jnp.abs(view.to_place) < 0.04),
            (height < 0.045) | (memory.time > 60) if square else (eef_height < 0.075) | (memory.time > 30),
            False,
        ]
    )[memory.phase]


def next_phase(task: str, memory: Memory, view: View, arrived: jax.Array) -> jax.Array:
    """Return the next phase: begin again after a drop, carry again after missing the peg."""
    holding = (memory.phase > GRIP) & (memory.phase < LEAVE)
    dropped = holding & (jnp.linalg.norm(view.grasp - view.eef) > 0.06)
    too_high = (memory.phase == LOWER) & (view.distance > 0.012) & (view.thing[2] > 0.115)
    missed = too_high & (task == "square")
    phase = jnp.minimum(memory.phase + arrived, RAISE if task == "lift" else LEAVE)
    return jnp.where(dropped, HOVER, jnp.where(missed, CARRY, phase))


def wrap(angle: jax.Array, period: float) -> jax.Array:
    """Shift an angle by a multiple of the period into [-period / 2, period / 2)."""
    return (angle + period / 2) % period - period / 2
