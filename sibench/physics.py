"""How a simulation is stepped: by MuJoCo's C code on a thread pool (`c`), or by MJX on the accelerator (`mjx`).

Both engines are the same two pure functions, to be jitted, vmapped and scanned like any other:

    reset(qpos, qvel)   -> PhysicsState
    step(state, ctrl)   -> PhysicsState

and everything above this file is the same JAX code for both.
"""

import contextlib
import io
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sibench.cli import threads
from sibench.errors import UserError, unknown

try:
    import mujoco
except (AttributeError, ImportError, OSError, RuntimeError) as error:  # it loads the OpenGL that $MUJOCO_GL names
    if not (gl := os.environ.get("MUJOCO_GL")):
        raise
    raise UserError(
        f"MuJoCo cannot be loaded with MUJOCO_GL={gl}: {error}; unset it: nothing but tasks with frames needs OpenGL"
    ) from None
from mujoco.batch import Batch

with contextlib.redirect_stdout(io.StringIO()):  # it prints that warp, which is not used here, is missing
    from mujoco import mjx

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


def load_model(path: str) -> mujoco.MjModel:
    """Compile a model without MuJoCo's habit of writing its deprecation notes to MUJOCO_LOG.TXT."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        return mujoco.MjModel.from_xml_path(path)
    finally:
        mujoco.set_mju_user_warning(before)


def pick_engine(engine: str = "auto") -> str:
    """`auto` is mjx on a GPU and c on a CPU."""
    if engine == "auto":
        return "mjx" if jax.default_backend() == "gpu" else "c"
    if engine not in ENGINES:
        raise unknown("engine", engine, ("auto", *ENGINES))
    return engine


def make_physics(model: mujoco.MjModel, frame_skip: int, fields: tuple[str, ...], engine: str = "auto"):
    """The two functions of an engine. `fields`: what tasks read after a step."""
    return {"c": CPhysics, "mjx": MjxPhysics}[pick_engine(engine)](model, frame_skip, fields)


# A callback that waits for an argument can wait for ever: JAX copies arguments of 100 KiB and more on the very thread
# pool that runs the callback, and with as many running programs as processors nobody is left to do it. Smaller ones
# are there at once, so batches travel in pieces.
PIECE_BYTES = 64 << 10


def on_host(host: Callable, shapes: Sequence[tuple[tuple[int, ...], Any]]) -> Callable:
    """A host function of batches as a pure function of one, with batching of any depth.

    Args:
        host: (arrays [N, ...]) -> arrays [N, *shape].
        shapes: shape and type of what one gets.
    """

    @jax.custom_batching.custom_vmap
    def batch(*args):
        num = args[0].shape[0]
        results = [jax.ShapeDtypeStruct((num, *shape), dtype) for shape, dtype in shapes]
        return jax.pure_callback(_join(host), results, *(_pieces(arg) for arg in args))

    @batch.def_vmap
    def deeper(size, batched, *args):
        args = _broadcast(size, batched, args)
        lead = args[0].shape[:2]
        results = batch(*(a.reshape(-1, *a.shape[2:]) for a in args))
        return [r.reshape(*lead, *r.shape[1:]) for r in results], [True] * len(results)

    @jax.custom_batching.custom_vmap
    def one(*args):
        return [r[0] for r in batch(*(a[None] for a in args))]

    @one.def_vmap
    def first(size, batched, *args):
        results = batch(*_broadcast(size, batched, args))
        return results, [True] * len(results)

    return one


def _broadcast(size: int, batched: list[bool], args: tuple[jax.Array, ...]) -> list[jax.Array]:
    return [a if b else jnp.broadcast_to(a, (size, *a.shape)) for a, b in zip(args, batched, strict=True)]


def _pieces(batch: jax.Array) -> list[jax.Array]:
    rows = max(1, PIECE_BYTES // (batch[0].size * batch.dtype.itemsize))
    return [batch[i : i + rows] for i in range(0, len(batch), rows)]


def _join(host):
    return lambda *args: host(*(np.concatenate([np.asarray(piece) for piece in arg]) for arg in args))


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
        self._scratch = [mujoco.MjData(model) for _ in range(threads())] if self._forces else []
        self._pool = ThreadPoolExecutor(threads())
        self._batches: dict[int, Batch] = {}
        self._lock = threading.Lock()
        shapes = ((2 * self._row,), jnp.uint32), ((2, self._num_values), jnp.float32)
        self._reset, self._step = on_host(self._reset_on_host, shapes), on_host(self._step_on_host, shapes)

    def reset(self, qpos: jax.Array, qvel: jax.Array) -> PhysicsState:
        return self._state(self._reset(qpos, qvel))

    def step(self, state: PhysicsState, ctrl: jax.Array) -> PhysicsState:
        return self._state(self._step(state.carry, ctrl))

    def _state(self, row_and_values) -> PhysicsState:
        row, values = row_and_values
        return PhysicsState(row, self._unpack(values[0]), self._unpack(values[1]))

    def _unpack(self, values: jax.Array) -> dict[str, jax.Array]:
        ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        parts = jnp.split(values, ends[:-1])
        return {name: part.reshape(shape) for name, part, shape in zip(self.names, parts, self._shapes, strict=True)}

    def _batch(self, nsim: int) -> Batch:
        if nsim not in self._batches:
            batch = Batch(self.model, nsim=nsim, nthread=min(nsim, threads()), persistent=self._forces)
            for name in self.names:
                batch.bind(name)
            self._batches[nsim] = batch
        return self._batches[nsim]

    def _reset_on_host(self, qpos: np.ndarray, qvel: np.ndarray):
        with self._lock:
            batch = self._batch(len(qpos))
            batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE)
            batch.bind("qpos")[:] = qpos
            batch.bind("qvel")[:] = qvel
            batch.forward()
            return self._read(batch)

    def _step_on_host(self, row: np.ndarray, ctrl: np.ndarray):
        with self._lock:
            batch = self._batch(len(row))
            batch.state[:] = row.view(np.float64)
            batch.bind("ctrl")[:] = ctrl
            batch.step(nstep=self.frame_skip)
            return self._read(batch)

    def _read(self, batch: Batch):
        values = [np.asarray(batch.bind(name)) for name in self.names]
        if self._forces:
            values[self.names.index("cfrc_ext")] = self._contact_forces(batch)
        exact = np.concatenate([v.reshape(batch.nsim, -1) for v in values], axis=1)
        pair = np.empty((batch.nsim, 2, self._num_values), np.float32)
        pair[:, 0] = exact
        pair[:, 1] = exact - pair[:, 0]
        return batch.state.copy().view(np.uint32), pair

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

    def __init__(self, model: mujoco.MjModel, frame_skip: int, fields: tuple[str, ...]):
        self.model, self.frame_skip, self.names = model, frame_skip, fields
        if model.na or model.nmocap or model.nuserdata:
            raise NotImplementedError("the state that MjxPhysics carries has no activations, mocap bodies or user data")
        self._mjx_model = mjx.put_model(model, impl="jax")

    @jax.default_matmul_precision("highest")
    def reset(self, qpos: jax.Array, qvel: jax.Array) -> PhysicsState:
        data = mjx.make_data(self.model, impl="jax").replace(qpos=qpos, qvel=qvel)
        return self._read(mjx.forward(self._mjx_model, data))

    @jax.default_matmul_precision("highest")
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
