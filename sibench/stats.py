"""Statistics: how well a method did, and how sure that is.

SIBench's score of a seed on a task, with datasets k of quality q_k, on which it scores y_k (0 is random, 1 the expert):

    SI = Σ_k w_k (y_k - q_k) / Σ_k w_k max(0, 1 - q_k),     w_k: trapezoid weights on the axis of quality

the share of the headroom, over all qualities, that the method turned into return: 0 is as good as its data, 1 the
expert from any data. A method's score is the mean over tasks of the mean over seeds.

A group, below, is a task: an array [S] of one number a seed, or [S, E] of one for each of its episodes. Variances are
estimated of each group by itself (Welch, Satterthwaite), for they differ; at 5 seeds this covers what it says, where
the bootstrap falls short. All seeds play the same E episodes, from the same starts with the same draws, and can agree
by more than so few episodes tell: no variance of a mean is taken for less than that of its episodes alone.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats

from sibench.errors import UserError
from sibench.results import Result

LEVEL = 0.05
"""Of the test that two methods of different ranks differ."""

Cells = dict[tuple, Result]
"""Of a method, by task, dataset and sorted settings."""


class Interval(NamedTuple):
    mean: float
    low: float
    high: float
    seeds: int  # the fewest of any group


class Row(NamedTuple):
    """A method in the table of a suite."""

    method: str
    score: Interval  # SI
    bootstrap: Interval  # the same, a second opinion
    per_task: dict[str, Interval]  # SI
    thirds: tuple[float, float, float]  # SI on data of quality < 1/3, up to 2/3, above; NaN where there is none
    harm_rate: float  # share of cells whose improvement's interval is wholly below 0; of one seed: not harmful
    worst_task: tuple[str, float]  # and its SI
    over_bc: float  # probability of improvement over bc, the mean over cells that both have; NaN without one
    rank: int
    tasks: int  # that the score is of
    cells: int
    missing: int  # cells that other methods have and this one lacks
    diverged: int  # seeds, over all cells
    detectable: float  # the difference in score to a method as noisy that seeds as many would show four times of five


def interval(groups: Sequence[np.ndarray], confidence: float = 0.95) -> Interval:
    """The mean over groups of the mean over seeds, and its t interval; without ends (NaN) if a group has one seed."""
    mean = _mean(groups)
    error, freedom = _standard_error(groups)
    return _around(mean, error / len(groups), freedom, groups, confidence)


def difference(a: Sequence[np.ndarray], b: Sequence[np.ndarray], confidence: float = 0.95) -> tuple[Interval, float]:
    """Of the means of two methods over the same groups, a - b: its t interval and two-sided p value."""
    assert len(a) == len(b)
    mean = math.fsum([*map(np.mean, a), *(-np.mean(group) for group in b)]) / len(a)  # exactly 0 if a is b
    error, freedom = _standard_error([*a, *b])
    error /= len(a)
    p = float(mean == 0) if error == 0 else 2 * float(stats.t.sf(abs(mean) / error, freedom))
    return _around(mean, error, freedom, [*a, *b], confidence), p


def minimal_detectable_difference(groups: Sequence[np.ndarray], power: float = 0.8, confidence: float = 0.95) -> float:
    """Between two methods that both vary like this, which the test of `difference` finds with this probability."""
    error, freedom = _standard_error([*groups, *groups])
    critical = stats.t.ppf((1 + confidence) / 2, freedom)
    # Finding it with the wrong sign is left out: below 0.0005 for any power above a half.
    return error / len(groups) * float(special.nctdtrinc(freedom, 1 - power, critical)) if error != 0 else 0.0


def bootstrap(groups: Sequence[np.ndarray], confidence: float = 0.95, num: int = 10_000, seed: int = 0) -> Interval:
    """The same as `interval` by resampling seeds within groups; percentiles, widened for what few seeds lack."""
    groups = [of_seeds(group) for group in groups]
    mean, seeds = _mean(groups), min(map(len, groups))
    if seeds == 1:
        return Interval(mean, math.nan, math.nan, seeds)
    rng = np.random.default_rng(seed)
    means = np.full(num, mean)
    for group in groups:
        deviation = rng.choice(group, (num, len(group))).mean(1) - np.mean(group)
        means += deviation * math.sqrt(len(group) / (len(group) - 1)) / len(groups)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, float(low), float(high), seeds)


def weights(quality: np.ndarray) -> np.ndarray:
    """[K] -> [K], the trapezoid rule's, in the given order; equal qualities share theirs, and a single one has 1."""
    values, where, counts = np.unique(quality, return_inverse=True, return_counts=True)
    gaps = np.diff(values)
    each = (np.append(gaps, 0) + np.append(0, gaps)) / 2 if len(values) > 1 else np.ones(1)
    return (each / counts)[where]


def si(quality: np.ndarray, scores: Sequence[np.ndarray]) -> np.ndarray:
    """The SIBench score of every seed, or episode, on a task: [K], K x [S] -> [S] or K x [S, E] -> [S, E].

    Of as many seeds as all datasets have.

    A seed begins with the same weights and draws the same numbers on all datasets: its scores there are no independent
    observations, and are summed.
    """
    weight = weights(quality)
    headroom = weight @ np.maximum(0, 1 - quality)
    if not headroom > 0:
        raise UserError(f"no headroom: no dataset is below the expert (qualities {np.round(quality, 3).tolist()})")
    seeds = min(map(len, scores))
    improvement = np.array([score[:seeds] - q for q, score in zip(quality, scores, strict=True)])
    return np.tensordot(weight, improvement, 1) / headroom


def probability_of_improvement(a: np.ndarray, b: np.ndarray) -> float:
    """That a seed of a [S1] scores above one of b [S2]; a tie is half."""
    a, b = np.asarray(a)[:, None], np.asarray(b)
    return float(np.mean(a > b) + np.mean(a == b) / 2)


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a probability."""
    low, high = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


def holm(p: Sequence[float]) -> np.ndarray:
    """p values adjusted for how many tests were made; NaN is a test that was not made."""
    p = np.asarray(p, float)
    order = np.argsort(p)  # NaN last
    tests_left = np.sum(~np.isnan(p)) - np.arange(len(p))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * tests_left))
    return adjusted


def summarise(results: Sequence[Result]) -> list[Row]:
    """A row a method of a suite, best first; those that lack cells of others come after all that have them.

    A method's rank is one more than how many are significantly better, and never above that of one with a better score:
    Welch's test over the tasks that both have, Holm's correction over all pairs. Where a task has one seed nothing is
    known of the difference: there, order is rank.
    """
    if len(suites := {result.suite for result in results}) > 1:
        raise UserError(f"results of several suites, {', '.join(sorted(suites))}; a summary is of one")
    methods = _by_cell(results)
    union = {cell for cells in methods.values() for cell in cells}
    scores = {method: _scores(cells.values()) for method, cells in methods.items()}
    rows = [_row(method, scores[method], cells, methods.get("bc", {}), union) for method, cells in methods.items()]
    rows.sort(key=lambda row: (row.missing > 0, -row.score.mean, row.method))

    pairs = list(itertools.combinations(range(len(rows)), 2))
    p = dict(zip(pairs, holm([_p_value(scores, rows[above], rows[i]) for above, i in pairs]), strict=True))
    for i in range(1, len(rows)):
        worse_than = sum(not p[above, i] > LEVEL for above in range(i))
        rows[i] = rows[i]._replace(rank=max(rows[i - 1].rank, 1 + worse_than))
    return rows


def _row(method: str, scores: dict[str, np.ndarray], cells: Cells, bc: Cells, union: set[tuple]) -> Row:
    if not scores:
        raise UserError(f"{method} has results only on data as good as the expert's: there is nothing to score")
    per_task = {task: interval([score]) for task, score in scores.items()}
    own = list(cells.values())
    thirds = (
        [cell for cell in own if cell.quality < 1 / 3],
        [cell for cell in own if 1 / 3 <= cell.quality <= 2 / 3],
        [cell for cell in own if cell.quality > 2 / 3],
    )
    over_bc = [probability_of_improvement(cells[cell].score, bc[cell].score) for cell in cells if cell in bc]
    return Row(
        method=method,
        score=interval(list(scores.values())),
        bootstrap=bootstrap(list(scores.values())),
        per_task=per_task,
        thirds=tuple(_mean(list(_scores(part).values())) for part in thirds),
        harm_rate=float(np.mean([interval([cell.gains]).high < 0 for cell in own])),
        worst_task=min(((task, score.mean) for task, score in per_task.items()), key=lambda pair: pair[1]),
        over_bc=float(np.mean(over_bc)) if over_bc else math.nan,
        rank=1,
        tasks=len(scores),
        cells=len(cells),
        missing=len(union - cells.keys()),
        diverged=int(sum(cell.diverged.sum() for cell in own)),
        detectable=minimal_detectable_difference(list(scores.values())),
    )


def _by_cell(results: Sequence[Result]) -> dict[str, Cells]:
    methods: dict[str, Cells] = {}
    first: dict[tuple[str, str, str], dict[str, Any]] = {}
    for result in results:
        name = (result.method, result.task, result.dataset)
        if name in first:
            raise UserError(
                f"{result.method} on {result.task}/{result.dataset} is there twice, with settings {first[name]} and "
                f"{result.settings}; summaries are of suites without swept settings"
            )
        first[name] = result.settings
        cell = (result.task, result.dataset, tuple(sorted(result.settings.items())))
        methods.setdefault(result.method, {})[cell] = result
    return methods


def _scores(cells: Iterable[Result]) -> dict[str, np.ndarray]:
    """SI [S, E] by task, of those with headroom."""
    tasks: dict[str, list[Result]] = {}
    for cell in cells:
        tasks.setdefault(cell.task, []).append(cell)
    scores = {}
    for task, own in tasks.items():
        quality = np.array([cell.quality for cell in own])
        if quality.min() < 1:
            scores[task] = si(quality, [cell.episodes for cell in own])
    return scores


def _p_value(scores: dict[str, dict[str, np.ndarray]], above: Row, row: Row) -> float:
    """Of the difference of two methods over the tasks that both have; NaN where it is not asked or not known."""
    a, b = scores[above.method], scores[row.method]
    both = [task for task in a if task in b]
    if not both or (above.missing > 0) != (row.missing > 0):
        return math.nan
    return difference([a[task] for task in both], [b[task] for task in both])[1]


def of_seeds(group: np.ndarray) -> np.ndarray:
    """[S] or [S, E] -> [S]"""
    return group.reshape(len(group), -1).mean(1)


def _of_episodes(group: np.ndarray) -> float:
    """Variance of a group's mean that comes of its episodes alone; 0 of seeds without them."""
    if group.ndim == 1 or group.shape[1] == 1:
        return 0.0
    return np.var(group.mean(0), ddof=1) / group.shape[1]


def _mean(groups: Sequence[np.ndarray]) -> float:
    """Of the groups' means: tasks count the same, however many seeds they have. NaN without groups."""
    return float(np.mean([np.mean(group) for group in groups])) if len(groups) else math.nan


def _standard_error(groups: Sequence[np.ndarray]) -> tuple[float, float]:
    """Of the sum of the groups' means, and its degrees of freedom (Satterthwaite); NaN if a group has one seed."""
    n = np.array([len(group) for group in groups])
    if n.min() == 1:
        return math.nan, math.nan
    variances = np.array([np.var(of_seeds(group), ddof=1) for group in groups]) / n
    variances = np.maximum(variances, [_of_episodes(group) for group in groups])
    total = variances.sum()
    freedom = total**2 / (variances**2 / (n - 1)).sum() if total > 0 else math.inf
    return math.sqrt(total), float(freedom)


def _around(mean: float, error: float, freedom: float, groups: Sequence[np.ndarray], confidence: float) -> Interval:
    assert 0 < confidence < 1
    reach = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    return Interval(mean, mean - reach, mean + reach, min(map(len, groups)))
