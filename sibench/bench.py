"""Run a suite: every cell that has no fresh result yet, several at a time, to be interrupted and repeated at will.

    python -m sibench.bench --suite quick
    python -m sibench.bench --suite sibench --tasks hopper --scale 0.1 --dry-run
    sbatch --array=1-8 --wrap 'python -m sibench.bench --suite sibench --shard $SLURM_ARRAY_TASK_ID/8'

Cells of one task and method are packed into the lanes of one program; a pack is a command of its own
(`python algorithms/vfo.py ...`) with a log and checkpoints in --runs. What is finished is in --results, a file a cell.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from sibench import cli
from sibench.errors import UserError, unknown


@dataclass(frozen=True)
class Config:
    """Run the cells of a suite that have no fresh result."""

    suite: str
    """One of sibench/suites.py."""
    tasks: tuple[str, ...] = ()
    """Only these tasks."""
    methods: tuple[str, ...] = ()
    """Only these methods."""
    datasets: tuple[str, ...] = ()
    """Only these datasets, such as bc-10."""
    scale: float = 1.0
    """Train for this share of the updates; results go to <suite>-x<scale>, apart from those of the full suite."""
    shard: str = "1/1"
    """2/8 runs the second of eight parts."""
    workers: int = 0
    """Packs at a time; 0 is one for each processor on a CPU, and 1 on an accelerator."""
    lanes: int = 0
    """Learners in one pack; 0 is 15 on a CPU, where they run one after the other, and 250 on an accelerator."""
    ray: bool = False
    """Run packs as tasks of a Ray cluster, that of $RAY_ADDRESS or one on this machine (extra [cluster])."""
    dry_run: bool = False
    """Only list what would run and how long that would take."""
    results: Path = Path("runs/results")
    """Folder of results, <results>/<suite>/<task>/<cell>.json; those in the repository are in `results`."""
    runs: Path = Path("runs/bench")
    """Folder of logs, checkpoints and policies."""

    def __post_init__(self):
        from sibench import suites

        cells = suites.suite(self.suite).cells
        for kind, index in (("task", 0), ("method", 1), ("dataset", 2)):
            known = list(dict.fromkeys(cell[index] for cell in cells))
            for name in getattr(self, f"{kind}s"):
                if name not in known:
                    raise unknown(kind, name, known)
        if not 0 < self.scale <= 1:
            raise UserError(f"scale={self.scale}; it must lie above 0 and not above 1")
        part, _, of = self.shard.partition("/")
        if not (part.isdigit() and of.isdigit() and 1 <= int(part) <= int(of)):
            raise UserError(f"shard={self.shard}; it must look like 2/8: the second of eight parts")
        if self.workers < 0 or self.lanes < 0:
            raise UserError(f"workers={self.workers}, lanes={self.lanes}; neither can be below 0")

    @property
    def suite_name(self) -> str:
        return self.suite if self.scale == 1 else f"{self.suite}-x{self.scale:g}"


def main(config: Config) -> None:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # a GPU's memory is for the learners
    from sibench import packs, running

    config = replace(config, runs=config.runs.resolve(), results=config.results.resolve())  # for Ray's workers
    todo, fresh = packs.plan(config)
    running.show(config, todo, fresh)
    if config.dry_run or not todo:
        return
    if running.make_data(todo):
        before, (todo, fresh) = fresh, packs.plan(config)  # now that it is known what their data is
        if fresh != before:
            running.show(config, todo, fresh)
    failed = running.run_all(config, todo) if todo else []
    print(f"results: {config.results / config.suite_name}")
    if failed:
        logs = "\n".join(f"  {pack.log}" for pack in failed)
        raise UserError(f"{len(failed)} of {len(todo)} packs failed; their logs:\n{logs}\nthe same command tries again")


if __name__ == "__main__":
    cli.run(main, Config, "python -m sibench.bench")
