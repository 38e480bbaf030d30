"""What figures and claims read from results.

A result is of a kind: `ladder`, `mix`, a sweep, or a `chain`, which is a run of self-improvement over several rounds.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sibench import tasks
from sibench.analysis import stats
from sibench.bench.suites import MANIPULATION, TASKS, Cell
from sibench.core.errors import UserError
from sibench.core.ids import MIXES
from sibench.learning.results import Result

Place = tuple[str, str, int, int, tuple[int, ...], bool]
"""What a method learned from, and how: task, dataset, updates, batch size, network, whether in rounds."""

MIN_EPISODES = 20
"""Fewest evaluation episodes during training from which a policy is judged."""


def kind(dataset: str, settings: Iterable[str] = (), is_chain: bool = False) -> str:
    """Return `ladder`, `mix` or `chain`; for a sweep what is swept, such as `temperature` or `mix+temperature`."""
    data, swept = dataset.split("-")[0].replace("bc", "ladder"), sorted(settings)
    if is_chain:
        return "chain"
    return "+".join(["mix"] * (data == "mix") + swept) if swept else data


def kind_of(result: Result) -> str:
    return kind(result.dataset, result.settings, bool(result.rounds))


def number(dataset: str) -> int:
    """Return the d of `bc-<d>`, the e of `mix-<e>`."""
    return int(dataset.split("-")[1])


class Need(NamedTuple):
    """Results that belong together: of a kind, of some methods on some tasks."""

    kind: str
    methods: tuple[str, ...]
    tasks: tuple[str, ...] = TASKS
    numbers: tuple[int, ...] = ()  # of the datasets; all if empty
    settings: tuple[tuple[str, float], ...] = ()  # that a cell has, among others

    def covers(self, kind: str, cell: Cell | Result) -> bool:
        """Whether a cell is needed, on whatever task."""
        named = kind == self.kind and cell.method in self.methods
        numbered = not self.numbers or number(cell.dataset) in self.numbers
        return named and numbered and dict(self.settings).items() <= dict(cell.settings).items()

    def select(self, results: Iterable[Result], *names: str) -> list[Result]:
        """Return the needed results on these tasks, or on all, in order of quality."""
        on_tasks = (result for result in results if result.task in (names or self.tasks))
        needed = (result for result in on_tasks if self.covers(kind_of(result), result))
        return sorted(needed, key=lambda result: result.quality)

    def paper_levels(self, task: str) -> tuple[int, ...]:
        """Return the numbers of the paper's datasets; none for chains, which may start from any data."""
        if self.numbers or self.kind == "chain":
            return self.numbers
        return MIXES if self.kind.split("+")[0] == "mix" else tasks.task_type(task).ladder


def cell_name(result: Result) -> str:
    return Cell(result.task, result.method, result.dataset, tuple(sorted(result.settings.items()))).name


def tasks_of(results: Iterable[Result], names: Sequence[str] = TASKS) -> list[str]:
    """Return those of these tasks that have results."""
    run = {result.task for result in results}
    return [task for task in names if task in run]


def files_of(results: Sequence[Result]) -> str:
    """Return the files of results, in short."""
    parts = []
    for suite in dict.fromkeys(result.suite for result in results):
        group = [result for result in results if result.suite == suite]
        columns = (dict.fromkeys(result.task for result in group), dict.fromkeys(result.method for result in group))
        task, method = (f"{{{','.join(names)}}}" if len(names) > 1 else next(iter(names)) for names in columns)
        parts.append(f"{suite}/{task}/{method}-*.json, {len(group)} files")
    return "; ".join(parts)


def refuse_repeats(results: Iterable[Result], flag: str) -> None:
    """Raise `UserError` if two suites have the same cell; `flag` is the flag that chooses suites."""
    first: dict[tuple[Any, ...], Result] = {}
    for result in results:
        cell = (kind_of(result), result.task, result.method, number(result.dataset), *sorted(result.settings.items()))
        if (other := first.setdefault(cell, result)) is not result:
            raise UserError(
                f"{result.method} on {result.task}/{result.dataset} is in both {other.suite} and {result.suite}; "
                f"choose one of them with {flag}"
            )


def place(result: Result) -> Place:
    return result.task, result.dataset, *trained(result), bool(result.rounds)


def trained(result: Result) -> tuple[int, int, tuple[int, ...]]:
    """Return updates, batch size and network. Results that differ in them cannot be compared."""
    settings = _settings(result)
    return settings["steps"], settings["batch_size"], tuple(settings["hidden"])


def converged_places(results: Iterable[Result]) -> set[Place]:
    """Return the places where BC has converged. Comparisons elsewhere are not interpreted."""
    return {place(result) for result in results if result.method == "bc" and result.converged}


def keeps_headroom(results: Iterable[Result], good: set[Place]) -> bool:
    """Whether at least half of the headroom is in good places, for each task and kind of data."""
    groups: dict[tuple[str, str], dict[Place, float]] = {}
    for result in results:
        groups.setdefault((result.task, kind_of(result)), {})[place(result)] = result.quality
    for places in groups.values():
        quality = np.array(list(places.values()))
        headroom = stats.weights(quality) * np.maximum(0, 1 - quality)
        left = headroom[[place in good for place in places]].sum()
        if left == 0 or left < headroom.sum() / 2:
            return False
    return True


def sibench_score(
    results: Sequence[Result], values: Callable[[Result], np.ndarray] = lambda result: result.episodes
) -> np.ndarray:
    """Return the SIBench score of a method on a task, for every episode [S, E], or from other normalised returns."""
    return stats.sibench_score(np.array([result.quality for result in results]), [values(result) for result in results])


def last_tenth(result: Result, min_episodes: int = MIN_EPISODES) -> np.ndarray:
    """Return [S] what the paper reports: the mean normalised return of evaluations in the last tenth of training.

    For manipulation it is the last half. NaN for a seed with too few episodes, 0 for one that diverged.
    """
    late = [
        tasks.quality(result.task, np.mean(returns)) if returns.size >= min_episodes else np.nan
        for returns in played_late(result)
    ]
    return np.where(result.diverged, 0.0, late)


def played_late(result: Result) -> list[np.ndarray]:
    """Return the returns of the evaluations that `last_tenth` averages, for every seed."""
    assert result.origin is not None
    skipped = 0.5 if tasks.state_twin(result.task) in MANIPULATION else 0.9
    start = result.origin.pretrain_updates + skipped * _settings(result)["steps"]
    return [
        np.array([late.returns for late in seed.evaluations if late.updates > start and late.returns])
        for seed in result.seeds
    ]


def chain(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """Return the quality of the data of every round [K, S], and the normalised return of its policy [K, S]."""
    rounds = result.rounds
    return np.array([entry.data_quality for entry in rounds]), np.array([entry.score for entry in rounds])


def outcome(result: Result) -> np.ndarray:
    """Return [S] the mean normalised return in the last quarter of the rounds."""
    return chain(result)[1][-quarter(result) :].mean(0)


def quarter(result: Result) -> int:
    """Return a quarter of the number of rounds."""
    return max(1, len(result.rounds) // 4)


def gain(result: Result) -> np.ndarray:
    """Return [S] the outcome minus the quality of the first round's data."""
    return outcome(result) - chain(result)[0][0]


def late_rise(result: Result) -> np.ndarray:
    """Return [S] the outcome minus the mean normalised return in the third quarter of the rounds."""
    num = quarter(result)
    return outcome(result) - chain(result)[1][-2 * num : -num].mean(0)


def over_chains(value: Callable[[Result], np.ndarray]) -> Callable[[Sequence[Result]], np.ndarray]:
    """Average a value over the chains of a task, which start from different data."""
    return lambda results: np.mean([value(result) for result in results], 0)


def final_return(chains: Sequence[Result]) -> np.ndarray:
    """Return [S] the mean return in the last quarter of the rounds of a task's chains."""
    return to_return(over_chains(outcome)(chains), chains[0].task)


def slope(results: Sequence[Result]) -> np.ndarray:
    """Return [S] the slope of improvement over quality; NaN of a single dataset."""
    seeds = min(len(result.seeds) for result in results)
    if len(results) < 2:
        return np.full(seeds, np.nan)
    improvement = [result.improvement[:seeds] for result in results]
    return np.polyfit([result.quality for result in results], improvement, 1)[0]


def late_spreads(results: Sequence[Result], others: Sequence[Result]) -> np.ndarray:
    """Return `stats.spread_ratio` of results late in training to other results, dataset by dataset."""
    return stats.spread_ratio([(last_tenth(a), last_tenth(b)) for a, b in zip(results, others, strict=True)])


def final_spreads(*results: Sequence[Result]) -> np.ndarray:
    """Return `stats.spread_ratio` of final policies to the same policies late in training."""
    return stats.spread_ratio([(result.score, last_tenth(result)) for group in results for result in group])


def to_return(quality: Any, task: str) -> Any:
    """Return the return that scales to this quality: the inverse of `tasks.quality`."""
    references = tasks.references(task)
    assert references is not None, f"{task} has no reference returns"
    random, expert = references["random"]["mean"], references["expert"]["mean"]
    return random + quality * (expert - random)


def crossing(results: Sequence[Result]) -> tuple[np.ndarray, float, float]:
    """Return [S] the quality at which improvement first falls to 0, and two qualities that it surely lies between.

    Improvement is interpolated between datasets.
    """
    results = sorted(results, key=lambda result: result.quality)
    quality = np.array([-np.inf, *(result.quality for result in results), np.inf])
    seeds = min(len(result.seeds) for result in results)
    where, ends = [], []
    for improvement in np.array([result.improvement[:seeds] for result in results]).T:
        padded = np.array([np.nan, *improvement, np.nan])
        k = next((k for k, value in enumerate(padded) if value <= 0), len(padded) - 1)
        between = np.interp(0, -padded[k - 1 : k + 1], quality[k - 1 : k + 1])
        where.append(between if 1 < k < len(padded) - 1 else quality[max(1, min(k, len(results)))])
        ends.append(quality[k - 1 : k + 1])
    return np.array(where), float(np.min(ends)), float(np.max(ends))


def _settings(result: Result) -> dict[str, Any]:
    assert result.identity is not None, "entries of a submission have no settings"
    return result.identity.settings
