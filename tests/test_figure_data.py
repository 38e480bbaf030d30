"""What figures draw equals the results."""

import dataclasses
from importlib import import_module

import numpy as np
import pytest
from conftest import REPO
from drawing import axes_by_title, drawn, legend, line, panels, style, write_suites
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection

from sibench.analysis import measures, stats
from sibench.bench.suites import read_suite
from sibench.learning import results


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_suites(tmp_path_factory.mktemp("results"))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("improvement", lambda result: result.gains),
        ("returns", lambda result: result.episodes),
        ("convergence", lambda result: result.gap),
    ],
)
@pytest.mark.parametrize("suite", ["sibench", "bimodal"])
def test_curves_show_means_seeds_and_welch_bands(name, values, suite, folder):
    figure, found = drawn(name, folder, suite)
    for task, methods in panels.by_task(found).items():
        axis = axes_by_title(figure)[task]
        for method, cells in methods.items():
            intervals, label = [stats.interval([values(cell)]) for cell in cells], style.LOOKS[method].label
            x, y = line(axis, label)
            np.testing.assert_allclose(x, [cell.quality for cell in cells])
            np.testing.assert_allclose(y, [interval.mean for interval in intervals])
            (band,) = [each for each in axis.collections if each.get_label() == f"_band of {label}"]
            corners = {(round(a, 9), round(b, 9)) for a, b in band.get_paths()[0].vertices}
            for at, interval in zip(x, intervals, strict=True):
                assert {(round(at, 9), round(interval.low, 9)), (round(at, 9), round(interval.high, 9))} <= corners
            seeds = np.concatenate([stats.seed_means(values(cell)) for cell in cells])
            dots = [each.get_ydata() for each in axis.lines]
            assert any(len(each) == len(seeds) and np.allclose(each, seeds) for each in dots)
    plt.close(figure)


def test_two_seeds_have_no_band():
    low, high = stats.interval([np.array([1.0, 2.0, 4.0])])[1:3]
    bands = panels.bands([np.array([1.0, 2.0]), np.array([1.0, 2.0, 4.0]), np.array([3.0])])
    np.testing.assert_allclose(bands, [[1.5, 7 / 3, 3.0], [np.nan, low, np.nan], [np.nan, high, np.nan]])


def hairs_of(axis):
    return [each for each in axis.collections if isinstance(each, LineCollection)]


def test_rounds_of_successes_have_wilson_hairs():
    found = read_suite("small-manipulation-self-improve", REPO / "results")
    figure = import_module("self_improvement").draw(found)
    hairs = [each for axis in figure.axes for each in hairs_of(axis)]
    assert len(hairs) == sum(len(result.rounds) for result in found) == 9
    assert "hairs" in figure.get_supxlabel()
    ends = [stats.wilson(int(sum(seed.returns)), len(seed.returns)) for seed in found[0].seeds]  # of the last round
    assert any(np.allclose(ends, np.array(each.get_segments())[:, :, 1]) for each in hairs)
    plt.close(figure)


def test_successes_have_wilson_hairs_and_other_values_none(folder):
    cell = next(result for result in read_suite("sibench", folder) if result.method == "bc")
    wins = (3, 5, 5, 7)
    seeds = [
        results.SeedResult(seed, "finished", (1.0,) * num + (0.0,) * (10 - num), (1,) * 10, (0.5,) * 10, nll=8.0)
        for seed, num in enumerate(wins)
    ]
    seeds.append(results.SeedResult(4, "diverged", diverged_at=3))
    cell = dataclasses.replace(cell, task="lift", seeds=tuple(seeds))
    figure, (axis, other) = plt.subplots(1, 2)
    panels.curve(axis, [cell], lambda cell: cell.improvement, set(), (0, 0), style.LOOKS["bc"], hairs=True)
    panels.curve(other, [cell], lambda cell: cell.nll, set(), (0, 0), style.LOOKS["bc"])
    (hairs,) = hairs_of(axis)
    for seed, num in enumerate(wins):
        low, high = (end - cell.quality for end in stats.wilson(num, 10))
        np.testing.assert_allclose(hairs.get_segments()[seed], [[cell.quality, low], [cell.quality, high]])
    assert not hairs_of(other) and "hairs" in panels.seeds_note([cell], hairs=True)
    plt.close(figure)


def test_cells_without_converged_bc_are_hollow_and_pale(folder):
    figure, found = drawn("improvement", folder, "sibench")
    look, axis = style.LOOKS["vfo-bin"], axes_by_title(figure)["hopper"]
    marked = [each for each in axis.lines if each.get_marker() == look.marker and each.get_color() == look.color]
    faces = {each.get_markerfacecolor(): list(each.get_xdata()) for each in marked}
    hollow = next(result.quality for result in found if (result.task, result.dataset) == ("hopper", "bc-5"))
    assert faces["white"] == [hollow] and hollow not in faces[look.color] and len(faces[look.color]) == 2
    (pale,) = [each for each in axis.lines if each.get_label() == look.label and len(each.get_xdata()) > 1]
    assert pale.get_alpha() < 0.5
    assert "BC not converged (1 of 6 datasets)" in legend(figure)
    plt.close(figure)


def test_mean_beside_a_task_is_weighted_by_the_trapezoid_rule(folder):
    figure, found = drawn("improvement", folder, "sibench")
    cells = panels.by_task(found)["ant"]["awr"]
    quality = np.array([cell.quality for cell in cells])
    expected = np.trapezoid([cell.improvement.mean() for cell in cells], quality) / np.ptp(quality)
    points = [each.get_ydata()[0] for each in figure.axes[1].lines if each.get_label() == style.LOOKS["awr"].label]
    np.testing.assert_allclose(points, [expected])
    plt.close(figure)


def test_scores_are_those_of_the_summary(folder):
    figure, found = drawn("score", folder, "sibench")
    for row in stats.summarise(found):
        for name, axis in axes_by_title(figure).items():
            (x,) = [each.get_xdata()[0] for each in axis.lines if each.get_label() == style.LOOKS[row.method].label]
            np.testing.assert_allclose(x, row.score.mean if name == "all tasks" else row.per_task[name].mean)
    plt.close(figure)


def test_sweep_varies_one_setting_a_row(folder):
    figure, found = drawn("sweeps", folder, "sqil", "sibench")
    for row, (name, others) in enumerate((("mixture", {"temperature": 1.0}), ("temperature", {"mixture": 0.9}))):
        for level in (0.1, 0.3):
            settings = {name: level} | others
            cells = [each for each in found if (each.task, each.settings) == ("ant", settings)]
            cells.sort(key=lambda cell: cell.quality)
            x, y = line(figure.axes[2 * row], f"{level:g}")
            np.testing.assert_allclose(x, [cell.quality for cell in cells])
            np.testing.assert_allclose(y, [cell.improvement.mean() for cell in cells])
    assert "BC not converged (1 of 6 datasets)" in legend(figure)
    plt.close(figure)


def test_sweep_takes_its_default_from_single_trainings(folder):
    sweep = [each for each in read_suite("temperature", folder) if each.settings["temperature"] != 1.0]
    singles = read_suite("sibench", folder)
    for single in singles:
        single.identity.settings["temperature"] = 1.0
    figure = import_module("sweeps").draw(sweep + singles)
    cells = panels.by_task(singles)["ant"]["vfo-bin"]
    expected = [cell.improvement.mean() for cell in cells]
    np.testing.assert_allclose(line(figure.axes[0], "1 (default)")[1], expected)
    plt.close(figure)


def test_demonstrations_are_on_a_logarithmic_axis_beside_bc(folder):
    figure, found = drawn("demos", folder, "demos", "sibench")
    (axis,) = [axis for name, axis in axes_by_title(figure).items() if name.startswith("ant bc-5,")]
    cells = [each for each in found if (each.task, each.method, each.dataset) == ("ant", "vfo-bin", "bc-5")]
    cells = sorted((cell for cell in cells if cell.settings), key=lambda cell: cell.settings["demos"])
    x, y = line(axis, style.LOOKS["vfo-bin"].label)
    np.testing.assert_allclose(x, [0, 1, 2, 3])
    np.testing.assert_allclose(y, [cell.improvement.mean() for cell in cells])
    (bc,) = [each for each in found if (each.task, each.method, each.dataset) == ("ant", "bc", "bc-5")]
    assert any(np.allclose(each.get_ydata(), bc.improvement.mean()) for each in axis.lines)
    assert style.LOOKS["awr"].label not in {each.get_label() for each in axis.lines}
    plt.close(figure)


def test_stairs_go_up_to_the_policy_and_across_to_its_data():
    x, y = import_module("staircase").corners(np.array([0.1, 0.42, 0.5]), np.array([0.4, 0.5, 0.45]))
    np.testing.assert_allclose(x, [0.1, 0.1, 0.42, 0.42, 0.5, 0.5])
    np.testing.assert_allclose(y, [0.1, 0.4, 0.4, 0.5, 0.5, 0.45])


def test_rounds_start_from_the_quality_of_the_data(folder):
    figure, found = drawn("self_improvement", folder, "self-improve")
    (chain,) = [each for each in found if (each.task, each.method, each.dataset) == ("ant", "awr", "bc-1")]
    data, policy = measures.chain(chain)
    x, y = line(axes_by_title(figure)["ant"], style.LOOKS["awr"].label)
    np.testing.assert_allclose(x, range(21))
    np.testing.assert_allclose(y, [data[0].mean(), *policy.mean(1)])
    plt.close(figure)


def test_variance_shows_both_ways_to_judge(folder):
    figure, found = drawn("variance", folder, "sibench")
    cells = panels.by_task(found)["ant"]["awr"]
    for row, score in enumerate((measures.last_tenth, lambda result: result.score)):
        _, y = line(figure.axes[2 * row], style.LOOKS["awr"].label)
        np.testing.assert_allclose(y, [np.mean(score(cell) - cell.quality) for cell in cells])
    plt.close(figure)


def test_variance_shows_few_episodes_that_claims_ignore(folder):
    """Small suites play two episodes during training, or none."""

    def shorten(result, seed):
        rows = () if result.task == "hopper" else seed.evaluations
        return dataclasses.replace(
            seed, evaluations=tuple(dataclasses.replace(row, returns=row.returns[:2]) for row in rows)
        )

    found = [
        dataclasses.replace(result, seeds=tuple(shorten(result, seed) for seed in result.seeds))
        for result in read_suite("sibench", folder)
    ]
    assert all(np.isnan(measures.last_tenth(result)).all() for result in found)
    figure = import_module("variance").draw(found)
    expected = [
        np.mean(measures.last_tenth(cell, min_episodes=1) - cell.quality)
        for cell in panels.by_task(found)["ant"]["awr"]
    ]
    np.testing.assert_allclose(line(figure.axes[0], style.LOOKS["awr"].label)[1], expected)
    plt.close(figure)
