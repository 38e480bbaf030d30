"""What figures and claims read off results: what kind they are, whether BC learned the data, what came of a chain."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from sibench import stats, tasks
from sibench.errors import UserError
from sibench.ids import twin
from sibench.results import GAP, LOSS, Result
from sibench.suites import MANIPULATION

Place = tuple[str, str, int, int, tuple[int, ...], bool]
"""What a method learned from, and how: task, dataset, updates, batch, network, whether it went on from its own data."""

FEWEST = 20
"""Episodes during training that say how good a policy is."""


def kind(dataset: str, settings: Iterable[str] = (), is_chain: bool = False) -> str:
    """`ladder`, `mix`, or `chain` of self-improvement; of a sweep what is swept, `temperature` or `mix+temperature`."""
    data, swept = dataset.split("-")[0].replace("bc", "ladder"), sorted(settings)
    if is_chain:
        return "chain"
    return "+".join(["mix"] * (data == "mix") + swept) if swept else data


def kind_of(result: Result) -> str:
    return kind(result.dataset, result.settings, "chain" in result.raw)


def number(dataset: str) -> int:
    """The d of bc-<d>, the e of mix-<e>."""
    return int(dataset.split("-")[1])


def refuse_repeats(results: Iterable[Result], flag: str) -> None:
    """A cell that two suites have; `flag` is what chooses suites."""
    seen = {}
    for result in results:
        cell = (kind_of(result), result.task, result.method, number(result.dataset))
        cell += tuple(sorted(result.settings.items()))
        if (other := seen.setdefault(cell, result)) is not result:
            raise UserError(
                f"{result.method} on {result.task}/{result.dataset} is in both {other.suite} and {result.suite}; "
                f"choose one of them with {flag}"
            )


def place(result: Result) -> Place:
    return result.task, result.dataset, *trained(result), "chain" in result.raw


def trained(result: Result) -> tuple[int, int, tuple[int, ...]]:
    """Updates, batch, network: results that differ in it cannot be compared."""
    config = result.raw["config"]
    return config["steps"], config["batch_size"], tuple(config["hidden"])


def converged_places(results: Iterable[Result]) -> set[Place]:
    """Where BC has learned its data; nothing follows from a comparison elsewhere."""
    return {place(result) for result in results if result.method == "bc" and _converged(result)}


def _converged(result: Result) -> bool:
    """In a chain: on the data of every iteration."""
    if "chain" not in result.raw:
        return result.converged
    numbers = ("nll", "teacher_nll", "score", "data_quality")
    rows = [[np.array(row[name], float) for name in numbers] for row in result.raw["chain"]]
    most = GAP * result.action_size
    return all((nll - teacher).mean() < most and (score - data).mean() > -LOSS for nll, teacher, score, data in rows)


def si(results: Sequence[Result], scores: Callable[[Result], np.ndarray] = lambda one: one.episodes) -> np.ndarray:
    """[S, E], the SIBench score of every episode of a method on a task, or that of other scores."""
    return stats.si(np.array([result.quality for result in results]), [scores(result) for result in results])


def last_tenth(result: Result, fewest: int = FEWEST) -> np.ndarray:
    """[S], what the paper reports: the mean score of evaluations in the last tenth of training (manipulation: half).

    NaN of fewer episodes, which say more of themselves than of the policy.
    """
    scores = np.zeros(len(result.score))  # of a seed that diverged: random's
    for seed, returns in enumerate(played_late(result)):
        if not result.diverged[seed]:
            known = returns.size >= fewest
            scores[seed] = tasks.quality(result.task, np.mean(returns)) if known else np.nan
    return scores


def played_late(result: Result) -> list[np.ndarray]:
    """The returns of these evaluations, of every seed."""
    skipped = 0.5 if twin(result.task) in MANIPULATION else 0.9
    since = result.raw["num_pretrain"] + skipped * result.raw["config"]["steps"]
    curves = (lane["evaluations"] for lane in result.raw["lanes"])
    return [np.array([e["returns"] for e in curve if e["updates"] > since and e["returns"]]) for curve in curves]


def chain(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """[K, S] quality of the data of every iteration, [K, S] score of the policy learned from it."""
    rows = result.raw["chain"]
    return np.array([row["data_quality"] for row in rows]), np.array([row["score"] for row in rows])


def outcome(result: Result) -> np.ndarray:
    """[S], the mean score in the last quarter of the iterations."""
    return chain(result)[1][-quarter(result) :].mean(0)


def quarter(result: Result) -> int:
    """Iterations in a quarter of them all."""
    return max(1, len(result.raw["chain"]) // 4)


def gain(result: Result) -> np.ndarray:
    """[S], how much better that is than the data that it began with."""
    return outcome(result) - chain(result)[0][0]


def crossing(results: Sequence[Result]) -> tuple[np.ndarray, float, float]:
    """[S], where improvement first falls to 0, on lines between qualities; and the two that it surely lies between."""
    results = sorted(results, key=lambda result: result.quality)
    quality = np.array([-np.inf, *(result.quality for result in results), np.inf])
    seeds = min(len(result.score) for result in results)
    where, ends = [], []
    for improvement in np.array([result.improvement[:seeds] for result in results]).T:
        better = np.array([np.nan, *improvement, np.nan])
        k = next((k for k, value in enumerate(better) if value <= 0), len(better) - 1)
        between = np.interp(0, -better[k - 1 : k + 1], quality[k - 1 : k + 1])
        where.append(between if 1 < k < len(better) - 1 else quality[max(1, min(k, len(results)))])
        ends.append(quality[k - 1 : k + 1])
    return np.array(where), np.min(ends), np.max(ends)
