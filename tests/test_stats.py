"""Statistics, against SciPy, numbers worked out by hand, and simulation."""

import math

import numpy as np
import pytest
import scipy.stats

from sibench.analysis import stats
from sibench.analysis.stats import Interval
from sibench.core.errors import UserError

RNG = np.random.default_rng
SPREADS = (0.02, 0.05, 0.1, 0.3)  # standard deviations over seeds on four tasks


def draw(rng, centres=(0.1, -2.0, 0.6, 3.0), spreads=SPREADS, seeds=5):
    return [rng.normal(centre, spread, seeds) for centre, spread in zip(centres, spreads, strict=True)]


def test_interval_of_one_group_is_the_one_sample_t_interval():
    (x,) = draw(RNG(0), [0.3], [0.1])
    expected = scipy.stats.ttest_1samp(x, 0).confidence_interval(0.9)
    np.testing.assert_allclose(stats.interval([x], 0.9), [x.mean(), *expected, 5])


def test_interval_of_two_groups_by_hand():
    """Means 2 and 6, whose squared errors are 1/3 and 8/2; the mean of all seeds together would be 3.6."""
    freedom = (1 / 3 + 4) ** 2 / ((1 / 3) ** 2 / 2 + 4**2 / 1)
    reach = scipy.stats.t.ppf(0.975, freedom) * math.sqrt(1 / 3 + 4) / 2
    result = stats.interval([np.array([1, 2, 3]), np.array([4, 8])])
    np.testing.assert_allclose(result, [4, 4 - reach, 4 + reach, 2])


def test_interval_of_two_groups_is_half_of_a_welch_interval():
    """The mean of a and -b is half of the difference of a and b."""
    a, b = RNG(1).normal(0.5, 0.1, 4), RNG(2).normal(0.2, 0.7, 9)
    welch = scipy.stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    np.testing.assert_allclose(stats.interval([a, -b])[:3], np.array([a.mean() - b.mean(), *welch]) / 2)


def test_difference_of_one_group_is_welchs_test():
    a, b = RNG(1).normal(0.5, 0.1, 4), RNG(2).normal(0.4, 0.3, 9)
    expected = scipy.stats.ttest_ind(a, b, equal_var=False)
    result, p = stats.difference([a], [b])
    np.testing.assert_allclose(result, [a.mean() - b.mean(), *expected.confidence_interval(), 4])
    np.testing.assert_allclose(p, expected.pvalue)
    other, same_p = stats.difference([b], [a])
    np.testing.assert_allclose(
        [other.mean, other.low, other.high, same_p], [-result.mean, -result.high, -result.low, p]
    )


def test_difference_ignores_how_far_groups_are_apart():
    """A second group without noise halves the estimate and its interval."""
    a, b = RNG(1).normal(0.5, 0.1, 4), RNG(2).normal(0.4, 0.3, 9)
    alone, p_alone = stats.difference([a], [b])
    both, p = stats.difference([a, np.full(3, 7.0)], [b, np.full(3, 7.0)])
    np.testing.assert_allclose([*both[:3], p], [*np.array(alone[:3]) / 2, p_alone])
    groups, others = draw(RNG(3)), draw(RNG(4))
    far = [[group + 100 * i for i, group in enumerate(groups)] for groups in (groups, others)]
    np.testing.assert_allclose(stats.difference(*far)[0], stats.difference(groups, others)[0], rtol=1e-9)


def test_one_seed_has_no_interval():
    groups = [np.array([0.2]), np.array([0.1, 0.5])]
    for result in (stats.interval(groups), stats.bootstrap(groups)):
        np.testing.assert_allclose(result, [0.25, math.nan, math.nan, 1])
    result, p = stats.difference(groups, groups)
    np.testing.assert_allclose([*result, p], [0, math.nan, math.nan, 1, math.nan])
    assert math.isnan(stats.minimum_detectable_difference(groups))


def test_constant_seeds_have_intervals_of_width_zero():
    """This happens when all seeds diverge."""
    constant, lower = [np.full(3, 0.1)] * 3, [np.full(3, 0.1)] * 2 + [np.zeros(3)]
    np.testing.assert_allclose(stats.interval(constant), [0.1, 0.1, 0.1, 3])
    np.testing.assert_allclose(stats.bootstrap(constant), [0.1, 0.1, 0.1, 3])
    assert stats.difference(constant, constant)[1] == 1
    assert stats.difference(constant, lower)[1] < 1e-9
    assert stats.minimum_detectable_difference([np.zeros(3)]) == 0


def test_bootstrap_is_scipys_but_wider():
    (x,) = draw(RNG(5), [0.3], [0.1])
    plain = scipy.stats.bootstrap((x,), np.mean, n_resamples=100_000, method="percentile", rng=RNG(6))
    expected = x.mean() + (np.array(plain.confidence_interval) - x.mean()) * math.sqrt(5 / 4)
    result = stats.bootstrap([x], num=100_000)
    np.testing.assert_allclose(result, [x.mean(), *expected, 5], atol=0.002)


def test_bootstrap_resamples_within_groups():
    """A loop does the same. If these distant groups were mixed, the interval would be 2 wide."""
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


def test_welch_covers_at_its_level_and_bootstrap_less():
    """These are 95 % intervals of 5 seeds on each of 4 tasks. A bootstrap that is not widened covers least."""
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


def test_interval_is_at_least_as_wide_as_its_episodes_alone():
    """Two seeds of 4 episodes agree by chance: their mean has variance 0.1^2, the episodes alone 20 / 3 / 4."""
    alike = np.array([[0.0, 2.0, 4.0, 6.0], [0.2, 2.2, 4.2, 6.2]])
    reach = scipy.stats.t.ppf(0.975, 1) * math.sqrt(20 / 3 / 4)
    np.testing.assert_allclose(stats.interval([alike]), [3.1, 3.1 - reach, 3.1 + reach, 2])
    apart = alike + np.array([[0.0], [100.0]])  # here the seeds vary more
    np.testing.assert_allclose(stats.interval([apart]), stats.interval([apart.mean(1)]))
    opposed = np.array([[0.0, 1.0], [1.0, 0.0]])  # their means over seeds do not vary
    np.testing.assert_allclose(stats.interval([opposed]), [0.5, 0.5, 0.5, 2])
    seeds = alike.mean(1)
    assert stats.difference([seeds], [seeds + 1])[1] < 0.05 and stats.difference([alike], [alike + 1])[1] > 0.5
    assert stats.minimum_detectable_difference([alike]) > 10 * stats.minimum_detectable_difference([seeds])


@pytest.mark.parametrize(("seeds", "at_most"), [(2, 0.94), (5, 0.85)])
def test_interval_covers_where_seeds_share_their_episodes(seeds, at_most):
    """Seeds do not show the luck that they share."""
    rng, covered = RNG(20), []
    for _ in range(2000):
        episodes = rng.normal(size=(1, 50)) + rng.normal(size=(seeds, 50)) + rng.normal(0, 0.1, (seeds, 1))
        ends = [stats.interval([group])[1:3] for group in (episodes, episodes.mean(1))]
        covered.append([low <= 0 <= high for low, high in ends])
    with_episodes, without = np.mean(covered, 0)
    assert without < at_most and with_episodes > 0.94


def test_difference_is_significant_at_its_level():
    """Two methods of equal mean, unequal noise and unequal seeds are called different once in 20 times."""
    rng = RNG(9)
    significant = [
        stats.difference(draw(rng), draw(rng, spreads=SPREADS[::-1], seeds=3))[1] < 0.05 for _ in range(2000)
    ]
    assert 0.02 <= np.mean(significant) <= 0.07


@pytest.mark.parametrize("power", [0.5, 0.8])
def test_minimum_detectable_difference_is_detected_with_its_power(power):
    rng, groups = RNG(10), draw(RNG(11))
    spreads = [group.std(ddof=1) for group in groups]
    size = stats.minimum_detectable_difference(groups, power)
    significant = [
        stats.difference(draw(rng, size + np.zeros(4), spreads), draw(rng, np.zeros(4), spreads))[1] < 0.05
        for _ in range(2000)
    ]
    assert abs(np.mean(significant) - power) < 0.05


def test_minimum_detectable_difference_by_integration():
    """One task and 5 seeds have 8 degrees of freedom; the power is averaged over the noise of the variance."""
    (x,) = draw(RNG(12), [0], [0.1])
    shift = stats.minimum_detectable_difference([x]) / math.sqrt(2 * x.var(ddof=1) / 5)
    share = (np.arange(100_000) + 0.5) / 100_000
    noise = np.sqrt(scipy.stats.chi2.ppf(share, 8) / 8)
    power = scipy.stats.norm.sf(scipy.stats.t.ppf(0.975, 8) * noise - shift).mean()
    np.testing.assert_allclose(power, 0.8, atol=1e-4)


def test_score_by_hand():
    """Qualities 0, 0.2, 0.6 weigh 0.1, 0.3, 0.2; in another order here. Headroom: 0.1 x 1 + 0.3 x 0.8 + 0.2 x 0.4."""
    quality = np.array([0.2, 0.0, 0.6])
    np.testing.assert_allclose(stats.weights(quality), [0.3, 0.1, 0.2])
    scores = np.array([[0.7, 0.1], [0.1, 0.0], [0.5, 1.1]])
    gains = [0.3 * 0.5 + 0.1 * 0.1 - 0.2 * 0.1, -0.3 * 0.1 + 0.0 + 0.2 * 0.5]
    np.testing.assert_allclose(stats.sibench_score(quality, scores), np.array(gains) / 0.42)


def test_weights_are_those_of_the_trapezoid_rule():
    quality, values = RNG(0).uniform(size=(2, 8))
    order = np.argsort(quality)
    np.testing.assert_allclose(stats.weights(quality) @ values, np.trapezoid(values[order], quality[order]))
    np.testing.assert_allclose(
        stats.weights(np.array([1.0, 0.0, 1.0, 0.5, 1.0])), [1 / 12, 1 / 4, 1 / 12, 1 / 2, 1 / 12]
    )
    np.testing.assert_allclose(stats.weights(np.array([0.3])), [1])
    np.testing.assert_allclose(stats.weights(np.array([0.3, 0.3])), [0.5, 0.5])


def test_score_is_0_at_the_data_and_1_at_the_expert():
    """It is linear in between, and is not clipped."""
    quality = np.array([0.5, 0.0, 0.9, 0.1])[:, None]
    share = np.array([0, 1, 0.25, -0.5, 1.5])
    np.testing.assert_allclose(stats.sibench_score(quality[:, 0], quality + share * (1 - quality)), share, atol=1e-12)


def test_score_has_no_headroom_above_the_expert():
    """What is lost on such data still counts."""
    np.testing.assert_allclose(stats.sibench_score(np.array([0.5, 1.5]), np.array([[0.5], [1.0]])), [-1])
    with pytest.raises(UserError, match=r"no headroom.*1\.0, 1\.2"):
        stats.sibench_score(np.array([1.0, 1.2]), np.ones((2, 3)))


def test_score_ignores_order_duplicates_and_the_scale_of_returns():
    quality, scores = RNG(1).uniform(size=6), RNG(2).normal(size=(6, 4))
    expected = stats.sibench_score(quality, scores)
    order = RNG(3).permutation(6)
    np.testing.assert_allclose(stats.sibench_score(quality[order], scores[order]), expected)
    twice = [0, 1, 2, 2, 3, 4, 5, 0]
    np.testing.assert_allclose(stats.sibench_score(quality[twice], scores[twice]), expected)
    tied = np.array([0.1, 0.1, 0.7])  # at an end, with different scores
    np.testing.assert_allclose(stats.sibench_score(tied, scores[:3]), stats.sibench_score(tied, scores[[1, 0, 2]]))
    other_random = [1 - 3 * (1 - x) for x in (quality, scores)]  # another policy has quality 0
    np.testing.assert_allclose(stats.sibench_score(*other_random), expected)


def test_probability_of_improvement_counts_ties_half():
    """Of 6 pairs, 2 are better and 2 are equal."""
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


def test_rank_correlation_by_hand():
    """Three methods ranked alike on one task: 2 of 6 orders correlate as much, and 1 of 3 is no proof."""
    rho, p = stats.rank_correlation(np.array([[0.1, 0.2, 0.3]]), np.array([[1.0, 2.0, 9.0]]))
    assert rho == pytest.approx(1) and p == pytest.approx(1 / 3, abs=0.02)
    many = np.arange(6.0)[None].repeat(3, 0)
    assert stats.rank_correlation(many, -many)[0] == pytest.approx(-1)
    assert stats.rank_correlation(many, many)[1] < 0.001
    assert stats.rank_correlation(many + np.array([[0.0], [100.0], [200.0]]), many)[0] == pytest.approx(1)


def test_spread_ratio_is_no_surer_of_cells_that_share_seeds():
    rng = np.random.default_rng(0)
    pair = (rng.normal(size=5), rng.normal(0, 3, 5))
    once, often = stats.spread_ratio([pair]), stats.spread_ratio([pair] * 8)
    np.testing.assert_allclose(often, once)
    assert once.mean() == pytest.approx(np.log2(np.std(pair[0]) / np.std(pair[1])), abs=0.5) and once.std() > 0.1


def test_spread_ratio_needs_three_seeds():
    assert np.isnan(stats.spread_ratio([(np.arange(2.0), np.arange(2.0))])).all()
    assert np.isnan(stats.spread_ratio([])).all()


def test_shares_that_do_not_vary_have_wilsons_interval():
    assert stats.share_interval([np.ones(4), np.ones(3)]) == (1.0, *stats.wilson(7, 7), 7)
    mean = stats.share_interval([np.array([0.0, 0.1, 1.0])])
    assert mean.low == 0 and mean.high == 1
    assert math.isnan(stats.share_interval([np.array([])]).mean)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((0.1, 0.2), True),
        ((-0.1, 0.2), None),
        ((0.2, 0.6), None),
        ((-0.2, -0.1), False),
        ((0.5, 0.6), False),
        ((-1.0, 1.0), None),
        ((math.nan, math.nan), None),
    ],
)
def test_interval_inside_a_region(ends, expected):
    assert Interval(0.0, *ends, 5).inside(0.0, 0.5) is expected


def test_interval_is_shown_with_its_sign():
    assert Interval(0.214, -0.05, 0.5, 3).show() == "+0.21 [-0.05, +0.50]"
    assert Interval(2216.4, 2029.0, 2402.0, 3).show(".0f") == "2216 [2029, 2402]"
    assert Interval(0.2, math.nan, math.nan, 1).show() == "+0.20 [too few seeds or episodes]"
