"""The demonstrator of the manipulation tasks: a script that is as uneven as people are.

It sees what a policy sees, and has a memory besides. It hovers, aims, descends, grips, lifts, carries by a route of its
own, lets go; at its own speed, with a hand that drifts, and pauses to think; and tries again if it drops something.
Episodes differ in speed, height, the side it grasps from, and the way around: there is no one action to clone.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sibench.rollout import Script
from sibench.tasks.manipulation import MOVE, TURN, Can, Square, rotate

PEG = np.array(Square.place, np.float32)
HOVER, DESCEND, GRIP, RAISE, CARRY, LOWER, LEAVE = range(7)
UP = np.array([0.0, 0.0, 1.0], np.float32)


class Memory(NamedTuple):
    """Of one episode: what it does next, and its manner."""

    phase: jax.Array
    time: jax.Array  # steps in this phase
    pause: jax.Array  # steps that it stands still yet
    drift: jax.Array  # [6] of its hand
    speed: jax.Array
    hover: jax.Array  # metres above the grasp
    aim: jax.Array  # [3] metres beside the point it ought to aim at
    side: jax.Array  # radians of yaw that it would like to grasp at
    detour: jax.Array  # [2] metres off the straight way, while it carries
    patience: jax.Array  # steps it grips before it lifts
    care: jax.Array  # metres that are close enough


@functools.cache
def script(task: str) -> Script:
    """Of many episodes at once; one object for each task, so that it is compiled once."""
    return Script(jax.vmap(begin), jax.vmap(functools.partial(act, task)))


def begin(key: jax.Array) -> Memory:
    draws = jax.random.split(key, 7)

    def uniform(index: int, low: float, high: float, shape=()) -> jax.Array:
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
        care=uniform(6, 0.006, 0.014),
    )


def act(task: str, memory: Memory, obs: jax.Array, key: jax.Array) -> tuple[Memory, jax.Array]:
    """One step of an episode of `lift`, `can` or `square`."""
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
    goal = {"lift": eef[:2], "can": jnp.array(Can.place) + 3 * memory.aim[:2], "square": PEG}[task]
    off = (PEG - thing[:2]) if task == "square" else goal - eef[:2]
    far = jnp.linalg.norm(off)
    way = eef[:2] + off + memory.detour * jnp.clip(far / 0.15 - 0.4, 0.0, 1.0)  # bends where there is far to go
    carried = {"lift": 0.14, "can": 0.16, "square": eef[2] + 0.14 - thing[2]}[task]
    to_place = wrap(-heading, jnp.pi / 2) if task == "square" else 0.0
    lowered = {"lift": 0.14, "can": 0.06, "square": eef[2] - 0.05}[task]

    target = jnp.stack(
        [
            grasp + UP * memory.hover + 0.7 * memory.aim,
            grasp,
            grasp,
            jnp.array([eef[0], eef[1], 0.17]),
            jnp.array([way[0], way[1], carried]),
            jnp.array([eef[0] + off[0], eef[1] + off[1], lowered]),
            eef + 0.06 * UP * (memory.time > 5),
        ]
    )[memory.phase]
    turn = jnp.array([to_grasp, to_grasp, 0.2 * to_grasp, 0.0, to_place, to_place, 0.0])[memory.phase]
    haste = jnp.array([1.0, 0.8, 0.2, 1.0, 1.0, 0.7, 1.0])[memory.phase]
    away = jnp.abs(target - eef)
    arrived = jnp.array(
        [
            (jnp.linalg.norm(away[:2]) < 1.6 * memory.care) & (away[2] < 0.03) & (jnp.abs(to_grasp) < 0.08),
            (away[2] < 0.008) & (jnp.linalg.norm(away[:2]) < 0.012) | (memory.time > 40),
            memory.time > memory.patience,
            (thing[2] > 0.13) if task == "square" else (eef[2] > 0.145),
            (far < (0.004 if task == "square" else 0.025)) & (jnp.abs(to_place) < 0.04),
            (thing[2] < 0.045) | (memory.time > 60) if task == "square" else (eef[2] < 0.075) | (memory.time > 30),
            False,
        ]
    )[memory.phase]

    pause_key, length_key, drift_key = jax.random.split(key, 3)
    thinks = arrived & jax.random.bernoulli(pause_key, 0.3)
    still = memory.pause > 0
    move = haste * jnp.where(still, 0.03, 1.0) * 1.3 * (target - eef) / MOVE
    turns = 1.2 * jnp.stack([-roll, -pitch, jnp.clip(turn, -0.6, 0.6) * jnp.where(still, 0.03, 1.0)]) / TURN
    limit = 0.9 * memory.speed
    scale = jnp.array([0.05] * 3 + [0.02] * 3)
    drift = 0.8 * memory.drift + scale * jax.random.normal(drift_key, (6,))
    fine = (task == "square") & ((memory.phase == CARRY) | (memory.phase == LOWER))
    action = jnp.clip(jnp.concatenate([move, turns]), -limit, limit) + drift * jnp.where(fine, 0.4, 1.0)
    closed = (memory.phase >= GRIP) & (memory.phase < LEAVE)

    dropped = (memory.phase > GRIP) & (memory.phase < LEAVE) & (jnp.linalg.norm(grasp - eef) > 0.06)
    missed = (memory.phase == LOWER) & (far > 0.012) & (thing[2] > 0.115) if task == "square" else False
    last = RAISE if task == "lift" else LEAVE
    phase = jnp.minimum(memory.phase + arrived, last)
    phase = jnp.where(dropped, HOVER, jnp.where(missed, CARRY, phase))
    memory = memory._replace(
        phase=phase,
        time=jnp.where(phase == memory.phase, memory.time + 1, 0),
        pause=jnp.where(thinks, jax.random.randint(length_key, (), 2, 9), jnp.maximum(memory.pause - 1, 0)),
        drift=drift,
    )
    return memory, jnp.concatenate([action, jnp.where(closed, 1.0, -1.0)[None]])


def angles(rotation: jax.Array) -> jax.Array:
    """Roll, pitch and yaw of a quaternion, xyzw, that is turned by yaw, then pitch, then roll."""
    x, y, z, w = rotation
    roll = jnp.arctan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
    pitch = jnp.arcsin(jnp.clip(2 * (w * y - z * x), -1, 1))
    yaw = jnp.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return jnp.stack([roll, pitch, yaw])


def wrap(angle: jax.Array, period: float) -> jax.Array:
    """Into [-period / 2, period / 2)."""
    return (angle + period / 2) % period - period / 2
