"""Tests of statements about results: does an interval over seeds (95 %, Welch) lie in a region?

Inside it, the statement holds; outside, it fails; across the edge, these results cannot tell. A statement of several
parts holds if all do, which needs no correction for their number, and fails if any does, which of many on the very edge
some will by chance. Where some of its tasks are missing, or BC has not learned them, it is put to the others, and holds
or fails so far; so it does where the suites have only some of the paper's levels of data, or fewer updates. SI is the
SIBench score of a method on a task (sibench/stats.py).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sibench import evidence, results, stats, suites
from sibench.algorithm import RunConfig
from sibench.evidence import Place, number, outcome, si
from sibench.ids import FEW, LADDER, MIXES, twin
from sibench.results import Result
from sibench.stats import Interval
from sibench.suites import IMAGES, MANIPULATION, TASKS, Cell

HOLDS, FAILS, NOT_JUDGED, NOT_RUN = "holds", "fails", "not judged", "not yet run"
SO_FAR = {HOLDS: "holds so far", FAILS: "fails so far"}
WORDS = (HOLDS, FAILS, *SO_FAR.values(), NOT_JUDGED, NOT_RUN)

ROUNDS = 10
"""Of self-improvement at least, for what is said of the paper's 20 and more."""

Truth = bool | None  # None: these results cannot tell


class Need(NamedTuple):
    """Results that a test reads."""

    kind: str  # of evidence.kind
    methods: tuple[str, ...]
    tasks: tuple[str, ...] = TASKS
    numbers: tuple[int, ...] = ()  # of the datasets; () is all of them
    settings: tuple[tuple[str, float], ...] = ()  # that they have, perhaps among others

    def has(self, kind: str, cell: Cell | Result) -> bool:
        named = kind == self.kind and cell.method in self.methods and cell.task in self.tasks
        numbered = not self.numbers or number(cell.dataset) in self.numbers
        return named and numbered and dict(self.settings).items() <= dict(cell.settings).items()

    def levels(self, task: str) -> tuple[int, ...]:
        """The datasets that the paper has of this kind, by number; none of chains, which start anywhere."""
        if self.numbers or self.kind == "chain":
            return self.numbers
        ladder = FEW if twin(task) in MANIPULATION else LADDER
        return MIXES if self.kind.split("+")[0] == "mix" else ladder

    def of(self, found: Sequence[Result], method: str, task: str) -> list[Result]:
        """Those of a method on a task, in order of quality."""
        mine = [result for result in found if (result.method, result.task) == (method, task)]
        mine = [result for result in mine if self.has(evidence.kind_of(result), result)]
        return sorted(mine, key=lambda result: result.quality)


class Test(NamedTuple):
    words: str
    needs: tuple[Need, ...]
    judge: Callable[[Sequence[Result]], tuple[Truth, str]]  # with the numbers that it goes by
    everywhere: bool = False  # whether or not BC has learned the data, for that is what is asked
    least: int = 1  # so many of its tasks tell something without the others
    of_each: bool = False  # of its tasks; one on which it fails refutes it


class Verdict(NamedTuple):
    word: str
    why: str = ""
    """Of a verdict that is none; or what was left out."""
    numbers: str = ""
    evidence: str = ""


class Measure(NamedTuple):
    """A number with an interval."""

    words: str
    needs: tuple[Need, ...]
    of: Callable[[Sequence[Result], Sequence[str]], Interval]  # the mean over tasks


# --- verdicts ---------------------------------------------------------------------------------------------------------


def read(names: Sequence[str], folder: Path) -> list[Result]:
    """The results of all these suites."""
    for name in names:
        suites.suite(suites.base(name))
    found = [result for name in names for result in results.read_suite(name, folder)]
    evidence.refuse_repeats(found, "--suites")
    return found


def verdict(test: Test | str, found: Sequence[Result], names: Sequence[str]) -> Verdict:
    """The word, and what it rests on."""
    if isinstance(test, str):
        return Verdict(NOT_JUDGED, test)
    expected = cells(test.needs, names)
    known = {(result.suite, result.task, name_of(result)): result for result in found}
    read = {task: [known[cell] for cell in sorted(wanted) if cell in known] for task, wanted in expected.items()}
    good = evidence.converged_places(found)
    if test.everywhere:
        good |= {evidence.place(result) for result in found}
    whole = [task for task, wanted in expected.items() if wanted and len(read[task]) == len(wanted)]
    telling = [task for task in whole if enough(read[task], good)]
    all_read = all_in(read, read)
    if len(telling) >= min(test.least, len(expected)):
        told = all_in(read, telling)
        given, few = judged(test, told, good), ", ".join(short_of_paper(test.needs, told, telling))
        some = len(telling) < len(expected)
        final = not few and (not some or (given.word == FAILS and test.of_each))
        where = ", ".join(filter(None, [f"on {spell(telling)}" * some, few]))
        why = ": ".join(filter(None, [where, given.why]))
        return given._replace(word=given.word if final else SO_FAR.get(given.word, NOT_JUDGED), why=why)
    if len(whole) == len(expected):
        why = f"less than half of the headroom is left: {unlearned(all_read, good)}"
        return Verdict(NOT_JUDGED, why, evidence=files_of(all_read))
    where = ", ".join(names) if len(names) < 4 else f"these {len(names)} suites"
    why = f"{len(all_read)} of {sum(map(len, expected.values()))} cells are there"
    return Verdict(NOT_RUN, why if all(expected.values()) else f"not all of it is in {where}", "", files_of(all_read))


def all_in(read: Mapping[str, Sequence[Result]], where: Iterable[str]) -> list[Result]:
    return [result for task in where for result in read[task]]


def judged(test: Test, read: Sequence[Result], good: set[Place]) -> Verdict:
    """By those of what it needs that are in good places."""
    kept = [result for result in read if evidence.place(result) in good]
    rounds = min((len(result.raw["chain"]) for result in kept if "chain" in result.raw), default=ROUNDS)
    if rounds < ROUNDS:
        why = f"{rounds} rounds of self-improvement are too few, below {ROUNDS}"
        return Verdict(NOT_JUDGED, why, evidence=files_of(kept))
    truth, numbers = test.judge(kept)
    left_out = f"left out: {unlearned(read, good)}"
    why = ["these results cannot tell"] * (truth is None) + [left_out] * (len(kept) < len(read))
    return Verdict({True: HOLDS, False: FAILS, None: NOT_JUDGED}[truth], "; ".join(why), numbers, files_of(kept))


def unlearned(read: Sequence[Result], good: set[Place]) -> str:
    places = {evidence.place(result) for result in read}
    return f"BC has not converged, or not been run, on {len(places - good)} of {len(places)} datasets"


def cells(needs: Sequence[Need], names: Sequence[str]) -> dict[str, set[tuple[str, str, str]]]:
    """By task, the suite, task and name of every cell that is needed; none if these suites lack some of it."""
    found = {task: set() for task in TASKS + MANIPULATION + IMAGES if any(task in need.tasks for need in needs)}
    lacking = {(need, task, method) for need in needs for task in need.tasks for method in need.methods}
    for suite in names:
        described = suites.suite(suites.base(suite))
        for cell in described.cells:
            kind = evidence.kind(cell.dataset, dict(cell.settings), described.iterations > 0)
            if wanting := [need for need in needs if need.has(kind, cell)]:
                found[cell.task].add((suite, cell.task, cell.name))
                lacking -= {(need, cell.task, cell.method) for need in wanting}
    return found | {task: set() for _, task, _ in lacking}


def short_of_paper(needs: Sequence[Need], read: Sequence[Result], where: Iterable[str]) -> list[str]:
    """How many of the paper's levels of data there are, on the worst of these tasks, and updates; not if it is all."""
    counts = [(1, 1)]
    for need in needs:
        for task in set(need.tasks) & set(where):
            if levels := set(need.levels(task)):
                there = {number(one.dataset) for method in need.methods for one in need.of(read, method, task)}
                counts.append((len(levels & there), len(levels)))
    there, levels = min(counts, key=lambda count: count[0] / count[1])
    steps, whole = min(result.raw["config"]["steps"] for result in read), RunConfig.steps
    told = f"{there} of {levels} levels", f"{steps:,} of {whole:,} updates".replace(",", " ")
    return [one for one, lacking in zip(told, (there < levels, steps < whole), strict=True) if lacking]


def enough(read: Sequence[Result], good: set[Place]) -> bool:
    """Whether at least half of the headroom is left, of each task and kind of data."""
    groups = {}
    for result in read:
        groups.setdefault((result.task, evidence.kind_of(result)), {})[evidence.place(result)] = result.quality
    for places in groups.values():
        quality = np.array(list(places.values()))
        headroom = stats.weights(quality) * np.maximum(0, 1 - quality)
        left = headroom[[place in good for place in places]].sum()
        if left == 0 or left < headroom.sum() / 2:
            return False
    return True


def name_of(result: Result) -> str:
    """Of its file."""
    return Cell(result.task, result.method, result.dataset, tuple(sorted(result.settings.items()))).name


def files_of(read: Sequence[Result]) -> str:
    """In short."""
    told = []
    for suite in dict.fromkeys(result.suite for result in read):
        mine = [result for result in read if result.suite == suite]
        tasks, methods = (list(dict.fromkeys(getattr(one, what) for one in mine)) for what in ("task", "method"))
        tasks, methods = (f"{{{','.join(names)}}}" if len(names) > 1 else names[0] for names in (tasks, methods))
        told.append(f"{suite}/{tasks}/{methods}-*.json, {len(mine)} files")
    return "; ".join(told)


# --- from numbers to truths -------------------------------------------------------------------------------------------


def inside(interval: Interval, low: float = -math.inf, high: float = math.inf) -> Truth:
    if interval.low > low and interval.high < high:
        return True
    return False if interval.high <= low or interval.low >= high else None


def there(found: Sequence[Result], where: Sequence[str] = TASKS) -> list[str]:
    """Those of these tasks that there are results of: all, unless the verdict is one so far."""
    return [task for task in where if any(result.task == task for result in found)]


def every(truths: Iterable[Truth]) -> Truth:
    truths = list(truths)
    return False if False in truths else None if None in truths else True


def on_each(measure: Measure, low: float = -math.inf, high: float = math.inf, where: Sequence[str] = TASKS) -> Test:
    """On each of these tasks."""

    def judge(found: Sequence[Result]) -> tuple[Truth, str]:
        intervals = {task: measure.of(found, [task]) for task in there(found, where)}
        told = ", ".join(f"{task} {show(interval)}" for task, interval in intervals.items())
        return every(inside(interval, low, high) for interval in intervals.values()), told

    needs = tuple(need._replace(tasks=tuple(where)) for need in measure.needs)
    return Test(f"{measure.words} {region(low, high)}, on {spell(where)}", needs, judge, of_each=True)


def on_average(measure: Measure, low: float = -math.inf, high: float = math.inf) -> Test:
    """Of the mean over all tasks."""

    def judge(found: Sequence[Result]) -> tuple[Truth, str]:
        interval = measure.of(found, there(found))
        return inside(interval, low, high), show(interval)

    return Test(f"{measure.words} {region(low, high)}, mean over tasks", measure.needs, judge, least=2)


def share(words: str, needs: Sequence[Need], of: Callable, at_least: float = 0.0, at_most: float = 1.0) -> Test:
    """`of` the results, what is true of each of some many; None where these results cannot tell."""

    def judge(found: Sequence[Result]) -> tuple[Truth, str]:
        truths = of(found)
        if not truths:
            return None, "there are none"
        low = truths.count(True) / len(truths)
        high = low + truths.count(None) / len(truths)
        held = low >= at_least and high <= at_most
        seldom = stats.wilson(truths.count(True), len(truths))[0]  # one of six does not refute that it is rare
        failed = high < at_least or min(low, seldom) > at_most
        return True if held else False if failed else None, f"{truths.count(True)} of {len(truths)}"

    limit = "all" if at_least == 1 else f"at least {at_least:.0%}" if at_least else f"at most {at_most:.0%}"
    return Test(f"{words}: {limit}", tuple(needs), judge)


def all_of(words: str, parts: Mapping[str, Test]) -> Test:
    def judge(found: Sequence[Result]) -> tuple[Truth, str]:
        truths, numbers = zip(*(part.judge(found) for part in parts.values()), strict=True)
        told = "; ".join(f"{name}: {number}" for name, number in zip(parts, numbers, strict=True))
        return every(truths), told

    needs = dict.fromkeys(need for part in parts.values() for need in part.needs)
    least = max(part.least for part in parts.values())
    return Test(words, tuple(needs), judge, least=least, of_each=all(part.of_each for part in parts.values()))


def show(interval: Interval) -> str:
    digits = 0 if abs(interval.mean) > 20 else 2
    known = not math.isnan(interval.low)
    ends = f"{interval.low:.{digits}f}, {interval.high:.{digits}f}" if known else "too few seeds or episodes"
    return f"{interval.mean:.{digits}f} [{ends}]"


def region(low: float, high: float) -> str:
    if math.inf in (high, -low):
        return f"above {low:g}" if high == math.inf else f"below {high:g}"
    return f"within ±{high:g}" if low == -high else f"within {low:g} to {high:g}"


def spell(names: Sequence[str]) -> str:
    return "each task" if tuple(names) == TASKS else ", ".join(names)


# --- numbers ----------------------------------------------------------------------------------------------------------

ON = {"ladder": "", "mix": " on bimodal data", "chain": " of self-improvement"}


def mean_of(words: str, need: Need, of: Callable[[list[Result]], np.ndarray]) -> Measure:
    """Of a number [S] that the results of a method on a task have."""
    (method,) = need.methods

    def interval(found: Sequence[Result], where: Sequence[str]) -> Interval:
        own = need._replace(tasks=tuple(where))
        return stats.interval([of(own.of(found, method, task)) for task in where])

    return Measure(words, (need,), interval)


def score(method: str, kind: str = "ladder", numbers: tuple[int, ...] = (), **settings: float) -> Measure:
    told = "".join(f" at {name} {value:g}" for name, value in settings.items())
    told += f" with {numbers[0]} to {numbers[-1]} expert episodes" if numbers else ON.get(kind, "")
    need = Need(kind, (method,), numbers=numbers, settings=tuple(settings.items()))
    return mean_of(f"SI of {method}{told}", need, si)


def lead(a: str, b: str, kind: str = "ladder") -> Measure:
    """Of one method over another: in SI, or in what came of self-improvement."""
    name, of = ("outcome", of_chains(outcome)) if kind == "chain" else ("SI", si)
    return minus(f"{name} of {a} minus {b}{ON[kind]}", Need(kind, (a,)), Need(kind, (b,)), of)


def minus(words: str, a: Need, b: Need, of: Callable[[list[Result]], np.ndarray] = si) -> Measure:
    """A number [S] that the results of a method on a task have, minus that of others."""

    def interval(found: Sequence[Result], where: Sequence[str]) -> Interval:
        needs = (need._replace(tasks=tuple(where)) for need in (a, b))
        groups = ([of(need.of(found, *need.methods, task)) for task in where] for need in needs)
        return stats.difference(*groups)[0]

    return Measure(words, (a, b), interval)


def of_chains(of: Callable[[Result], np.ndarray]) -> Callable[[list[Result]], np.ndarray]:
    """The mean over the chains of a task, which start from different data."""
    return lambda results: np.mean([of(result) for result in results], 0)
