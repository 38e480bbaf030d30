"""The training loop, once for all methods: chunks of updates, checkpoints, evaluations, and the result."""

import contextlib
import dataclasses
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import platformdirs

from sibench import cameras, checkpoint, files, policies, provenance, results, tasks
from sibench.algorithm import Algorithm, RunConfig, Spec
from sibench.batches import Data, make_data
from sibench.data import load_privileged, storage
from sibench.errors import UserError
from sibench.evaluation import evaluate, policy_act
from sibench.heldout import HeldOut, held_out
from sibench.ids import has_frames
from sibench.lanes import NEVER, Lane, Program, cell_name, lanes_of
from sibench.logs import Log
from sibench.rollout import rollout, seeds, side_by_side

FREE = ("out", "build", "log_every", "checkpoint_every", "tensorboard", "wandb")
"""Settings that move no number of a result."""
IMPORTED = time.monotonic()


def train(config: RunConfig, make: Callable[[RunConfig, Spec], Algorithm]) -> list[Path]:
    """Train every lane, or go on where a killed run stood; returns the result files, one for each cell."""
    use_compilation_cache()
    run = Run(config, make)
    with files.sole_user(run.folder), stoppable() as stop:
        run.begin()
        if not run.is_finished():
            run.learn(stop)
            run.judge(stop)
        return run.results


class Run:
    """One program of lanes on one task, and the folder in which it keeps everything."""

    def __init__(self, config: RunConfig, make: Callable[[RunConfig, Spec], Algorithm]):
        self.config = config
        self.task = tasks.make(config.task, config.engine)
        if has_frames(self.task.name):
            cameras.backend()  # rather than after the training
        self.lanes = lanes_of(config)
        spec = Spec(self.task.observation_size, self.task.action_size)
        self.algorithm = make(config, spec)
        data, self.datasets = load_data(config, self.lanes, self.algorithm.privileges)
        self.hashes = {name: storage.content_sha256(dataset) for name, dataset in self.datasets.items()}
        self.program = Program(make, config, spec, self.lanes, data)
        self.source = Path(inspect.getfile(make))
        names = ["paired"] if config.paired else config.dataset
        name = "-".join([self.algorithm.name, *names, *([config.swept] if config.sweep else [])])
        self.folder = config.out / self.task.name / name
        self.lane_names = [f"{cell_name(config, lane)}-seed-{lane.seed}" for lane in self.lanes]
        self.cells = dict.fromkeys(cell_name(config, lane) for lane in self.lanes)
        self.results = [self.folder / f"result-{cell}.json" for cell in self.cells]
        self.total = self.algorithm.num_pretrain + config.steps
        self.diverged = np.full(len(self.lanes), NEVER, np.int32)  # the update at which each lane did
        self.evaluations: list[dict[str, Any]] = []
        self.seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0}

    def begin(self) -> None:
        """Write down what is run; refuse a folder that holds something else."""
        settings = {name: value for name, value in dataclasses.asdict(self.config).items() if name not in FREE}
        settings |= {"algorithm": self.algorithm.name, "engine": self.task.backend, "datasets": self.hashes}
        settings["method_sha256"] = provenance.program_sha256(self.source) if self.source.exists() else None
        self.provenance = provenance.start_run(self.folder, settings)

    def is_finished(self) -> bool:
        done = all(result.exists() for result in self.results)
        if done:
            print(f"{self.folder}: there already")
        return done

    # --- learning -----------------------------------------------------------------------------------------------------

    def learn(self, stop: threading.Event) -> None:
        """All updates, in chunks that end where something is to be logged, evaluated or kept."""
        config, pretrained = self.config, self.algorithm.num_pretrain
        self.states, done = self.program.init(), 0
        if found := checkpoint.restore(self.folder / "checkpoints", (self.states, self.diverged)):
            done = found[0]
            self.resume(*found)
        evaluated = {pretrained + config.steps * (i + 1) // config.evals for i in range(config.evals)}
        first = None
        log = Log(self.folder, self.lane_names, done, config.tensorboard, config.wandb)
        with log, Saver(self.folder) as saver:
            if found and done in evaluated and all(row["updates"] != done for row in self.evaluations):  # it failed
                log.write(done, {"return": self.evaluate(done)}, self.diverged != NEVER)
                self.keep(saver, done)
            while done < self.total and (self.diverged == NEVER).any():
                phase, offset = ("update", pretrained) if done >= pretrained else ("pretrain", 0)
                ends = [update for update in (*evaluated, pretrained, self.total) if update > done]
                ends += [(done // every + 1) * every for every in (config.log_every, config.checkpoint_every)]
                until = min(ends)
                if first is None:
                    with self.timed("train"):
                        self.program.compiled(phase)
                    self.say_started()
                    started, first = time.monotonic(), done
                with self.timed("train"):
                    span, dead = (done - offset, until - offset), self.diverged != NEVER
                    self.states, metrics, bad = self.program.chunk(phase, self.states, *span, dead)
                    metrics, bad = jax.tree.map(np.asarray, (metrics, bad))
                dying = (bad != NEVER) & ~dead  # neither logged nor evaluated any more
                self.diverged[dying] = bad[dying] + offset
                done = until
                log.write(done, metrics, self.diverged != NEVER)
                if done in evaluated:
                    try:
                        log.write(done, {"return": self.evaluate(done)}, self.diverged != NEVER)
                    except Exception:  # of what draws frames, say: the training before it is not lost
                        self.keep(saver, done)
                        raise
                stopping = stop.is_set()
                if stopping or done % config.checkpoint_every == 0 or done == self.total:
                    self.keep(saver, done)
                for lane in np.flatnonzero(dying):
                    print(
                        f"{self.folder / self.lane_names[lane]}: diverged at update {self.diverged[lane]}", flush=True
                    )
                if stopping:
                    saver.wait()
                    raise KeyboardInterrupt
                self.show(done, (done - first) / (time.monotonic() - started), metrics, done in evaluated)

    def keep(self, saver: "Saver", done: int) -> None:
        notes = {"evaluations": list(self.evaluations), "seconds": dict(self.seconds)}
        saver.save(done, (self.states, self.diverged), notes)

    def resume(self, done: int, found: tuple[Any, np.ndarray], notes: dict[str, Any]) -> None:
        self.states, self.diverged = found[0], np.array(found[1])
        self.evaluations, self.seconds = notes["evaluations"], notes["seconds"]
        print(f"{self.folder}: resumed at update {done}", flush=True)

    def say_started(self) -> None:
        where = f"{len(self.lanes)} lanes on {self.program.num_devices} of {jax.local_device_count()} devices"
        compiling = self.program.compile_seconds
        print(
            f"{self.folder}: {where}; first update {age():.1f} s after the command, {compiling:.1f} s of it to compile",
            flush=True,
        )

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        start, compiled = time.monotonic(), self.program.compile_seconds
        yield
        compiling = self.program.compile_seconds - compiled
        self.seconds["compile"] += compiling
        self.seconds[what] += time.monotonic() - start - compiling

    def evaluate(self, done: int) -> np.ndarray:
        """Play some episodes with every lane that still learns; returns their mean returns.

        One lane after the other on a CPU, as they learn; else all together: alone they would leave a GPU idle.
        """
        seed = seeds("select", f"{self.task.id}/train/{done}", self.config.eval_episodes)
        num, alive = len(self.lanes), self.diverged == NEVER
        policy, sums = self.program.policies(self.states), np.zeros((num, len(seed)))
        act = policy_act(policy.network, "sample")
        with self.timed("evaluate"):
            if jax.default_backend() == "cpu":
                for lane in np.flatnonzero(alive):
                    sums[lane] = rollout(self.task, act, self.program.policy(self.states, lane).params, seed).reward_sum
            else:
                played = rollout(self.task, side_by_side(act), policy.params, np.tile(seed, (num, 1)))
                sums = played.reward_sum.reshape(num, -1)
        returns = [row if learns else None for row, learns in zip(np.round(sums, 2).tolist(), alive, strict=True)]
        self.evaluations.append({"updates": done, "returns": returns})
        return np.array([np.nan if values is None else np.mean(values) for values in returns])

    def show(self, done: int, rate: float, metrics: dict[str, np.ndarray], evaluated: bool) -> None:
        """A line of progress; between evaluations only on a terminal."""
        terminal = sys.stdout.isatty()
        if not (evaluated or terminal):
            return
        alive = self.diverged == NEVER
        losses = {name: value[alive] for name, value in metrics.items() if name.endswith("loss") and alive.any()}
        shown = [f"{self.task.name} {self.algorithm.name} {done:>8}"]
        shown += [f"{name} {value.mean():.3g}" for name, value in losses.items()]
        last = self.evaluations[-1]["returns"] if self.evaluations else []
        if means := [np.mean(values) for values in last if values]:
            shown.append(f"return {np.mean(means):.4g} +- {np.std(means):.3g}")
        if rate > 0:
            shown.append(f"{rate:.0f} updates/s  {(self.total - done) / rate / 60:.0f} min left")
        line = "  ".join(shown)
        print(f"\r\x1b[K{line}" if terminal else line, end="\n" if evaluated or not terminal else "", flush=True)

    # --- the result ---------------------------------------------------------------------------------------------------

    def judge(self, stop: threading.Event) -> None:
        """Store every lane's policy, play its final episodes, and write one result for each cell."""
        rows: dict[str, list[dict]] = {cell: [] for cell in self.cells}
        teacher_nll = {}
        for name in dict.fromkeys(self.config.dataset):
            teacher = None  # frames are large: those of one dataset at a time
            with self.timed("evaluate"):
                teacher = held_out(self.task, self.datasets[name].card)
            teacher_nll[name] = teacher and teacher.teacher_nll
            for index, lane in enumerate(self.lanes):
                if stop.is_set():
                    raise KeyboardInterrupt
                if lane.dataset == name:
                    rows[cell_name(self.config, lane)].append(self.row(index, teacher))
        for cell, file in zip(self.cells, self.results, strict=True):
            lane = next(lane for lane in self.lanes if cell_name(self.config, lane) == cell)
            files.write_atomic(file, files.to_json(self.result(lane, rows[cell], teacher_nll[lane.dataset])))
            print(file)

    def row(self, index: int, teacher: HeldOut | None) -> dict[str, Any]:
        """Of a lane."""
        curve = [{"updates": e["updates"], "returns": e["returns"][index]} for e in self.evaluations]
        row = {"seed": self.lanes[index].seed, "status": "finished", "evaluations": curve}
        policy = self.program.policy(self.states, index)
        finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(policy.params))
        if self.diverged[index] != NEVER or not finite:
            return row | {"status": "diverged", "diverged_at": int(min(self.diverged[index], self.total))}
        return row | self.final(index, policy, teacher)

    def final(self, index: int, policy: policies.Policy, teacher: HeldOut | None) -> dict[str, Any]:
        """The final episodes of a lane; played once, also if the run is killed while others are."""
        where = self.folder / self.lane_names[index]
        card = {"task": self.task.id, "algorithm": self.algorithm.name, "lane": self.lanes[index]._asdict()}
        policies.save(where / "policy", policy, card | self.provenance)
        digest = policies.read_description(where / "policy")["weights_sha256"]
        known = files.read_signed(where / "final.json") or {}
        if known.get("policy_sha256") != digest:
            with self.timed("evaluate"):
                judged = evaluate(policy, self.task.name, self.config.final_episodes, engine=self.task.backend)
            known = {
                "policy_sha256": digest,
                "returns": np.round(judged.returns, 3).tolist(),
                "lengths": judged.lengths.tolist(),
                "num_nonfinite": judged.num_nonfinite,
                "nll": teacher and teacher.nll(policy),
            }
            if judged.progress is not None:
                known["progress"] = np.round(judged.progress, 3).tolist()
            files.write_signed(where / "final.json", known)
        mean, std = np.mean(known["returns"]), np.std(known["returns"])
        print(f"{where}: return {mean:.4g} +- {std:.3g} of {len(known['returns'])}", flush=True)
        return known

    def result(self, lane: Lane, rows: list[dict], teacher_nll: float | None) -> dict[str, Any]:
        """All that is known of one cell."""
        config = self.config
        settings = {name: str(v) if isinstance(v, Path) else v for name, v in dataclasses.asdict(config).items()}
        settings |= {config.swept: lane.swept} if config.sweep else {}
        return {
            "format": results.FORMAT,
            "algorithm": self.algorithm.name,
            "privileges": list(self.algorithm.privileges),
            "task": self.task.id,
            "engine": self.task.backend,
            "dataset": self.describe(lane.dataset) | {"teacher_nll": teacher_nll},
            "expert": self.describe("expert demonstrations") | {"demos": config.demos},
            "num_pretrain": self.algorithm.num_pretrain,
            "config": settings,
            "command": provenance.command(),
            "code": self.provenance["code"],
            "versions": self.provenance["versions"],
            "device": jax.devices()[0].device_kind,
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "lanes_together": len(self.lanes),
            "lanes": rows,
        }

    def describe(self, name: str) -> dict[str, Any]:
        dataset = self.datasets[name]
        mean, std = float(dataset.returns.mean()), float(dataset.returns.std())
        kept = {key: dataset.card.get(key) for key in ("id", "engine")} | {"return_mean": mean, "return_std": std}
        quality = tasks.quality(self.task.name, mean)
        return kept | {"num_episodes": dataset.num_episodes, "quality": quality, "content_sha256": self.hashes[name]}


class Saver:
    """Checkpoints, written by a thread of their own while the learners go on."""

    def __init__(self, folder: Path):
        self.folder, self.pool, self.pending = folder, ThreadPoolExecutor(1), None

    def save(self, done: int, state: Any, notes: dict[str, Any]) -> None:
        self.wait()
        copied = jax.tree.map(lambda leaf: np.array(leaf), state)  # the originals are about to be donated
        self.pending = self.pool.submit(checkpoint.save, self.folder / "checkpoints", done, copied, notes)

    def wait(self) -> None:
        """Until the last one is written; raises what its writing raised."""
        if self.pending:
            self.pending.result()

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.wait()
        finally:
            self.pool.shutdown()


def load_data(config: RunConfig, lanes: list[Lane], privileges: tuple[str, ...]) -> tuple[Data, dict[str, Any]]:
    """What the lanes draw from, and the datasets by their names."""
    datasets = {name: load_privileged(f"{config.task}/{name}", build=config.build) for name in config.dataset}
    expert = load_privileged(f"{config.task}/{config.expert}", build=config.build)
    for dataset in (*datasets.values(), expert):
        if str(dataset.card.get("source", "")).startswith("robomimic"):
            print(f"{dataset.card['id']}: numbers of robosuite's frames; returns on {config.task} here mean nothing")
    if config.demos > expert.num_episodes:
        raise UserError(f"demos={config.demos}; {expert.card['id']} has {expert.num_episodes}")
    expert = expert.first(config.demos)
    order = list(datasets)
    data = make_data(list(datasets.values()), expert, [order.index(lane.dataset) for lane in lanes], privileges)
    return data, datasets | {"expert demonstrations": expert}


def age() -> float:
    """Seconds that this process has lived, where Linux tells; elsewhere since this file was imported."""
    try:
        began = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began
    except OSError:
        return time.monotonic() - IMPORTED


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
        if stop.is_set() and number == signal.SIGINT:  # a second SIGTERM is a cluster's to the group, and the suite's
            raise KeyboardInterrupt
        stop.set()
        told = "\nstopping after this chunk of updates or this lane's episodes; again to stop at once"
        with contextlib.suppress(OSError):  # Ctrl-C has ended what this is piped into, too
            print(told, file=sys.stderr, flush=True)

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
