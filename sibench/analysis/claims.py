"""Judge the checkable statements of *Value from Observations* (VfO, arXiv 2507.06701) by results.

    python -m sibench.analysis.claims
    python -m sibench.analysis.claims --suites sibench-x0.1 bimodal-x0.1 --markdown claims.md

A test asks whether a 95 % interval over seeds (Welch) lies in a region. Inside, the statement holds; outside, it fails;
across an edge, it is undecided. A statement of several parts holds if all parts hold and fails if one fails. To hold,
this needs no correction for the number of parts; of many parts on the very edge, some fail by chance.

Data on which BC has not converged is left out, and so is a task that loses more than half of its headroom by this.
Verdicts are "so far" while tasks, levels of data or updates are fewer than the paper's; "not run" while too few tasks
have all their cells. `score` is the SIBench score, a share (sibench/analysis/stats.py); a normalised return is 0 for
random and 1 for the expert; a chain is a run of self-improvement (sibench/analysis/measures.py).
"""
# ruff: noqa: E402

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

from sibench.core import cli


@dataclass(frozen=True)
class Config:
    """Judge the paper's statements by results."""

    suites: tuple[str, ...] = (
        *("sibench", "bimodal", "self-improve", "temperature", "mixture", "sqil", "ablations"),
        *("manipulation", "manipulation-images", "manipulation-self-improve"),
    )
    """Suites whose results count; sibench-x0.1 is sibench at a tenth of its updates."""
    results: Path = Path("results")
    """Folder of results, <results>/<suite>/<task>/<cell>.json."""
    markdown: Path | None = None
    """Also write a Markdown table to this file."""


if __name__ == "__main__":  # parse the command line before the slow imports below
    name = "sibench.analysis.claims"
    cli.run(lambda config: importlib.import_module(name).main(config), Config, f"python -m {name}")
    sys.exit()

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sibench.analysis import measures, stats
from sibench.analysis.measures import Need, Place, over_chains, place, sibench_score
from sibench.analysis.stats import Interval
from sibench.bench import suites
from sibench.bench.suites import IMAGES, MANIPULATION, TASKS
from sibench.core import files
from sibench.core.errors import UserError
from sibench.learning.method import RunConfig
from sibench.learning.results import Result

HOLDS, FAILS, UNDECIDED, NOT_RUN = "holds", "fails", "undecided", "not run"
SO_FAR = {HOLDS: "holds so far", FAILS: "fails so far"}
WORDS = (HOLDS, FAILS, *SO_FAR.values(), UNDECIDED, NOT_RUN)
MIN_ROUNDS = 10
"""Minimum number of rounds needed to judge claims that the paper makes about 20 rounds."""

Results = Sequence[Result]
Truth = bool | None  # None: undecided
Finding = tuple[Truth, str]  # with the numbers behind it


class Measure(NamedTuple):
    """A number with an interval: a mean over tasks."""

    words: str
    needs: tuple[Need, ...]
    interval: Callable[[Results, Sequence[str]], Interval]  # of results on these tasks
    format: str = "+.2f"


class Test(NamedTuple):
    words: str
    needs: tuple[Need, ...]
    judge: Callable[[Results], Finding]
    unconverged: bool = False  # whether data counts on which BC has not converged
    min_tasks: int = 1  # fewest tasks that tell something without the others
    on_each: bool = False  # whether one task refutes the statement


class Claim(NamedTuple):
    id: str
    where: str
    statement: str
    test: Test | str  # a test, or why there is none

    @property
    def words(self) -> str:
        return "" if isinstance(self.test, str) else self.test.words


class Verdict(NamedTuple):
    word: str
    why: str = ""
    numbers: str = ""
    evidence: str = ""


# --- from results to verdicts -----------------------------------------------------------------------------------------


def read(names: Sequence[str], folder: Path) -> list[Result]:
    """Read the results of these suites."""
    results = [result for name in names for result in suites.read_suite(name, folder)]
    measures.refuse_repeats(results, "--suites")
    return results


def verdict(test: Test | str, results: Results, names: Sequence[str]) -> Verdict:
    """Judge a statement by results of the suites with these names."""
    if isinstance(test, str):
        return Verdict(UNDECIDED, test)
    good = {place(result) for result in results} if test.unconverged else measures.converged_places(results)
    cells = expected_cells(test.needs, names)
    by_cell = {(result.suite, result.task, measures.cell_name(result)): result for result in results}
    run = {task: [by_cell[cell] for cell in sorted(needed) if cell in by_cell] for task, needed in cells.items()}
    complete = [task for task, needed in cells.items() if needed and len(run[task]) == len(needed)]
    telling = [task for task in complete if measures.keeps_headroom(run[task], good)]
    all_run = [result for group in run.values() for result in group]
    if len(telling) >= min(test.min_tasks, len(cells)):
        decisive = [result for result in all_run if result.task in telling]
        return judge(test, decisive, good, telling, len(telling) < len(cells))
    if len(complete) == len(cells):
        why = f"less than half of the headroom is left: {unconverged(all_run, good)}"
        return Verdict(UNDECIDED, why, evidence=measures.files_of(all_run))
    why = f"{len(all_run)} of {sum(map(len, cells.values()))} cells have been run"
    if not all(cells.values()):
        why = f"not all of its cells are in {', '.join(names) if len(names) < 4 else f'these {len(names)} suites'}"
    return Verdict(NOT_RUN, why, evidence=measures.files_of(all_run))


def judge(test: Test, results: Results, good: set[Place], names: Sequence[str], lacks_tasks: bool) -> Verdict:
    """Judge by the results on tasks that are complete, and say what is less than the paper's."""
    kept = [result for result in results if place(result) in good]
    less = less_than_paper(test.needs, results, names)
    extent = [", ".join([f"on {spell(names)}"] * lacks_tasks + less)] if lacks_tasks or less else []
    rounds = min((len(result.rounds) for result in kept if result.rounds), default=MIN_ROUNDS)
    if rounds < MIN_ROUNDS:
        why = f"{rounds} rounds of self-improvement are too few, below {MIN_ROUNDS}"
        return Verdict(UNDECIDED, ": ".join([*extent, why]), evidence=measures.files_of(kept))
    truth, numbers = test.judge(kept)
    word = {True: HOLDS, False: FAILS, None: UNDECIDED}[truth]
    if less or (lacks_tasks and not (truth is False and test.on_each)):
        word = SO_FAR.get(word, word)
    reasons = ["these results cannot tell"] * (truth is None)
    reasons += [f"left out: {unconverged(results, good)}"] * (len(kept) < len(results))
    why = ": ".join(extent + ["; ".join(reasons)] * bool(reasons))
    return Verdict(word, why, numbers, measures.files_of(kept))


def unconverged(results: Results, good: set[Place]) -> str:
    places = {place(result) for result in results}
    return f"BC has not converged, or not been run, on {len(places - good)} of {len(places)} datasets"


def expected_cells(needs: Sequence[Need], names: Sequence[str]) -> dict[str, set[tuple[str, str, str]]]:
    """Return by task the suite, task and name of every needed cell; no cell of a task if the suites lack some of it."""
    cells = {task: set() for task in TASKS + MANIPULATION + IMAGES if any(task in need.tasks for need in needs)}
    lacking = {(need, task, method) for need in needs for task in need.tasks for method in need.methods}
    for name in names:
        suite = suites.suite(suites.base(name))
        for cell in suite.cells:
            kind = measures.kind(cell.dataset, dict(cell.settings), suite.rounds > 0)
            for need in needs:
                if cell.task in need.tasks and need.covers(kind, cell):
                    cells[cell.task].add((name, cell.task, cell.name))
                    lacking.discard((need, cell.task, cell.method))
    return cells | {task: set() for _, task, _ in lacking}


def less_than_paper(needs: Sequence[Need], results: Results, names: Iterable[str]) -> list[str]:
    """Say what is less than the paper's: the levels of data, on the task with the fewest, and the updates."""
    counts = [(1, 1)]
    for need in needs:
        for task in set(need.tasks) & set(names):
            if levels := set(need.paper_levels(task)):
                run = {measures.number(result.dataset) for result in need.select(results, task)}
                counts.append((len(levels & run), len(levels)))
    run, levels = min(counts, key=lambda count: count[0] / count[1])
    updates, paper_updates = min(measures.trained(result)[0] for result in results), RunConfig.steps
    less = [f"{run} of {levels} levels"] * (run < levels)
    return less + [f"{updates:,} of {paper_updates:,} updates".replace(",", " ")] * (updates < paper_updates)


# --- tests ------------------------------------------------------------------------------------------------------------


def every(truths: Iterable[Truth]) -> Truth:
    truths = list(truths)
    return False if False in truths else None if None in truths else True


def on_each(measure: Measure, low: float = -math.inf, high: float = math.inf, names: Sequence[str] = TASKS) -> Test:
    """Test that a measure lies in a region on each of these tasks."""

    def judge(results: Results) -> Finding:
        intervals = {task: measure.interval(results, [task]) for task in measures.tasks_of(results, names)}
        numbers = ", ".join(f"{task} {interval.show(measure.format)}" for task, interval in intervals.items())
        return every(interval.inside(low, high) for interval in intervals.values()), numbers

    needs = tuple(need._replace(tasks=tuple(names)) for need in measure.needs)
    return Test(f"{measure.words} {region(low, high)}, on {spell(names)}", needs, judge, on_each=True)


def on_average(measure: Measure, low: float = -math.inf, high: float = math.inf) -> Test:
    """Test that the mean of a measure over all tasks lies in a region."""

    def judge(results: Results) -> Finding:
        interval = measure.interval(results, measures.tasks_of(results))
        return interval.inside(low, high), interval.show(measure.format)

    return Test(f"{measure.words} {region(low, high)}, mean over tasks", measure.needs, judge, min_tasks=2)


def share(
    words: str, needs: Iterable[Need], items: Callable[..., list[Truth]], at_least: float = 0.0, at_most: float = 1.0
) -> Test:
    """Test how many items are true, of those made of the results of each need. Undecided items may count as either."""
    needs = tuple(needs)

    def judge(results: Results) -> Finding:
        truths = items(*(need.select(results) for need in needs))
        if not truths:
            return None, "there are none"
        low = truths.count(True) / len(truths)
        high = low + truths.count(None) / len(truths)
        holds = low >= at_least and high <= at_most
        # one of six does not refute that something is rare
        fails = high < at_least or stats.wilson(truths.count(True), len(truths))[0] > at_most
        return True if holds else False if fails else None, f"{truths.count(True)} of {len(truths)}"

    limit = "all" if at_least == 1 else f"at least {at_least:.0%}" if at_least else f"at most {at_most:.0%}"
    return Test(f"{words}: {limit}", needs, judge)


def all_of(words: str, parts: Mapping[str, Test]) -> Test:
    """Test that all parts hold."""

    def judge(results: Results) -> Finding:
        truths, numbers = zip(*(part.judge(results) for part in parts.values()), strict=True)
        return every(truths), "; ".join(f"{name}: {number}" for name, number in zip(parts, numbers, strict=True))

    needs = tuple(dict.fromkeys(need for part in parts.values() for need in part.needs))
    min_tasks = max(part.min_tasks for part in parts.values())
    return Test(words, needs, judge, min_tasks=min_tasks, on_each=all(part.on_each for part in parts.values()))


def region(low: float, high: float) -> str:
    if math.inf in (high, -low):
        return f"above {low:g}" if high == math.inf else f"below {high:g}"
    return f"within ±{high:g}" if low == -high else f"within {low:g} to {high:g}"


def spell(names: Sequence[str]) -> str:
    return "each task" if tuple(names) == TASKS else ", ".join(names)


# --- measures, and tests of a kind of their own -----------------------------------------------------------------------

CLOSE = 0.1
"""Scores and normalised returns that differ by less are on par."""
BRACKET = (1500, 2000)
"""Returns between which the paper sees VfO-bin's improvement on hopper end."""
ROOMY = f"cells with headroom of at least {CLOSE:g}"
VFO, DUAL, NOT_HOPPER = ("vfo-bin", "vfo-disc"), ("smodice-kl", "dilo"), ("halfcheetah", "walker2d", "ant")
CHAINED = ("bco", "vfo-bin", "awr", "smodice-kl", "dilo")
TEMPERATURES, MIXTURES, FEW_EXPERTS = (0.1, 0.3, 1.0, 3.0, 10.0), (0.1, 0.3, 0.5, 0.7, 0.9), (100, 200, 300)
IN_DATA = {"ladder": "", "mix": " on bimodal data", "chain": " of self-improvement"}


def measure(words: str, *needs: Need, value: Callable[..., np.ndarray] = sibench_score, format="+.2f") -> Measure:
    """Measure a value [S] or [S, E] that is made of the results of each need on a task."""

    def interval(results: Results, names: Sequence[str]) -> Interval:
        return stats.interval([value(*(need.select(results, task) for need in needs)) for task in names])

    return Measure(words, needs, interval, format)


def minus(words: str, a: Need, b: Need, value: Callable[[list[Result]], np.ndarray] = sibench_score) -> Measure:
    """Measure the difference of a value between two sets of results."""

    def interval(results: Results, names: Sequence[str]) -> Interval:
        ours, theirs = ([value(need.select(results, task)) for task in names] for need in (a, b))
        return stats.difference(ours, theirs)[0]

    return Measure(words, (a, b), interval)


def score(method: str, kind: str = "ladder", numbers: tuple[int, ...] = (), **settings: float) -> Measure:
    words = "".join(f" at {name} {value:g}" for name, value in settings.items())
    words += f" with {numbers[0]} to {numbers[-1]} expert episodes" if numbers else IN_DATA.get(kind, "")
    return measure(f"score of {method}{words}", Need(kind, (method,), TASKS, numbers, tuple(settings.items())))


def lead(a: str, b: str, kind: str = "ladder") -> Measure:
    """Measure by how much one method exceeds another: in score, or in the outcome of self-improvement."""
    name, value = ("outcome", over_chains(measures.outcome)) if kind == "chain" else ("score", sibench_score)
    return minus(f"{name} of {a} minus {b}{IN_DATA[kind]}", Need(kind, (a,)), Need(kind, (b,)), value)


def improves(result: Result) -> Truth:
    return stats.interval([result.gains]).inside(low=0)


def roomy(results: Iterable[Result]) -> list[Result]:
    """Return the results on data that leaves room for improvement."""
    return [result for result in results if result.quality <= 1 - CLOSE]


def keeps_up(at_least: float) -> Test:
    def items(vfo: list[Result], awr: list[Result]) -> list[Truth]:
        oracle = {(result.task, result.dataset): result.episodes for result in awr}
        gaps = (stats.difference([cell.episodes], [oracle[cell.task, cell.dataset]])[0] for cell in vfo)
        return [gap.inside(low=-CLOSE) for gap in gaps]

    words = f"cells in which the normalised return of VfO minus that of awr is above {-CLOSE:g}"
    return share(words, [Need("ladder", VFO), Need("ladder", ("awr",))], items, at_least)


def worst_on_hopper(method: str) -> Test:
    need = Need("ladder", (method,))

    def judge(results: Results) -> Finding:
        hopper, *others = (sibench_score(need.select(results, task)) for task in ("hopper", *NOT_HOPPER))
        gaps = [stats.difference([hopper], [other])[0] for other in others]
        numbers = (f"than {task} {gap.show()}" for task, gap in zip(NOT_HOPPER, gaps, strict=True))
        return every(gap.inside(high=0) for gap in gaps), ", ".join(numbers)

    return Test("", (need,), judge, min_tasks=len(TASKS))


def crosses_in_bracket() -> Test:
    need = Need("ladder", ("vfo-bin",), ("hopper",))

    def judge(results: Results) -> Finding:
        where, low, high = (measures.to_return(end, "hopper") for end in measures.crossing(need.select(results)))
        interval = stats.interval([where])
        numbers = f"{interval.show('.0f')}, on lines between data of {low:.0f} and {high:.0f}"
        return unless_open(interval.inside(*BRACKET), low, high, *BRACKET), numbers

    return Test(f"return at which vfo-bin's improvement crosses zero {region(*BRACKET)}", (need,), judge)


def ends_at_crossing() -> Test:
    proxy, real = (Need(kind, ("vfo-bin",), ("hopper",)) for kind in ("ladder", "chain"))
    limit = BRACKET[1] - BRACKET[0]

    def judge(results: Results) -> Finding:
        where, low, high = (measures.to_return(end, "hopper") for end in measures.crossing(proxy.select(results)))
        final = measures.final_return(real.select(results))
        gap, at = stats.difference([final], [where])[0], stats.interval([final])
        return unless_open(gap.inside(-limit, limit), at.low - high, at.high - low, -limit, limit), gap.show("+.0f")

    return Test(f"the one return minus the other within ±{limit}", (proxy, real), judge)


def unless_open(truth: Truth, lowest: float, highest: float, low: float, high: float) -> Truth:
    """Return a truth, but no failure while a crossing between distant data may lie in the region."""
    return None if truth is False and lowest < high and highest > low else truth


def follows_proxy(names: tuple[str, ...] = TASKS, methods: tuple[str, ...] = CHAINED) -> Test:
    def items(ladder: list[Result], chains: list[Result]) -> list[Truth]:
        better = {(cell.task, cell.method, cell.dataset) for cell in ladder if improves(cell)}
        begun = [chain for chain in chains if (chain.task, chain.method, chain.dataset) in better]
        return [stats.interval([measures.gain(chain)]).inside(low=0) for chain in begun]

    words = "chains whose gain is above 0, of those that begin with data that the method improves on"
    words += "" if names is TASKS else f", on {spell(names)}"
    return share(words, (Need(kind, methods, names) for kind in ("ladder", "chain")), items, at_least=1.0)


def ranks_alike() -> Test:
    methods = ("bc", *CHAINED)

    def judge(results: Results) -> Finding:
        names = measures.tasks_of(results)
        scores, gains = (
            np.array([[value(Need(kind, (name,)).select(results, task)).mean() for name in methods] for task in names])
            for kind, value in (("ladder", sibench_score), ("chain", over_chains(measures.gain)))
        )
        rho, p = stats.rank_correlation(scores, gains)
        return rho > 0 if p < stats.LEVEL else None, f"{rho:.2f}, p = {p:.2g}, on {len(names)} tasks"

    words = f"correlation of the ranks of score and gain, over methods within tasks, above 0 with p < {stats.LEVEL}"
    return Test(words, (Need("ladder", methods), Need("chain", methods)), judge, min_tasks=2)


def wide_range(method: str, kind: str, **fixed: float) -> Test:
    scores = [score(method, kind, (), temperature=value, **fixed) for value in TEMPERATURES]

    def judge(results: Results) -> Finding:
        intervals = [measure.interval(results, measures.tasks_of(results)) for measure in scores]
        truths = [interval.inside(low=0) for interval in intervals]
        triples = [every(truths[first : first + 3]) for first in range(len(truths) - 2)]
        numbers = (f"{value:g} {interval.show()}" for value, interval in zip(TEMPERATURES, intervals, strict=True))
        return True if True in triples else None if None in triples else False, ", ".join(numbers)

    words = f"score of {method}, mean over tasks, above 0 at three or more neighbouring temperatures"
    return Test(words, tuple(need for measure in scores for need in measure.needs), judge, min_tasks=2)


def improving_policies() -> Measure:
    need = Need("ladder", VFO)

    def interval(results: Results, names: Sequence[str]) -> Interval:
        groups = (roomy(need.select(results, task)) for task in names)
        return stats.share_interval([np.array([(cell.improvement > 0).mean() for cell in group]) for group in groups])

    return Measure(f"share of VfO's policies, in {ROOMY}, that improve", (need,), interval, ".2f")


def on_some(measure: Measure, at_least: float) -> Test:
    """Test on how many of the manipulation tasks a measure is above 0."""

    def items(*groups: list[Result]) -> list[Truth]:
        results = [result for group in groups for result in group]
        return [measure.interval(results, [task]).inside(low=0) for task in measures.tasks_of(results, MANIPULATION)]

    words = f"tasks of {spell(MANIPULATION)} with {measure.words} above 0"
    needs = (need._replace(tasks=MANIPULATION) for need in measure.needs)
    return share(words, needs, items, at_least)._replace(min_tasks=2)


# --- the statements ---------------------------------------------------------------------------------------------------

CHAIN, SPREAD = Need("chain", ("vfo-bin",)), (Need("ladder", ("vfo-disc",)), Need("ladder", ("awr",)))
LATE = "in the last quarter of the rounds"
HERE = "Robomimic (here tasks modelled on it)"
# fmt: off
CLAIMS = (
    Claim("4.3a", "figures 2, 10", "AWR, VfO-disc and VfO-bin all show good improvement", all_of(
        "score of each above 0, mean over tasks", {name: on_average(score(name), low=0) for name in ("awr", *VFO)})),
    Claim("4.3b", "figures 2, 10", "The oracle AWR performs best", all_of(
        "score of awr minus that of each other method above 0, mean over tasks",
        {other: on_average(lead("awr", other), low=0) for other in (*VFO, *DUAL, "bco", "bc")})),
    *(Claim(id, "section 4.3, figure 2", f"On {task}, {method} gets close to AWR over the whole spectrum",
            on_each(lead(method, "awr"), -CLOSE, CLOSE, [task]))
      for id, task, method in (("4.3c", "ant", "vfo-bin"), ("4.3d", "ant", "vfo-disc"),
                               ("4.3e", "halfcheetah", "vfo-bin"), ("4.3f", "halfcheetah", "vfo-disc"),
                               ("4.3g", "walker2d", "vfo-disc"))),
    Claim("4.3h", "section 4.3, figure 2", "On walker2d, VfO-disc is better than VfO-bin",
          on_each(lead("vfo-disc", "vfo-bin"), low=0, names=["walker2d"])),
    Claim("4.3i", "section 4.3", "All methods underperform on hopper", all_of(
        "score on hopper minus that on each other task below 0, of awr and VfO",
        {method: worst_on_hopper(method) for method in ("awr", *VFO)})),
    *(Claim(id, "section 4.3, figure 2", f"{label} only rarely improves on the data", share(
        f"{ROOMY} in which {name} improves", [Need("ladder", (name,))],
        lambda cells: [improves(cell) for cell in roomy(cells)], at_most=0.1))
      for id, label, name in (("4.3j", "SMODICE", "smodice-kl"), ("4.3k", "DILO", "dilo"))),
    Claim("4.3l", "section 4.3", "SMODICE and DILO clearly underperform, on all tasks", all_of(
        "score of each minus that of each VfO below 0 on each task",
        {f"{poor} minus {vfo}": on_each(lead(poor, vfo), high=0) for poor in DUAL for vfo in VFO})),
    Claim("4.3m", "section 4.3", "VfO is close to the oracle in many settings", keeps_up(0.5)),
    Claim("4.3n", "figure 2 (its premise)", "BC reproduces its data",
          on_each(score("bc"), -CLOSE, CLOSE)._replace(unconverged=True)),
    Claim("6", "section 6", "VfO is competitive with AWR in nearly all experiments", keeps_up(0.8)),
    *(Claim(id, "section 4.4, figures 4, 12", f"{name} improves strongly on a few expert episodes among random ones",
            on_average(score(name, "mix", FEW_EXPERTS), low=0.5))
      for id, name in (("4.4a", "dilo"), ("4.4b", "smodice-kl"))),
    Claim("4.4c", "section 4.4", "DILO reaches the expert from 200 expert episodes on most tasks", share(
        f"tasks on which the normalised return of dilo is above {1 - CLOSE:g} with 200 expert episodes",
        [Need("mix", ("dilo",), numbers=(200,))],
        lambda cells: [stats.interval([cell.episodes]).inside(low=1 - CLOSE) for cell in cells],
        at_least=0.75)._replace(min_tasks=2)),
    Claim("4.4d", "section 4.4", "The improvement of DILO and SMODICE then falls with better data", all_of(
        "slope of improvement over quality, from 200 expert episodes on, below 0, mean over tasks",
        {name: on_average(measure("", Need("mix", (name,), TASKS, tuple(range(200, 1001, 100))), value=measures.slope),
                         high=0) for name in DUAL})),
    *(Claim(id, "section 4.4, figure 4", f"{name} is worse than BC on bimodal data",
            on_average(lead(name, "bc", "mix"), high=0)) for id, name in (("4.4e", "vfo-bin"), ("4.4f", "vfo-disc"))),
    Claim("4.4g", "section 4.4", "BC itself improves on bimodal data", on_average(score("bc", "mix"), low=0)),
    Claim("4.4h", "sections 1, 4.4", "Who wins depends on the data: VfO on SIBench's, DILO on bimodal", all_of(
        "score of vfo-bin minus dilo above 0 on the ladder and below 0 on bimodal data, mean over tasks",
        {"ladder": on_average(lead("vfo-bin", "dilo"), low=0),
         "bimodal": on_average(lead("vfo-bin", "dilo", "mix"), high=0)})),
    Claim("B.a", "appendix B", "DILO is the strongest baseline on bimodal data", all_of(
        "score of dilo minus that of each other baseline above 0, mean over tasks",
        {other: on_average(lead("dilo", other, "mix"), low=0) for other in ("smodice-kl", "bco", "bc")})),
    Claim("4.4i", "section 4.4", "Lower temperatures make VfO-bin unstable on bimodal data", on_average(minus(
        "score of vfo-bin at temperature 0.1 minus that at 1 with 100 to 300 expert episodes",
        Need("mix+temperature", ("vfo-bin",), TASKS, FEW_EXPERTS, (("temperature", 0.1),)),
        Need("mix", ("vfo-bin",), TASKS, FEW_EXPERTS)), high=0)),
    *(Claim(id, "section 4.6, figures 6, 14", f"Self-improvement by {name} gives strong results", on_each(measure(
        f"gain of {name} from the worst data", Need("chain", (name,)), value=lambda chains: measures.gain(chains[0])),
        low=0)) for id, name in (("4.6a", "vfo-bin"), ("4.6b", "awr"))),
    Claim("4.6c", "section 4.6, figure 6", "It is consistent, a saw-tooth", share(
        f"rounds in which vfo-bin is better than its data on {spell(NOT_HOPPER)}", [CHAIN._replace(tasks=NOT_HOPPER)],
        lambda chains: [bool(up) for data, policy in map(measures.chain, chains) for up in (policy > data).flat],
        at_least=0.75)),
    Claim("4.6d", "section 4.6", "On ant, halfcheetah and walker2d it has not converged after 20 iterations", on_each(
        measure(f"mean normalised return of vfo-bin {LATE} minus that in the third", CHAIN,
                value=over_chains(measures.late_rise)), low=0, names=NOT_HOPPER)),
    Claim("4.6e", "section 4.6, figure 2", "On hopper, VfO-bin improves on data of up to 1500 to 2000 only",
          crosses_in_bracket()),
    Claim("4.6f", "section 4.6, figure 6", "On hopper, VfO-bin's self-improvement ends between 1500 and 2000",
          on_each(measure(f"return {LATE}", CHAIN, value=measures.final_return, format=".0f"), *BRACKET, ["hopper"])),
    Claim("4.6g", "section 4.6", "On hopper, it ends where the improvement crosses zero", ends_at_crossing()),
    Claim("4.6h", "section 4.6", "Improvement on SIBench means self-improvement", follows_proxy()),
    Claim("F", "appendix F, figure 14", "What does badly on SIBench does badly in self-improvement", ranks_alike()),
    Claim("4.6i", "section 4.6", "VfO-bin clearly outperforms SMODICE in self-improvement",
          on_each(lead("vfo-bin", "smodice-kl", "chain"), low=0)),
    Claim("4.6j", "section 4.6", "VfO-bin is similar to AWR in self-improvement, in all settings",
          on_each(lead("vfo-bin", "awr", "chain"), -CLOSE, CLOSE)),
    Claim("A", "appendix A",
          "Valuing a terminal step as if its reward went on for ever helps (here: VfO-disc on hopper)",
          on_each(lead("vfo-disc", "vfo-disc-ending"), low=0, names=["hopper"])),
    Claim("D.a", "appendix D, figure 8", "A fairly wide range of temperatures improves",
          wide_range("vfo-bin", "temperature")),
    Claim("D.b", "appendix D, figure 9", "Any mixture from 0.1 to 0.9 improves, except on hopper", all_of(
        f"score of vfo-bin above 0 at each mixture on {spell(NOT_HOPPER)}",
        {f"{value:g}": on_each(score("vfo-bin", "mixture", mixture=value), low=0, names=NOT_HOPPER)
         for value in MIXTURES})),
    Claim("G.a", "appendix G, figure 15",
          "A fairly wide range of temperatures improves for SQIL with expert actions, at mixture 0.9",
          wide_range("sqil", "mixture+temperature", mixture=0.9)),
    Claim("G.b", "appendix G, figure 16", "SQIL needs a higher mixture than VfO", on_average(minus(
        "score of sqil at mixture 0.9 minus that at 0.5, at temperature 1",
        Need("mixture+temperature", ("sqil",), settings=(("mixture", 0.9), ("temperature", 1.0))),
        Need("mixture+temperature", ("sqil",), settings=(("mixture", 0.5), ("temperature", 1.0)))), low=0)),
    Claim("B.c", "appendix B", "Stopping SMODICE's discriminator early helps", on_average(minus(
        "score of smodice-kl with 10 000 updates of the discriminator minus that with 100 000",
        Need("ladder", ("smodice-kl",), TASKS, (1, 2, 5, 20)),
        Need("disc_steps", ("smodice-kl",), TASKS, (1, 2, 5, 20), (("disc_steps", 100_000),))), low=0)),
    Claim("H.a", "appendix H, figure 17", "VfO-disc improves consistently, except on hopper", on_each(
        measure("score of vfo-disc in the last tenth of training", Need("ladder", ("vfo-disc",)),
                value=lambda results: sibench_score(results, measures.last_tenth)), low=0, names=NOT_HOPPER)),
    Claim("H.b", "appendix H, figure 17", "VfO-disc varies as much as AWR", on_average(
        measure("log2 of the spread over seeds of vfo-disc over that of awr", *SPREAD, value=measures.late_spreads),
        -1, 1)),
    Claim("H.c", "appendix H, figure 18", "Final policies judged by 1000 episodes vary less", on_average(
        measure("log2 of the spread of final policies over that in the last tenth of training", *SPREAD,
                value=measures.final_spreads), high=0)),
    Claim("H.d", "appendix H, figure 18", "Most policies of VfO improve", on_average(improving_policies(), low=0.5)),
    Claim("4.3o", "figures 3, 11", f"{HERE}: VfO-bin improves on all tasks, no less than AWR", all_of(
        f"score of vfo-bin above 0, and minus that of awr above {-CLOSE:g}, on {spell(MANIPULATION)}",
        {"itself": on_each(score("vfo-bin"), low=0, names=MANIPULATION),
         "minus awr": on_each(lead("vfo-bin", "awr"), low=-CLOSE, names=MANIPULATION)})),
    Claim("4.3p", "figures 3, 11", f"{HERE}: VfO-disc, SMODICE and DILO do worse", all_of(
        f"score of vfo-bin minus that of each above 0, on {spell(MANIPULATION)}",
        {other: on_each(lead("vfo-bin", other), low=0, names=MANIPULATION)
         for other in ("vfo-disc", "smodice-chi2", "dilo")})),
    Claim("4.5", "section 4.5, figures 5, 13",
          "From images, AWR and VfO-bin improve on Lift (here a task modelled on it)", all_of(
              "score of each above 0 on lift-image",
              {name: on_each(score(name), low=0, names=IMAGES[:1]) for name in ("awr", "vfo-bin")})),
    Claim("4.6k", "figure 7", f"{HERE}: VfO-bin improves itself on two of three tasks", on_some(
        measure("gain of vfo-bin's chains", CHAIN, value=over_chains(measures.gain)), at_least=0.66)),
    Claim("4.6l", "figure 7", f"{HERE}: VfO-bin can slightly outperform AWR in self-improvement",
          on_some(lead("vfo-bin", "awr", "chain"), at_least=0.33)),
    Claim("4.6m", "section 4.6", f"{HERE}: improvement on SIBench means self-improvement",
          follows_proxy(MANIPULATION, ("vfo-bin", "awr"))),
    Claim("B.b", "appendix B", f"{HERE}: at higher temperatures DILO is BC in effect", on_each(minus(
        "score of dilo at temperature 100 minus bc",
        Need("temperature", ("dilo",), settings=(("temperature", 100.0),)),
        Need("ladder", ("bc",))), -CLOSE, CLOSE, MANIPULATION)),
    Claim("4.1", "section 4.1, figure 1", "Data of the ladder is like that of self-improvement",
          "there is no test: the paper does not say what is alike in them"),
    Claim("B.d", "appendix B", "DILO learns less stably with orthogonal gradients",
          "there is no test: dilo.py has no orthogonal gradients, nor have the paper's results"),
)
# fmt: on


def main(config: Config) -> None:
    if not config.results.is_dir():
        raise UserError(f"results={config.results}; it is not a folder; give one that has <suite>/<task>/<cell>.json")
    results = read(config.suites, config.results)
    verdicts = [verdict(claim.test, results, config.suites) for claim in CLAIMS]
    for claim, judged in zip(CLAIMS, verdicts, strict=True):
        print(f"{judged.word:<12} {claim.id:<5} {claim.statement} ({claim.where})")
        for line in filter(None, (judged.why, claim.words, judged.numbers, judged.evidence)):
            print(f"{'':<19}{line}")
    counts = Counter(judged.word for judged in verdicts)
    print(f"{len(CLAIMS)} statements; " + ", ".join(f"{word}: {counts[word]}" for word in WORDS))
    if config.markdown:
        files.write_atomic(config.markdown, table(verdicts).encode())
        print(config.markdown)


def table(verdicts: Sequence[Verdict]) -> str:
    """Return the claims and their verdicts as a Markdown table."""
    lines = ["| | statement | where | test | numbers [95 %] | evidence | verdict |", "| --- " * 7 + "|"]
    for claim, judged in zip(CLAIMS, verdicts, strict=True):
        evidence = f"`{judged.evidence}`" if judged.evidence else ""
        word = f"{judged.word}: {judged.why}" if judged.why else judged.word
        cells = (claim.id, claim.statement, claim.where, claim.words, judged.numbers, evidence, word)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
