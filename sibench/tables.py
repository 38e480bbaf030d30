"""Print the tables of README.md and RESULTS.md, in Markdown.

python -m sibench.tables tasks
python -m sibench.tables scores small
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, subcommand

from sibench import cli


@dataclass(frozen=True)
class Tasks:
    """Print the tasks with their sizes and reference returns."""


@dataclass(frozen=True)
class Suites:
    """Print the suites with what they show."""


@dataclass(frozen=True)
class OfSuite:
    """What is read."""

    suite: Positional[str]
    """Such as small; sibench-x0.1 is sibench at a tenth of its updates."""
    results: Path = Path("results")
    """Folder of results, <results>/<suite>/<task>/<cell>.json."""


@dataclass(frozen=True)
class Scores(OfSuite):
    """Print the score of each method in a suite's results."""


@dataclass(frozen=True)
class Levels(OfSuite):
    """Print the improvement of each method on each dataset in a suite's results."""


Command = (
    Annotated[Tasks, subcommand("tasks")]
    | Annotated[Suites, subcommand("suites")]
    | Annotated[Scores, subcommand("scores")]
    | Annotated[Levels, subcommand("levels")]
)


def main(command: Command) -> None:
    match command:
        case Tasks():
            print(tasks())
        case Suites():
            print(suites())
        case Scores(suite, results):
            from sibench import stats

            print(scores(stats.summarise(read(suite, results))))
        case Levels(suite, results):
            print(levels(read(suite, results)))


def read(suite: str, folder: Path) -> list:
    from sibench.errors import unknown
    from sibench.results import read_suite

    if found := read_suite(suite, folder):
        return found
    raise unknown("result", str(folder / suite), map(str, sorted(folder.glob("*"))))


def tasks() -> str:
    from sibench import tasks
    from sibench.cameras import NUM_BYTES, SIDE
    from sibench.ids import has_frames

    lines = [
        "| task | the same as, or modelled on | observations | actions | random | expert |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in tasks.names():
        task, references = tasks.make(name, "c"), tasks.references(name)
        digits = 2 if references and references["expert"]["mean"] <= 1 else 0  # a return of 1 is a success
        returns = ["not measured"] * 2
        if references:
            measured = (references["random"], references["expert"])
            returns = [f"{one['mean']:.{digits}f} ± {one['std']:.{digits}f}" for one in measured]
        origin = task.gymnasium_id or task.modelled_on
        numbers = task.observation_size
        size = f"{(numbers - NUM_BYTES) // 4}, 2 × {SIDE} × {SIDE} × 3" if has_frames(name) else numbers
        cells = (f"`{task.id}`", origin, size, task.action_size, *returns)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def suites() -> str:
    from sibench.suites import SUITES

    rows = (f"| `{suite.name}` | {suite.about} | {len(suite.cells)} |" for suite in SUITES.values())
    return "\n".join(["| suite | what it shows | cells |", "| --- | --- | --- |", *rows])


def scores(rows: list) -> str:
    """Of the `Row`s of a suite's results."""
    lines = [
        "| | method | score | 95 % | above BC | harmful cells | seeds | detectable |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        over_bc = "" if row.method == "bc" else f"{row.over_bc:.0%}"
        span = f"{row.score.low:+.2f} to {row.score.high:+.2f}"
        lines.append(
            f"| {row.rank} | {row.method} | {row.score.mean:+.2f} | {span} | {over_bc} | {row.harm_rate:.0%} | "
            f"{row.score.seeds} | {row.detectable:.2f} |"
        )
    return "\n".join(lines)


def levels(results: list) -> str:
    """Improvements by method and dataset; a dataset that BC was run on and has not learned says so."""
    from sibench.evidence import converged_places, place

    by_quality = sorted(results, key=lambda r: (r.task, r.quality))
    columns = dict.fromkeys((r.task, r.dataset, round(r.quality, 2) + 0.0) for r in by_quality)
    good = converged_places(results)
    unlearned = {(r.task, r.dataset) for r in results if r.method == "bc" and place(r) not in good}
    heads = (f"{t} {d}, {quality}" + " (BC not converged)" * ((t, d) in unlearned) for t, d, quality in columns)
    lines = ["| | " + " | ".join(heads) + " |"]
    lines.append("| --- |" + " --- |" * len(columns))
    found: dict[str, dict] = {}
    for r in sorted(results, key=lambda r: list(r.settings.values())):
        name = " ".join([r.method, *(f"{setting}={value:g}" for setting, value in r.settings.items())])
        found.setdefault(name, {})[r.task, r.dataset] = f"{r.improvement.mean():+.2f}"
    for name, row in found.items():
        lines.append(f"| {name} | " + " | ".join(row.get(column[:2], "") for column in columns) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main, Command, "python -m sibench.tables")
