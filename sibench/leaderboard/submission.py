"""What a submission is, and whether to believe its arithmetic.

    submissions/<suite>-<method>/submission.json      a method on every dataset of a suite, raw returns included
                                 policies/<task>/<dataset>-seed-<seed>.safetensors, .json      to be verified by
                                 verification.json    what came of that, see verify.py

Everything in the folder is somebody else's: nothing of it is executed, no link is followed, no path is taken from it,
and sizes are looked at before content.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from sibench import assets, files, results, stats, suites, tasks
from sibench.algorithm import PRIVILEGES
from sibench.data.collect import parts, recipe
from sibench.errors import UserError, unknown
from sibench.ids import parse_id, twin
from sibench.leaderboard.schema import (
    AtLeast,
    Count,
    Hash,
    Line,
    Pattern,
    Prose,
    Settings,
    Url,
    at_most,
    json_schema,
    parse,
)
from sibench.results import Result

FORMAT = "sibench-submission-1"
FILE = "submission.json"
MAX_BYTES = {FILE: 64 << 20, ".safetensors": 64 << 20, ".json": 1 << 20}
MAX_CONFIG = 20_000
TOLERANCE = 1e-6
"""Relative, of numbers that are computed again."""
PLAUSIBLE = 3.0
"""Times the expert's return: no episode is better, or as much worse than random."""

Identifier = Annotated[str, Pattern("(?=.{3,80}$)[a-z0-9]+([.-][a-z0-9]+)*", "3 to 80 of a-z, 0-9, single - and .")]
Commit = Annotated[str, Pattern(r"[0-9a-f]{40}\+?|[0-9]+(\.[0-9]+){1,3}", "a commit (+: with changes) or a version")]
DataId = Annotated[str, Pattern("[a-z0-9]+(-image)?/[a-z0-9-]{1,40}-v[0-9]{1,4}", "a dataset's id")]
Hours = Annotated[float, AtLeast(0)]
Engine = Literal["c", "mjx"]


@dataclass(frozen=True)
class Method:
    name: Line
    about: Prose
    paper: Url | None
    code: Url | None
    commits: tuple[Commit, ...]


@dataclass(frozen=True)
class Background:
    """A dataset that a method learned from. The recipe is what was played; the content, what came of it there."""

    id: DataId
    engine: Engine
    num_episodes: Count
    return_mean: float
    return_std: float
    quality: float
    teacher_nll: float | None
    recipe_sha256: Hash
    content_sha256: Hash


@dataclass(frozen=True)
class Demonstrations:
    id: DataId
    num_episodes: Count
    content_sha256: Hash


@dataclass(frozen=True)
class Lane:
    """A seed. What diverged has no returns and counts as a random policy."""

    seed: Count
    status: Literal["finished", "diverged"]
    return_mean: float | None
    num_nonfinite: Count
    nll: float | None
    policy_sha256: Hash | None
    returns_sha256: Hash | None
    returns: tuple[float, ...]
    lengths: tuple[Count, ...]


def diverged(seed: int) -> Lane:
    return Lane(seed, "diverged", None, 0, None, None, None, (), ())


@dataclass(frozen=True)
class Cell:
    """A method on a dataset."""

    background: Background
    expert: Demonstrations | None
    engine: Engine
    config: Settings
    lanes: tuple[Lane, ...]


@dataclass(frozen=True)
class Interval:
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Claims:
    """SI scores with 95 % intervals; recomputed from the raw returns by whoever reads them."""

    score: Interval
    tasks: dict[Line, Interval]


@dataclass(frozen=True)
class Submission:
    format: Literal["sibench-submission-1"]
    id: Identifier
    suite: Identifier
    suite_sha256: Hash
    method: Method
    privileges: tuple[Literal[PRIVILEGES], ...]
    config: Settings
    versions: dict[Line, Line]
    hardware: Line
    hours: dict[Line, Hours]
    claims: Claims
    cells: tuple[Cell, ...]


def schema() -> dict[str, Any]:
    """As JSON Schema. Another meaning of a field is another format."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": FORMAT} | json_schema(Submission)


# --- what a suite asks for --------------------------------------------------------------------------------------------


def suite(name: str) -> suites.Suite:
    """The suite of a name such as `quick`; or `sibench-x0.1`, which has its own board."""
    ranked = [s.name for s in suites.SUITES.values() if not s.iterations and not any(c.settings for c in s.cells)]
    if (known := suites.base(name)) in ranked:
        return suites.SUITES[known]
    if known in suites.SUITES:
        raise UserError(
            f"suite {name} varies more than method and dataset; there are leaderboards of {', '.join(ranked)}"
        )
    raise unknown("suite", known, ranked)


def datasets(name: str) -> dict[str, tuple[str, str]]:
    """The datasets that a suite asks of one method, by id: (task, dataset)."""
    pairs = dict.fromkeys((cell.task, cell.dataset) for cell in suite(name).cells)
    return {str(parse_id(f"{task}/{dataset}")): (task, dataset) for task, dataset in pairs}


def id_of(suite: str, method: str) -> str:
    return f"{suite}-{re.sub('[^a-z0-9]+', '-', method.lower()).strip('-')}"


def num_seeds(name: str) -> int:
    return suite(name).settings.get("seeds", 5)


def num_episodes(name: str) -> int:
    return suite(name).settings.get("final_episodes", 1000)


def num_demos(name: str) -> int:
    return suite(name).settings.get("demos", 10)


@functools.cache
def expected_return(dataset: str) -> tuple[float, float]:
    """Between what the mean return of a recipe's episodes is, whoever plays them; scores are counted from it.

    Five standard errors around what is known of the recipe's policies; at least 0.05 of quality.
    """
    id = parse_id(dataset)
    known = assets.ladder().get(twin(id.task), {})
    shares = {"expert": id.num_experts, "random": id.episodes - id.num_experts} if id.kind == "mix" else {}
    parts = [(num, known.get(source)) for source, num in (shares or {id.source: id.episodes}).items() if num]
    if not all(seen for _, seen in parts):
        return -math.inf, math.inf  # a task of the user's own
    parts = [(num, np.array(seen["returns"], float)) for num, seen in parts]
    mean = sum(num * returns.mean() for num, returns in parts) / id.episodes
    error = sum((num**2 / len(returns) + num) * returns.var() for num, returns in parts) ** 0.5 / id.episodes
    ends = tasks.references(id.task)
    reach = max(5 * error, 0.05 * (ends["expert"]["mean"] - ends["random"]["mean"]))
    return float(mean - reach), float(mean + reach)


@functools.cache
def recipe_sha256(dataset: str) -> str:
    """Of the policies and seeds that a dataset is played from, whatever machine plays it."""
    id = parse_id(dataset)
    share = [f"last {id.num_experts}"] if id.kind == "mix" else []
    return _canonical_sha256([str(id), *share, *(recipe(part) for part in parts(id))])


def suite_sha256(name: str) -> str:
    """Of everything that must be the same for two numbers to be compared."""
    asked = datasets(name)
    return _canonical_sha256(
        {
            "suite": name,
            "recipes": {id: recipe_sha256(id) for id in asked},
            "references": {task: tasks.references(task) for task, _ in asked.values()},
            "seeds": num_seeds(name),
            "episodes": num_episodes(name),
            "demos": num_demos(name),
        }
    )


def _canonical_sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def returns_sha256(returns: Iterable[float]) -> str:
    """Of little-endian doubles."""
    return hashlib.sha256(np.asarray(list(returns), "<f8").tobytes()).hexdigest()


# --- reading ----------------------------------------------------------------------------------------------------------


def read(folder: Path) -> tuple[Submission, str]:
    """The submission in a folder and its file's sha256, if nothing is wrong with it; else all that is."""
    content = read_bytes(folder / FILE)
    try:
        value = files.from_json(content.decode())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{folder / FILE}: not strict JSON: {error}") from None
    submission, found = check(value)
    if submission and not found:
        found = [*_wrong_claims(submission), *wrong_files(folder, submission)]
        if folder.resolve().name != submission.id:
            found.append(
                f"id: '{submission.id}'; its folder is called {folder.resolve().name!a}: they must be the same"
            )
    if found:
        things = "1 thing is" if len(found) == 1 else f"{len(found)} things are"
        raise UserError(f"{folder / FILE}: {things} wrong:\n  {at_most(found)}")
    return submission, hashlib.sha256(content).hexdigest()


def read_bytes(file: Path) -> bytes:
    """The content of a regular file of a bearable size, no link."""
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{file}: not a regular file")
    limit = MAX_BYTES.get(file.name, MAX_BYTES.get(file.suffix, 0))
    if status.st_size > limit:
        raise UserError(f"{file}: {status.st_size} bytes; at most {limit} are read")
    return file.read_bytes()


def check(value: Any) -> tuple[Submission | None, list[str]]:
    """The submission that a JSON value is, and what is wrong with it, save its claims."""
    problems: list[str] = []
    submission = parse(Submission, value, "", problems)
    if problems:
        return None, problems
    try:
        suite(submission.suite)
    except UserError as error:
        return submission, [f"suite: {error}"]
    problems += _wrong_head(submission)
    for index, cell in enumerate(submission.cells):
        problems += _wrong_cell(submission, cell, f"cells[{index}]")
    problems += _twice(submission)
    return submission, problems


def _wrong_head(submission: Submission) -> Iterator[str]:
    name, asked = submission.suite, datasets(submission.suite)
    if submission.suite_sha256 != (expected := suite_sha256(name)):
        yield f"suite_sha256: {submission.suite_sha256}; in this version of sibench suite {name} is {expected}"
    if submission.id != (expected := id_of(name, submission.method.name)):
        yield f"id: '{submission.id}'; of its suite and its method's name it is '{expected}'"
    if not submission.method.commits:
        yield "method.commits: none; the commit of the code that made the numbers is needed"
    for where, settings in [("", submission), *((f"cells[{i}].", cell) for i, cell in enumerate(submission.cells))]:
        if (size := len(json.dumps(settings.config))) > MAX_CONFIG:
            yield f"{where}config: {size} characters; at most {MAX_CONFIG} are shown to anybody"
    if len(set(submission.privileges)) < len(submission.privileges):
        yield "privileges: one is named twice"
    got = [cell.background.id for cell in submission.cells]
    for id in asked:
        if id not in got:
            yield f"cells: {id} is missing; suite {name} needs all of its {len(asked)} datasets"
    for index, id in enumerate(got):
        if id not in asked:
            yield f"cells[{index}].background.id: '{id}'; not a dataset of suite {name}: {', '.join(asked)}"
        if id in got[:index]:
            yield f"cells[{index}].background.id: '{id}' again; every dataset has one cell"
    for index, cell in enumerate(submission.cells):
        seeds, num = sorted(lane.seed for lane in cell.lanes), len(submission.cells[0].lanes)
        if seeds != list(range(num)):
            yield f"cells[{index}].lanes: seeds {seeds[:20]}; allowed, as in cells[0]: 0 to {num - 1}, none chosen"


def _wrong_cell(submission: Submission, cell: Cell, where: str) -> Iterator[str]:
    data = cell.background
    if data.id not in (asked := datasets(submission.suite)):
        return  # told already
    task, _ = asked[data.id]
    if data.recipe_sha256 != (expected := recipe_sha256(data.id)):
        yield f"{where}.background.recipe_sha256: {data.recipe_sha256}; {data.id} of this version has {expected}"
    if data.num_episodes != (expected := parse_id(data.id).episodes):
        yield f"{where}.background.num_episodes: {data.num_episodes}; {data.id} has {expected}"
    if not _same(data.quality, expected := tasks.quality(task, data.return_mean)):
        yield f"{where}.background.quality: {data.quality}; a return of {data.return_mean} is {expected:.6f}"
    low, high = expected_return(data.id)
    if not low <= data.return_mean <= high:
        yield f"{where}.background.return_mean: {data.return_mean}; {data.id} has {low:.6g} to {high:.6g}"
    if (expert := cell.expert) and not re.fullmatch(rf"{task}/expert(-n\d+)?-v\d+", expert.id):
        yield f"{where}.expert.id: '{expert.id}'; needed: demonstrations of {task}'s expert"
    if expert and expert.num_episodes > (most := num_demos(submission.suite)):
        yield f"{where}.expert.num_episodes: {expert.num_episodes}; suite {submission.suite} allows {most}"
    seeds = [lane.seed for lane in cell.lanes]
    if len(set(seeds)) < len(seeds):
        yield f"{where}.lanes: a seed is there twice: {sorted(seeds)[:20]}; every lane needs its own"
    if len(set(seeds)) < (least := num_seeds(submission.suite)):
        yield f"{where}.lanes: {len(set(seeds))} seeds; suite {submission.suite} needs {least}"
    for index, lane in enumerate(cell.lanes):
        yield from _wrong_lane(submission, task, lane, f"{where}.lanes[{index}]")


def _wrong_lane(submission: Submission, task: str, lane: Lane, where: str) -> Iterator[str]:
    if lane.status == "diverged":
        if lane != diverged(lane.seed):
            yield f"{where}: diverged, and yet with returns or a policy; a lane that diverged has none"
        return
    if len(lane.returns) < (least := num_episodes(submission.suite)):
        yield f"{where}.returns: {len(lane.returns)} episodes; suite {submission.suite} needs {least}"
    if len(lane.lengths) != len(lane.returns) or lane.num_nonfinite > len(lane.returns):
        yield f"{where}: {len(lane.returns)} returns, {len(lane.lengths)} lengths, {lane.num_nonfinite} not finite"
    if 0 in lane.lengths:
        yield f"{where}.lengths: 0; an episode has a step at least"
    if max(lane.lengths, default=0) > (horizon := tasks.make(task, "c").horizon):
        yield f"{where}.lengths: {max(lane.lengths)}; an episode of {task} ends at {horizon}"
    if not lane.returns:
        return
    for extreme in {min(lane.returns), max(lane.returns)}:
        if abs(tasks.quality(task, extreme)) > PLAUSIBLE:
            yield f"{where}.returns: {extreme}; beyond {PLAUSIBLE:g} times the expert's return nothing is believed"
    if lane.return_mean is None or not _same(lane.return_mean, float(np.mean(lane.returns))):
        yield f"{where}.return_mean: {lane.return_mean}; that of its returns is {float(np.mean(lane.returns))}"
    if lane.returns_sha256 != (expected := returns_sha256(lane.returns)):
        yield f"{where}.returns_sha256: {lane.returns_sha256}; that of its returns is {expected}"


def _twice(submission: Submission) -> Iterator[str]:
    """No two lanes are the same policy, or play the same episodes, unless all of these end alike."""
    first: dict[object, str] = {}
    for index, cell in enumerate(submission.cells):
        for number, lane in enumerate(cell.lanes):
            place = f"cells[{index}].lanes[{number}]"
            values = len(set(lane.returns))  # two of them are success and failure: only lengths tell such lanes apart
            played = sorted(zip(lane.returns, lane.lengths, strict=False) if values == 2 else lane.returns)
            own = {"returns_sha256": tuple(played) if values > 1 else None, "policy_sha256": lane.policy_sha256}
            for name, value in own.items():
                if value is not None and first.setdefault(value, place) != place:
                    shown = getattr(lane, name)
                    yield f"{place}.{name}: {shown} is that of {first[value]}, too; no two lanes are the same"


def _wrong_claims(submission: Submission) -> list[str]:
    try:
        found = claims(submission)
    except UserError as error:
        return [f"claims: {error}"]
    claimed = submission.claims
    if claimed.tasks.keys() != found.tasks.keys():
        return [f"claims.tasks: {', '.join(claimed.tasks) or 'none'}; needed: {', '.join(found.tasks)}"]
    pairs = [("score", claimed.score, found.score)]
    pairs += [(f"tasks.{task}", claimed.tasks[task], found.tasks[task]) for task in found.tasks]
    return [
        f"claims.{place}.{end}: {getattr(a, end)}; from the raw returns it is {getattr(b, end)}"
        for (place, a, b), end in itertools.product(pairs, ("mean", "low", "high"))
        if not _same(getattr(a, end), getattr(b, end))
    ]


def _same(claimed: float, computed: float) -> bool:
    return math.isclose(claimed, computed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


# --- scores -----------------------------------------------------------------------------------------------------------


def claims(submission: Submission) -> Claims:
    """What a submission may claim."""
    (row,) = stats.summarise(as_results(submission, submission.id))
    return Claims(_ends(row.score), {task: _ends(score) for task, score in row.per_task.items()})


def _ends(interval: stats.Interval) -> Interval:
    return Interval(interval.mean, interval.low, interval.high)


def as_results(submission: Submission, method: str) -> list[Result]:
    """The cells in the form that statistics are made of, in the suite's order; there they are called `method`."""
    cells = {cell.background.id: cell for cell in submission.cells}
    found = []
    for id, (task, dataset) in datasets(submission.suite).items():
        place = {"suite": submission.suite, "task": task, "method": method, "dataset": dataset, "settings": {}}
        lanes = [_with_nan(lane, "nll") for lane in sorted(cells[id].lanes, key=lambda lane: lane.seed)]
        data = _with_nan(cells[id].background, "teacher_nll")
        found.append(results.view({"cell": place, "dataset": data, "lanes": lanes}))
    return found


def _with_nan(fields: Any, name: str) -> dict[str, Any]:
    return vars(fields) | ({name: math.nan} if getattr(fields, name) is None else {})


# --- files ------------------------------------------------------------------------------------------------------------


def policy_file(suite: str, dataset: str, seed: int) -> Path:
    """Where the policy of a lane is, under the submission's folder."""
    task, name = datasets(suite)[dataset]
    return Path("policies", task, f"{name}-seed-{seed}.safetensors")


def has_policies(folder: Path) -> bool:
    return (folder / "policies").is_dir()


def wrong_files(folder: Path, submission: Submission) -> Iterator[str]:
    """Nothing but what belongs there; policies of all lanes or of none, so that nobody chooses which are verified."""
    lanes = {
        policy_file(submission.suite, cell.background.id, lane.seed): lane
        for cell in submission.cells
        for lane in cell.lanes
    }
    expected = {Path(FILE), Path("verification.json"), *lanes, *(file.with_suffix(".json") for file in lanes)}
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    yield from (f"{str(path.relative_to(folder))!a}: a link; only regular files are read" for path in links)
    for path in folder.rglob("*"):
        if not path.is_dir() and path.relative_to(folder) not in expected:
            yield f"{str(path.relative_to(folder))!a}: does not belong to a submission"
    if links or not has_policies(folder):
        return
    for place, lane in lanes.items():
        weights, description = folder / place, (folder / place).with_suffix(".json")
        if not (weights.is_file() and description.is_file()):
            if lane.status == "finished":
                yield f"{place}: missing; policies are given of all lanes or of none"
            continue
        if hashlib.sha256(read_bytes(weights)).hexdigest() != lane.policy_sha256:
            yield f"{place}: its sha256 is not the policy_sha256 of its lane, {lane.policy_sha256}"
        try:
            files.from_json(read_bytes(description).decode())
        except (ValueError, RecursionError) as error:
            yield f"{place.with_suffix('.json')}: not strict JSON: {error}"


def as_json(submission: Submission) -> bytes:
    """With a line a cell, as most of it is raw returns."""
    value = dataclasses.asdict(submission)
    cells = [json.dumps(cell, allow_nan=False, separators=(",", ":")) for cell in value.pop("cells")]
    head = json.dumps(value, indent=1, allow_nan=False).removesuffix("\n}")
    return (head + ',\n "cells": [\n  ' + ",\n  ".join(cells) + "\n ]\n}\n").encode()
