"""Results: one JSON file a cell, `results/<suite>/<task>/<cell>.json`.

The runner (sibench/bench.py) writes them; statistics, figures, claims and the leaderboard read nothing else.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sibench import files, suites, tasks
from sibench.errors import UserError

FORMAT = "sibench-result-1"
FOLDER = Path("results")
GAP = 0.5
"""Nats a dimension of an action: a clone whose held-out likelihood is this much below its teacher's has not learned its
data yet."""
LOSS = 0.1
"""Nor has one that loses this much of the data's quality."""


class Result(NamedTuple):
    """What a method made of a dataset, in numbers normalised so that 0 is random and 1 the expert."""

    suite: str
    task: str
    method: str
    dataset: str  # without its task
    settings: dict[str, Any]  # of the cell, beside those of the method and the suite
    quality: float  # of the data
    episodes: np.ndarray  # [S, E] the score of every seed's final episodes; 0, random's, where it diverged
    returns: np.ndarray  # [S] the mean of each seed's, as raw returns
    diverged: np.ndarray  # [S]
    nll: np.ndarray  # [S] of the background's actions on held-out episodes; NaN where it diverged
    teacher_nll: float  # of the behaviour policy itself there, which no learner can better; NaN if it is not known
    raw: dict[str, Any]  # the whole file

    @property
    def score(self) -> np.ndarray:
        """[S] of every seed: the mean over its final episodes."""
        return self.episodes.mean(1)

    @property
    def improvement(self) -> np.ndarray:
        """[S]"""
        return self.score - self.quality

    @property
    def gains(self) -> np.ndarray:
        """[S, E] the improvement of every episode, for intervals."""
        return self.episodes - self.quality

    @property
    def action_size(self) -> int:
        return tasks.make(self.task, "c").action_size

    @property
    def gap(self) -> np.ndarray:
        """[S] nats a dimension that the background's actions are less likely than under the policy that took them."""
        return (self.nll - self.teacher_nll) / self.action_size

    @property
    def converged(self) -> bool:
        """Asked of a clone, `bc`: has it learned its data? If not, no comparison on that data says anything yet."""
        close = self.gap.mean() < GAP  # false of NaN
        return bool(close and self.improvement.mean() > -LOSS)


def path(folder: Path, suite: str, task: str, cell: str) -> Path:
    return folder / suite / task / f"{cell}.json"


def write(file: Path, result: dict[str, Any]) -> None:
    """Without spaces: raw returns are most of it."""
    files.write_atomic(file, (json.dumps(result, allow_nan=False, separators=(",", ":")) + "\n").encode())


def read(file: Path) -> Result:
    """Read a result and check what everything else rests on."""
    try:
        raw = files.from_json(file.read_bytes())
        if raw["format"] != FORMAT:
            raise ValueError(f"its format is {raw['format']!r}, this version reads {FORMAT!r}")
        if lacking := sorted({"batch_size", "final_episodes", "hidden", "steps"} - raw["config"].keys()):
            raise ValueError(f"its config lacks {', '.join(lacking)}")
        return view(raw)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{file} is not a result file: {what}; run its cell again") from None


def read_suite(suite: str, folder: Path = FOLDER) -> list[Result]:
    """All results there are of a suite's cells, in the order of their names; what else lies there is told."""
    if not (there := sorted((folder / suite).glob("*/*.json"))):
        return []
    cells = {(cell.task, f"{cell.name}.json") for cell in suites.suite(suites.base(suite)).cells}
    for file in there:
        if (file.parent.name, file.name) not in cells:
            print(f"{file} is of no cell of suite {suite}: left out", file=sys.stderr)
    return [read(file) for file in there if (file.parent.name, file.name) in cells]


def view(raw: dict[str, Any]) -> Result:
    """The numbers of a result file's content."""
    lanes, cell = raw["lanes"], raw["cell"]
    task = cell["task"]

    def number(value: float | None) -> float:
        return math.nan if value is None else float(value)

    if not lanes:
        raise ValueError("it has no lanes")
    if not isinstance(cell["settings"], dict):
        raise ValueError("its settings are no table")
    diverged = np.array([lane["status"] == "diverged" for lane in lanes])
    random = tasks.references(task)["random"]["mean"]
    num = max((len(lane["returns"]) for lane, dead in zip(lanes, diverged, strict=True) if not dead), default=1)
    returns = [[random] * num if dead else lane["returns"] for lane, dead in zip(lanes, diverged, strict=True)]
    if num == 0 or any(len(row) != num for row in returns):
        raise ValueError(f"its seeds have {', '.join(str(len(row)) for row in returns)} final episodes")
    returns = np.array(returns, float)
    if not np.isfinite(returns).all():
        raise ValueError("a return is not finite")
    return Result(
        suite=cell["suite"],
        task=task,
        method=cell["method"],
        dataset=cell["dataset"],
        settings=cell["settings"],
        quality=float(raw["dataset"]["quality"]),
        episodes=tasks.quality(task, returns),
        returns=returns.mean(1),
        diverged=diverged,
        nll=np.array([number(lane.get("nll")) for lane in lanes]),
        teacher_nll=number(raw["dataset"]["teacher_nll"]),
        raw=raw,
    )
