"""Statistics: the SIBench score of a method, and how certain it is.

The SIBench score (SI) of a seed on a task, over datasets k of quality q_k on which its normalised return is y_k (0 is
random, 1 the expert):

    SI = Σ_k w_k (y_k - q_k) / Σ_k w_k max(0, 1 - q_k),     w_k: trapezoid weights on the axis of quality

It is the share of the headroom, over all qualities, that the method turned into return: 0 is as good as the data, 1 the
expert from any data. The score of a method is the mean over tasks of the mean over seeds.

Below, a group is a task: an array [S] of one number per seed, or [S, E] of one per episode. Variances are estimated per
group, because they differ (Welch, Satterthwaite); at 5 seeds these intervals cover at their nominal rate, and the
bootstrap's cover less. Variance estimates are floored at the between-episode sampling variance, because all seeds play
the same E episodes.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats

from sibench.core.errors import UserError
from sibench.learning.results import Result

LEVEL = 0.05
"""Significance level of the tests behind ranks."""

Cells = dict[tuple[Any, ...], Result]
"""Results of a method, by task, dataset and sorted settings."""


class Interval(NamedTuple):
    mean: float
    low: float
    high: float
    seeds: int  # the fewest of any group

    def inside(self, low: float = -math.inf, high: float = math.inf) -> bool | None:
        """Whether the interval lies in a region; None if it crosses an edge or has no ends."""
        if self.low > low and self.high < high:
            return True
        return False if self.high <= low or self.low >= high else None

    def show(self, format: str = "+.2f") -> str:
        """Return `mean [low, high]`."""
        ends = f"{self.low:{format}}, {self.high:{format}}"
        return f"{self.mean:{format}} [{'too few seeds or episodes' if math.isnan(self.low) else ends}]"


class Row(NamedTuple):
    """A method in the table of a suite. Every score is a share, from -inf to 1."""

    method: str
    score: Interval
    bootstrap: Interval  # of the score, as a second opinion
    per_task: dict[str, Interval]  # score on each task
    thirds: tuple[float, float, float]  # score on data of quality < 1/3, up to 2/3, above; NaN without such data
    harm_rate: float  # share of cells whose improvement is significantly negative; 0 with one seed
    worst_task: tuple[str, float]  # and the score there
    over_bc: float  # probability of improvement over BC, mean over the cells that both have; NaN without one
    rank: int
    tasks: int  # number of tasks that the score averages
    cells: int
    missing: int  # cells that other methods have and this one lacks
    diverged: int  # diverged seeds of all cells
    detectable: float  # minimum detectable difference to one pre-specified, equally noisy method at 80 % power


def interval(groups: Sequence[np.ndarray], confidence: float = 0.95) -> Interval:
    """Return the mean over groups of the mean over seeds, and its t interval; NaN if a group has one seed."""
    error, freedom = _standard_error(groups)
    return _around(_mean(groups), error / len(groups), freedom, groups, confidence)


def share_interval(groups: Sequence[np.ndarray]) -> Interval:
    """Return `interval` of shares, within 0 and 1. Shares that do not vary get Wilson's: they are no certainty."""
    groups = [group for group in groups if len(group)]
    if not groups:
        return Interval(math.nan, math.nan, math.nan, 1)
    shares = np.concatenate(groups)
    if np.ptp(shares) == 0:
        return Interval(float(shares[0]), *wilson(round(shares.sum()), len(shares)), len(shares))
    mean = interval(groups)
    return mean._replace(low=max(0.0, mean.low), high=min(1.0, mean.high))


def difference(a: Sequence[np.ndarray], b: Sequence[np.ndarray], confidence: float = 0.95) -> tuple[Interval, float]:
    """Return the mean difference a - b of two methods over the same groups, its t interval and two-sided p value."""
    assert len(a) == len(b)
    mean = math.fsum([*map(np.mean, a), *(-np.mean(group) for group in b)]) / len(a)  # exactly 0 if a is b
    error, freedom = _standard_error([*a, *b])
    error /= len(a)
    p = float(mean == 0) if error == 0 else 2 * float(stats.t.sf(abs(mean) / error, freedom))
    return _around(mean, error, freedom, [*a, *b], confidence), p


def minimum_detectable_difference(groups: Sequence[np.ndarray], power: float = 0.8, confidence: float = 0.95) -> float:
    """Return the difference between two methods, both as noisy as this, that `difference` detects with `power`."""
    error, freedom = _standard_error([*groups, *groups])
    critical = stats.t.ppf((1 + confidence) / 2, freedom)
    # The chance of detecting it with the wrong sign is ignored: it is below 0.0005 for any power above a half.
    return error / len(groups) * float(special.nctdtrinc(freedom, 1 - power, critical)) if error != 0 else 0.0


def bootstrap(groups: Sequence[np.ndarray], confidence: float = 0.95, num: int = 10_000, seed: int = 0) -> Interval:
    """Return `interval` by resampling seeds within groups: percentiles, widened to correct the bias at few seeds."""
    groups = [seed_means(group) for group in groups]
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
    """Return the trapezoid weights [K] of qualities [K]. Equal qualities share a weight; a single one has weight 1."""
    values, where, counts = np.unique(quality, return_inverse=True, return_counts=True)
    gaps = np.diff(values)
    each = (np.append(gaps, 0) + np.append(0, gaps)) / 2 if len(values) > 1 else np.ones(1)
    return (each / counts)[where]


def sibench_score(quality: np.ndarray, returns: Sequence[np.ndarray]) -> np.ndarray:
    """Return the SIBench score of every seed or episode on a task: [K], K x [S] -> [S] or K x [S, E] -> [S, E].

    Seeds beyond the fewest of any dataset are left out. A seed starts from the same weights and draws the same numbers
    on all datasets: its returns there are dependent, so they are summed before variances are estimated.
    """
    weight = weights(quality)
    headroom = weight @ np.maximum(0, 1 - quality)
    if not headroom > 0:
        raise UserError(f"no headroom: no dataset is below the expert (qualities {np.round(quality, 3).tolist()})")
    seeds = min(map(len, returns))
    # a dataset on which all seeds diverged has one value a seed instead of one an episode
    improvement = np.array(np.broadcast_arrays(*(v[:seeds] - q for q, v in zip(quality, returns, strict=True))))
    return np.tensordot(weight, improvement, 1) / headroom


def probability_of_improvement(a: np.ndarray, b: np.ndarray) -> float:
    """Return the probability that a seed of a [S1] is better than one of b [S2]; a tie counts half."""
    a, b = np.asarray(a)[:, None], np.asarray(b)
    return float(np.mean(a > b) + np.mean(a == b) / 2)


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson interval of a probability."""
    low, high = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


def holm(p: Sequence[float]) -> np.ndarray:
    """Return p values adjusted for the number of tests (Holm). NaN is a test that was not made."""
    values = np.asarray(p, float)
    order = np.argsort(values)  # NaN last
    tests_left = np.sum(~np.isnan(values)) - np.arange(len(values))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(values[order] * tests_left))
    return adjusted


def rank_correlation(a: np.ndarray, b: np.ndarray, num: int = 9999) -> tuple[float, float]:
    """Return the correlation of ranks within rows of a and b [T, M], and its p value by shuffling rows of b."""
    a, b = (stats.rankdata(values, axis=1) for values in (a, b))
    shuffled = np.random.default_rng(0).permuted(np.tile(b, (num, 1, 1)), axis=2)
    rho, *others = (float(np.corrcoef(a.ravel(), ranks.ravel())[0, 1]) for ranks in (b, *shuffled))
    return rho, float((1 + np.sum(np.abs(others) >= abs(rho) - 1e-9)) / (1 + num))


def spread_ratio(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return [S] jackknife pseudo-values of log2 of the ratio of two spreads over seeds, averaged over pairs of [S].

    All pairs share their seeds, so each seed is left out of all pairs at once. NaN with fewer than three seeds.
    """
    seeds = min((len(values) for pair in pairs for values in pair), default=0)
    if seeds < 3:
        return np.full(max(1, seeds), math.nan)

    def mean_without(*left_out: int) -> float:
        spreads = [[np.std(np.delete(values[:seeds], left_out), ddof=1) for values in pair] for pair in pairs]
        logs = [math.log2(a / b) for a, b in spreads if a != 0 and b != 0]
        return float(np.mean(logs)) if logs else math.nan

    return np.array([seeds * mean_without() - (seeds - 1) * mean_without(seed) for seed in range(seeds)])


def summarise(results: Sequence[Result]) -> list[Row]:
    """Return one row per method of a suite, best first. Methods that lack cells of others come last.

    A method's rank is one more than the number of methods that are significantly better, and never above that of a
    method with a better score. The test is Welch's over the tasks that both have, with Holm's correction over all
    pairs. Where a task has one seed, differences cannot be tested, and the order is the rank.
    """
    if len(suites := {result.suite for result in results}) > 1:
        raise UserError(f"results of several suites, {', '.join(sorted(suites))}; summarise one suite at a time")
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


def _row(method: str, scores: dict[str, np.ndarray], cells: Cells, bc: Cells, union: set[tuple[Any, ...]]) -> Row:
    if not scores:
        raise UserError(f"{method} has results only on data as good as the expert's, which leaves no headroom to score")
    per_task = {task: interval([score]) for task, score in scores.items()}
    results, thirds = list(cells.values()), ([], [], [])
    for cell in results:
        thirds[(cell.quality >= 1 / 3) + (cell.quality > 2 / 3)].append(cell)
    low, middle, high = (_mean(list(_scores(third).values())) for third in thirds)
    over_bc = [probability_of_improvement(cells[cell].score, bc[cell].score) for cell in cells if cell in bc]
    return Row(
        method=method,
        score=interval(list(scores.values())),
        bootstrap=bootstrap(list(scores.values())),
        per_task=per_task,
        thirds=(low, middle, high),
        harm_rate=float(np.mean([interval([cell.gains]).high < 0 for cell in results])),
        worst_task=min(((task, score.mean) for task, score in per_task.items()), key=lambda pair: pair[1]),
        over_bc=float(np.mean(over_bc)) if over_bc else math.nan,
        rank=1,
        tasks=len(scores),
        cells=len(cells),
        missing=len(union - cells.keys()),
        diverged=int(sum(cell.diverged.sum() for cell in results)),
        detectable=minimum_detectable_difference(list(scores.values())),
    )


def _by_cell(results: Sequence[Result]) -> dict[str, Cells]:
    methods: dict[str, Cells] = {}
    first: dict[tuple[str, str, str], Result] = {}
    for result in results:
        if (other := first.setdefault((result.method, result.task, result.dataset), result)) is not result:
            raise UserError(
                f"{result.method} on {result.task}/{result.dataset} occurs twice, with settings {other.settings} and "
                f"{result.settings}; suites with swept settings have no summary"
            )
        cell = (result.task, result.dataset, tuple(sorted(result.settings.items())))
        methods.setdefault(result.method, {})[cell] = result
    return methods


def _scores(cells: Iterable[Result]) -> dict[str, np.ndarray]:
    """Return the score [S, E] on each task that has headroom."""
    tasks: dict[str, list[Result]] = {}
    for cell in cells:
        tasks.setdefault(cell.task, []).append(cell)
    return {
        task: sibench_score(np.array([cell.quality for cell in group]), [cell.episodes for cell in group])
        for task, group in tasks.items()
        if min(cell.quality for cell in group) < 1
    }


def _p_value(scores: dict[str, dict[str, np.ndarray]], above: Row, row: Row) -> float:
    """Return the p value of the difference over common tasks; NaN without any, or if just one method lacks cells."""
    a, b = scores[above.method], scores[row.method]
    both = [task for task in a if task in b]
    if not both or (above.missing > 0) != (row.missing > 0):
        return math.nan
    return difference([a[task] for task in both], [b[task] for task in both])[1]


def seed_means(group: np.ndarray) -> np.ndarray:
    """Return the mean of every seed: [S] or [S, E] -> [S]."""
    return group.reshape(len(group), -1).mean(1)


def _mean(groups: Sequence[np.ndarray]) -> float:
    """Return the mean of the groups' means, so that tasks count the same whatever their seeds; NaN without groups."""
    return float(np.mean([np.mean(group) for group in groups])) if len(groups) else math.nan


def _standard_error(groups: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the standard error of the sum of the groups' means, and its degrees of freedom; NaN with single seeds."""
    n = np.array([len(group) for group in groups])
    if n.min() == 1:
        return math.nan, math.nan
    variances = np.array([np.var(seed_means(group), ddof=1) for group in groups]) / n
    episodes = [group.mean(0) for group in groups]  # a number if there are none
    variances = np.maximum(variances, [np.var(each, ddof=1) / each.size if each.size > 1 else 0.0 for each in episodes])
    total = variances.sum()
    freedom = total**2 / (variances**2 / (n - 1)).sum() if total > 0 else math.inf
    return math.sqrt(total), float(freedom)


def _around(mean: float, error: float, freedom: float, groups: Sequence[np.ndarray], confidence: float) -> Interval:
    assert 0 < confidence < 1
    reach = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    return Interval(mean, mean - reach, mean + reach, min(map(len, groups)))
