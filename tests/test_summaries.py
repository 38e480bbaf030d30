"""Summaries of a suite's results: scores, ranks, and what is refused."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
import synthetic

from sibench.analysis import stats
from sibench.bench.suites import Cell
from sibench.core.errors import UserError
from sibench.learning.results import Result, SeedResult

QUALITIES = {"lift": (0.1, 0.5, 0.9), "can": (0.0, 0.2, 0.4)}


def result(
    method: str, task: str, dataset: str, quality: float, scores: Sequence[float] | np.ndarray, **changes
) -> Result:
    """Return a result whose seeds have these normalised returns, which are returns on these tasks."""
    template = synthetic.result("sibench", Cell(task, method, "bc-1"), lambda *_: 0.0, 0.0, 0)
    background = dataclasses.replace(template.background, quality=quality)
    template = dataclasses.replace(template, dataset=dataset, background=background, **changes)
    return synthetic.with_scores(template, scores)


def results(method: str, *shares: float, tasks=("lift", "can")) -> list[Result]:
    """Return results of a method whose seeds turn these shares of the headroom into return on all data."""
    return [
        result(method, task, f"bc-{k}", q, q + np.array(shares) * (1 - q))
        for task in tasks
        for k, q in enumerate(QUALITIES[task])
    ]


def test_row_by_hand():
    """Weights are 0.2, 0.4, 0.2 on lift and 0.1, 0.1 on can; scores are 0.25, 0.5 and -0.4, -0.2."""
    vfo = [
        result("vfo-bin", "lift", "bc-2", 0.9, [0.9, 0.9]),
        result("vfo-bin", "lift", "bc-0", 0.1, [0.1, 0.1]),
        result("vfo-bin", "lift", "bc-1", 0.5, [0.75, 1.0]),
        result("vfo-bin", "can", "bc-0", 0.4, [0.2, 0.2]),
        result("vfo-bin", "can", "bc-1", 0.6, [0.4, 0.6]),
    ]
    bc = [result("bc", "lift", "bc-1", 0.5, [0.8, 0.5]), result("bc", "can", "bc-0", 0.4, [0.4, 0.4, 0.4])]
    row, _ = stats.summarise(bc + vfo)
    lift, can = np.array([0.25, 0.5]), np.array([-0.4, -0.2])
    np.testing.assert_allclose(row.score, stats.interval([lift, can]), atol=1e-12)
    np.testing.assert_allclose(row.bootstrap, stats.bootstrap([lift, can]), atol=1e-12)
    assert row.per_task.keys() == {"lift", "can"}
    np.testing.assert_allclose(row.per_task["lift"], stats.interval([lift]))
    np.testing.assert_allclose(row.per_task["can"], stats.interval([can]))
    # low: bc-0 of lift alone; middle: the mean of 0.75 on lift and -0.3 on can; high: bc-2 of lift
    np.testing.assert_allclose(row.thirds, [0, (0.75 - 0.3) / 2, 0], atol=1e-12)
    assert row.harm_rate == 1 / 5  # bc-0 of can; its bc-1 lost 0.1 ± 0.1
    assert row.worst_task == ("can", pytest.approx(-0.3))
    assert row.over_bc == pytest.approx((3 / 4 + 0) / 2)
    assert (row.tasks, row.cells, row.missing, row.diverged) == (2, 5, 0, 0)


def test_diverged_seeds_count_as_random_policies():
    whole = result("awr", "lift", "bc-1", 0.5, [0.75, 0.75, 0.75])
    seeds = (*whole.seeds[:2], SeedResult(2, "diverged", diverged_at=3))
    (row,) = stats.summarise([dataclasses.replace(whole, seeds=seeds)])
    np.testing.assert_allclose(row.score, stats.interval([np.array([0.5, 0.5, -1.0])]))
    assert row.diverged == 1


def test_ranks_are_shared_by_methods_that_do_not_differ():
    every = (
        results("bc", -0.1, -0.2) + results("awr", 0.5, 0.7) + results("dilo", 0.51, 0.71) + results("bco", 0.1, 0.2)
    )
    rows = stats.summarise(every)
    assert [(row.method, row.rank) for row in rows] == [("dilo", 1), ("awr", 1), ("bco", 3), ("bc", 4)]
    np.testing.assert_allclose([row.score.mean for row in rows], [0.61, 0.6, 0.15, -0.15])
    assert [row.over_bc for row in rows] == [1, 1, 1, 0.5]
    assert [row.harm_rate for row in rows] == [0, 0, 0, 0]  # with 2 seeds, -0.1 and -0.2 can be chance


def test_order_of_results_does_not_matter():
    every = results("bc", -0.1, -0.2) + results("awr", 0.5, 0.7) + results("bco", 0.1, 0.2)
    for row, other in zip(stats.summarise(every), stats.summarise(every[::-1]), strict=True):
        assert (row.method, row.rank) == (other.method, other.rank)
        np.testing.assert_allclose(row.score, other.score)


def test_ranks_are_corrected_for_the_number_of_tests():
    """A difference that is significant alone is not as one of six."""
    scores = np.array([-0.1, -0.05, 0.02, 0.13])
    p = stats.difference([scores, scores], [scores + 0.12, scores + 0.12])[1]
    assert p < 0.05 < 3 * p
    two = results("a", *scores) + results("b", *(scores + 0.12))
    assert [row.rank for row in stats.summarise(two)] == [1, 2]
    assert [row.rank for row in stats.summarise(two + results("c", *scores) + results("d", *scores))] == [1, 1, 1, 1]


def test_noisy_method_does_not_bridge_ranks():
    """It differs from neither the best nor the last, which differ from each other."""
    noisy = results("bco", -0.4, 0.1, 0.6)
    rows = stats.summarise(results("bc", -0.2, -0.19, -0.21) + noisy + results("awr", 0.3, 0.29, 0.31))
    assert [(row.method, row.rank) for row in rows] == [("awr", 1), ("bco", 1), ("bc", 2)]


def test_method_worse_than_any_above_it_is_not_first():
    """The best is too noisy to differ from any; a noisy method has no better rank than those above it."""
    noisy, last = results("bco", -0.2, 0.4, 1.0), results("smodice-kl", -0.9, -0.2, 0.3)
    rows = stats.summarise(noisy + results("awr", 0.3, 0.29, 0.31) + results("dilo", -0.1, -0.11, -0.09) + last)
    assert [(row.method, row.rank) for row in rows] == [("bco", 1), ("awr", 1), ("dilo", 2), ("smodice-kl", 2)]


def test_single_seeds_share_no_rank():
    rows = stats.summarise(results("bc", 0.1) + results("awr", 0.1) + results("dilo", -0.3) + results("bco", 0.1, 0.2))
    assert [(row.method, row.rank) for row in rows] == [("bco", 1), ("awr", 2), ("bc", 3), ("dilo", 4)]
    assert rows[3].harm_rate == 0 and math.isnan(rows[3].score.low) and rows[3].score.seeds == 1


def test_methods_with_missing_cells_come_last():
    """They come last however good they are, and are ranked among themselves."""
    complete, lacks_cell = results("bco", 0.1, 0.2, 0.3), results("awr", -0.9, -0.85, -0.8)[1:]
    lacks_task = results("dilo", 0.2, 0.25, 0.3, tasks=["can"])
    rows = stats.summarise(lacks_task + lacks_cell + complete)
    seen = [(row.method, row.rank, row.tasks, row.cells, row.missing) for row in rows]
    assert seen == [("bco", 1, 2, 6, 0), ("dilo", 2, 1, 3, 3), ("awr", 3, 2, 5, 1)]
    np.testing.assert_allclose([row.score.mean for row in rows], [0.2, 0.25, -0.85])
    assert all(math.isnan(row.over_bc) for row in rows)


def test_methods_without_a_common_task_share_no_rank():
    apart = results("awr", 0.1, 0.3, tasks=["can"]) + results("dilo", 0.1, 0.3, tasks=["lift"])
    assert [row.rank for row in stats.summarise(apart)] == [1, 2]


def test_score_uses_as_many_seeds_as_all_datasets_of_a_task_have():
    awr = results("awr", 0.1, 0.3, 0.8, tasks=["lift"]) + results("awr", 0.4, 0.6, 0.8, tasks=["can"])
    awr[0] = dataclasses.replace(awr[0], seeds=awr[0].seeds[:2])
    (row,) = stats.summarise(awr)
    np.testing.assert_allclose(row.score, stats.interval([np.array([0.1, 0.3]), np.array([0.4, 0.6, 0.8])]))
    assert (row.per_task["lift"].seeds, row.per_task["can"].seeds, row.score.seeds) == (2, 3, 2)


def test_tasks_without_headroom_are_not_scored():
    awr = results("awr", 0.1, 0.3, tasks=["can"])  # qualities up to 0.4
    (row,) = stats.summarise(awr)
    np.testing.assert_allclose(row.thirds, [0.2, 0.2, math.nan])
    expert = result("awr", "lift", "mix-1000", 1.01, [0.9, 0.8])
    (row,) = stats.summarise([*awr, expert])
    assert (row.tasks, row.cells, row.per_task.keys()) == (1, 4, {"can"}) and math.isnan(row.thirds[2])
    with pytest.raises(UserError, match=r"awr.*no headroom to score"):
        stats.summarise([expert])


def test_thirds_contain_their_ends():
    awr = [result("awr", "can", f"bc-{i}", q, [q + 0.1 * i] * 2) for i, q in enumerate((0.3, 1 / 3, 2 / 3, 0.7))]
    (row,) = stats.summarise(awr)
    middle = (1 / 6 * 0.1 + 1 / 6 * 0.2) / (1 / 6 * 2 / 3 + 1 / 6 * 1 / 3)
    np.testing.assert_allclose(row.thirds, [0, middle, 1], atol=1e-12)


def test_sweeps_and_several_suites_are_refused():
    swept = [result("vfo-bin", "can", "bc-1", 0.3, [0.5], settings={"temperature": value}) for value in (0.1, 1.0)]
    with pytest.raises(UserError, match=r"vfo-bin on can/bc-1 occurs twice.*swept settings"):
        stats.summarise(swept)
    with pytest.raises(UserError, match="several suites, quick, sibench"):
        stats.summarise([*results("bc", 0.1), result("bc", "can", "bc-2-n200", 0.3, [0.5], suite="quick")])
    assert stats.summarise([]) == []


def test_cells_with_other_settings_are_other_cells():
    few = result("bc", "can", "bc-1", 0.3, [0.5, 0.4], settings={"demos": 1})
    rows = stats.summarise([few, dataclasses.replace(few, method="awr", settings={"demos": 10})])
    assert [(row.missing, math.isnan(row.over_bc)) for row in rows] == [(1, True), (1, False)]
