"""How a simulation is stepped: by MuJoCo's C code on a thread pool (`c`), or by MJX on the accelerator (`mjx`).

Both engines have two pure functions, `reset` and `step`, which can be jitted, vmapped and scanned.
"""

import contextlib
import io
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sibench.core.errors import UserError, unknown
from sibench.core.system import threads

try:
    import mujoco
except (AttributeError, ImportError, OSError, RuntimeError) as error:  # it loads the OpenGL that $MUJOCO_GL names
    if not (gl := os.environ.get("MUJOCO_GL")):
        raise
    hint = "unset it: nothing but tasks with frames needs OpenGL"
    raise UserError(f"MuJoCo cannot be loaded with MUJOCO_GL={gl}: {error}; {hint}") from None
from jax.flatten_util import ravel_pytree
from mujoco import MjModel
from mujoco.batch import Batch

with contextlib.redirect_stdout(io.StringIO()):  # it prints that warp, which is not used here, is missing
    from mujoco import mjx

PIECE_BYTES = 64 << 10
"""Largest argument of a callback; larger batches are passed in pieces.

JAX copies arguments of 100 KiB and more on the thread pool that also runs the callback. If as many programs run as
there are processors, no thread is left for the copy, and the callback waits for ever.
"""


class PhysicsState(NamedTuple):
    """The state of one simulation. A field's float64 value is `fields[name] + rest[name]`, to 48 bits.

    A float32 position 500 m from the origin has a resolution of 0.03 mm, too coarse for a velocity over 10 ms;
    `difference` subtracts the pairs and is exact.
    """

    carry: Any  # what the engine needs for the next step; opaque
    fields: dict[str, jax.Array]  # MjData fields by their MuJoCo names, float32
    rest: dict[str, jax.Array]  # what float32 cuts off; zero under mjx, whose physics is float32


def difference(after: PhysicsState, before: PhysicsState, name: str) -> jax.Array:
    """Return how far a field moved, without the rounding of its position."""
    return (after.fields[name] - before.fields[name]) + (after.rest[name] - before.rest[name])


def load_model(path: Path) -> MjModel:
    """Compile a model, without MuJoCo's deprecation notes in MUJOCO_LOG.TXT."""
    warn = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        return MjModel.from_xml_path(str(path))
    finally:
        mujoco.set_mju_user_warning(warn)


def pick_engine(engine: str = "auto") -> str:
    """Resolve `auto`: mjx on a GPU, c on a CPU."""
    if engine == "auto":
        return "mjx" if jax.default_backend() == "gpu" else "c"
    if engine not in ENGINES:
        raise unknown("engine", engine, ("auto", *ENGINES))
    return engine


def on_host(host: Callable, shapes: Sequence[tuple[tuple[int, ...], Any]]) -> Callable:
    """Turn a host function of batches into a pure function of one row, which vmap batches to any depth.

    `host` maps arrays [N, ...] to arrays [N, *shape]; `shapes` are shape and type of the results of one row.
    """

    def host_of_pieces(*args):
        return host(*(np.concatenate([np.asarray(piece) for piece in pieces]) for pieces in args))

    @jax.custom_batching.custom_vmap
    def batch(*args):
        results = [jax.ShapeDtypeStruct((len(args[0]), *shape), dtype) for shape, dtype in shapes]
        return jax.pure_callback(host_of_pieces, results, *map(_pieces, args))

    @batch.def_vmap
    def nested_batch(size, batched, *args):
        args = [a if b else jnp.broadcast_to(a, (size, *a.shape)) for a, b in zip(args, batched, strict=True)]
        results = batch(*(a.reshape(-1, *a.shape[2:]) for a in args))
        return [r.reshape(size, -1, *r.shape[1:]) for r in results], [True] * len(results)

    return lambda *args: [r[0] for r in batch(*(a[None] for a in args))]


def _pieces(batch: jax.Array) -> list[jax.Array]:
    rows = max(1, PIECE_BYTES // (batch[0].size * batch.dtype.itemsize))
    return [batch[i : i + rows] for i in range(0, len(batch), rows)]


class CPhysics:
    """MuJoCo C, `frame_skip` times mj_step: bit-identical to Gymnasium.

    The whole integration state travels through JAX as its float64 bits in uint32 pairs, so that a step is a pure
    function of its arguments; the `Batch` behind it is scratch memory.
    """

    engine = "c"

    def __init__(self, model: MjModel, frame_skip: int, fields: tuple[str, ...]):
        self.model, self.frame_skip, self.names = model, frame_skip, fields
        data = mujoco.MjData(model)
        values, self._unravel = ravel_pytree([np.zeros_like(getattr(data, name), np.float32) for name in fields])
        state_size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION)
        # mj_step leaves cfrc_ext unset; Gymnasium fills it by a call for each simulation, which needs the whole MjData
        self._forces = "cfrc_ext" in fields
        self._scratch = [mujoco.MjData(model) for _ in range(threads())] if self._forces else []
        self._pool = ThreadPoolExecutor(threads())
        self._batches: dict[int, Batch] = {}
        self._lock = threading.Lock()
        shapes = ((2 * state_size,), jnp.uint32), ((2, values.size), jnp.float32)
        self._reset, self._step = on_host(self._reset_on_host, shapes), on_host(self._step_on_host, shapes)

    def reset(self, qpos: jax.Array, qvel: jax.Array) -> PhysicsState:
        return self._physics_state(*self._reset(qpos, qvel))

    def step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        return self._physics_state(*self._step(state.carry, ctrl))

    def _physics_state(self, bits: jax.Array, values: jax.Array) -> PhysicsState:
        fields, rest = (dict(zip(self.names, self._unravel(part), strict=True)) for part in values)
        return PhysicsState(bits, fields, rest)

    def _batch(self, nsim: int) -> Batch:
        if nsim not in self._batches:
            nthread = min(nsim, threads())
            self._batches[nsim] = Batch(self.model, nsim=nsim, nthread=nthread, persistent=self._forces)
            for name in self.names:
                self._batches[nsim].bind(name)
        return self._batches[nsim]

    def _reset_on_host(self, qpos: np.ndarray, qvel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            batch = self._batch(len(qpos))
            batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE)
            batch.bind("qpos")[:] = qpos
            batch.bind("qvel")[:] = qvel
            batch.forward()
            return self._read(batch)

    def _step_on_host(self, bits: np.ndarray, ctrl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            batch = self._batch(len(bits))
            batch.state[:] = bits.view(np.float64)
            batch.bind("ctrl")[:] = ctrl
            batch.step(nstep=self.frame_skip)
            return self._read(batch)

    def _read(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Return the state's bits, and the fields as float32 values and their remainders."""
        values = [np.asarray(batch.bind(name)) for name in self.names]
        if self._forces:
            values[self.names.index("cfrc_ext")] = self._contact_forces(batch)
        exact = np.concatenate([v.reshape(batch.nsim, -1) for v in values], axis=1)
        rounded = exact.astype(np.float32)
        return batch.state.copy().view(np.uint32), np.stack([rounded, exact - rounded], axis=1, dtype=np.float32)

    def _contact_forces(self, batch: Batch) -> np.ndarray:
        forces = np.zeros((batch.nsim, self.model.nbody, 6))

        def compute(data: mujoco.MjData, sims: np.ndarray) -> None:
            for sim in sims:
                batch.get_data(int(sim), data)
                mujoco.mj_rnePostConstraint(self.model, data)
                forces[sim] = data.cfrc_ext

        touching = np.flatnonzero(batch.bind("ncon"))
        list(self._pool.map(compute, self._scratch, np.array_split(touching, len(self._scratch))))
        return forces


class MjxPhysics:
    """MJX in JAX (`impl="jax"`; `warp` is not deterministic), in float32 that no GPU may shorten to TF32."""

    engine = "mjx"

    def __init__(self, model: MjModel, frame_skip: int, fields: tuple[str, ...]):
        self.model, self.frame_skip, self.names = model, frame_skip, fields
        if model.na or model.nmocap or model.nuserdata:
            raise NotImplementedError("engine mjx does not support models with activations, mocap bodies or user data")
        self._mjx_model = mjx.put_model(model, impl="jax")

    @jax.default_matmul_precision("highest")
    def reset(self, qpos: jax.Array, qvel: jax.Array) -> PhysicsState:
        data = mjx.make_data(self.model, impl="jax").replace(qpos=qpos, qvel=qvel)
        return self._read(mjx.forward(self._mjx_model, data))

    @jax.default_matmul_precision("highest")
    def step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        data = mjx.make_data(self.model, impl="jax").replace(ctrl=ctrl, **state.carry)
        return self._read(jax.lax.fori_loop(0, self.frame_skip, lambda _, d: mjx.step(self._mjx_model, d), data))

    def _read(self, data: mjx.Data) -> PhysicsState:
        # mjx.step begins with a forward pass, which needs only these three
        carry = {"qpos": data.qpos, "qvel": data.qvel, "qacc_warmstart": data.qacc_warmstart}
        if "cfrc_ext" in self.names:
            data = mjx.rne_postconstraint(self._mjx_model, data)
        fields = {name: getattr(data if hasattr(data, name) else data._impl, name) for name in self.names}
        return PhysicsState(carry, fields, jax.tree.map(jnp.zeros_like, fields))


ENGINES = {"c": CPhysics, "mjx": MjxPhysics}
