"""Training: chunks of updates, checkpoints and evaluations, the same for all methods."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sibench.core import files, system
from sibench.learning import checkpoint
from sibench.learning.judge import judge
from sibench.learning.lanes import NEVER
from sibench.learning.logs import Log
from sibench.learning.method import Method, RunConfig
from sibench.learning.progress import Progress
from sibench.learning.run import Run, Stopwatch
from sibench.policies.evaluation import policy_act
from sibench.tasks.rollout import rollout, seeds, side_by_side


def train(config: RunConfig, method: Method) -> list[Path]:
    """Train every lane, or resume a killed run; return the result files, one for each cell."""
    system.use_compilation_cache()
    run = Run(config, method)
    with files.sole_user(run.folder), system.stop_on_signals() as stop:
        run.begin()
        if all(file.exists() for file in run.result_files.values()):
            print(f"{run.folder}: there already, of version {method.version} of {method.file}")
        else:
            trainer = Trainer(run)
            trainer.learn(stop)
            judge(run, trainer.states, trainer.diverged, trainer.evaluations, trainer.watch, stop)
        return list(run.result_files.values())


class Trainer:
    """The state of all lanes of a run, and the loop that moves it on."""

    def __init__(self, run: Run):
        self.run = run
        self.states = run.program.init()
        self.diverged = np.full(len(run.lanes), NEVER, np.int32)  # the update at which each lane diverged
        self.evaluations: list[dict[str, Any]] = []
        self.watch = Stopwatch(run.program)
        self.done = 0
        self.total = run.algorithm.num_pretrain + run.config.steps

    @property
    def alive(self) -> np.ndarray:
        return self.diverged == NEVER

    def learn(self, stop: threading.Event) -> None:
        """Run all updates, in chunks that end wherever something is logged, evaluated or saved."""
        config, pretrained = self.run.config, self.run.algorithm.num_pretrain
        evaluated = {pretrained + config.steps * (i + 1) // config.evals for i in range(config.evals)}
        resumed = self.resume()
        log = Log(self.run.folder, self.run.lane_names, self.done, config.tensorboard, config.wandb)
        with log, checkpoint.Saver(self.run.folder / "checkpoints") as saver:
            if resumed and self.done in evaluated and all(row["updates"] != self.done for row in self.evaluations):
                self.evaluate(log, saver)  # the last evaluation failed
                self.save(saver)
            progress: Progress | None = None
            while self.done < self.total and self.alive.any():
                phase, offset = ("update", pretrained) if self.done >= pretrained else ("pretrain", 0)
                ends = [update for update in (*evaluated, pretrained, self.total) if update > self.done]
                ends += [(self.done // every + 1) * every for every in (config.log_every, config.checkpoint_every)]
                if progress is None:
                    progress = self.start(phase)
                metrics, dying = self.chunk(phase, offset, min(ends))
                log.write(self.done, metrics, self.alive)
                if self.done in evaluated:
                    self.evaluate(log, saver)
                stopping = stop.is_set()
                if stopping or self.done % config.checkpoint_every == 0 or self.done == self.total:
                    self.save(saver)
                for lane in np.flatnonzero(dying):
                    name = self.run.folder / self.run.lane_names[lane]
                    print(f"{name}: diverged at update {self.diverged[lane]}", flush=True)
                if stopping:
                    saver.wait()
                    raise KeyboardInterrupt
                progress.show(self.done, *self.losses(metrics), *self.last_returns(), keep=self.done in evaluated)

    def start(self, phase: str) -> Progress:
        """Compile the first phase, and say what runs where."""
        with self.watch("train"):
            self.run.program.compiled(phase)
        program = self.run.program
        where = f"{len(self.run.lanes)} lanes on {program.num_devices} of {jax.local_device_count()} devices"
        print(f"{self.run.folder}: {where}; compiled in {program.compile_seconds:.1f} s", flush=True)
        return Progress(f"{self.run.task.name} {self.run.name}", self.total, self.done)

    def chunk(self, phase: str, offset: int, until: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Run updates up to `until`; return each lane's mean metrics, and which lanes diverged on the way."""
        dead = ~self.alive
        with self.watch("train"):
            span = (self.done - offset, until - offset)
            self.states, metrics, bad = self.run.program.chunk(phase, self.states, *span, dead)
            metrics, bad = jax.tree.map(np.asarray, (metrics, bad))
        dying = (bad != NEVER) & ~dead
        self.diverged[dying] = bad[dying] + offset
        self.done = until
        return metrics, dying

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def save(self, saver: checkpoint.Saver) -> None:
        notes = {"evaluations": list(self.evaluations), "seconds": dict(self.watch.seconds)}
        saver.save(self.done, (self.states, self.diverged), notes)

    def resume(self) -> bool:
        """Continue from the newest intact checkpoint, if there is one."""
        found = checkpoint.restore(self.run.folder / "checkpoints", (self.states, self.diverged))
        if found is None:
            return False
        self.done, (self.states, diverged), notes = found
        self.diverged = np.array(diverged)
        self.evaluations, self.watch.seconds = notes["evaluations"], notes["seconds"]
        print(f"{self.run.folder}: resumed at update {self.done}", flush=True)
        return True

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def evaluate(self, log: Log, saver: checkpoint.Saver) -> None:
        """Play some episodes with every living lane, and log their mean returns."""
        try:
            returns = self.play()
        except Exception:  # drawing frames may fail; the training before it is saved
            self.save(saver)
            raise
        listed = [row if learns else None for row, learns in zip(returns.tolist(), self.alive, strict=True)]
        self.evaluations.append({"updates": self.done, "returns": listed})
        log.write(self.done, {"return": np.array([np.mean(row) for row in returns])}, self.alive)

    def play(self) -> np.ndarray:
        """Return the returns [L, E] of every living lane.

        Lanes play one after the other on a CPU, as they learn; side by side on an accelerator, which would idle.
        """
        run, num = self.run, len(self.run.lanes)
        seed = seeds("select", f"{run.task.id}/train/{self.done}", run.config.eval_episodes)
        policy, returns = run.program.policies(self.states), np.zeros((num, len(seed)))
        act = policy_act(policy.network, "sample")
        with self.watch("evaluate"):
            if jax.default_backend() == "cpu":
                for lane in np.flatnonzero(self.alive):
                    params = run.program.policy(self.states, lane).params
                    returns[lane] = rollout(run.task, act, params, seed).reward_sum
            else:
                played = rollout(run.task, side_by_side(act), policy.params, np.tile(seed, (num, 1)))
                returns = played.reward_sum.reshape(num, -1)
        return np.round(returns, 2)

    # --- progress -----------------------------------------------------------------------------------------------------

    def losses(self, metrics: dict[str, np.ndarray]) -> Iterator[str]:
        for name, value in metrics.items():
            if name.endswith("loss") and self.alive.any():
                yield f"{name} {value[self.alive].mean():.3g}"

    def last_returns(self) -> Iterator[str]:
        rows = self.evaluations[-1]["returns"] if self.evaluations else []
        if means := [np.mean(row) for row in rows if row]:
            yield f"return {np.mean(means):.4g} +- {np.std(means):.3g}"
