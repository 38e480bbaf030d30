"""Draw the page: all submissions and results in one HTML file that loads nothing.

Names, descriptions and settings are strangers' words: they travel as JSON, in which `<` is escaped, and become text
nodes. The page's content security policy allows its own script and style, by their hashes, and nothing else.
"""

import base64
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sibench
from sibench import tasks
from sibench.analysis import stats
from sibench.bench import suites
from sibench.core import files
from sibench.core.errors import UserError
from sibench.core.ids import parse_id
from sibench.leaderboard import replay, validation
from sibench.leaderboard import submission as sub
from sibench.leaderboard.entry import from_results
from sibench.leaderboard.submission import Board, Submission
from sibench.learning.results import MAX_GAP, MAX_LOSS, Result

HERE = Path(__file__).parent
SCRIPTS = ("figures.js", "method.js", "page.js")
SHOWN_SETTINGS = {
    "steps": "updates",
    "hidden": "hidden units",
    "batch_size": "batch size",
    "target_every": "updates between copies of the target network",
}
"""Settings of this repository's methods that describe a board."""


class Listing(NamedTuple):
    """A submission as it is listed on the page."""

    submission: Submission
    sha256: str
    verification: replay.Verification | None
    origin: Path | None = None
    """The folder of results of which these are the numbers; None for numbers that were only submitted."""


def render(submissions: Path, results: Sequence[Path], out: Path) -> list[str]:
    """Write the page, and return what was left out and why.

    If a method has results in several folders, those of the last folder count. A submission cannot take the name of a
    method whose results are here.
    """
    warnings: list[str] = []
    listings = {listing.submission.id: listing for listing in _read_submissions(submissions, warnings)}
    ours = {listing.submission.id: listing for listing in _read_results(results, warnings)}
    for id, listing in ours.items():
        submitted = listings.get(id)
        if submitted and submitted.submission.results == listing.submission.results:
            listing = submitted._replace(origin=listing.origin)
        elif submitted:
            warnings.append(f"leaving out the submission {id}: {listing.origin} has other results of that name")
        listings[id] = listing
    names = dict.fromkeys(listing.submission.suite for listing in listings.values())
    boards = [_board(name, [one for one in listings.values() if one.submission.suite == name]) for name in names]
    boards.sort(key=lambda board: (board["is_bimodal"], -len(board["datasets"]), board["name"]))
    value = {
        "version": sibench.__version__,
        "levels": replay.LEVELS,
        "max_gap": MAX_GAP,
        "max_loss": MAX_LOSS,
        "num": len(listings),
        "boards": boards,
    }
    files.write_atomic(out, page(value).encode())
    return warnings


def _read_submissions(folder: Path, warnings: list[str]) -> Iterator[Listing]:
    for path in sorted(folder.glob("[!.]*/")):
        try:
            submission, digest = validation.read(path)
            verification = replay.read(path, submission, digest)
        except (UserError, OSError) as error:
            warnings.append(f"leaving out {path}: {error}")
            continue
        if verification and not verification.passed:
            warnings.append(f"leaving out {path}: {replay.level_of(verification)}")
        else:
            yield Listing(submission, digest, verification)


def _read_results(tops: Sequence[Path], warnings: list[str]) -> Iterator[Listing]:
    """Yield a listing of every method that has all results of a suite."""
    for folder in (path for top in tops for path in sorted(top.glob("[!.]*/"))):
        try:
            sub.board(folder.name)
        except UserError:
            continue  # a folder of something else, or of a suite without a board
        try:
            results = suites.read_suite(folder.name, folder.parent)
        except UserError as error:
            warnings.append(f"leaving out {folder}: {error}")
            continue
        for method in dict.fromkeys(result.method for result in results):
            try:
                submission = from_results([result for result in results if result.method == method]).submission()
            except UserError as error:
                warnings.append(f"leaving out {method} of {folder}: {error}")
                continue
            yield Listing(submission, hashlib.sha256(sub.to_json(submission)).hexdigest(), None, folder)


def page(value: dict[str, Any]) -> str:
    """Return the HTML of the page that shows `value`."""
    style = (HERE / "page.css").read_text("utf-8")
    script = "\n".join(['"use strict";', *((HERE / name).read_text("utf-8") for name in SCRIPTS)])
    policy = f"default-src 'none'; style-src {_hash_source(style)}; script-src {_hash_source(script)}"
    data = json.dumps(_without_nan(value), allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    html = (HERE / "page.html").read_text("utf-8")
    html = html.replace("{{policy}}", f"{policy}; base-uri 'none'; form-action 'none'")
    return html.replace("{{style}}", style).replace("{{script}}", script).replace("{{data}}", data)


def _hash_source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _without_nan(value: Any) -> Any:
    if isinstance(value, stats.Interval):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _board(name: str, listings: list[Listing]) -> dict[str, Any]:
    """Return the data of a tab. In statistics, an entry goes by its id, and the reference BC by `bc`."""
    board = sub.board(name)
    by_name = {"bc" if one.submission.id == f"{name}-bc" else one.submission.id: one for one in listings}
    results = {key: sub.as_results(one.submission, key) for key, one in by_name.items()}
    rows = stats.summarise([result for each in results.values() for result in each])
    bc = {result.background.id: result for result in results.get("bc", [])}
    converged = sum(result.converged for result in bc.values())
    task_names = list(dict.fromkeys(task for task, _ in board.datasets.values()))
    return {
        "name": name,
        "about": board.about,
        "sha256": board.sha256,
        "facts": [*_facts(board, listings), ("BC converged on", f"{converged} of {len(board.datasets)} datasets")],
        "tasks": task_names,
        "is_bimodal": all(parse_id(id).kind == "mix" for id in board.datasets),
        "references": {task: tasks.references(task) for task in task_names},
        "datasets": [_dataset(id, task, listings) for id, (task, _) in board.datasets.items()],
        "entries": [_entry(row, by_name[row.method], results[row.method], bc) for row in rows],
    }


def _facts(board: Board, listings: list[Listing]) -> Iterator[tuple[str, str]]:
    """Yield what the numbers of a board rest on; all values, with commas, where entries differ."""
    submissions = [one.submission for one in listings]
    yield "datasets", str(len(board.datasets))
    yield "seeds", f"at least {board.num_seeds}"
    yield "final episodes", f"at least {board.num_episodes:,}"
    our_configs = [one.submission.config for one in listings if one.origin]
    for setting, label in SHOWN_SETTINGS.items():
        if values := {_setting(config[setting]) for config in our_configs if setting in config}:
            yield label, ", ".join(sorted(values))
    yield "engine", ", ".join(sorted({result.engine for one in submissions for result in one.results}))
    yield "made on", ", ".join(sorted({one.hardware for one in submissions}))
    yield "from", ", ".join(sorted({one.origin.as_posix() if one.origin else "submissions" for one in listings}))


def _setting(value: Any) -> str:
    if isinstance(value, tuple):
        return " × ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _dataset(id: str, task: str, listings: list[Listing]) -> dict[str, Any]:
    all_results = [result for one in listings for result in one.submission.results]
    backgrounds = [result.background for result in all_results if result.background.id == id]
    return {
        "task": task,
        **vars(backgrounds[0]),
        "engines": list(dict.fromkeys(data.engine for data in backgrounds)),
        "contents": list(dict.fromkeys(data.content_sha256 for data in backgrounds)),
    }


def _entry(row: stats.Row, listing: Listing, results: list[Result], bc: dict[str, Result]) -> dict[str, Any]:
    submission = listing.submission
    stated = ("id", "privileges", "hardware", "hours", "versions", "config")
    return {
        **row._asdict(),
        **vars(submission.method),
        **{name: getattr(submission, name) for name in stated},
        "sha256": listing.sha256,
        "level": replay.level_of(listing.verification),
        "verification": listing.verification and dataclasses.asdict(listing.verification),
        "over_bc": None if row.method == "bc" else row.over_bc,
        "unconverged": sum(not result.converged for result in results) if row.method == "bc" else 0,
        "results": [_result(result, bc.get(result.background.id)) for result in results],
    }


def _result(result: Result, bc: Result | None) -> dict[str, Any]:
    return {
        "id": result.background.id,
        "task": result.task,
        "quality": result.quality,
        "qualities": [round(float(score), 5) for score in result.score],
        "improvement": stats.interval([result.gains]),
        "nll": float(result.nll.mean()),
        "bc_nll": float(bc.nll.mean()) if bc else None,
        "teacher_nll": result.teacher_nll,
        "bc_converged": bc is not None and bc.converged,
        "seeds": [seed.seed for seed in result.seeds],
        "diverged": [seed.seed for seed in result.seeds if seed.status == "diverged"],
    }
