"""The checkable statements of *Value from Observations* (arXiv 2507.06701), and the test each of them is put to."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from sibench import stats, tasks
from sibench.evidence import chain, crossing, gain, last_tenth, outcome, quarter, si
from sibench.judging import (
    Measure,
    Need,
    Test,
    Truth,
    all_of,
    every,
    inside,
    lead,
    mean_of,
    minus,
    of_chains,
    on_average,
    on_each,
    region,
    score,
    share,
    show,
    spell,
    there,
)
from sibench.results import Result
from sibench.stats import Interval
from sibench.suites import IMAGES, MANIPULATION, TASKS

CLOSE = 0.1
"""Scores that differ by less are on par."""
BRACKET = (1500, 2000)
"""Returns between which the paper sees VfO-bin's improvement on hopper end."""
ROOMY = f"cells with headroom of at least {CLOSE:g}"
VFO, DUAL = ("vfo-bin", "vfo-disc"), ("smodice-kl", "dilo")
NOT_HOPPER = ("halfcheetah", "walker2d", "ant")
CHAINED = ("bco", "vfo-bin", "awr", "smodice-kl", "dilo")
FEW_OF_MANY = (100, 200, 300)
LOWER = (1, 2, 5, 20)
TEMPERATURES, MIXTURES = (0.1, 0.3, 1.0, 3.0, 10.0), (0.1, 0.3, 0.5, 0.7, 0.9)


class Claim(NamedTuple):
    id: str
    where: str
    statement: str
    test: Test | str  # a test, or why there is none


# --- section 4.3: SIBench ---------------------------------------------------------------------------------------------


def worst_on(task: str, method: str) -> Test:
    need = Need("ladder", (method,))
    others = [other for other in TASKS if other != task]

    def judge(found: Sequence[Result]) -> tuple[Truth, str]:
        here, *elsewhere = (si(need.of(found, method, name)) for name in (task, *others))
        gaps = [stats.difference([here], [score])[0] for score in elsewhere]
        told = ", ".join(f"than {other} {show(gap)}" for other, gap in zip(others, gaps, strict=True))
        return every(inside(gap, high=0) for gap in gaps), told

    return Test(f"SI of {method} on {task} minus that on each other task below 0", (need,), judge, least=len(TASKS))


def improves_rarely(method: str) -> Test:
    need = Need("ladder", (method,))

    def of(found: Sequence[Result]) -> list[Truth]:
        return [improves(result) for task in there(found) for result in roomy(need.of(found, method, task))]

    return share(f"{ROOMY} in which {method} improves", [need], of, at_most=0.1)


def roomy(results: Sequence[Result]) -> list[Result]:
    """Those on data that leaves room for improvement, for most of the ladder's does not."""
    return [result for result in results if result.quality <= 1 - CLOSE]


def improves(result: Result) -> Truth:
    return inside(stats.interval([result.gains]), low=0)


def keeps_up(at_least: float) -> Test:
    need = Need("ladder", (*VFO, "awr"))

    def of(found: Sequence[Result]) -> list[Truth]:
        gaps = [
            stats.difference([vfo.episodes], [awr.episodes])[0]
            for task in there(found)
            for method in VFO
            for vfo, awr in zip(*(need.of(found, one, task) for one in (method, "awr")), strict=True)
        ]
        return [inside(gap, low=-CLOSE) for gap in gaps]

    return share(f"cells in which the score of VfO minus that of awr is above {-CLOSE:g}", [need], of, at_least)


def close_to_awr(id: str, task: str, method: str) -> Claim:
    statement = f"On {task}, {method} gets close to AWR over the whole spectrum"
    return Claim(id, "section 4.3, figure 2", statement, on_each(lead(method, "awr"), -CLOSE, CLOSE, [task]))


SIBENCH = (
    Claim(
        "4.3a",
        "figures 2, 10",
        "AWR, VfO-disc and VfO-bin all show good improvement",
        all_of(
            "SI of each above 0, mean over tasks",
            {method: on_average(score(method), low=0) for method in ("awr", *VFO)},
        ),
    ),
    Claim(
        "4.3b",
        "figures 2, 10",
        "The oracle AWR performs best",
        all_of(
            "SI of awr minus that of each other method above 0, mean over tasks",
            {other: on_average(lead("awr", other), low=0) for other in (*VFO, *DUAL, "bco", "bc")},
        ),
    ),
    close_to_awr("4.3c", "ant", "vfo-bin"),
    close_to_awr("4.3d", "ant", "vfo-disc"),
    close_to_awr("4.3e", "halfcheetah", "vfo-bin"),
    close_to_awr("4.3f", "halfcheetah", "vfo-disc"),
    close_to_awr("4.3g", "walker2d", "vfo-disc"),
    Claim(
        "4.3h",
        "section 4.3, figure 2",
        "On walker2d, VfO-disc is better than VfO-bin",
        on_each(lead("vfo-disc", "vfo-bin"), low=0, where=["walker2d"]),
    ),
    Claim(
        "4.3i",
        "section 4.3",
        "All methods underperform on hopper",
        all_of(
            "SI on hopper minus that on each other task below 0, of awr and VfO",
            {method: worst_on("hopper", method) for method in ("awr", *VFO)},
        ),
    ),
    Claim("4.3j", "section 4.3, figure 2", "SMODICE only rarely improves on the data", improves_rarely("smodice-kl")),
    Claim("4.3k", "section 4.3, figure 2", "DILO only rarely improves on the data", improves_rarely("dilo")),
    Claim(
        "4.3l",
        "section 4.3",
        "SMODICE and DILO clearly underperform, on all tasks",
        all_of(
            "SI of each minus that of each VfO below 0 on each task",
            {f"{poor} minus {vfo}": on_each(lead(poor, vfo), high=0) for poor in DUAL for vfo in VFO},
        ),
    ),
    Claim("4.3m", "section 4.3", "VfO is close to the oracle in many settings", keeps_up(0.5)),
    Claim(
        "4.3n",
        "figure 2 (its premise)",
        "BC reproduces its data",
        on_each(score("bc"), -CLOSE, CLOSE)._replace(everywhere=True),
    ),
    Claim("6", "section 6", "VfO is competitive with AWR in nearly all experiments", keeps_up(0.8)),
)


# --- section 4.4: bimodal data ----------------------------------------------------------------------------------------


def expert_from(mix: int) -> Test:
    need = Need("mix", ("dilo",), numbers=(mix,))

    def of(found: Sequence[Result]) -> list[Truth]:
        cells = [result for task in there(found) for result in need.of(found, "dilo", task)]
        return [inside(stats.interval([cell.episodes]), low=1 - CLOSE) for cell in cells]

    words = f"tasks on which dilo scores above {1 - CLOSE:g} with {mix} expert episodes"
    return share(words, [need], of, 0.75)._replace(least=2)


def falls(method: str) -> Measure:
    """With ever better data."""
    need = Need("mix", (method,), numbers=tuple(range(200, 1001, 100)))

    def of(results: list[Result]) -> np.ndarray:
        seeds = min(len(result.score) for result in results)
        improvement = [result.improvement[:seeds] for result in results]
        if len(results) < 2:
            return np.full(seeds, np.nan)
        return np.polyfit([result.quality for result in results], improvement, 1)[0]

    return mean_of(f"slope of {method}'s improvement over quality", need, of)


BIMODAL = (
    *(
        Claim(
            id,
            "section 4.4, figures 4, 12",
            f"{method} improves strongly on a few expert episodes among random ones",
            on_average(score(method, "mix", FEW_OF_MANY), low=0.5),
        )
        for id, method in (("4.4a", "dilo"), ("4.4b", "smodice-kl"))
    ),
    Claim("4.4c", "section 4.4", "DILO reaches the expert from 200 expert episodes on most tasks", expert_from(200)),
    Claim(
        "4.4d",
        "section 4.4",
        "The improvement of DILO and SMODICE then falls with better data",
        all_of(
            "slope of improvement over quality, from 200 expert episodes on, below 0, mean over tasks",
            {method: on_average(falls(method), high=0) for method in DUAL},
        ),
    ),
    *(
        Claim(
            id,
            "section 4.4, figure 4",
            f"{method} is worse than BC on bimodal data",
            on_average(lead(method, "bc", "mix"), high=0),
        )
        for id, method in (("4.4e", "vfo-bin"), ("4.4f", "vfo-disc"))
    ),
    Claim("4.4g", "section 4.4", "BC itself improves on bimodal data", on_average(score("bc", "mix"), low=0)),
    Claim(
        "4.4h",
        "sections 1, 4.4",
        "Who wins depends on the data: VfO on SIBench's, DILO on bimodal",
        all_of(
            "SI of vfo-bin minus dilo above 0 on the ladder and below 0 on bimodal data, mean over tasks",
            {
                "ladder": on_average(lead("vfo-bin", "dilo"), low=0),
                "bimodal": on_average(lead("vfo-bin", "dilo", "mix"), high=0),
            },
        ),
    ),
    Claim(
        "B.a",
        "appendix B",
        "DILO is the strongest baseline on bimodal data",
        all_of(
            "SI of dilo minus that of each other baseline above 0, mean over tasks",
            {other: on_average(lead("dilo", other, "mix"), low=0) for other in ("smodice-kl", "bco", "bc")},
        ),
    ),
    Claim(
        "4.4i",
        "section 4.4",
        "Lower temperatures make VfO-bin unstable on bimodal data",
        on_average(
            minus(
                "SI of vfo-bin at temperature 0.1 minus that at 1 with 100 to 300 expert episodes",
                Need("mix+temperature", ("vfo-bin",), numbers=FEW_OF_MANY, settings=(("temperature", 0.1),)),
                Need("mix", ("vfo-bin",), numbers=FEW_OF_MANY),
            ),
            high=0,
        ),
    ),
)


# --- section 4.6: self-improvement ------------------------------------------------------------------------------------


def climbs(method: str, where: Sequence[str]) -> Test:
    need = Need("chain", (method,), tuple(where))

    def of(found: Sequence[Result]) -> list[Truth]:
        chains = [chain(result) for task in there(found, where) for result in need.of(found, method, task)]
        return [bool(better) for data, policy in chains for better in (policy > data).flat]

    return share(f"iterations in which {method} is better than its data on {spell(where)}", [need], of, 0.75)


def first_gain(results: list[Result]) -> np.ndarray:
    return gain(results[0])


def late_rise(result: Result) -> np.ndarray:
    num = quarter(result)
    return outcome(result) - chain(result)[1][-2 * num : -num].mean(0)


def to_return(quality: np.ndarray, task: str) -> np.ndarray:
    known = tasks.references(task)
    return known["random"]["mean"] + quality * (known["expert"]["mean"] - known["random"]["mean"])


def crosses_on_hopper() -> Test:
    need = Need("ladder", ("vfo-bin",), ("hopper",))

    def judge(found: Sequence[Result]) -> tuple[Truth, str]:
        where, *ends = crossing(need.of(found, "vfo-bin", "hopper"))
        interval = stats.interval([to_return(where, "hopper")])
        low, high = to_return(np.array(ends), "hopper")
        told = f"{show(interval)}, on lines between data of {low:.0f} and {high:.0f}"
        return fails_surely(inside(interval, *BRACKET), low, high, *BRACKET), told

    return Test(f"return at which vfo-bin's improvement crosses zero {region(*BRACKET)}", (need,), judge)


def fails_surely(truth: Truth, lowest: float, highest: float, low: float, high: float) -> Truth:
    """A crossing on a line between distant data refutes nothing that the data leaves open."""
    return None if truth is False and lowest < high and highest > low else truth


def end_on_hopper(results: list[Result]) -> np.ndarray:
    return to_return(of_chains(outcome)(results), "hopper")


def ends_at_zero() -> Test:
    proxy, real = (Need(kind, ("vfo-bin",), ("hopper",)) for kind in ("ladder", "chain"))
    limit = BRACKET[1] - BRACKET[0]

    def judge(found: Sequence[Result]) -> tuple[Truth, str]:
        end = end_on_hopper(real.of(found, "vfo-bin", "hopper"))
        where, *ends = crossing(proxy.of(found, "vfo-bin", "hopper"))
        low, high = to_return(np.array(ends), "hopper")
        gap, at = stats.difference([end], [to_return(where, "hopper")])[0], stats.interval([end])
        return fails_surely(inside(gap, -limit, limit), at.low - high, at.high - low, -limit, limit), show(gap)

    return Test(f"the one return minus the other within ±{limit}", (proxy, real), judge)


def follows_proxy(where: Sequence[str] = TASKS, methods: tuple[str, ...] = CHAINED) -> Test:
    proxy, real = (Need(kind, methods, tuple(where)) for kind in ("ladder", "chain"))

    def of(found: Sequence[Result]) -> list[Truth]:
        chains = []
        for task in there(found, where):
            for method in methods:
                better = [one.dataset for one in proxy.of(found, method, task) if improves(one)]
                chains += [one for one in real.of(found, method, task) if one.dataset in better]
        return [inside(stats.interval([gain(one)]), low=0) for one in chains]

    words = "chains whose gain is above 0, of those that begin with data that the method improves on"
    words += "" if where is TASKS else f", on {spell(where)}"
    return share(words, [proxy, real], of, at_least=1.0)


def proxy_ranks() -> Test:
    methods = ("bc", *CHAINED)
    proxy, real = Need("ladder", methods), Need("chain", methods)

    def judge(found: Sequence[Result]) -> tuple[Truth, str]:
        where = there(found)
        foretold = [[si(proxy.of(found, method, task)).mean() for method in methods] for task in where]
        came = [[of_chains(gain)(real.of(found, method, task)).mean() for method in methods] for task in where]
        rho, p = ranked_alike(np.array(foretold), np.array(came))
        return bool(rho > 0) if p < stats.LEVEL else None, f"{rho:.2f}, p = {p:.2g}, on {len(where)} tasks"

    words = f"correlation of the ranks of SI and gain, over methods within tasks, above 0 with p < {stats.LEVEL}"
    return Test(words, (proxy, real), judge, least=2)


def ranked_alike(a: np.ndarray, b: np.ndarray, num: int = 9999) -> tuple[float, float]:
    """Of [T, M] and [T, M], the correlation of ranks within rows, and its p: how often a shuffled row has as much."""
    a, b = (scipy.stats.rankdata(values, axis=1) for values in (a, b))
    shuffled = np.random.default_rng(0).permuted(np.tile(b, (num, 1, 1)), axis=2)
    rho, *others = (np.corrcoef(a.ravel(), one.ravel())[0, 1] for one in (b, *shuffled))
    return rho, (1 + np.sum(np.abs(others) >= abs(rho) - 1e-9)) / (1 + num)


SELF_IMPROVEMENT = (
    *(
        Claim(
            id,
            "section 4.6, figures 6, 14",
            f"Self-improvement by {method} gives strong results",
            on_each(mean_of(f"gain of {method} from the worst data", Need("chain", (method,)), first_gain), low=0),
        )
        for id, method in (("4.6a", "vfo-bin"), ("4.6b", "awr"))
    ),
    Claim("4.6c", "section 4.6, figure 6", "It is consistent, a saw-tooth", climbs("vfo-bin", NOT_HOPPER)),
    Claim(
        "4.6d",
        "section 4.6",
        "On ant, halfcheetah and walker2d it has not converged after 20 iterations",
        on_each(
            mean_of(
                "mean score of vfo-bin in the last quarter of the iterations minus that in the third",
                Need("chain", ("vfo-bin",)),
                of_chains(late_rise),
            ),
            low=0,
            where=NOT_HOPPER,
        ),
    ),
    Claim(
        "4.6e",
        "section 4.6, figure 2",
        "On hopper, VfO-bin improves on data of up to 1500 to 2000 only",
        crosses_on_hopper(),
    ),
    Claim(
        "4.6f",
        "section 4.6, figure 6",
        "On hopper, VfO-bin's self-improvement ends between 1500 and 2000",
        on_each(
            mean_of("return in the last quarter of the iterations", Need("chain", ("vfo-bin",)), end_on_hopper),
            *BRACKET,
            ["hopper"],
        ),
    ),
    Claim("4.6g", "section 4.6", "On hopper, it ends where the improvement crosses zero", ends_at_zero()),
    Claim("4.6h", "section 4.6", "Improvement on SIBench means self-improvement", follows_proxy()),
    Claim("F", "appendix F, figure 14", "What does badly on SIBench does badly in self-improvement", proxy_ranks()),
    Claim(
        "4.6i",
        "section 4.6",
        "VfO-bin clearly outperforms SMODICE in self-improvement",
        on_each(lead("vfo-bin", "smodice-kl", "chain"), low=0),
    ),
    Claim(
        "4.6j",
        "section 4.6",
        "VfO-bin is similar to AWR in self-improvement, in all settings",
        on_each(lead("vfo-bin", "awr", "chain"), -CLOSE, CLOSE),
    ),
)


# --- appendices A, B, D and G: settings -------------------------------------------------------------------------------


def wide_range(method: str, kind: str, **fixed: float) -> Test:
    scores = [score(method, kind, temperature=value, **fixed) for value in TEMPERATURES]

    def judge(found: Sequence[Result]) -> tuple[Truth, str]:
        intervals = [measure.of(found, there(found)) for measure in scores]
        truths = [inside(interval, low=0) for interval in intervals]
        sure, perhaps = longest([truth is True for truth in truths]), longest([truth is not False for truth in truths])
        told = ", ".join(f"{value:g} {show(interval)}" for value, interval in zip(TEMPERATURES, intervals, strict=True))
        return True if sure >= 3 else None if perhaps >= 3 else False, told

    words = f"SI of {method}, mean over tasks, above 0 at three or more neighbouring temperatures"
    return Test(words, tuple(need for measure in scores for need in measure.needs), judge, least=2)


def longest(truths: Sequence[bool]) -> int:
    """Run of True."""
    return max(map(len, "".join("x" if truth else " " for truth in truths).split()), default=0)


SETTINGS = (
    Claim(
        "A",
        "appendix A",
        "Valuing a terminal step as if its reward went on for ever helps (here: VfO-disc on hopper)",
        on_each(lead("vfo-disc", "vfo-disc-ending"), low=0, where=["hopper"]),
    ),
    Claim(
        "D.a",
        "appendix D, figure 8",
        "A fairly wide range of temperatures improves",
        wide_range("vfo-bin", "temperature"),
    ),
    Claim(
        "D.b",
        "appendix D, figure 9",
        "Any mixture from 0.1 to 0.9 improves, except on hopper",
        all_of(
            f"SI of vfo-bin above 0 at each mixture on {spell(NOT_HOPPER)}",
            {
                f"{value:g}": on_each(score("vfo-bin", "mixture", mixture=value), low=0, where=NOT_HOPPER)
                for value in MIXTURES
            },
        ),
    ),
    Claim(
        "G.a",
        "appendix G, figure 15",
        "A fairly wide range of temperatures improves for SQIL with expert actions, at mixture 0.9",
        wide_range("sqil", "mixture+temperature", mixture=0.9),
    ),
    Claim(
        "G.b",
        "appendix G, figure 16",
        "SQIL needs a higher mixture than VfO",
        on_average(
            minus(
                "SI of sqil at mixture 0.9 minus that at 0.5, at temperature 1",
                *(
                    Need("mixture+temperature", ("sqil",), settings=(("mixture", m), ("temperature", 1.0)))
                    for m in (0.9, 0.5)
                ),
            ),
            low=0,
        ),
    ),
    Claim(
        "B.c",
        "appendix B",
        "Stopping SMODICE's discriminator early helps",
        on_average(
            minus(
                "SI of smodice-kl with 10 000 updates of the discriminator minus that with 100 000",
                Need("ladder", ("smodice-kl",), numbers=LOWER),
                Need("disc_steps", ("smodice-kl",), numbers=LOWER, settings=(("disc_steps", 100_000),)),
            ),
            low=0,
        ),
    ),
)


# --- appendix H: variance ---------------------------------------------------------------------------------------------


Pairs = list[tuple[np.ndarray, np.ndarray]]
"""Of every cell two numbers a seed, [S] and [S], whose spreads are compared."""


def ratio(words: str, of: Callable[[list[Result], list[Result]], Pairs]) -> Measure:
    """log2 of the ratio of two spreads over seeds, the mean over cells of vfo-disc and awr.

    Its interval is the jackknife's: seeds are left out one by one, of all cells of a task, which share them.
    """
    need = Need("ladder", ("vfo-disc", "awr"))

    def interval(found: Sequence[Result], where: Sequence[str]) -> Interval:
        pairs = (of(*(need.of(found, method, task) for method in need.methods)) for task in where)
        return stats.interval([jackknife(each) for each in pairs])

    return Measure(f"log2 of {words}", (need,), interval)


def jackknife(pairs: Pairs) -> np.ndarray:
    """[S] pseudo-values, one a seed, whose mean is that of log2 of the ratios; NaN of fewer than three seeds."""
    seeds = min((len(each) for pair in pairs for each in pair), default=0)
    if seeds < 3:
        return np.full(max(1, seeds), math.nan)

    def mean_without(*left_out: int) -> float:
        spreads = [[np.std(np.delete(each[:seeds], left_out), ddof=1) for each in pair] for pair in pairs]
        logs = [math.log2(a / b) for a, b in spreads if a != 0 and b != 0]
        return float(np.mean(logs)) if logs else math.nan

    return np.array([seeds * mean_without() - (seeds - 1) * mean_without(seed) for seed in range(seeds)])


def beside_awr(vfo: list[Result], awr: list[Result]) -> Pairs:
    return [(last_tenth(a), last_tenth(b)) for a, b in zip(vfo, awr, strict=True)]


def beside_training(vfo: list[Result], awr: list[Result]) -> Pairs:
    return [(result.score, last_tenth(result)) for result in (*vfo, *awr)]


def most_policies() -> Test:
    need = Need("ladder", VFO)

    def interval(found: Sequence[Result], where: Sequence[str]) -> Interval:
        per_task = [[cell for method in VFO for cell in roomy(need.of(found, method, task))] for task in where]
        shares = [np.array([(cell.improvement > 0).mean() for cell in cells]) for cells in per_task if cells]
        if not shares:
            return stats.interval([np.array([math.nan])])
        cells = np.concatenate(shares)
        if np.ptp(cells) == 0:  # no variance, which is no certainty
            return Interval(cells[0], *stats.wilson(round(cells.sum()), len(cells)), len(cells))
        found = stats.interval(shares)
        return found._replace(low=max(0.0, found.low), high=min(1.0, found.high))

    return on_average(Measure(f"share of VfO's policies, in {ROOMY}, that improve", (need,), interval), low=0.5)


VARIANCE = (
    Claim(
        "H.a",
        "appendix H, figure 17",
        "VfO-disc improves consistently, except on hopper",
        on_each(
            mean_of(
                "SI of vfo-disc in the last tenth of training",
                Need("ladder", ("vfo-disc",)),
                lambda results: si(results, last_tenth),
            ),
            low=0,
            where=NOT_HOPPER,
        ),
    ),
    Claim(
        "H.b",
        "appendix H, figure 17",
        "VfO-disc varies as much as AWR",
        on_average(ratio("the spread over seeds of vfo-disc over that of awr", beside_awr), -1, 1),
    ),
    Claim(
        "H.c",
        "appendix H, figure 18",
        "Final policies judged by 1000 episodes vary less",
        on_average(
            ratio("the spread of final policies over that in the last tenth of training", beside_training), high=0
        ),
    ),
    Claim("H.d", "appendix H, figure 18", "Most policies of VfO improve", most_policies()),
)


# --- manipulation: said of Robomimic, put to the tasks modelled on it -------------------------------------------------


def on_some(measure: Measure, at_least: float) -> Test:
    needs = [need._replace(tasks=MANIPULATION) for need in measure.needs]

    def of(found: Sequence[Result]) -> list[Truth]:
        return [inside(measure.of(found, [task]), low=0) for task in there(found, MANIPULATION)]

    words = f"tasks of {spell(MANIPULATION)} with {measure.words} above 0"
    return share(words, needs, of, at_least)._replace(least=2)


ROBOMIMIC = (
    Claim(
        "4.3o",
        "figures 3, 11",
        "Robomimic (here tasks modelled on it): VfO-bin improves on all tasks, no less than AWR",
        all_of(
            f"SI of vfo-bin above 0, and minus that of awr above {-CLOSE:g}, on {spell(MANIPULATION)}",
            {
                "itself": on_each(score("vfo-bin"), low=0, where=MANIPULATION),
                "minus awr": on_each(lead("vfo-bin", "awr"), low=-CLOSE, where=MANIPULATION),
            },
        ),
    ),
    Claim(
        "4.3p",
        "figures 3, 11",
        "Robomimic (here tasks modelled on it): VfO-disc, SMODICE and DILO do worse",
        all_of(
            f"SI of vfo-bin minus that of each above 0, on {spell(MANIPULATION)}",
            {
                other: on_each(lead("vfo-bin", other), low=0, where=MANIPULATION)
                for other in ("vfo-disc", "smodice-chi2", "dilo")
            },
        ),
    ),
    Claim(
        "4.5",
        "section 4.5, figures 5, 13",
        "From images, AWR and VfO-bin improve on Lift (here a task modelled on it)",
        all_of(
            "SI of each above 0 on lift-image",
            {method: on_each(score(method), low=0, where=IMAGES[:1]) for method in ("awr", "vfo-bin")},
        ),
    ),
    Claim(
        "4.6k",
        "figure 7",
        "Robomimic (here tasks modelled on it): VfO-bin improves itself on two of three tasks",
        on_some(mean_of("gain of vfo-bin's chains", Need("chain", ("vfo-bin",)), of_chains(gain)), at_least=0.66),
    ),
    Claim(
        "4.6l",
        "figure 7",
        "Robomimic (here tasks modelled on it): VfO-bin can slightly outperform AWR in self-improvement",
        on_some(lead("vfo-bin", "awr", "chain"), at_least=0.33),
    ),
    Claim(
        "4.6m",
        "section 4.6",
        "Robomimic (here tasks modelled on it): improvement on SIBench means self-improvement",
        follows_proxy(MANIPULATION, ("vfo-bin", "awr")),
    ),
    Claim(
        "B.b",
        "appendix B",
        "Robomimic (here tasks modelled on it): at higher temperatures DILO is BC in effect",
        on_each(
            minus(
                "SI of dilo at temperature 100 minus bc",
                Need("temperature", ("dilo",), settings=(("temperature", 100.0),)),
                Need("ladder", ("bc",)),
            ),
            -CLOSE,
            CLOSE,
            MANIPULATION,
        ),
    ),
)


# --- what nothing here can tell ---------------------------------------------------------------------------------------

UNTESTED = (
    Claim(
        "4.1",
        "section 4.1, figure 1",
        "Data of the ladder is like that of self-improvement",
        "there is no test: the paper does not say what is alike in them",
    ),
    Claim(
        "B.d",
        "appendix B",
        "DILO learns less stably with orthogonal gradients",
        "there is no test: dilo.py has no orthogonal gradients, nor have the paper's results",
    ),
)

CLAIMS = (*SIBENCH, *BIMODAL, *SELF_IMPROVEMENT, *SETTINGS, *VARIANCE, *ROBOMIMIC, *UNTESTED)
