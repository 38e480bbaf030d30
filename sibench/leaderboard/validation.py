"""What is wrong with a submission: its fields, its numbers, its files. Nothing in it is believed unchecked.

That returns were really earned cannot be read off a file; replay.py plays the policies again.
"""

import functools
import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sibench import tasks
from sibench.core.errors import UserError
from sibench.core.ids import parse_id
from sibench.core.schema import at_most, parse, shown
from sibench.data.collect import recipe_sha256
from sibench.leaderboard import submission as sub
from sibench.leaderboard.submission import FILE, VERIFICATION_FILE, Board, DatasetResult, Submission
from sibench.learning.results import SeedResult

MAX_CONFIG = 20_000
"""Characters of settings that the page shows."""
is_close = functools.partial(math.isclose, rel_tol=1e-6, abs_tol=1e-6)
"""Whether a claimed number agrees with the recomputed one."""
PLAUSIBLE = 3.0
"""The largest plausible score of an episode: no policy is three times as good as the expert, or as far below random."""
STANDARD_ERRORS = 5
MIN_REACH = 0.05
"""The least that the quality of a dataset may deviate from what its policies earn."""


def read(folder: Path) -> tuple[Submission, str]:
    """Return the submission in a folder and the sha256 of its file; raise `UserError` with all that is wrong."""
    value, digest = sub.read_json(folder / FILE)
    submission, problems = check(value)
    if submission and not problems:
        problems = [*_score_problems(submission), *file_problems(folder, submission)]
        if (name := folder.resolve().name) != submission.id:
            problems.append(f"id: '{submission.id}'; its folder is called {shown(name)}: they must be the same")
    if submission is None or problems:
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
        raise UserError(f"{folder / FILE} is not a valid submission: {count}:\n  {at_most(problems)}")
    return submission, digest


def check(value: Any) -> tuple[Submission | None, list[str]]:
    """Return the submission in a JSON value, and what is wrong with it, apart from its scores and files."""
    problems: list[str] = []
    submission = parse(Submission, value, "", problems)
    if problems:
        return None, problems
    try:
        asked = sub.board(submission.suite)
    except UserError as error:
        return submission, [f"suite: {error}"]
    problems += [*_head_problems(submission, asked), *_coverage_problems(submission, asked)]
    for index, result in enumerate(submission.results):
        if result.background.id in asked.datasets:
            problems += _dataset_problems(result, asked, f"results[{index}]")
    problems += _duplicate_problems(submission)
    return submission, problems


def _head_problems(submission: Submission, asked: Board) -> Iterator[str]:
    if submission.suite_sha256 != asked.sha256:
        yield f"suite_sha256: {submission.suite_sha256}; {asked.suite} of this version of sibench has {asked.sha256}"
    if submission.id != (expected := sub.id_of(asked.suite, submission.method.name)):
        yield f"id: '{submission.id}'; its suite and its method's name make it '{expected}'"
    if not submission.method.commits:
        yield "method.commits: none; the commit of the code that made the numbers is needed"
    if len(set(submission.privileges)) < len(submission.privileges):
        yield "privileges: one is named twice"
    configs = {"": submission.config} | {f"results[{i}].": one.config for i, one in enumerate(submission.results)}
    for where, config in configs.items():
        if (size := len(json.dumps(config))) > MAX_CONFIG:
            yield f"{where}config: {size} characters; allowed: up to {MAX_CONFIG}"


def _coverage_problems(submission: Submission, asked: Board) -> Iterator[str]:
    """Every dataset once, and the same seeds and number of episodes on all of them, so that none can be selected."""
    ids = [result.background.id for result in submission.results]
    for id in asked.datasets:
        if id not in ids:
            yield f"results: {id} is missing; suite {asked.suite} needs all of its {len(asked.datasets)} datasets"
    for index, result in enumerate(submission.results):
        place, id = f"results[{index}]", ids[index]
        if id not in asked.datasets:
            yield f"{place}.background.id: '{id}'; not a dataset of suite {asked.suite}: {', '.join(asked.datasets)}"
        if id in ids[:index]:
            yield f"{place}.background.id: '{id}' again; every dataset has one result"
        numbers, num = sorted(seed.seed for seed in result.seeds), len(submission.results[0].seeds)
        if numbers != list(range(num)):
            yield f"{place}.seeds: {numbers[:20]}; allowed, as in results[0]: 0 to {num - 1}, each once"
    finished = [(place, len(seed.returns)) for place, seed in _places(submission) if seed.status == "finished"]
    for place, num in finished:
        if num != finished[0][1]:
            yield f"{place}.returns: {num} episodes; the first seed has {finished[0][1]}: all need the same"


def _dataset_problems(result: DatasetResult, asked: Board, where: str) -> Iterator[str]:
    data, expert = result.background, result.expert
    task, _ = asked.datasets[data.id]
    if data.recipe_sha256 != (expected := recipe_sha256(parse_id(data.id))):
        yield f"{where}.background.recipe_sha256: {data.recipe_sha256}; {data.id} of this version has {expected}"
    if data.num_episodes != (expected := parse_id(data.id).episodes):
        yield f"{where}.background.num_episodes: {data.num_episodes}; {data.id} has {expected}"
    if not is_close(data.quality, expected := tasks.quality(task, data.return_mean)):
        yield f"{where}.background.quality: {data.quality}; a return of {data.return_mean} is {expected:.6f}"
    low, high = expected_return(data.id)
    if not low <= data.return_mean <= high:
        yield f"{where}.background.return_mean: {data.return_mean}; {data.id} has {low:.6g} to {high:.6g}"
    if expert and not re.fullmatch(rf"{task}/expert(-n\d+)?-v\d+", expert.id):
        yield f"{where}.expert.id: '{expert.id}'; needed: demonstrations of {task}'s expert"
    if expert and expert.num_episodes > asked.num_demos:
        yield f"{where}.expert.num_episodes: {expert.num_episodes}; suite {asked.suite} allows {asked.num_demos}"
    if len(result.seeds) < asked.num_seeds:
        yield f"{where}.seeds: {len(result.seeds)} seeds; suite {asked.suite} needs {asked.num_seeds}"
    for index, seed in enumerate(result.seeds):
        yield from _seed_problems(seed, task, asked, f"{where}.seeds[{index}]")


def _seed_problems(seed: SeedResult, task: str, asked: Board, where: str) -> Iterator[str]:
    num = len(seed.returns)
    if seed.status == "diverged":
        if seed != SeedResult(seed.seed, "diverged", diverged_at=seed.diverged_at, evaluations=seed.evaluations):
            yield f"{where}: diverged, but has returns or a policy; a seed that diverged has none"
        return
    if seed.diverged_at is not None:
        yield f"{where}.diverged_at: {seed.diverged_at}; allowed for a seed that finished: null"
    if num < asked.num_episodes:
        yield f"{where}.returns: {num} episodes; suite {asked.suite} needs {asked.num_episodes}"
    if len(seed.lengths) != num or seed.num_nonfinite > num:
        yield f"{where}: {num} returns, {len(seed.lengths)} lengths, {seed.num_nonfinite} not finite"
    if seed.progress and (len(seed.progress) != num or min(seed.progress) < 0 or max(seed.progress) > 1):
        yield f"{where}.progress: {len(seed.progress)} numbers; allowed: none, or one from 0 to 1 for each return"
    horizon = tasks.task_type(task).horizon
    if wrong := [length for length in seed.lengths if not 1 <= length <= horizon]:
        yield f"{where}.lengths: {wrong[0]}; an episode of {task} has 1 to {horizon} steps"
    for extreme in {min(seed.returns), max(seed.returns)} if seed.returns else ():
        if abs(tasks.quality(task, extreme)) > PLAUSIBLE:
            yield f"{where}.returns: {extreme}; nothing beyond {PLAUSIBLE:g} times the expert's return is plausible"


@functools.cache
def expected_return(dataset: str) -> tuple[float, float]:
    """Return the range in which the mean return of a dataset lies, whoever plays it.

    Without it, a submitter could report poorer data and so gain improvement.
    """
    id = parse_id(dataset)
    measured = tasks.ladder().get(tasks.state_twin(id.task), {})
    shares = {id.source: id.episodes}
    if id.kind == "mix":
        shares = {"expert": id.num_experts, "random": id.episodes - id.num_experts}
    if any(num and source not in measured for source, num in shares.items()):
        return -math.inf, math.inf  # not a dataset of the benchmark
    samples = [(num, np.array(measured[source]["returns"], float)) for source, num in shares.items() if num]
    mean = sum(num * returns.mean() for num, returns in samples) / id.episodes
    error = sum((num**2 / len(returns) + num) * returns.var() for num, returns in samples) ** 0.5 / id.episodes
    references: Any = tasks.references(id.task)
    reach = max(STANDARD_ERRORS * error, MIN_REACH * (references["expert"]["mean"] - references["random"]["mean"]))
    return float(mean - reach), float(mean + reach)


def _duplicate_problems(submission: Submission) -> Iterator[str]:
    """No two seeds share a policy, or play the same episodes, unless all of those end alike."""
    first: dict[object, str] = {}
    for place, seed in _places(submission):
        num_values = len(set(seed.returns))
        returns: Any = seed.returns
        if num_values == 2:  # success and failure: only the lengths tell such seeds apart
            returns = zip(seed.returns, seed.lengths, strict=False)
        played = tuple(sorted(returns)) if num_values > 1 else None
        for name, value in (("returns", played), ("policy_sha256", seed.policy_sha256)):
            if value is not None and (same := first.setdefault(value, place)) != place:
                yield f"{place}.{name}: the same as that of {same}; no two seeds are the same"


def _places(submission: Submission) -> Iterator[tuple[str, SeedResult]]:
    for index, result in enumerate(submission.results):
        for number, seed in enumerate(result.seeds):
            yield f"results[{index}].seeds[{number}]", seed


def _score_problems(submission: Submission) -> list[str]:
    try:
        score, task_scores = sub.scores(submission)
    except UserError as error:
        return [f"score: {error}"]
    if submission.task_scores.keys() != task_scores.keys():
        return [f"task_scores: {', '.join(submission.task_scores) or 'none'}; needed: {', '.join(task_scores)}"]
    pairs = {"score": (submission.score, score)}
    pairs |= {f"task_scores.{task}": (submission.task_scores[task], task_scores[task]) for task in task_scores}
    return [
        f"{place}.{end}: {number}; from the raw returns it is {getattr(computed, end)}"
        for place, (claimed, computed) in pairs.items()
        for end, number in vars(claimed).items()
        if not is_close(number, getattr(computed, end))
    ]


def file_problems(folder: Path, submission: Submission) -> Iterator[str]:
    """Yield what is wrong with a folder: links, strange files, and policies of some seeds but not of all.

    All or none, so that a submitter cannot choose which policies are replayed.
    """
    asked = sub.board(submission.suite)
    results = submission.results
    seeds = {asked.policy_file(result.background.id, seed.seed): seed for result in results for seed in result.seeds}
    expected = {Path(FILE), Path(VERIFICATION_FILE), *seeds, *(file.with_suffix(".json") for file in seeds)}
    links = False
    for path in sorted(folder.rglob("*")):
        name = shown(str(path.relative_to(folder)))
        if path.is_symlink():
            links = True
            yield f"{name}: a link; only regular files are read"
        if not path.is_dir() and path.relative_to(folder) not in expected:
            yield f"{name}: does not belong to a submission"
    if links or not (folder / "policies").is_dir():
        return
    for place, seed in seeds.items():
        weights, description = folder / place, (folder / place).with_suffix(".json")
        if not (weights.is_file() and description.is_file()):
            if seed.status == "finished":
                yield f"{place}: missing; policies are given for all seeds or for none"
            continue
        if hashlib.sha256(sub.read_bytes(weights)).hexdigest() != seed.policy_sha256:
            yield f"{place}: its sha256 is not the policy_sha256 of its seed, {seed.policy_sha256}"
        try:
            sub.read_json(description)
        except UserError as error:
            yield str(error)
