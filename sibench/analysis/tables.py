"""Print the generated tables of README.md, results/ and docs/, in Markdown, and update them.

    python -m sibench.analysis.tables methods
    python -m sibench.analysis.tables scores small
    python -m sibench.analysis.tables update README.md

A table in a file stands between `<!-- generated: scores small -->` and `<!-- /generated -->`.

Everywhere `score` is the SIBench score, a share from -inf to 1 (sibench/analysis/stats.py). It is printed as `+0.21`,
never as a percentage, and the column `95 %` is its interval. Improvements are shares too, on the scale of quality: 0 is
random, 1 the expert.
"""

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from sibench.core import cli, files
from sibench.core.errors import UserError, unknown

if TYPE_CHECKING:
    from sibench.learning.results import Result


GENERATED = re.compile(r"(<!-- generated: ([^>]+?) -->\n).*?(<!-- /generated -->)", re.DOTALL)


@dataclass(frozen=True)
class Config:
    """Print a generated table in Markdown, or update those in files."""

    table: Positional[Literal["tasks", "datasets", "methods", "suites", "scores", "levels", "update"]]
    """scores and levels are those of a suite's methods, levels on each dataset; update regenerates tables in files."""
    names: Positional[tuple[str, ...]] = ()
    """The suite, such as small, or sibench-x0.1, which is sibench at a tenth of its updates; or the files."""
    results: Path = Path("results")
    """Folder of results, <results>/<suite>/<task>/<cell>.json."""


def main(config: Config) -> None:
    if config.table != "update":
        print(generate(config.table, *config.names, results=config.results))
        return
    for path in map(Path, config.names):
        text = path.read_text()
        updated = GENERATED.sub(lambda found: f"{found[1]}{generate(*found[2].split())}\n{found[3]}", text)
        files.write_atomic(path, updated.encode())
        print(f"{path}: {len(GENERATED.findall(text))} tables" + ("" if updated == text else ", changed"))


def generate(name: str, *suite: str, results: Path = Path("results")) -> str:
    """Return a table by the words that name it, such as `scores small`."""
    makers: dict[str, Callable[..., str]] = {
        each.__name__: each for each in (tasks, datasets, methods, suites, scores, levels)
    }
    if name not in makers:
        raise unknown("table", name, makers)
    if len(suite) != (makers[name] in (scores, levels)):
        raise UserError(f"{name} needs " + ("no suite" if suite else "a suite, such as small"))
    return makers[name](*(read(each, results) for each in suite))


def read(suite: str, folder: Path) -> list["Result"]:
    from sibench.bench.suites import base, read_suite

    if results := read_suite(suite, folder):
        return results
    have = ", ".join(sorted(path.name for path in folder.glob("*/"))) or "nothing"
    raise UserError(
        f"{folder / suite} has none; {folder} has {have}; make results: python -m sibench.bench --suite {base(suite)}"
    )


def tasks() -> str:
    from sibench import tasks
    from sibench.tasks.cameras import NUM_BYTES, SIDE

    rows = []
    for name in tasks.names():
        task, references = tasks.make(name, "c"), tasks.references(name)
        digits = 2 if references and references["expert"]["mean"] <= 1 else 0  # a return of 1 is a success
        returns = ["not measured"] * 2
        if references:
            measured = (references["random"], references["expert"])
            returns = [f"{of['mean']:.{digits}f} ± {of['std']:.{digits}f}" for of in measured]
        size = task.observation_size
        observations = f"{(size - NUM_BYTES) // 4}, 2 × {SIDE} × {SIDE} × 3" if task.observes_pixels else size
        origin = task.gymnasium_id or task.modelled_on
        rows.append((f"`{task.id}`", origin, observations, task.action_size, *returns))
    return table(("task", "the same as, or modelled on", "observations", "actions", "random", "expert"), rows)


def datasets() -> str:
    """Return the measured quality of every level of every ladder; tasks with frames share that of their twin."""
    from sibench import tasks
    from sibench.core.ids import LADDER

    rows = []
    for name in (name for name in tasks.names() if not tasks.observes_pixels(name)):
        measured = tasks.ladder().get(name, {})
        levels = [f"bc-{level}" if level in tasks.task_type(name).ladder else "" for level in LADDER]
        qualities = [f"{measured[level]['quality'] + 0.0:.2f}" if level in measured else "" for level in levels]
        rows.append((f"`{name}`", *(quality.replace("-0.00", "0.00") for quality in qualities)))
    return table(("task", *(f"bc-{level}" for level in LADDER)), rows)


def methods() -> str:
    """Return a row per method file: its names on the board, what it may see, and its paper."""
    from sibench.bench.suites import TASKS
    from sibench.learning import methods

    rows = []
    for file in methods.files():
        method = methods.load(file)
        variants = [variant for variant in methods.variants().values() if variant.file == file]
        sees = ["background", *["expert observations"] * method.uses_expert]
        for variant in variants:
            config = methods.resolve(method, TASKS[0], variant=variant.settings, dataset=("bc-1",))
            only = f" ({variant.name} only)" if callable(method.privileges) else ""
            sees += [f"**{privilege}**{only}" for privilege in method.sees(config)]
        summary = (method.config.__doc__ or "").split("\n")[0].strip(" .")
        doc = ast.get_docstring(ast.parse((methods.FOLDER / f"{file}.py").read_text())) or ""
        paper = re.search(r"arXiv (\d{4}\.\d{5})", doc)
        link = f"[{paper[1]}](https://arxiv.org/abs/{paper[1]})" if paper else ""
        names = ", ".join(variant.name for variant in variants)
        rows.append((f"[{file}](algorithms/{file}.py)", names, summary, ", ".join(dict.fromkeys(sees)), link))
    return table(("file", "names on the board", "method", "learns from", "paper"), rows)


def suites() -> str:
    from sibench.bench.suites import SUITES

    rows = ((f"`{suite.name}`", suite.about, len(suite.cells)) for suite in SUITES.values())
    return table(("suite", "what it shows", "cells"), list(rows))


def scores(results: Sequence["Result"]) -> str:
    """Return the summary of a suite's results, best method first."""
    from sibench.analysis import stats

    cells = [
        (
            row.rank,
            row.method,
            f"{row.score.mean:+.2f}",
            f"{row.score.low:+.2f} to {row.score.high:+.2f}",
            "" if row.method == "bc" or row.over_bc != row.over_bc else f"{row.over_bc:.0%}",
            f"{row.harm_rate:.0%}",
            row.score.seeds,
            f"{row.detectable:.2f}",
        )
        for row in stats.summarise(results)
    ]
    return table(("", "method", "score", "95 %", "above BC", "harmful cells", "seeds", "detectable"), cells)


def levels(results: Sequence["Result"]) -> str:
    """Return improvements by method and dataset. A dataset on which BC was run and has not converged is marked."""
    from sibench.analysis.measures import converged_places, place

    by_quality = sorted(results, key=lambda result: (result.task, result.quality))
    columns = dict.fromkeys((result.task, result.dataset, round(result.quality, 2) + 0.0) for result in by_quality)
    good = converged_places(results)
    bc = [result for result in results if result.method == "bc"]
    unconverged = {(result.task, result.dataset) for result in bc if place(result) not in good}
    heads = [
        f"{task} {dataset}, {quality}" + " (BC not converged)" * ((task, dataset) in unconverged)
        for task, dataset, quality in columns
    ]
    by_method: dict[str, dict[tuple[str, str], str]] = {}
    for result in sorted(results, key=lambda result: list(result.settings.values())):
        name = " ".join([result.method, *(f"{setting}={value:g}" for setting, value in result.settings.items())])
        by_method.setdefault(name, {})[result.task, result.dataset] = f"{result.improvement.mean():+.2f}"
    rows = [(name, *(row.get(column[:2], "") for column in columns)) for name, row in by_method.items()]
    return table(("", *heads), rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = (f"| {' | '.join(map(str, line))} |" for line in [heads, ["---"] * len(heads), *rows])
    return "\n".join(line.replace("|  |", "| |", 1) if line.startswith("|  |") else line for line in lines)


if __name__ == "__main__":
    cli.run(main, Config, "python -m sibench.analysis.tables")
