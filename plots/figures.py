"""From the results of suites to figures: which figures there are, and which results each of them shows."""

import functools
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from importlib import import_module
from pathlib import Path

import panels
import style

from sibench.analysis.measures import trained
from sibench.bench import suites
from sibench.core.errors import unknown
from sibench.learning.results import Result

SINGLE, ROUNDS = "single trainings", "self-improvement"
DEMOS, SWEEP = "numbers of demonstrations", "swept settings"
OF_SUITES = dict.fromkeys(("improvement", "returns", "score", "convergence", "variance"), SINGLE) | {
    "sweeps": SWEEP,
    "demos": DEMOS,
    "self_improvement": ROUNDS,
    "staircase": ROUNDS,
}
"""Figures of a suite, and the results that they show; see `subject_of`."""
WITH_SINGLES = ("sweeps", "demos", "staircase")
"""Figures that also get the single trainings of all suites that were trained in the same way."""
OTHERS = ("schematic", "ladder", "experts", "frames")
"""Figures that show no results."""
LOCOMOTION = ("small", "small-walker2d", "small-halfcheetah")
"""Suites of the figure for the README."""


def draw(names: Sequence[str], of: Sequence[str], methods: Sequence[str], folder: Path, out: Path) -> None:
    """Draw figures, those of results for each suite in `of`."""
    for name in names:
        if name not in (*OF_SUITES, *OTHERS):
            raise unknown("figure", name, (*OF_SUITES, *OTHERS))
    present = style.looks(result.method for suite in of for result in read(suite, folder))
    for method in methods:
        if present and method not in present:
            raise unknown("method", method, present)
    for name in names:
        if name == "frames":  # a process of its own: it chooses MuJoCo's renderer before MuJoCo is imported
            subprocess.run([sys.executable, Path(__file__).with_name("frames.py"), out], check=True)
        elif name in OTHERS:
            import_module(name).main(out)
        elif not sum(draw_suite(name, suite, methods, folder, out) for suite in of):
            print(f"{name}: nothing drawn: no results of {OF_SUITES[name]} in {folder}", file=sys.stderr)
    if "improvement" in names and set(LOCOMOTION) <= set(of):
        main_results = (each for suite in LOCOMOTION for each in read(suite, folder) if each.method in suites.MAIN)
        panels.save(import_module("improvement").draw([*main_results]), out / "improvement-locomotion")


def draw_suite(name: str, suite: str, methods: Collection[str], folder: Path, out: Path) -> bool:
    """Draw a figure of a suite, of all methods or of these and BC; return whether there is anything to draw."""
    results = [result for result in read(suite, folder) if subject_of(result) == OF_SUITES[name]]
    if not any(result.method in (methods or [result.method]) for result in results):
        return False
    warn_of_missing_cells(suite, read(suite, folder), methods)
    chosen = [result for result in results if not methods or result.method in {*methods, "bc"}]
    singles = singles_like(chosen, folder) if name in WITH_SINGLES else []
    panels.save(import_module(name).draw(chosen + singles), out / f"{name}-{suite}")
    return True


def subject_of(result: Result) -> str:
    if result.rounds:
        return ROUNDS
    if "demos" in result.settings:
        return DEMOS
    return SWEEP if result.settings else SINGLE


def suites_in(folder: Path) -> list[str]:
    """List the suites that have results in a folder."""
    return [path.name for path in sorted(folder.glob("*")) if suites.base(path.name) in suites.SUITES]


read = functools.cache(suites.read_suite)


def warn_of_missing_cells(suite: str, results: Iterable[Result], methods: Collection[str]) -> None:
    """Report cells without a result. A method that the suite does not name has the cells of all others."""
    described = suites.suite(suites.base(suite))
    present = {(each.method, each.task, each.dataset, tuple(sorted(each.settings.items()))) for each in results}
    cells = {(cell.method, cell.task, cell.dataset, cell.settings) for cell in described.cells}
    added = {method for method, *_ in present} - set(described.methods)
    cells |= {(method, *place) for method in added for place in described.places}
    missing = Counter(task for method, task, *_ in cells - present if not methods or method in {*methods, "bc"})
    if missing:
        panels.warn(f"{suite}: missing " + ", ".join(f"{num} cells of {task}" for task, num in sorted(missing.items())))


def singles_like(results: Sequence[Result], folder: Path) -> list[Result]:
    """Return the single trainings of all suites that were trained in the same way as these results."""
    temperatures = {each.method: panels.setting(each, "temperature") for each in results if not each.settings}
    target_every = {panels.setting(each, "target_every") for each in results} | {None}
    return [
        each
        for suite in suites_in(folder)
        for each in read(suite, folder)
        if subject_of(each) == SINGLE
        and trained(each) == trained(results[0])
        and panels.setting(each, "target_every") in target_every
        and panels.setting(each, "temperature") == temperatures.get(each.method, panels.setting(each, "temperature"))
    ]
