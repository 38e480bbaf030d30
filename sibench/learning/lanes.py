"""Lanes: many learners in one compiled program, each with its own seed, dataset and value of a swept setting.

What a lane draws depends only on its seed, so its neighbours do not change its numbers: on a CPU not by a bit, on an
accelerator by no more than rounding.
"""

import copy
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from sibench.core.errors import UserError
from sibench.learning.method import Algorithm, RunConfig, Spec
from sibench.learning.sampling import Data, per_lane
from sibench.policies import Policy

NEVER = np.iinfo(np.int32).max
BY_LANE, SHARED = PartitionSpec("lanes"), PartitionSpec()
STREAMS = {"init": 0, "pretrain": 1, "update": 2}
"""Number of each phase's stream of keys."""


class Lane(NamedTuple):
    """One learner of a program."""

    dataset: str
    swept: float | None
    seed: int


def make_lanes(config: RunConfig) -> list[Lane]:
    """List the lanes of a run: every dataset with every swept value and seed; if `paired`, one dataset a seed."""
    if config.paired:
        if config.sweep or len(config.dataset) != config.seeds:
            raise UserError(f"paired: one dataset for each of the {config.seeds} seeds is needed, and no sweep")
        return [Lane(dataset, None, config.seed + i) for i, dataset in enumerate(config.dataset)]
    if len(set(config.dataset)) < len(config.dataset):
        raise UserError(f"--dataset {' '.join(config.dataset)}: one is named twice")
    values = [float(value) for value in config.sweep[1:]] or [None]
    seeds = range(config.seed, config.seed + config.seeds)
    return [Lane(dataset, value, seed) for dataset in config.dataset for value in values for seed in seeds]


def cell_name(config: RunConfig, lane: Lane) -> str:
    """Name what a lane shares with the other seeds of its cell: `bc-5`, or `bc-5-temperature-0.1` in a sweep."""
    return lane.dataset if lane.swept is None else f"{lane.dataset}-{config.swept}-{lane.swept:g}"


def lane_name(config: RunConfig, lane: Lane) -> str:
    return f"{cell_name(config, lane)}-seed-{lane.seed}"


def with_traced(config: RunConfig, swept: jax.Array | None) -> RunConfig:
    """Return the config of one lane, with its swept setting as a traced scalar.

    A frozen dataclass checks its values when it is made, which a tracer cannot pass; the values were checked before.
    """
    if swept is None:
        return config
    lane_config = copy.copy(config)
    object.__setattr__(lane_config, config.swept, swept)
    return lane_config


class Program:
    """The update loop of every lane, compiled as one program. Lanes are split evenly over the devices of this host."""

    def __init__(
        self,
        make: Callable[[Any, Spec], Algorithm],
        config: RunConfig,
        spec: Spec,
        lanes: list[Lane],
        data: Data,
    ):
        self.compile_seconds, self._chunks = 0.0, {}
        self._algorithm = lambda swept: make(with_traced(config, swept), spec)
        devices = jax.local_devices()
        of_each = -(-len(lanes) // len(devices))
        self.num_devices = -(-len(lanes) // of_each)
        self._num = len(lanes)
        lanes = lanes + lanes[-1:] * (self.num_devices * of_each - len(lanes))  # padding; see _rows
        self._mesh = jax.make_mesh((self.num_devices,), ("lanes",), devices=devices[: self.num_devices])
        self._data_specs = per_lane(data, BY_LANE, SHARED)
        self._padding, self._own = np.minimum(np.arange(len(lanes)), self._num - 1), slice(self._num)
        data = jax.tree.map(
            lambda leaf, spec: self._rows(leaf, self._padding) if spec == BY_LANE else leaf, data, self._data_specs
        )
        roots = jax.vmap(jax.random.key)(jnp.array([lane.seed for lane in lanes]))
        values = jnp.array([lane.swept for lane in lanes]) if config.sweep else None
        self._lanes = (self._place(roots), self._place(values))
        self._data = self._place(data, self._data_specs)
        self._init = jax.jit(self._sharded(self._init_lanes, BY_LANE, self._data_specs))

    def init(self) -> Any:
        """Return the states of all lanes before their first update."""
        return self._rows(self._init(self._lanes, self._data), self._own)

    def chunk(
        self, phase: str, states: Any, first: int, last: int, dead: np.ndarray | None = None
    ) -> tuple[Any, dict[str, jax.Array], jax.Array]:
        """Run updates first ... last - 1 of a phase, `pretrain` or `update`; on a CPU, `dead` lanes stand still.

        Returns the states, each lane's mean of every metric, and the first update at which a metric of a lane was not
        finite, or NEVER.
        """
        numbers = self._place((jnp.int32(first), jnp.int32(last)), SHARED)
        dead = np.zeros(self._num, bool) if dead is None else dead
        of_lanes = self._place(self._rows((states, dead), self._padding))
        return self._rows(self.compiled(phase)(*of_lanes, self._lanes, self._data, *numbers), self._own)

    def policies(self, states: Any) -> Policy:
        """Return the policies of all lanes as one, its parameters with a leading axis of lanes, on one device."""
        return self.policy(states, slice(None))

    def policy(self, states: Any, lane: int | slice) -> Policy:
        policy = self._algorithm(None).policy(states)
        return policy._replace(params=jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[lane]), policy.params))

    def _each(self, function: Callable, lanes: Any, data: Data) -> Any:
        """Apply `function(lane, data)` to every lane: one after the other on a CPU, side by side on an accelerator.

        A CPU gains nothing from batching lanes, and one at a time their numbers do not depend on each other by a bit.
        """
        own = [(source.stats, source.stretch) for source in data]

        def one(lane_and_own):
            lane, own = lane_and_own
            return function(lane, Data(*(s._replace(stats=o[0], stretch=o[1]) for s, o in zip(data, own, strict=True))))

        if jax.default_backend() == "cpu":
            return jax.lax.map(one, (lanes, own))
        return jax.vmap(one)((lanes, own))

    def _init_lanes(self, lanes: tuple, data: Data) -> Any:
        def one(lane, data):
            root, swept = lane
            return self._algorithm(swept).init(data, jax.random.fold_in(root, STREAMS["init"]))

        return self._each(one, lanes, data)

    def _chunk_lanes(self, phase: str, states: Any, dead: jax.Array, lanes: tuple, data: Data, first, last):
        def one(lane, data):
            state, dead, (root, swept) = lane
            # on an accelerator a dead lane goes on: stopping it would cost a select of all states in every step
            until = jnp.where(dead, first, last) if jax.default_backend() == "cpu" else last
            update = getattr(self._algorithm(swept), phase)  # `Algorithm.update` or `Algorithm.pretrain`
            key = jax.random.fold_in(root, STREAMS[phase])

            def body(step, carry):
                state, sums, bad = carry
                state, metrics = update(state, data, jax.random.fold_in(key, step))
                finite = jnp.stack([jnp.isfinite(metric) for metric in metrics.values()]).all()
                return state, jax.tree.map(jnp.add, sums, metrics), jnp.minimum(bad, jnp.where(finite, NEVER, step))

            metrics = jax.eval_shape(update, state, data, key)[1]
            sums = jax.tree.map(lambda metric: jnp.zeros(metric.shape, metric.dtype), metrics)
            state, sums, bad = jax.lax.fori_loop(first, until, body, (state, sums, jnp.int32(NEVER)))
            return state, jax.tree.map(lambda total: total / (last - first), sums), bad

        return self._each(one, (states, dead, lanes), data)

    def compiled(self, phase: str):
        """Return the program of a phase, compiled at the first call."""
        if phase in self._chunks:
            return self._chunks[phase]
        start, function = time.monotonic(), functools.partial(self._chunk_lanes, phase)
        specs = (BY_LANE, BY_LANE, BY_LANE, self._data_specs, SHARED, SHARED)
        chunk = jax.jit(self._sharded(function, *specs), donate_argnums=0)

        def shape(leaf, spec):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(self._mesh, spec))

        states = jax.tree.map(lambda leaf: shape(leaf, BY_LANE), jax.eval_shape(self._init, self._lanes, self._data))
        number, dead = shape(jnp.int32(0), SHARED), shape(np.zeros(len(self._padding), bool), BY_LANE)
        compiled = chunk.lower(states, dead, self._lanes, self._data, number, number).compile()
        self.compile_seconds += time.monotonic() - start
        self._chunks[phase] = compiled
        return compiled

    def _rows(self, tree: Any, which: np.ndarray | slice) -> Any:
        """Add or remove padding lanes; do nothing if the lanes divide evenly by the devices."""
        if len(self._padding) == self._num:
            return tree
        return jax.tree.map(lambda leaf: np.asarray(leaf)[which], tree)

    def _sharded(self, function: Callable, *in_specs: Any) -> Callable:
        return jax.shard_map(function, mesh=self._mesh, in_specs=in_specs, out_specs=BY_LANE, check_vma=False)

    def _place(self, tree: Any, specs: Any = BY_LANE) -> Any:
        if isinstance(specs, PartitionSpec):
            return jax.device_put(tree, NamedSharding(self._mesh, specs))
        return jax.device_put(tree, jax.tree.map(lambda spec: NamedSharding(self._mesh, spec), specs))
