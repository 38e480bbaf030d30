"""Statistics: against other computations of the same, numbers worked out by hand, and simulation."""

import math

import numpy as np
import pytest
import scipy.stats

from sibench import stats
from sibench.errors import UserError
from sibench.results import Result

RNG = np.random.default_rng
SPREADS = (0.02, 0.05, 0.1, 0.3)  # of seeds, on four tasks


def draw(rng, centres=(0.1, -2.0, 0.6, 3.0), spreads=SPREADS, seeds=5):
    return [rng.normal(centre, spread, seeds) for centre, spread in zip(centres, spreads, strict=True)]


def test_one_group_is_the_one_sample_t_interval():
    (x,) = draw(RNG(0), [0.3], [0.1])
    expected = scipy.stats.ttest_1samp(x, 0).confidence_interval(0.9)
    np.testing.assert_allclose(stats.interval([x], 0.9), [x.mean(), *expected, 5])


def test_interval_by_hand():
    """Means 2 and 6, whose squared errors are 1/3 and 8/2; the mean of all seeds together would be 3.6."""
    freedom = (1 / 3 + 4) ** 2 / ((1 / 3) ** 2 / 2 + 4**2 / 1)
    reach = scipy.stats.t.ppf(0.975, freedom) * math.sqrt(1 / 3 + 4) / 2
    result = stats.interval([np.array([1, 2, 3]), np.array([4, 8])])
    np.testing.assert_allclose(result, [4, 4 - reach, 4 + reach, 2])


def test_interval_of_two_groups_is_half_of_a_welch_interval():
    """For the mean of a and -b is half of the difference of a and b."""
    a, b = RNG(1).normal(0.5, 0.1, 4), RNG(2).normal(0.2, 0.7, 9)
    welch = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    np.testing.assert_allclose(stats.interval([a, -b])[:3], np.array([a.mean() - b.mean(), *welch]) / 2)


def test_difference_is_welchs_test():
    a, b = RNG(1).normal(0.5, 0.1, 4), RNG(2).normal(0.4, 0.3, 9)
    expected = scipy.stats.ttest_ind(a, b, equal_var=False)
    result, p = stats.difference([a], [b])
    np.testing.assert_allclose(result, [a.mean() - b.mean(), *expected.confidence_interval(), 4])
    np.testing.assert_allclose(p, expected.pvalue)
    other, same_p = stats.difference([b], [a])
    np.testing.assert_allclose(
        [other.mean, other.low, other.high, same_p], [-result.mean, -result.high, -result.low, p]
    )


def test_difference_over_groups():
    """A group without noise halves estimate and interval; how far apart the groups are does not matter."""
    a, b = RNG(1).normal(0.5, 0.1, 4), RNG(2).normal(0.4, 0.3, 9)
    alone, p_alone = stats.difference([a], [b])
    both, p = stats.difference([a, np.full(3, 7.0)], [b, np.full(3, 7.0)])
    np.testing.assert_allclose([*both[:3], p], [*np.array(alone[:3]) / 2, p_alone])
    groups, others = draw(RNG(3)), draw(RNG(4))
    far = [[group + 100 * i for i, group in enumerate(groups)] for groups in (groups, others)]
    np.testing.assert_allclose(stats.difference(*far)[0], stats.difference(groups, others)[0], rtol=1e-9)


def test_one_seed_says_nothing_of_noise():
    groups = [np.array([0.2]), np.array([0.1, 0.5])]
    for result in (stats.interval(groups), stats.bootstrap(groups)):
        np.testing.assert_allclose(result, [0.25, math.nan, math.nan, 1])
    result, p = stats.difference(groups, groups)
    np.testing.assert_allclose([*result, p], [0, math.nan, math.nan, 1, math.nan])
    assert math.isnan(stats.minimal_detectable_difference(groups))


def test_without_noise():
    """As when all seeds diverge."""
    constant, lower = [np.full(3, 0.1)] * 3, [np.full(3, 0.1)] * 2 + [np.zeros(3)]
    np.testing.assert_allclose(stats.interval(constant), [0.1, 0.1, 0.1, 3])
    np.testing.assert_allclose(stats.bootstrap(constant), [0.1, 0.1, 0.1, 3])
    assert stats.difference(constant, constant)[1] == 1
    assert stats.difference(constant, lower)[1] < 1e-9
    assert stats.minimal_detectable_difference([np.zeros(3)]) == 0


def test_bootstrap_is_scipys_widened():
    (x,) = draw(RNG(5), [0.3], [0.1])
    plain = scipy.stats.bootstrap((x,), np.mean, n_resamples=100_000, method="percentile", rng=RNG(6))
    expected = x.mean() + (np.array(plain.confidence_interval) - x.mean()) * math.sqrt(5 / 4)
    result = stats.bootstrap([x], num=100_000)
    np.testing.assert_allclose(result, [x.mean(), *expected, 5], atol=0.002)


def test_bootstrap_resamples_within_groups():
    """Against a loop; groups as far apart as these would give an interval of 2 if they were mixed."""
    groups = [np.array([0.0, 0.1, 0.4]), np.array([5.0, 5.2, 5.3, 5.9])]
    rng, means = RNG(7), []
    for _ in range(8000):
        parts = []
        for group in groups:
            again = np.mean([group[rng.integers(len(group))] for _ in group])
            parts.append(group.mean() + (again - group.mean()) * math.sqrt(len(group) / (len(group) - 1)))
        means.append(np.mean(parts))
    result = stats.bootstrap(groups, confidence=0.8)
    np.testing.assert_allclose(result[1:3], np.quantile(means, [0.1, 0.9]), atol=0.02)
    assert result == stats.bootstrap(groups, confidence=0.8)
    assert result != stats.bootstrap(groups, confidence=0.8, seed=1)


def test_coverage():
    """Of 95 % intervals, 5 seeds on each of 4 tasks: what Welch's cover; less the bootstrap's; least if not widened."""
    rng, truth, covered = RNG(8), np.mean([0.1, -2.0, 0.6, 3.0]), []
    for _ in range(2000):
        groups = draw(rng)
        welch, widened = stats.interval(groups), stats.bootstrap(groups, num=300)
        plain = widened.mean + (np.array(widened[1:3]) - widened.mean) / math.sqrt(5 / 4)
        ends = [welch[1:3], widened[1:3], plain]
        covered.append([low <= truth <= high for low, high in ends])
    welch, widened, plain = np.mean(covered, 0)
    assert 0.93 <= welch <= 0.98
    assert plain < widened < welch


def test_no_interval_is_narrower_than_its_episodes():
    """Two seeds of 4 episodes that agree by chance; their mean has variance 0.1^2, its episodes' 20 / 3 / 4."""
    alike = np.array([[0.0, 2.0, 4.0, 6.0], [0.2, 2.2, 4.2, 6.2]])
    reach = scipy.stats.t.ppf(0.975, 1) * math.sqrt(20 / 3 / 4)
    np.testing.assert_allclose(stats.interval([alike]), [3.1, 3.1 - reach, 3.1 + reach, 2])
    apart = alike + np.array([[0.0], [100.0]])  # here the seeds tell more
    np.testing.assert_allclose(stats.interval([apart]), stats.interval([apart.mean(1)]))
    opposed = np.array([[0.0, 1.0], [1.0, 0.0]])  # their means over seeds do not vary
    np.testing.assert_allclose(stats.interval([opposed]), [0.5, 0.5, 0.5, 2])
    seeds = alike.mean(1)
    assert stats.difference([seeds], [seeds + 1])[1] < 0.05 and stats.difference([alike], [alike + 1])[1] > 0.5
    assert stats.minimal_detectable_difference([alike]) > 10 * stats.minimal_detectable_difference([seeds])


@pytest.mark.parametrize(("seeds", "at_most"), [(2, 0.94), (5, 0.85)])
def test_coverage_where_seeds_share_their_episodes(seeds, at_most):
    """Luck that all seeds share is in no difference between them."""
    rng, covered = RNG(20), []
    for _ in range(2000):
        episodes = rng.normal(size=(1, 50)) + rng.normal(size=(seeds, 50)) + rng.normal(0, 0.1, (seeds, 1))
        ends = [stats.interval([of])[1:3] for of in (episodes, episodes.mean(1))]
        covered.append([low <= 0 <= high for low, high in ends])
    with_them, without = np.mean(covered, 0)
    assert without < at_most and with_them > 0.94


def test_difference_keeps_its_level():
    """Two methods alike in the mean, of different noise and numbers of seeds: called different once in 20 times."""
    rng = RNG(9)
    found = [stats.difference(draw(rng), draw(rng, spreads=SPREADS[::-1], seeds=3))[1] < 0.05 for _ in range(2000)]
    assert 0.02 <= np.mean(found) <= 0.07


@pytest.mark.parametrize("power", [0.5, 0.8])
def test_minimal_detectable_difference_is_detected(power):
    rng, groups = RNG(10), draw(RNG(11))
    spreads = [group.std(ddof=1) for group in groups]
    size = stats.minimal_detectable_difference(groups, power)
    found = [
        stats.difference(draw(rng, size + np.zeros(4), spreads), draw(rng, np.zeros(4), spreads))[1] < 0.05
        for _ in range(2000)
    ]
    assert abs(np.mean(found) - power) < 0.05


def test_minimal_detectable_difference_by_integration():
    """One task, 5 seeds: 8 degrees of freedom; power by averaging over the noise of the variance."""
    (x,) = draw(RNG(12), [0], [0.1])
    shift = stats.minimal_detectable_difference([x]) / math.sqrt(2 * x.var(ddof=1) / 5)
    share = (np.arange(100_000) + 0.5) / 100_000
    noise = np.sqrt(scipy.stats.chi2.ppf(share, 8) / 8)
    power = scipy.stats.norm.sf(scipy.stats.t.ppf(0.975, 8) * noise - shift).mean()
    np.testing.assert_allclose(power, 0.8, atol=1e-4)


def test_si_by_hand():
    """Qualities 0, 0.2, 0.6 weigh 0.1, 0.3, 0.2; in another order here. Headroom: 0.1 x 1 + 0.3 x 0.8 + 0.2 x 0.4."""
    quality = np.array([0.2, 0.0, 0.6])
    np.testing.assert_allclose(stats.weights(quality), [0.3, 0.1, 0.2])
    scores = np.array([[0.7, 0.1], [0.1, 0.0], [0.5, 1.1]])
    gains = [0.3 * 0.5 + 0.1 * 0.1 - 0.2 * 0.1, -0.3 * 0.1 + 0.0 + 0.2 * 0.5]
    np.testing.assert_allclose(stats.si(quality, scores), np.array(gains) / 0.42)


def test_weights_are_the_trapezoid_rules():
    quality, values = RNG(0).uniform(size=(2, 8))
    order = np.argsort(quality)
    np.testing.assert_allclose(stats.weights(quality) @ values, np.trapezoid(values[order], quality[order]))
    np.testing.assert_allclose(
        stats.weights(np.array([1.0, 0.0, 1.0, 0.5, 1.0])), [1 / 12, 1 / 4, 1 / 12, 1 / 2, 1 / 12]
    )
    np.testing.assert_allclose(stats.weights(np.array([0.3])), [1])
    np.testing.assert_allclose(stats.weights(np.array([0.3, 0.3])), [0.5, 0.5])


def test_what_si_means():
    """0 as good as the data, 1 the expert from any data; the shares between, linearly; not clipped."""
    quality = np.array([0.5, 0.0, 0.9, 0.1])[:, None]
    share = np.array([0, 1, 0.25, -0.5, 1.5])
    np.testing.assert_allclose(stats.si(quality[:, 0], quality + share * (1 - quality)), share, atol=1e-12)


def test_si_at_and_above_the_expert():
    """There is no headroom to divide by, but what is lost there counts."""
    np.testing.assert_allclose(stats.si(np.array([0.5, 1.5]), np.array([[0.5], [1.0]])), [-1])
    with pytest.raises(UserError, match=r"no headroom.*1\.0, 1\.2"):
        stats.si(np.array([1.0, 1.2]), np.ones((2, 3)))


def test_what_leaves_si_as_it_is():
    quality, scores = RNG(1).uniform(size=6), RNG(2).normal(size=(6, 4))
    expected = stats.si(quality, scores)
    order = RNG(3).permutation(6)
    np.testing.assert_allclose(stats.si(quality[order], scores[order]), expected)
    twice = [0, 1, 2, 2, 3, 4, 5, 0]
    np.testing.assert_allclose(stats.si(quality[twice], scores[twice]), expected)
    tied = np.array([0.1, 0.1, 0.7])  # at an end, and with different scores
    np.testing.assert_allclose(stats.si(tied, scores[:3]), stats.si(tied, scores[[1, 0, 2]]))
    other_random = [1 - 3 * (1 - x) for x in (quality, scores)]  # another policy is called 0
    np.testing.assert_allclose(stats.si(*other_random), expected)


def test_probability_of_improvement():
    """Of 6 pairs, 2 are above and 2 equal."""
    a, b = np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0])
    assert stats.probability_of_improvement(a, b) == pytest.approx((2 + 2 / 2) / 6)
    assert stats.probability_of_improvement(b, a) == pytest.approx(1 - (2 + 2 / 2) / 6)
    a, b = RNG(0).integers(0, 5, 7), RNG(1).integers(1, 6, 9)
    u = scipy.stats.mannwhitneyu(a, b).statistic
    assert stats.probability_of_improvement(a, b) == pytest.approx(u / 63)


def test_wilson_by_hand():
    np.testing.assert_allclose(stats.wilson(8, 10), [0.4901625, 0.9433178], atol=1e-6)
    z = scipy.stats.norm.ppf(0.95)
    np.testing.assert_allclose(stats.wilson(0, 20, 0.9), [0, z**2 / (20 + z**2)], atol=1e-12)


def test_holm_by_hand():
    np.testing.assert_allclose(stats.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(stats.holm([0.03, math.nan, 0.6, 0.6]), [0.09, math.nan, 1, 1])
    assert stats.holm([]).shape == (0,)


def result(method, task, dataset, quality, score, **changes):
    score = np.array(score, float)
    values = {
        "suite": "sibench",
        "settings": {},
        "returns": 100 * score,
        "diverged": np.zeros(len(score), bool),
        "nll": np.zeros(len(score)),
        "teacher_nll": 0.0,
        "raw": {},
    }
    return Result(
        method=method, task=task, dataset=dataset, quality=quality, episodes=score[:, None], **values | changes
    )


QUALITIES = {"hopper": (0.1, 0.5, 0.9), "ant": (0.0, 0.2, 0.4)}


def results(method, *si, tasks=("hopper", "ant")):
    """Of a method whose seeds turn these shares of the headroom into return, everywhere."""
    return [
        result(method, task, f"bc-{k}", q, q + np.array(si) * (1 - q))
        for task in tasks
        for k, q in enumerate(QUALITIES[task])
    ]


def test_a_row_by_hand():
    """Two tasks; weights 0.2, 0.4, 0.2 of hopper's datasets and 0.1, 0.1 of ant's; SI 0.25, 0.5 and -0.4, -0.2."""
    own = [
        result("vfo-bin", "hopper", "bc-2", 0.9, [0.9, 0.9], diverged=np.array([True, True])),
        result("vfo-bin", "hopper", "bc-0", 0.1, [0.1, 0.1]),
        result("vfo-bin", "hopper", "bc-1", 0.5, [0.75, 1.0]),
        result("vfo-bin", "ant", "bc-0", 0.4, [0.2, 0.2]),
        result("vfo-bin", "ant", "bc-1", 0.6, [0.4, 0.6]),
    ]
    clones = [result("bc", "hopper", "bc-1", 0.5, [0.8, 0.5]), result("bc", "ant", "bc-0", 0.4, [0.4, 0.4, 0.4])]
    row, _ = stats.summarise(clones + own)
    hopper, ant = np.array([0.25, 0.5]), np.array([-0.4, -0.2])
    np.testing.assert_allclose(row.score, stats.interval([hopper, ant]), atol=1e-12)
    np.testing.assert_allclose(row.bootstrap, stats.bootstrap([hopper, ant]), atol=1e-12)
    assert row.per_task.keys() == {"hopper", "ant"}
    np.testing.assert_allclose(row.per_task["hopper"], stats.interval([hopper]))
    np.testing.assert_allclose(row.per_task["ant"], stats.interval([ant]))
    # Low: hopper's bc-0 alone; middle: the mean of hopper's 0.75 and ant's -0.3; high: hopper's bc-2.
    np.testing.assert_allclose(row.thirds, [0, (0.75 - 0.3) / 2, 0], atol=1e-12)
    assert row.harm_rate == 1 / 5  # ant's bc-0; its bc-1 lost 0.1 ± 0.1
    assert row.worst_task == ("ant", pytest.approx(-0.3))
    assert row.over_bc == pytest.approx((3 / 4 + 0) / 2)
    assert (row.tasks, row.cells, row.missing, row.diverged) == (2, 5, 0, 2)


def test_order_and_ranks():
    """Those that cannot be told apart share the better rank; the order of the files does not matter."""
    every = (
        results("bc", -0.1, -0.2) + results("awr", 0.5, 0.7) + results("dilo", 0.51, 0.71) + results("bco", 0.1, 0.2)
    )
    rows = stats.summarise(every)
    assert [(row.method, row.rank) for row in rows] == [("dilo", 1), ("awr", 1), ("bco", 3), ("bc", 4)]
    np.testing.assert_allclose([row.score.mean for row in rows], [0.61, 0.6, 0.15, -0.15])
    assert [row.over_bc for row in rows] == [1, 1, 1, 0.5]
    assert [row.harm_rate for row in rows] == [0, 0, 0, 0]  # of 2 seeds, -0.1 and -0.2 can be chance
    again = stats.summarise(every[::-1])
    for row, other in zip(rows, again, strict=True):
        assert (row.method, row.rank) == (other.method, other.rank)
        np.testing.assert_allclose(row.score, other.score)


def test_ranks_allow_for_the_number_of_tests():
    """A step that alone would be significant is not as one of six: Holm's factors."""
    step = np.array([-0.1, -0.05, 0.02, 0.13])
    p = stats.difference([step, step], [step + 0.12, step + 0.12])[1]
    assert p < 0.05 < 3 * p
    two = results("a", *step) + results("b", *(step + 0.12))
    assert [row.rank for row in stats.summarise(two)] == [1, 2]
    assert [row.rank for row in stats.summarise(two + results("c", *step) + results("d", *step))] == [1, 1, 1, 1]


def test_a_noisy_method_bridges_no_ranks():
    """It is like the one above and the one below, which are not like each other: one is better than the last."""
    noisy = results("bco", -0.4, 0.1, 0.6)
    rows = stats.summarise(results("bc", -0.2, -0.19, -0.21) + noisy + results("awr", 0.3, 0.29, 0.31))
    assert [(row.method, row.rank) for row in rows] == [("awr", 1), ("bco", 1), ("bc", 2)]


def test_a_method_worse_than_one_that_is_not_the_best_is_not_first():
    """The best is too noisy to tell from any; a noisy one below has no better rank than those above it."""
    noisy, last = results("bco", -0.2, 0.4, 1.0), results("smodice-kl", -0.9, -0.2, 0.3)
    rows = stats.summarise(noisy + results("awr", 0.3, 0.29, 0.31) + results("dilo", -0.1, -0.11, -0.09) + last)
    assert [(row.method, row.rank) for row in rows] == [("bco", 1), ("awr", 1), ("dilo", 2), ("smodice-kl", 2)]


def test_single_seeds_share_no_rank():
    rows = stats.summarise(results("bc", 0.1) + results("awr", 0.1) + results("dilo", -0.3) + results("bco", 0.1, 0.2))
    assert [(row.method, row.rank) for row in rows] == [("bco", 1), ("awr", 2), ("bc", 3), ("dilo", 4)]
    assert rows[3].harm_rate == 0 and math.isnan(rows[3].score.low) and rows[3].score.seeds == 1


def test_missing_cells_come_last():
    """However good, and though they could not be told from the one above; ranked among themselves."""
    complete, lacks_one = results("bco", 0.1, 0.2, 0.3), results("awr", -0.9, -0.85, -0.8)[1:]
    lacks_a_task = results("dilo", 0.2, 0.25, 0.3, tasks=["ant"])
    rows = stats.summarise(lacks_a_task + lacks_one + complete)
    seen = [(row.method, row.rank, row.tasks, row.cells, row.missing) for row in rows]
    assert seen == [("bco", 1, 2, 6, 0), ("dilo", 2, 1, 3, 3), ("awr", 3, 2, 5, 1)]
    np.testing.assert_allclose([row.score.mean for row in rows], [0.2, 0.25, -0.85])
    assert all(math.isnan(row.over_bc) for row in rows)
    apart = results("awr", 0.1, 0.3, tasks=["ant"]) + results("dilo", 0.1, 0.3, tasks=["hopper"])
    assert [row.rank for row in stats.summarise(apart)] == [1, 2]


def test_numbers_of_seeds_may_differ():
    """Within a task, as many as all its datasets have; the rest counts in the cells."""
    own = results("awr", 0.1, 0.3, 0.8, tasks=["hopper"]) + results("awr", 0.4, 0.6, 0.8, tasks=["ant"])
    own[0] = own[0]._replace(episodes=own[0].episodes[:2])
    (row,) = stats.summarise(own)
    np.testing.assert_allclose(row.score, stats.interval([np.array([0.1, 0.3]), np.array([0.4, 0.6, 0.8])]))
    assert (row.per_task["hopper"].seeds, row.per_task["ant"].seeds, row.score.seeds) == (2, 3, 2)


def test_where_there_is_no_data_or_no_headroom():
    own = results("awr", 0.1, 0.3, tasks=["ant"])  # qualities up to 0.4
    (row,) = stats.summarise(own)
    np.testing.assert_allclose(row.thirds, [0.2, 0.2, math.nan])
    expert = result("awr", "hopper", "mix-1000", 1.01, [0.9, 0.8])
    (row,) = stats.summarise([*own, expert])
    assert (row.tasks, row.cells, row.per_task.keys()) == (1, 4, {"ant"}) and math.isnan(row.thirds[2])
    with pytest.raises(UserError, match=r"awr.*nothing to score"):
        stats.summarise([expert])


def test_the_ends_of_the_thirds():
    own = [result("awr", "ant", f"bc-{i}", q, [q + 0.1 * i] * 2) for i, q in enumerate((0.3, 1 / 3, 2 / 3, 0.7))]
    (row,) = stats.summarise(own)
    middle = (1 / 6 * 0.1 + 1 / 6 * 0.2) / (1 / 6 * 2 / 3 + 1 / 6 * 1 / 3)
    np.testing.assert_allclose(row.thirds, [0, middle, 1], atol=1e-12)


def test_what_is_not_summarised():
    swept = [result("vfo-bin", "ant", "bc-1", 0.3, [0.5], settings={"temperature": value}) for value in (0.1, 1.0)]
    with pytest.raises(UserError, match=r"vfo-bin on ant/bc-1 is there twice.*without swept settings"):
        stats.summarise(swept)
    with pytest.raises(UserError, match="several suites, quick, sibench"):
        stats.summarise([*results("bc", 0.1), result("bc", "ant", "bc-2-n200", 0.3, [0.5], suite="quick")])
    assert stats.summarise([]) == []


def test_cells_differ_by_their_settings():
    """Of the same dataset with other settings is another cell: neither has the other's."""
    few = result("bc", "ant", "bc-1", 0.3, [0.5, 0.4], settings={"demos": 1})
    rows = stats.summarise([few, few._replace(method="awr", settings={"demos": 10})])
    assert [(row.missing, math.isnan(row.over_bc)) for row in rows] == [(1, True), (1, False)]
