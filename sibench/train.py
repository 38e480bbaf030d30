"""The training loop, once for all methods: a scan over updates of a vmap over lanes.

A lane is one learner: its own seed, its own dataset, its own value of a swept setting. What it draws depends on its
seed and on nothing else, so neither its neighbours nor an interruption change its numbers.
"""

import contextlib
import copy
import dataclasses
import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import platformdirs
import tyro
from jax.sharding import PartitionSpec

from sibench import checkpoint, cli, files, policies, provenance, tasks
from sibench.batches import Data, make_data, per_lane
from sibench.data import load_privileged, storage
from sibench.errors import UserError, require_positive, unknown
from sibench.evaluation import evaluate, policy_act
from sibench.logs import Log
from sibench.networks import is_statistic
from sibench.rollout import rollout, seeds

NEVER = np.iinfo(np.int32).max
PRIVILEGES = ("background rewards", "expert actions")
STREAMS = {"init": 0, "pretrain": 1, "update": 2}


@dataclass(frozen=True)
class RunConfig:
    """What every method shares; its defaults are those of the paper (VfO, table 1)."""

    task: str
    """Task to learn."""
    dataset: tuple[str, ...]
    """Background datasets, such as bc-10; each has lanes of its own."""
    demos: int = 10
    """Expert demonstrations, 1 to 1000: the first ones of --expert."""
    expert: str = "expert"
    """Dataset that the demonstrations are taken from."""
    build: bool = False
    """Make datasets that are not there."""
    seeds: int = 5
    """Learners for each dataset and swept value, with one seed each."""
    seed: int = 0
    """The first of these seeds."""
    steps: int = 1_000_000
    """Gradient updates, after those of a pretraining phase."""
    sweep: tuple[str, ...] = ()
    """A setting and the values to give it: --sweep temperature 0.1 1 10."""
    batch_size: int = 256
    """Steps per update."""
    learning_rate: float = 3e-4
    """Adam learning rate of every network."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW)."""
    hidden: tuple[int, ...] = (512, 512)
    """Units of the hidden layers of every network."""
    evals: int = 50
    """Evaluations during training, evenly spaced; the paper averages those of the last tenth."""
    eval_episodes: int = 10
    """Episodes in each of them."""
    final_episodes: int = 1000
    """Episodes by which the finished policies are judged."""
    log_every: int = 1000
    """Updates between rows of metrics.jsonl."""
    checkpoint_every: int = 20_000
    """Updates between checkpoints."""
    engine: str = "auto"
    """Physics engine of evaluations: c, mjx, or auto (mjx on a GPU, c on a CPU)."""
    out: Path = Path("runs")
    """Folder of runs; this one's is <out>/<task>/<algorithm>-<dataset>."""
    tensorboard: bool = False
    """Write TensorBoard files too (extra [log])."""
    wandb: str = ""
    """Log to this Weights & Biases project too (extra [log])."""

    def __post_init__(self):
        require_positive(self, "demos", "seeds", "steps", "batch_size", "evals", "eval_episodes", "final_episodes")
        require_positive(self, "log_every", "checkpoint_every")
        if any(width < 1 for width in self.hidden):
            raise UserError(f"hidden={self.hidden}; every layer needs at least 1 unit")
        if self.sweep:
            check_sweep(self)


FREE = ("out", "build", "log_every", "checkpoint_every", "tensorboard", "wandb")
"""Settings that move no number of a result."""


class Spec(NamedTuple):
    obs_dim: int
    action_dim: int


class Algorithm(NamedTuple):
    """A method: pure functions of one learner, which the loop vmaps."""

    name: str
    init: Callable[[Data, jax.Array], Any]  # (data, key) -> state
    update: Callable[[Any, Data, jax.Array], tuple[Any, dict]]  # (state, data, key) -> (state, metrics)
    policy: Callable[[Any], policies.Policy]  # state -> Policy
    pretrain: Callable[[Any, Data, jax.Array], tuple[Any, dict]] | None = (
        None  # like update, `num_pretrain` times first
    )
    num_pretrain: int = 0
    privileges: tuple[str, ...] = ()  # what it sees beyond expert observations and background steps: of PRIVILEGES


class Lane(NamedTuple):
    dataset: str
    swept: float | None
    seed: int


def adam(config: RunConfig) -> optax.GradientTransformation:
    """The optimiser of every network."""
    if config.weight_decay:
        decayed = functools.partial(jax.tree.map_with_path, lambda path, _: not is_statistic(path))
        return optax.adamw(config.learning_rate, weight_decay=config.weight_decay, mask=decayed)
    return optax.adam(config.learning_rate)


# --- lanes ------------------------------------------------------------------------------------------------------------


def check_sweep(config: RunConfig) -> None:
    """Refuse a sweep over what is not a number of this method, and values that a setting does not take."""
    name, *values = config.sweep
    name = name.replace("-", "_")
    floats = [field.name for field in dataclasses.fields(config) if isinstance(getattr(config, field.name), float)]
    if name not in floats:
        raise unknown("swept setting", name, floats)
    try:
        numbers = [float(value) for value in values]
    except ValueError as error:
        raise UserError(f"--sweep {name} takes numbers: {error}") from None
    if len(numbers) < 1 or len(set(numbers)) < len(numbers):
        raise UserError(f"--sweep {name} needs values, all different; got {', '.join(values) or 'none'}")
    for number in numbers:
        dataclasses.replace(config, sweep=(), **{name: number})  # its own checks


def lanes_of(config: RunConfig) -> list[Lane]:
    """Every dataset, with every swept value, with every seed."""
    if len(set(config.dataset)) < len(config.dataset):
        raise UserError(f"--dataset {' '.join(config.dataset)}: one is named twice")
    values = [float(value) for value in config.sweep[1:]] or [None]
    numbers = range(config.seed, config.seed + config.seeds)
    return [Lane(dataset, value, seed) for dataset in config.dataset for value in values for seed in numbers]


def cell_name(config: RunConfig, lane: Lane) -> str:
    return lane.dataset if lane.swept is None else f"{lane.dataset}-{config.sweep[0]}-{lane.swept:g}"


def with_traced(config: RunConfig, value: jax.Array | None) -> RunConfig:
    """The config of one lane, its swept setting a traced number. The values were checked before."""
    if value is None:
        return config
    lane_config = copy.copy(config)
    object.__setattr__(lane_config, config.sweep[0].replace("-", "_"), value)
    return lane_config


def load_data(config: RunConfig, lanes: list[Lane], privileges: tuple[str, ...]) -> tuple[Data, dict[str, Any]]:
    """What the lanes draw from, and the datasets by their names."""
    datasets = {name: load_privileged(f"{config.task}/{name}", build=config.build) for name in config.dataset}
    expert = load_privileged(f"{config.task}/{config.expert}", build=config.build)
    if config.demos > expert.num_episodes:
        raise UserError(f"demos={config.demos}; {expert.card['id']} has {expert.num_episodes}")
    expert = expert.first(config.demos)
    order = list(datasets)
    data = make_data(list(datasets.values()), expert, [order.index(lane.dataset) for lane in lanes], privileges)
    return data, datasets | {"expert demonstrations": expert}


class Program(NamedTuple):
    """A method's functions, of all lanes at once."""

    init: Callable[[], Any]
    chunk: Callable[[str, Any, int, int], tuple[Any, dict, jax.Array]]  # (phase, states, first, last update)
    policy: Callable[[Any, int], policies.Policy]  # (states, lane)


def compile_lanes(make: Callable, config: RunConfig, spec: Spec, lanes: list[Lane], data: Data, clock: dict) -> Program:
    """Vmap over lanes, scan over updates, shard lanes over devices."""
    root = jax.vmap(jax.random.key)(jnp.array([lane.seed for lane in lanes]))
    values = jnp.array([lane.swept for lane in lanes]) if config.sweep else None
    devices = jax.devices()[: max(n for n in range(1, jax.device_count() + 1) if len(lanes) % n == 0)]
    mesh = jax.make_mesh((len(devices),), ("lanes",), devices=devices)
    lane, shared = PartitionSpec("lanes"), PartitionSpec()
    by_lane = per_lane(data, lane, shared)
    axes = per_lane(data, 0, None)

    def place(tree: Any, spec: Any) -> Any:
        return jax.device_put(tree, jax.tree.map(lambda s: jax.sharding.NamedSharding(mesh, s), spec))

    def sharded(function: Callable, in_specs: tuple) -> Callable:
        return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=lane, check_vma=False)

    data, root, values = place(data, by_lane), place(root, lane), place(values, lane) if config.sweep else None

    def init_one(root, value, data):
        key = jax.random.fold_in(root, STREAMS["init"])
        return make(with_traced(config, value), spec).init(data, key)

    def init(root, values, data):
        return jax.vmap(init_one, in_axes=(0, 0, axes))(root, values, data)

    def chunk(phase, states, root, values, data, first, last):
        """Updates first ... last - 1; the mean of each metric, and the first update at which one was not finite."""

        def update(state, root, value, data, step):
            key = jax.random.fold_in(jax.random.fold_in(root, STREAMS[phase]), step)
            return getattr(make(with_traced(config, value), spec), phase)(state, data, key)

        def body(step, carry):
            states, sums, bad = carry
            states, metrics = jax.vmap(update, in_axes=(0, 0, 0, axes, None))(states, root, values, data, step)
            finite = jnp.stack([jnp.isfinite(value) for value in metrics.values()]).all(0)
            bad = jnp.minimum(bad, jnp.where(finite, NEVER, step))
            return states, jax.tree.map(jnp.add, sums, metrics), bad

        shapes = jax.eval_shape(lambda: jax.vmap(update, (0, 0, 0, axes, None))(states, root, values, data, 0)[1])
        sums = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        bad = jnp.full(jax.tree.leaves(root)[0].shape[:1], NEVER)
        states, sums, bad = jax.lax.fori_loop(first, last, body, (states, sums, bad))
        return states, jax.tree.map(lambda total: total / (last - first), sums), bad

    @functools.cache
    def compiled(phase: str):
        start = time.monotonic()
        function = sharded(functools.partial(chunk, phase), (lane, lane, lane, by_lane, shared, shared))
        states = jax.eval_shape(init_lanes, root, values, data)
        states = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=jax.sharding.NamedSharding(mesh, lane)), states
        )
        number = jax.ShapeDtypeStruct((), jnp.int32, sharding=jax.sharding.NamedSharding(mesh, shared))
        made = jax.jit(function, donate_argnums=0).lower(states, root, values, data, number, number).compile()
        clock["compile"] += time.monotonic() - start
        return made

    init_lanes = jax.jit(sharded(init, (lane, lane, by_lane)))

    def run_chunk(phase: str, states: Any, first: int, last: int):
        numbers = place((jnp.int32(first), jnp.int32(last)), (shared, shared))
        return compiled(phase)(place(states, jax.tree.map(lambda _: lane, states)), root, values, data, *numbers)

    def policy(states: Any, index: int) -> policies.Policy:
        return make(config, spec).policy(jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[index]), states))

    return Program(lambda: init_lanes(root, values, data), run_chunk, policy)


# --- a run ------------------------------------------------------------------------------------------------------------


def train(config: RunConfig, make: Callable[[RunConfig, Spec], Algorithm]) -> list[Path]:
    """Train every lane, or go on where a killed run stood; returns the result files, one for each cell."""
    use_compilation_cache()
    task = tasks.make(config.task, config.engine)
    spec = Spec(task.observation_size, task.action_size)
    algorithm, lanes = make(config, spec), lanes_of(config)
    data, datasets = load_data(config, lanes, algorithm.privileges)
    name = "-".join([algorithm.name, *config.dataset, *config.sweep[:1]])
    folder = config.out / task.name / name
    hashes = {name: storage.content_sha256(dataset) for name, dataset in datasets.items()}
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in FREE}
    settings |= {"algorithm": algorithm.name, "engine": task.backend, "datasets": hashes}
    with files.sole_user(folder), stoppable() as stop:
        run = provenance.start_run(folder, settings)
        if done := finished_results(config, lanes, folder):
            print(f"{folder}: there already")
            return done
        clock = {"compile": 0.0, "train": 0.0, "evaluate": 0.0}
        program = compile_lanes(make, config, spec, lanes, data, clock)
        states, diverged, evaluations = learn(config, algorithm, program, lanes, task, folder, clock, stop)
        return judge(config, algorithm, program, lanes, task, folder, (states, diverged, evaluations), run, datasets)


def learn(config, algorithm: Algorithm, program: Program, lanes: list[Lane], task, folder: Path, clock: dict, stop):
    """All phases, in chunks that end where something is to be logged, evaluated or kept."""
    states, diverged = program.init(), np.full(len(lanes), NEVER, np.int32)
    done, progress = 0, {"evaluations": [], "seconds": clock}
    total = algorithm.num_pretrain + config.steps
    if found := checkpoint.restore(folder / "checkpoints", (states, diverged)):
        done, (states, diverged) = found
        diverged = np.array(diverged)
        before = json.loads((folder / "progress.json").read_bytes())
        progress["evaluations"] = [row for row in before["evaluations"] if row["updates"] <= done]
        clock |= before["seconds"]
        print(f"{folder}: resumed at update {done}", flush=True)
    log = Log(folder, [lane_folder(config, lane) for lane in lanes], done, config.tensorboard, config.wandb)
    stops = {algorithm.num_pretrain + config.steps * (i + 1) // config.evals for i in range(config.evals)}
    started, first, compiled_before = time.monotonic(), done, clock["compile"]

    def save(pool: ThreadPoolExecutor) -> Any:
        files.write_atomic(folder / "progress.json", files.to_json(progress))
        copied = jax.tree.map(lambda leaf: np.array(leaf), (states, diverged))  # the originals are donated
        return pool.submit(checkpoint.save, folder / "checkpoints", done, copied)

    with log, ThreadPoolExecutor(1) as pool:
        saving = None
        while done < total:
            phase = "pretrain" if done < algorithm.num_pretrain else "update"
            offset = 0 if phase == "pretrain" else algorithm.num_pretrain
            ahead = [
                (done // config.log_every + 1) * config.log_every,
                (done // config.checkpoint_every + 1) * config.checkpoint_every,
                min((update for update in stops if update > done), default=total),
                algorithm.num_pretrain if phase == "pretrain" else total,
            ]
            until, compiling, chunk_start = min(ahead), clock["compile"], time.monotonic()
            states, metrics, bad = program.chunk(phase, states, done - offset, until - offset)
            bad = np.asarray(bad)
            clock["train"] += time.monotonic() - chunk_start - (clock["compile"] - compiling)
            for index in np.flatnonzero((bad != NEVER) & (diverged == NEVER)):
                diverged[index] = bad[index] + offset
                print(f"{folder / lane_folder(config, lanes[index])}: diverged at update {diverged[index]}", flush=True)
            done = until
            metrics = {name: np.asarray(value) for name, value in metrics.items()}
            log.write(done, metrics, diverged != NEVER)
            if done in stops:
                evaluation_start = time.monotonic()
                returns = evaluate_lanes(config, program, states, diverged, task, done)
                clock["evaluate"] += time.monotonic() - evaluation_start
                progress["evaluations"].append({"updates": done, "returns": returns})
                log.write(done, {"return": np.array([np.mean(r) if r else np.nan for r in returns])}, diverged != NEVER)
            rate = (done - first) / (time.monotonic() - started - (clock["compile"] - compiled_before))
            show(task, algorithm, done, total, rate, metrics, progress, done in stops)
            if stop.is_set() or done % config.checkpoint_every == 0 or done == total:
                if saving:
                    saving.result()
                saving = save(pool)
            if stop.is_set():
                saving.result()
                raise KeyboardInterrupt
        if saving:
            saving.result()
    return states, diverged, progress


def show(task, algorithm, done: int, total: int, rate: float, metrics: dict, progress: dict, full: bool) -> None:
    """A line of progress; between evaluations only on a terminal."""
    terminal = sys.stdout.isatty()
    if not (full or terminal):
        return
    shown = "  ".join(f"{name} {np.nanmean(value):.3g}" for name, value in metrics.items() if name.endswith("loss"))
    last = progress["evaluations"][-1]["returns"] if progress["evaluations"] else []
    alive = [np.mean(returns) for returns in last if returns]
    shown += f"  return {np.mean(alive):.0f} +- {np.std(alive):.0f}" if alive else ""
    left = (total - done) / rate / 60
    line = f"{task.name} {algorithm.name} {done:>8}  {shown}  {rate:.0f} updates/s  {left:.0f} min left"
    print(f"\r\x1b[K{line}" if terminal else line, end="\n" if full else "", flush=True)


def evaluate_lanes(config, program: Program, states, diverged, task, done: int) -> list[list[float] | None]:
    """Returns of some episodes for every lane that still learns."""
    seed = seeds("select", f"{task.id}/train/{done}", config.eval_episodes)
    returns = []
    for index in range(len(diverged)):
        if diverged[index] != NEVER:
            returns.append(None)
            continue
        policy = program.policy(states, index)
        played = rollout(task, policy_act(policy.network, "sample"), policy.params, seed)
        returns.append(np.round(played.reward_sum, 2).tolist())
    return returns


def judge(config, algorithm, program: Program, lanes, task, folder: Path, learned, run, datasets) -> list[Path]:
    """Store every lane's policy, play its final episodes, and write one result for each cell."""
    states, diverged, progress = learned
    clock = progress["seconds"]
    rows: dict[str, list] = {}
    for index, lane in enumerate(lanes):
        where = folder / lane_folder(config, lane)
        row = {"seed": lane.seed, "status": "finished", "evaluations": []}
        for evaluation in progress["evaluations"]:
            row["evaluations"].append({"updates": evaluation["updates"], "returns": evaluation["returns"][index]})
        if diverged[index] != NEVER:
            row |= {"status": "diverged", "diverged_at": int(diverged[index])}
        else:
            policy = program.policy(states, index)
            card = {"task": task.id, "algorithm": algorithm.name, "lane": lane._asdict(), **run}
            policies.save(where / "policy", policy, card)
            digest = policies.read_description(where / "policy")["weights_sha256"]
            if not (final := read_final(where / "final.json", digest)):
                start = time.monotonic()
                judged = evaluate(policy, task.name, config.final_episodes, engine=task.backend)
                clock["evaluate"] += time.monotonic() - start
                final = {
                    "policy_sha256": digest,
                    "returns": np.round(judged.returns, 3).tolist(),
                    "lengths": judged.lengths.tolist(),
                    "num_nonfinite": judged.num_nonfinite,
                }
                files.write_atomic(where / "final.json", files.to_json(final))
            row |= final
            mean, std = np.mean(final["returns"]), np.std(final["returns"])
            print(f"{where}: return {mean:.0f} +- {std:.0f} of {config.final_episodes}", flush=True)
        rows.setdefault(cell_name(config, lane), []).append(row)

    results = []
    for cell, cell_rows in rows.items():
        lane = next(lane for lane in lanes if cell_name(config, lane) == cell)
        settings = {name: str(v) if isinstance(v, Path) else v for name, v in dataclasses.asdict(config).items()}
        settings |= {config.sweep[0].replace("-", "_"): lane.swept} if config.sweep else {}
        result = {
            "format": "sibench-result-1",
            "algorithm": algorithm.name,
            "privileges": list(algorithm.privileges),
            "task": task.id,
            "engine": task.backend,
            "dataset": describe(datasets[lane.dataset]),
            "expert": describe(datasets["expert demonstrations"]) | {"demos": config.demos},
            "config": settings,
            "command": provenance.command(),
            "code": run["code"],
            "versions": run["versions"],
            "device": jax.devices()[0].device_kind,
            "seconds": {name: round(value, 1) for name, value in clock.items()},
            "lanes_together": len(lanes),
            "lanes": cell_rows,
        }
        results.append(folder / f"result-{cell}.json")
        files.write_atomic(results[-1], files.to_json(result))
        print(results[-1])
    return results


def describe(dataset) -> dict[str, Any]:
    kept = {name: dataset.card.get(name) for name in ("id", "engine", "return_mean", "return_std", "quality")}
    return kept | {"content_sha256": storage.content_sha256(dataset)}


def read_final(file: Path, policy_sha256: str) -> dict[str, Any] | None:
    """The final episodes of a lane, if they were played before, with this very policy."""
    if not file.exists():
        return None
    final = json.loads(file.read_bytes())
    return final if final["policy_sha256"] == policy_sha256 else None


def finished_results(config: RunConfig, lanes: list[Lane], folder: Path) -> list[Path]:
    """The result files of a run that is finished."""
    results = [folder / f"result-{cell}.json" for cell in dict.fromkeys(cell_name(config, lane) for lane in lanes)]
    return results if all(result.exists() for result in results) else []


def lane_folder(config: RunConfig, lane: Lane) -> str:
    return f"{cell_name(config, lane)}-seed-{lane.seed}"


def use_compilation_cache() -> None:
    """Keep compiled programs, unless the user said where or that not."""
    if jax.config.jax_compilation_cache_dir is None and "JAX_ENABLE_COMPILATION_CACHE" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", platformdirs.user_cache_dir("sibench") + "/xla")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@contextlib.contextmanager
def stoppable() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM ask the loop to keep what it has and end; a second one ends it at once."""
    stop, before = threading.Event(), {}

    def ask(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(config_type: type[RunConfig], make: Callable, tuned: dict[str, dict[str, Any]] | None = None) -> None:
    """The command line of an algorithm's file: its defaults, under them `tuned[task]`, over both what the user says."""
    task = dict(zip(sys.argv, sys.argv[1:], strict=False)).get("--task", "")
    overrides = (tuned or {}).get(task, {})
    default = config_type(task=tyro.MISSING, dataset=tyro.MISSING, **overrides) if overrides else None
    cli.run(lambda config: train(config, make), config_type, f"python algorithms/{Path(sys.argv[0]).name}", default)
