"""The flags of the command that runs a suite."""

from dataclasses import dataclass
from pathlib import Path

from sibench.core.errors import UserError, unknown


@dataclass(frozen=True)
class Config:
    """Run the cells of a suite that have no fresh result."""

    suite: str
    """One of sibench/bench/suites.py."""
    tasks: tuple[str, ...] = ()
    """Only these tasks."""
    methods: tuple[str, ...] = ()
    """Only these methods; one that is not in the suite is run on all of its datasets."""
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
        from sibench.bench import suites

        suite = suites.suite(self.suite)
        suite.with_methods(self.methods)
        for kind, chosen, known in (
            ("task", self.tasks, [cell.task for cell in suite.cells]),
            ("dataset", self.datasets, [cell.dataset for cell in suite.cells]),
        ):
            for name in chosen:
                if name not in known:
                    raise unknown(kind, name, dict.fromkeys(known))
        if not 0 < self.scale <= 1:
            raise UserError(f"scale={self.scale}; allowed: above 0 and at most 1")
        part, _, of = self.shard.partition("/")
        if not (part.isdigit() and of.isdigit() and 1 <= int(part) <= int(of)):
            raise UserError(f"shard={self.shard}; it must look like 2/8: the second of eight parts")
        if self.workers < 0 or self.lanes < 0:
            raise UserError(f"workers={self.workers}, lanes={self.lanes}; allowed: at least 0")

    @property
    def suite_name(self) -> str:
        """Name of the folder of results."""
        return self.suite if self.scale == 1 else f"{self.suite}-x{self.scale:g}"
