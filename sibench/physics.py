"""How a simulation is stepped: by MuJoCo's C code on a thread pool (`c`), or by MJX on the accelerator (`mjx`).

Both engines are the same two pure functions, to be jitted, vmapped and scanned like any other:

    reset(qpos, qvel)   -> PhysicsState
    step(state, ctrl)   -> PhysicsState

and everything above this file is the same JAX code for both.
"""

import os
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx
from mujoco.batch import Batch

ENGINES = ("c", "mjx")


class PhysicsState(NamedTuple):
    """One simulation. A field's float64 value is `fields[name] + rest[name]`, to 48 bits.

    A float32 position 500 m from the origin is 0.03 mm coarse, and a velocity is a difference of two of them over
    10 ms; `difference` subtracts the pairs and is exact.
    """

    carry: Any  # what the engine needs to go on; opaque
    fields: dict[str, jax.Array]  # MjData fields by their MuJoCo names, float32
    rest: dict[str, jax.Array]  # what float32 cut off; zero under mjx, whose physics is float32


def difference(after: PhysicsState, before: PhysicsState, name: str) -> jax.Array:
    """How far a field moved, without the rounding of its position."""
    return (after.fields[name] - before.fields[name]) + (after.rest[name] - before.rest[name])


def pick_engine(engine: str = "auto") -> str:
    """`auto` is mjx on a GPU and c on a CPU."""
    if engine == "auto":
        return "mjx" if jax.default_backend() == "gpu" else "c"
    if engine not in ENGINES:
        raise ValueError(f"unknown engine '{engine}'; engines: auto, {', '.join(ENGINES)}")
    return engine


def make_physics(model: mujoco.MjModel, frame_skip: int, fields: tuple[str, ...], engine: str = "auto"):
    """The two functions of an engine. `fields`: what tasks read after a step."""
    return {"c": CPhysics, "mjx": MjxPhysics}[pick_engine(engine)](model, frame_skip, fields)


class CPhysics:
    """MuJoCo C, `frame_skip` times mj_step: to the bit what Gymnasium does.

    The whole integration state travels through JAX as its float64 bits in uint32 pairs, so that a step is a pure
    function of its arguments; the `Batch` behind it is scratch memory.
    """

    engine = "c"

    def __init__(self, model: mujoco.MjModel, frame_skip: int, fields: tuple[str, ...]):
        self.model, self.frame_skip, self.names = model, frame_skip, fields
        data = mujoco.MjData(model)
        self._shapes = [np.shape(getattr(data, name)) for name in fields]
        self._row = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION)
        self._num_values = sum(int(np.prod(shape)) for shape in self._shapes)
        # mj_step leaves cfrc_ext unset; Gymnasium fills it by a call per simulation, which needs the whole MjData
        self._forces = "cfrc_ext" in fields
        self._scratch = data
        self._batches: dict[int, Batch] = {}
        self._lock = threading.Lock()

    def reset(self, qpos: jax.Array, qvel: jax.Array) -> PhysicsState:
        return self._call(self._reset_on_host, qpos, qvel)

    def step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        return self._call(self._step_on_host, state.carry, ctrl)

    def _call(self, host, *args) -> PhysicsState:
        shapes = (
            jax.ShapeDtypeStruct((2 * self._row,), jnp.uint32),
            jax.ShapeDtypeStruct((2, self._num_values), jnp.float32),
        )
        carry, values = jax.pure_callback(host, shapes, *args, vmap_method="broadcast_all")
        fields, rest = (self._unpack(values[i]) for i in range(2))
        return PhysicsState(carry, fields, rest)

    def _unpack(self, values: jax.Array) -> dict[str, jax.Array]:
        ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        parts = jnp.split(values, ends[:-1])
        return {name: part.reshape(shape) for name, part, shape in zip(self.names, parts, self._shapes, strict=True)}

    def _batch(self, nsim: int) -> Batch:
        if nsim not in self._batches:
            threads = min(nsim, len(os.sched_getaffinity(0)))
            batch = Batch(self.model, nsim=nsim, nthread=threads, persistent=self._forces)
            for name in self.names:
                batch.bind(name)
            self._batches[nsim] = batch
        return self._batches[nsim]

    def _reset_on_host(self, qpos, qvel):
        qpos, qvel = np.asarray(qpos), np.asarray(qvel)
        lead = qpos.shape[:-1]
        with self._lock:
            batch = self._batch(int(np.prod(lead)))
            batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE)
            batch.bind("qpos")[:] = qpos.reshape(-1, self.model.nq)
            batch.bind("qvel")[:] = qvel.reshape(-1, self.model.nv)
            batch.forward()
            return self._read(batch, lead)

    def _step_on_host(self, carry, ctrl):
        carry, ctrl = np.asarray(carry), np.asarray(ctrl)
        lead = ctrl.shape[:-1]
        with self._lock:
            batch = self._batch(int(np.prod(lead)))
            batch.state[:] = carry.reshape(-1, 2 * self._row).view(np.float64)
            batch.bind("ctrl")[:] = ctrl.reshape(-1, self.model.nu)
            batch.step(nstep=self.frame_skip)
            return self._read(batch, lead)

    def _read(self, batch: Batch, lead: tuple[int, ...]):
        carry = batch.state.copy().view(np.uint32).reshape(*lead, -1)
        values = [np.asarray(batch.bind(name)) for name in self.names]
        if self._forces:
            values[self.names.index("cfrc_ext")] = self._contact_forces(batch)
        exact = np.concatenate([v.reshape(batch.nsim, -1) for v in values], axis=1)
        pair = np.empty((batch.nsim, 2, self._num_values), np.float32)
        pair[:, 0] = exact
        pair[:, 1] = exact - pair[:, 0]
        return carry, pair.reshape(*lead, 2, -1)

    def _contact_forces(self, batch: Batch) -> np.ndarray:
        forces = np.zeros((batch.nsim, self.model.nbody, 6))
        for sim in np.flatnonzero(batch.bind("ncon")):
            batch.get_data(int(sim), self._scratch)
            mujoco.mj_rnePostConstraint(self.model, self._scratch)
            forces[sim] = self._scratch.cfrc_ext
        return forces


class MjxPhysics:
    """MJX in JAX (`impl="jax"`; `warp` is not deterministic), float32."""

    engine = "mjx"

    def __init__(self, model: mujoco.MjModel, frame_skip: int, fields: tuple[str, ...]):
        self.model, self.frame_skip, self.names = model, frame_skip, fields
        self._mjx_model = mjx.put_model(model, impl="jax")

    def reset(self, qpos: jax.Array, qvel: jax.Array) -> PhysicsState:
        data = mjx.make_data(self.model, impl="jax").replace(qpos=qpos, qvel=qvel)
        return self._read(mjx.forward(self._mjx_model, data))

    def step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        data = mjx.make_data(self.model, impl="jax").replace(ctrl=ctrl, **state.carry)
        data = jax.lax.fori_loop(0, self.frame_skip, lambda _, d: mjx.step(self._mjx_model, d), data)
        return self._read(data)

    def _read(self, data: mjx.Data) -> PhysicsState:
        # mjx.step begins with a forward pass: these three are all that it needs of the past
        carry = {"qpos": data.qpos, "qvel": data.qvel, "qacc_warmstart": data.qacc_warmstart}
        if "cfrc_ext" in self.names:
            data = mjx.rne_postconstraint(self._mjx_model, data)
        fields = {name: getattr(data, name, None) for name in self.names}
        fields = {name: getattr(data._impl, name) if value is None else value for name, value in fields.items()}
        return PhysicsState(carry, fields, jax.tree.map(jnp.zeros_like, fields))
