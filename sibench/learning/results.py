"""Results: what a method made of a dataset, with every raw return, in one JSON file a cell.

`results/<suite>/<task>/<cell>.json`. Learners write results (sibench/learning/judge.py), suites publish them, and
statistics, figures, claims and the leaderboard read nothing else. The classes below are the schema.
"""

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from sibench import tasks
from sibench.core import files
from sibench.core.errors import UserError
from sibench.core.schema import AtLeast, Count, DataId, Hash, Line, Prose, Settings, at_most, parse
from sibench.learning.method import Privilege

FORMAT = "sibench-result-2"
FOLDER = Path("results")
MAX_GAP = 0.5
"""BC has not converged while its held-out NLL exceeds the behaviour policy's by this many nats per action dimension."""
MAX_LOSS = 0.1
"""Nor while it loses this much of the data's quality."""

Engine = Literal["c", "mjx"]
Seconds = Annotated[float, AtLeast(0)]


@dataclass(frozen=True)
class Background:
    """The dataset that a method learned from. The recipe is what was played; the content is what came of it."""

    id: DataId
    engine: Engine
    num_episodes: Count
    return_mean: float
    return_std: float
    quality: float
    """Its mean return, scaled so that 0 is random and 1 the expert."""
    teacher_nll: float | None
    """Held-out NLL of the behaviour policy's own actions; no learner can do better. None if the policy is unknown."""
    recipe_sha256: Hash
    content_sha256: Hash


@dataclass(frozen=True)
class Demonstrations:
    """The expert observations that a method learned from."""

    id: DataId
    num_episodes: Count
    content_sha256: Hash


@dataclass(frozen=True)
class TrainingEvaluation:
    """Returns of one seed in the middle of training."""

    updates: Count
    returns: tuple[float, ...]


@dataclass(frozen=True)
class SeedResult:
    """What one seed earned in its final episodes. A diverged seed has no returns and counts as a random policy."""

    seed: Count
    status: Literal["finished", "diverged"]
    returns: tuple[float, ...] = ()
    lengths: tuple[Count, ...] = ()
    progress: tuple[float, ...] = ()
    """How far each episode came, in [0, 1], where a task rewards nothing but success."""
    num_nonfinite: Count = 0
    """Episodes that the policy ended by an action that was not finite."""
    nll: float | None = None
    """Held-out NLL of the background's actions."""
    policy_sha256: Hash | None = None
    diverged_at: Count | None = None
    evaluations: tuple[TrainingEvaluation, ...] = ()


@dataclass(frozen=True)
class Round:
    """One round of self-improvement; one entry a seed."""

    data: tuple[Line, ...]
    data_quality: tuple[float, ...]
    score: tuple[float, ...]
    nll: tuple[float | None, ...]
    teacher_nll: tuple[float | None, ...]


@dataclass(frozen=True)
class Identity:
    """Everything that determines a result. If any of it changes, the result is stale."""

    method_version: Count
    learning_version: Count
    data: dict[Line, Prose]
    """Dataset -> hash of its content."""
    settings: Settings
    packages: dict[Line, Line]


@dataclass(frozen=True)
class Origin:
    """Where a result came from, and what it cost. None of it determines the result."""

    command: Prose
    """The command of the whole program, without flags that have their default."""
    code: Line
    """The commit, with + if files differed from it; or the version of the package."""
    python: Line
    machine: Line
    device: Line
    seconds: dict[Line, Seconds]
    """Time to compile, train and evaluate, of the whole program."""
    lanes: Count
    """Learners that shared the program."""
    updates: Count
    """Updates of one lane, those of a pretraining phase included."""
    pretrain_updates: Count


@dataclass(frozen=True)
class Result:
    """A method on a dataset, with all its seeds."""

    format: Literal["sibench-result-2"]
    suite: Prose
    """Empty until a suite publishes it."""
    task: Line
    method: Line
    dataset: Line
    """Without its task."""
    settings: Settings
    """What sets the cell apart: a swept value, or what its suite's cell sets. All settings: `identity.settings`."""
    privileges: tuple[Privilege, ...]
    engine: Engine
    action_size: Count
    background: Background
    expert: Demonstrations | None
    identity: Identity | None
    """None for the entries of a submission."""
    origin: Origin | None
    """None for the entries of a submission."""
    seeds: tuple[SeedResult, ...]
    rounds: tuple[Round, ...] = ()
    """Rounds of self-improvement; empty for a single training."""

    @property
    def quality(self) -> float:
        return self.background.quality

    @functools.cached_property
    def diverged(self) -> np.ndarray:
        """[S]"""
        return np.array([seed.status == "diverged" for seed in self.seeds])

    @functools.cached_property
    def raw_returns(self) -> np.ndarray:
        """[S, E] the return of every final episode; the random policy's mean for seeds that diverged."""
        num = max((len(seed.returns) for seed in self.seeds if seed.status == "finished"), default=1)
        measured = tasks.references(self.task)
        random = measured["random"]["mean"] if measured else 0.0
        rows = [[random] * num if seed.status == "diverged" else seed.returns for seed in self.seeds]
        return np.array(rows, float)

    @property
    def returns(self) -> np.ndarray:
        """[S] the mean return of each seed."""
        return self.raw_returns.mean(1)

    @functools.cached_property
    def episodes(self) -> np.ndarray:
        """[S, E] the score of every final episode: its return scaled so that 0 is random and 1 the expert."""
        return tasks.quality(self.task, self.raw_returns)

    @property
    def score(self) -> np.ndarray:
        """[S] the mean score of each seed."""
        return self.episodes.mean(1)

    @property
    def improvement(self) -> np.ndarray:
        """[S] score minus quality of the data."""
        return self.score - self.quality

    @property
    def gains(self) -> np.ndarray:
        """[S, E] the improvement of every episode, for intervals."""
        return self.episodes - self.quality

    @property
    def nll(self) -> np.ndarray:
        """[S] held-out NLL of the background's actions; NaN where it is not known."""
        return np.array([np.nan if seed.nll is None else seed.nll for seed in self.seeds])

    @property
    def teacher_nll(self) -> float:
        """Held-out NLL of the behaviour policy; NaN where it is not known."""
        return np.nan if self.background.teacher_nll is None else self.background.teacher_nll

    @property
    def gap(self) -> np.ndarray:
        """[S] nats per action dimension by which the held-out NLL exceeds the behaviour policy's."""
        return (self.nll - self.teacher_nll) / self.action_size

    @property
    def converged(self) -> bool:
        """Whether BC has learned its data; in self-improvement, that of every round.

        BC counts as converged when its held-out NLL is within `MAX_GAP` nats per action dimension of the behaviour
        policy's, and its score within `MAX_LOSS` of the data's. Otherwise comparisons on that data are not interpreted.
        """
        if not self.rounds:
            return bool(self.gap.mean() < MAX_GAP and self.improvement.mean() > -MAX_LOSS)  # False for NaN
        return all(_round_converged(one, self.action_size) for one in self.rounds)


def _round_converged(one: Round, action_size: int) -> bool:
    nll, teacher, score, data = (
        np.array(column, float) for column in (one.nll, one.teacher_nll, one.score, one.data_quality)
    )
    return bool((nll - teacher).mean() < MAX_GAP * action_size and (score - data).mean() > -MAX_LOSS)


# --- files ------------------------------------------------------------------------------------------------------------


def path(folder: Path, suite: str, task: str, cell: str) -> Path:
    return folder / suite / task / f"{cell}.json"


def write(file: Path, result: Result) -> None:
    """Write a result in compact JSON, whole or not at all."""
    value = dataclasses.asdict(result)
    files.write_atomic(file, (json.dumps(value, allow_nan=False, separators=(",", ":")) + "\n").encode())


def read(file: Path) -> Result:
    """Read a result and check all of it."""
    try:
        value = files.from_json(file.read_bytes())
    except ValueError as error:
        raise UserError(f"{file} is not a result: not strict JSON: {error}; run its cell again") from None
    problems: list[str] = []
    result = parse(Result, value, "", problems)
    if not problems:
        problems = check(result)
    if problems:
        raise UserError(f"{file} is not a result: {at_most(problems, 3)}; run its cell again")
    return result


def check(result: Result) -> list[str]:
    """List what is wrong with a result beyond its types."""
    problems = []
    if result.task not in tasks.names():
        problems.append(f"task: '{result.task}'; allowed: {', '.join(tasks.names())}")
    if not result.seeds:
        problems.append("seeds: none; at least one is needed")
    numbers = [seed.seed for seed in result.seeds]
    if len(set(numbers)) < len(numbers):
        problems.append(f"seeds: one occurs twice: {sorted(numbers)[:20]}")
    finished = [seed for seed in result.seeds if seed.status == "finished"]
    if len({len(seed.returns) for seed in finished}) > 1 or any(not seed.returns for seed in finished):
        problems.append(f"seeds: they have {', '.join(str(len(seed.returns)) for seed in finished)} final episodes")
    for seed in finished:
        if len(seed.lengths) != len(seed.returns):
            problems.append(f"seeds: {len(seed.returns)} returns and {len(seed.lengths)} lengths of seed {seed.seed}")
    return problems
