"""The page: everything that was submitted, in one HTML file that loads nothing.

Names, descriptions and settings are other people's words: they travel as JSON, in which `<` is escaped, and become text
nodes. A policy in the page allows its own script and style, by their hashes, and nothing else.
"""

import base64
import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sibench
from sibench import files, stats, suites, tasks
from sibench.errors import UserError
from sibench.ids import parse_id
from sibench.leaderboard import submission as sub
from sibench.leaderboard import verify
from sibench.leaderboard.entry import of_results
from sibench.leaderboard.submission import Cell, Submission
from sibench.results import Result, read_suite

TEMPLATE = Path(__file__).with_name("page.html")


class Shown(NamedTuple):
    submission: Submission
    sha256: str
    verification: verify.Verification | None
    origin: Path | None = None
    """The folder of results that it was made of, if it was not submitted."""


def render(submissions: Path, results: Sequence[Path], out: Path) -> Iterator[str]:
    """Write the page; yields what was passed over, and why. Of a method in two folders of results, the last counts."""
    shown: dict[str, Shown] = {}
    for folder in sorted(submissions.glob("[!.]*/")):
        try:
            submission, digest = sub.read(folder)
            verification = verify.read(folder, submission, digest)
        except (UserError, OSError) as error:
            yield f"passing over {folder}: {error}"
            continue
        if verification and not verification.passed:
            yield f"passing over {folder}: it was verified, and failed"
        else:
            shown[submission.id] = Shown(submission, digest, verification)
    ours: dict[str, Shown] = {}
    for folder in (path for top in results for path in sorted(top.glob("[!.]*/"))):
        try:
            methods = _methods(folder)
        except UserError as error:
            yield f"passing over {folder}: {error}"
            continue
        for method, found in methods.items():
            try:
                submission = of_results(found).submission()
            except UserError as error:
                yield f"passing over {folder}, {method}: {error}"
                continue
            digest = hashlib.sha256(sub.as_json(submission)).hexdigest()
            ours[submission.id] = Shown(submission, digest, None, folder)
    for id, one in ours.items():
        if id in shown and shown[id].submission.cells != one.submission.cells:
            yield f"passing over the submission {id}: the results of that name, in {one.origin}, are others"
            del shown[id]
        shown.setdefault(id, one)
    names = dict.fromkeys(one.submission.suite for one in shown.values())
    boards = [_suite(name, [one for one in shown.values() if one.submission.suite == name]) for name in names]
    boards.sort(key=lambda board: (_is_bimodal(board), -len(board["datasets"]), board["name"]))
    value = {"version": sibench.__version__, "levels": verify.LEVELS, "num": len(shown), "suites": boards}
    files.write_atomic(out, page(value).encode())


def page(value: dict[str, Any]) -> str:
    template = TEMPLATE.read_text("utf-8")
    (style,) = re.findall(r"<style>(.*?)</style>", template, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", template, re.DOTALL)
    own = f"style-src {_source(style)}; script-src {_source(script)}"
    policy = f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"
    data = json.dumps(_without_nan(value), allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    return template.replace("{{policy}}", policy).replace("{{data}}", data)


def _source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _methods(folder: Path) -> dict[str, list[Result]]:
    """The results of each method, if there is a leaderboard of the suite."""
    try:
        sub.suite(folder.name)
    except UserError:
        return {}
    methods: dict[str, list[Result]] = {}
    for result in read_suite(folder.name, folder.parent):
        methods.setdefault(result.method, []).append(result)
    return methods


def _is_bimodal(board: dict[str, Any]) -> bool:
    """Such suites come after those of the ladder."""
    return all(parse_id(data["id"]).kind == "mix" for data in board["datasets"])


def _suite(name: str, shown: list[Shown]) -> dict[str, Any]:
    """A tab of the page. Statistics know an entry by its id, and the reference BC, which is ours, as `bc`."""
    by_name = {"bc" if one.submission.id == f"{name}-bc" else one.submission.id: one for one in shown}
    results = {key: sub.as_results(one.submission, key) for key, one in by_name.items()}
    rows = stats.summarise([result for own in results.values() for result in own])
    asked = sub.datasets(name)
    clones = dict(zip(asked, results.get("bc", []), strict=False))
    entries = [_entry(order, row, by_name[row.method], results[row.method], clones) for order, row in enumerate(rows)]
    names = list(dict.fromkeys(task for task, _ in asked.values()))
    return {
        "name": name,
        "about": sub.suite(name).about,
        "sha256": sub.suite_sha256(name),
        "facts": [
            *_facts(name, shown),
            ("learned by BC", f"{sum(one.converged for one in clones.values())} of {len(asked)} datasets"),
        ],
        "tasks": names,
        "references": {
            task: {kind: tasks.references(task)[kind]["mean"] for kind in ("random", "expert")} for task in names
        },
        "datasets": [_dataset(id, task, [one.submission for one in shown]) for id, (task, _) in asked.items()],
        "entries": entries,
    }


def _facts(name: str, shown: list[Shown]) -> Iterator[tuple[str, str]]:
    """What the numbers of a suite rest on, all values where entries differ. Settings are those of our own methods."""
    submissions = [one.submission for one in shown]
    ours = [one.config for one in submissions if one.id.removeprefix(f"{name}-") in suites.METHODS]

    def values(setting: str) -> str:
        found = [config[setting] for config in ours if setting in config]
        told = (
            " × ".join(map(str, v)) if isinstance(v, tuple) else f"{v:,}" if isinstance(v, int) else str(v)
            for v in found
        )
        return ", ".join(sorted(set(told)))

    yield "datasets", str(len(sub.datasets(name)))
    yield "seeds", f"at least {sub.num_seeds(name)}"
    yield "final episodes", f"at least {sub.num_episodes(name):,}"
    for setting, label in (
        ("steps", "updates"),
        ("hidden", "hidden units"),
        ("batch_size", "batch"),
        ("target_every", "updates between copies of the target network"),
    ):
        if value := values(setting):
            yield label, value
    yield "engine", ", ".join(sorted({cell.engine for one in submissions for cell in one.cells}))
    yield "made on", ", ".join(sorted({one.hardware for one in submissions}))
    yield "from", ", ".join(sorted({one.origin.as_posix() if one.origin else "submissions" for one in shown}))


def _dataset(id: str, task: str, submissions: list[Submission]) -> dict[str, Any]:
    found = [cell.background for one in submissions for cell in one.cells if cell.background.id == id]
    same = {
        name: getattr(found[0], name)
        for name in ("quality", "return_mean", "return_std", "num_episodes", "recipe_sha256")
    }
    engines, contents = (
        list(dict.fromkeys(getattr(data, name) for data in found)) for name in ("engine", "content_sha256")
    )
    return {"id": id, "task": task, **same, "engines": engines, "contents": contents}


def _entry(order: int, row: stats.Row, one: Shown, results: list[Result], clones: dict[str, Result]) -> dict[str, Any]:
    submission = one.submission
    cells = {cell.background.id: cell for cell in submission.cells}
    return {
        "order": order,
        "id": submission.id,
        "sha256": one.sha256,
        "level": verify.LEVELS[one.verification is not None],
        "verification": one.verification and dataclasses.asdict(one.verification),
        **vars(submission.method),
        "privileges": submission.privileges,
        "hardware": submission.hardware,
        "hours": submission.hours,
        "versions": submission.versions,
        "config": submission.config,
        "rank": row.rank,
        "score": row.score._asdict(),
        "bootstrap": row.bootstrap._asdict(),
        "tasks": {task: score._asdict() for task, score in row.per_task.items()},
        "thirds": row.thirds,
        "harm_rate": row.harm_rate,
        "worst_task": row.worst_task,
        "over_bc": row.over_bc,
        "seeds": row.score.seeds,
        "detectable": row.detectable,
        "diverged": row.diverged,
        "unconverged": sum(not result.converged for result in results) if row.method == "bc" else 0,
        "cells": [
            _cell(cells[id], result, clones.get(id))
            for id, result in zip(sub.datasets(submission.suite), results, strict=True)
        ],
    }


def _cell(cell: Cell, result: Result, clone: Result | None) -> dict[str, Any]:
    lanes = sorted(cell.lanes, key=lambda lane: lane.seed)
    return {
        "id": cell.background.id,
        "task": result.task,
        "quality": result.quality,
        "scores": [round(float(score), 5) for score in result.score],
        "improvement": stats.interval([result.gains])._asdict(),
        "nll": float(result.nll.mean()),
        "bc_nll": float(clone.nll.mean()) if clone else None,
        "teacher_nll": result.teacher_nll,
        "learned": clone is not None and clone.converged,
        "seeds": [lane.seed for lane in lanes],
        "diverged": [lane.seed for lane in lanes if lane.status == "diverged"],
        "returns_sha256": [lane.returns_sha256 for lane in lanes],
        "policy_sha256": [lane.policy_sha256 for lane in lanes],
    }
