"""What a submission is: its types, its files, and what the board of a suite asks for.

    submissions/<suite>-<method>/submission.json      a method on every dataset of a suite, with all raw returns
                                 policies/<task>/<dataset>-seed-<seed>.safetensors, .json      to be replayed
                                 verification.json    the outcome of a replay; see replay.py

Such a folder comes from a stranger: nothing in it is executed, no link is followed, no path is taken from it, and sizes
are checked before content is read.
"""

import dataclasses
import hashlib
import json
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from sibench import tasks
from sibench.analysis import stats
from sibench.bench import suites
from sibench.core import files
from sibench.core.errors import UserError, unknown
from sibench.core.ids import parse_id
from sibench.core.schema import AtLeast, Hash, Line, Pattern, Prose, Settings, Url, json_schema
from sibench.data.collect import canonical_sha256, recipe_sha256
from sibench.learning import results
from sibench.learning.method import Privilege, RunConfig
from sibench.learning.results import Background, Demonstrations, Engine, Result, SeedResult

FORMAT = "sibench-submission-2"
FILE = "submission.json"
VERIFICATION_FILE = "verification.json"
MAX_BYTES = {FILE: 64 << 20, ".safetensors": 64 << 20, ".json": 1 << 20}

Identifier = Annotated[str, Pattern("(?=.{3,80}$)[a-z0-9]+([.-][a-z0-9]+)*", "3 to 80 of a-z, 0-9, single - and .")]
Commit = Annotated[str, Pattern(r"[0-9a-f]{40}\+?|[0-9]+(\.[0-9]+){1,3}", "a commit (+: with changes) or a version")]


@dataclass(frozen=True)
class MethodCard:
    """What the submitter says about the method."""

    name: Line
    about: Prose
    paper: Url | None
    code: Url | None
    commits: tuple[Commit, ...]
    """Of the code that made the numbers."""


@dataclass(frozen=True)
class DatasetResult:
    """The method on one dataset, with all its seeds."""

    background: Background
    expert: Demonstrations | None
    engine: Engine
    config: Settings
    """Settings that differ from those on other datasets."""
    seeds: tuple[SeedResult, ...]


@dataclass(frozen=True)
class Score:
    """A score with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Submission:
    """A method on every dataset of a suite."""

    format: Literal["sibench-submission-2"]
    id: Identifier
    suite: Identifier
    suite_sha256: Hash
    method: MethodCard
    privileges: tuple[Privilege, ...]
    """What the method sees beyond expert observations and background steps, as declared by the submitter."""
    config: Settings
    versions: dict[Line, Line]
    hardware: Line
    hours: dict[Line, Annotated[float, AtLeast(0)]]
    score: Score
    task_scores: dict[Line, Score]
    results: tuple[DatasetResult, ...]


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a submission. If a field changes its meaning, the format changes its name."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": FORMAT} | json_schema(Submission)


@dataclass(frozen=True)
class Board:
    """The leaderboard of a suite: what every submission to it must contain."""

    suite: str
    about: str
    datasets: dict[str, tuple[str, str]]
    """Id of each dataset -> its task and its name without the task."""
    num_seeds: int
    num_episodes: int
    """Final episodes of each seed."""
    num_demos: int
    """The most expert demonstrations that a method may see."""

    @property
    def sha256(self) -> str:
        """Hash of everything that must be the same for two scores to be comparable."""
        return canonical_sha256(
            {
                "suite": self.suite,
                "recipes": {id: recipe_sha256(parse_id(id)) for id in self.datasets},
                "references": {task: tasks.references(task) for task, _ in self.datasets.values()},
                "seeds": self.num_seeds,
                "episodes": self.num_episodes,
                "demos": self.num_demos,
            }
        )

    def policy_file(self, dataset: str, seed: int) -> Path:
        """Return where a policy is stored, relative to the submission's folder."""
        task, name = self.datasets[dataset]
        return Path("policies", task, f"{name}-seed-{seed}.safetensors")


def board(name: str) -> Board:
    """Return the board of a suite such as `quick`, or of a scaled one such as `sibench-x0.1`, which has its own."""
    suite = suites.SUITES.get(base := suites.base(name))
    every = suites.SUITES.values()
    names = [one.name for one in every if not one.rounds and not any(cell.settings for cell in one.cells)]
    if suite is None:
        raise unknown("suite", base, names)
    if base not in names:
        raise UserError(f"suite {name} has no leaderboard: it varies more than method and data; try {', '.join(names)}")
    places = dict.fromkeys((cell.task, cell.dataset) for cell in suite.cells)
    return Board(
        suite=name,
        about=suite.about,
        datasets={str(parse_id(f"{task}/{dataset}")): (task, dataset) for task, dataset in places},
        num_seeds=suite.settings.get("seeds", RunConfig.seeds),
        num_episodes=suite.settings.get("final_episodes", RunConfig.final_episodes),
        num_demos=suite.settings.get("demos", RunConfig.demos),
    )


def id_of(suite: str, method: str) -> str:
    return f"{suite}-{re.sub('[^a-z0-9]+', '-', method.lower()).strip('-')}"


def as_results(submission: Submission, method: str) -> list[Result]:
    """Return a valid submission as the results of `method`, in the suite's order."""
    by_dataset = {one.background.id: one for one in submission.results}
    return [
        Result(
            format=results.FORMAT,
            suite=submission.suite,
            task=task,
            method=method,
            dataset=dataset,
            settings={},
            privileges=submission.privileges,
            engine=by_dataset[id].engine,
            action_size=tasks.make(task, "c").action_size,
            background=by_dataset[id].background,
            expert=by_dataset[id].expert,
            identity=None,
            origin=None,
            seeds=tuple(sorted(by_dataset[id].seeds, key=lambda seed: seed.seed)),
        )
        for id, (task, dataset) in board(submission.suite).datasets.items()
    ]


def scores(submission: Submission) -> tuple[Score, dict[str, Score]]:
    """Compute the score of a submission and that of each task."""
    (row,) = stats.summarise(as_results(submission, submission.id))
    return Score(*row.score[:3]), {task: Score(*interval[:3]) for task, interval in row.per_task.items()}


def read_bytes(file: Path) -> bytes:
    """Return the content of a file, unless it is a link or too large."""
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{file}: not a regular file")
    limit = MAX_BYTES.get(file.name, MAX_BYTES.get(file.suffix, 0))
    if status.st_size > limit:
        raise UserError(f"{file}: {status.st_size} bytes; at most {limit} are read")
    return file.read_bytes()


def read_json(file: Path) -> tuple[Any, str]:
    """Return the value in a file of strict JSON, and the file's sha256."""
    content = read_bytes(file)
    try:
        return files.from_json(content.decode()), hashlib.sha256(content).hexdigest()
    except ValueError as error:
        raise UserError(f"{file}: not strict JSON: {error}") from None


def to_json(submission: Submission) -> bytes:
    """Return the content of a submission's file, with one line for each dataset."""
    value = dataclasses.asdict(submission)
    rows = [json.dumps(row, allow_nan=False, separators=(",", ":")) for row in value.pop("results")]
    head = json.dumps(value, indent=1, allow_nan=False).removesuffix("\n}")
    return (head + ',\n "results": [\n  ' + ",\n  ".join(rows) + "\n ]\n}\n").encode()
