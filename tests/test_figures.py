"""Figures: each draws what there is and says what is not, and what it draws is what the results say."""

import itertools
import os
import runpy
import subprocess
import sys
from collections import Counter
from importlib import import_module

import numpy as np
import pytest
import synthetic
from conftest import REPO
from matplotlib.collections import LineCollection
from matplotlib.text import Text

from sibench import assets, evidence, results, stats, suites

PLOTS = REPO / "plots"
FIGURES = [file.stem for file in sorted(PLOTS.glob("*.py")) if "style.run(" in file.read_text()]
SUITES = ("sibench", "bimodal", "self-improve", "temperature", "mixture", "sqil", "ablations", "demos")
LEVELS = ("bc-1", "bc-5", "bc-20", "mix-0", "mix-300", "mix-1000")

sys.path.insert(0, str(PLOTS))
style = import_module("style")


def gap(cell):
    """BC has not converged on hopper's bc-5."""
    return 3.0 if (cell.task, cell.dataset) == ("hopper", "bc-5") else 0.2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("results")
    for suite in SUITES:
        synthetic.write(
            root, suite, gap=gap, keep=lambda cell: cell.task in ("ant", "hopper", "lift") and cell.dataset in LEVELS
        )
    synthetic.write(root, "small", seeds=1, keep=lambda cell: cell.dataset != "bc-2")
    synthetic.write(root, "small-walker2d", seeds=2)
    return root


def run(monkeypatch, name, *args):
    """A figure's command, in this process."""
    monkeypatch.setattr(sys, "argv", [f"plots/{name}.py", *map(str, args)])
    runpy.run_path(str(PLOTS / f"{name}.py"), run_name="__main__")


def module(name):
    return import_module(name)


def drawn(name, folder, *suites_):
    found = [result for suite in suites_ for result in results.read_suite(suite, folder)]
    return module(name).draw(found), found


def axes_of(figure):
    """By title; those of the first row."""
    return {axis.get_title(loc="left"): axis for axis in figure.axes if axis.get_title(loc="left")}


def line(axis, label):
    (found,) = [one for one in axis.lines if one.get_label() == label and len(one.get_xdata()) > 1]
    return found.get_xdata(), found.get_ydata()


def test_there_are_figures():
    paper = ("improvement", "returns", "staircase", "self_improvement", "sweeps", "variance")
    assert {*paper, "score", "convergence"} <= set(FIGURES)
    for number in range(1, 19):
        texts = [file.read_text().split('"""')[1] for file in PLOTS.glob("*.py")]
        assert any(
            f" {number} " in text.replace(",", " ").replace(")", " ") for text in texts if "of the paper" in text
        )


@pytest.fixture
def texts(monkeypatch):
    """Every text as it is drawn: its words, size, box, and the box of its figure."""
    found, draw = [], Text.draw

    def record(text, renderer):
        if text.get_text().strip() and text.get_visible():
            box = text.get_window_extent(renderer), text.get_figure(root=True).bbox
            found.append((text, text.get_fontsize(), *(one.extents for one in box)))
        draw(text, renderer)

    monkeypatch.setattr(Text, "draw", record)
    return found


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws(name, folder, tmp_path, monkeypatch, capsys, texts):
    """All suites that it is for; all text is legible, and inside."""
    run(monkeypatch, name, "--results", folder, "--out", tmp_path)
    shown = capsys.readouterr().out
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files and len(files) % 2 == 0 and all(file.startswith(f"{name}-") for file in files)
    assert "missing" in shown and f"{name}-" in shown
    for svg in tmp_path.glob("*.svg"):
        assert "<text" in svg.read_text() and "<dc:date>" not in svg.read_text()
    assert len(texts) > 20
    for text, size, box, whole in texts:
        assert size >= 7, text
        assert (box[:2] > whole[:2] - 2).all() and (box[2:] < whole[2:] + 2).all(), text
    titles = [(text, box) for text, _, box, _ in texts if text.get_fontweight() == "bold"]
    for (a, left), (b, right) in itertools.pairwise(titles):
        overlap = np.minimum(left[2:], right[2:]) - np.maximum(left[:2], right[:2])
        assert a is b or a.figure is not b.figure or (overlap < 1).any(), (a, b)


def test_suites_together(folder, tmp_path, monkeypatch, capsys):
    """Tasks of several suites in one figure, of chosen methods and BC."""
    drew = {}
    monkeypatch.setattr(style, "save", lambda figure, path: drew.update({path.name: figure}))
    chosen = ["--suite", "small", "small-walker2d", "--methods", "awr", "dilo"]
    run(monkeypatch, "improvement", "--results", folder, "--out", tmp_path, *chosen, "--together", "both")
    (figure,) = drew.values()
    assert list(drew) == ["improvement-both"] and {"hopper", "walker2d"} == set(axes_of(figure))
    labels = {text.get_text() for axis in figure.axes for text in axis.get_xticklabels()} & set(style.LABELS.values())
    assert labels == {"BC", "AWR (oracle)", "DILO"}
    run(monkeypatch, "improvement", "--results", folder, "--out", tmp_path, *chosen)
    assert {"improvement-small", "improvement-small-walker2d"} < drew.keys()
    for told, args in {
        "did you mean 'awr'": ("--methods", "awrr"),
        "needs --suite": ("--together", "all"),
        "is in both small and sibench": ("--together", "twice", "--suite", "small", "sibench"),
        "ladder and mix": ("--together", "mixed", "--suite", "small", "bimodal"),
    }.items():
        with pytest.raises(SystemExit) as exit:
            run(monkeypatch, "improvement", "--results", folder, *args)
        assert exit.value.code == 2 and told in capsys.readouterr().err


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_to_draw(name, tmp_path, monkeypatch, capsys):
    run(monkeypatch, name, "--results", tmp_path / "none", "--out", tmp_path)
    assert capsys.readouterr().out.startswith(f"{name}: not drawn: there are no results")
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit) as exit:
        run(monkeypatch, name, "--suite", "sibnech", "--out", tmp_path)
    assert exit.value.code == 2 and "did you mean 'sibench'" in capsys.readouterr().err


def test_what_is_missing(folder, tmp_path, monkeypatch, capsys):
    run(monkeypatch, "score", "--results", folder, "--out", tmp_path, "--suite", "sibench")
    cells = Counter(cell.task for cell in suites.suite("sibench").cells)
    cells -= Counter({"ant": 21, "hopper": 21})
    told = ", ".join(f"{num} cells of {task}" for task, num in sorted(cells.items()))
    assert capsys.readouterr().out.splitlines()[0] == f"sibench: missing {told}"


def test_the_same_bytes_again(folder, tmp_path, monkeypatch):
    for out in ("a", "b"):
        run(monkeypatch, "score", "--results", folder, "--out", tmp_path / out, "--suite", "small")
    for name in ("score-small.png", "score-small.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("improvement", lambda result: result.gains),
        ("returns", lambda result: result.episodes),
        ("convergence", lambda result: result.gap),
    ],
)
@pytest.mark.parametrize("suite", ["sibench", "bimodal"])
def test_curves_are_the_results(name, of, suite, folder):
    """Means over seeds, every seed, and the band: the Welch interval, not the standard deviation."""
    figure, found = drawn(name, folder, suite)
    for task, methods in style.by_task(found).items():
        axis = axes_of(figure)[task]
        for method, own in methods.items():
            intervals = [stats.interval([of(result)]) for result in own]
            x, y = line(axis, style.LABELS[method])
            np.testing.assert_allclose(x, [result.quality for result in own])
            np.testing.assert_allclose(y, [interval.mean for interval in intervals])
            (band,) = [one for one in axis.collections if one.get_label() == f"_band of {style.LABELS[method]}"]
            corners = {(round(a, 9), round(b, 9)) for a, b in band.get_paths()[0].vertices}
            for at, interval in zip(x, intervals, strict=True):
                assert {(round(at, 9), round(interval.low, 9)), (round(at, 9), round(interval.high, 9))} <= corners
            seeds = np.concatenate([stats.of_seeds(of(result)) for result in own])
            assert any(len(one.get_ydata()) == len(seeds) and np.allclose(one.get_ydata(), seeds) for one in axis.lines)
    style.plt.close(figure)


def test_two_seeds_have_no_band():
    low, high = stats.interval([np.array([1.0, 2.0, 4.0])])[1:3]
    drawn = style.band([np.array([1.0, 2.0]), np.array([1.0, 2.0, 4.0]), np.array([3.0])])
    np.testing.assert_allclose(drawn, [[1.5, 7 / 3, 3.0], [np.nan, low, np.nan], [np.nan, high, np.nan]])


def test_chains_of_successes_have_hairs():
    found = results.read_suite("small-manipulation-self-improve", REPO / "results")
    figure = runpy.run_path(str(PLOTS / "self_improvement.py"))["draw"](found)
    hairs = [one for axis in figure.axes for one in axis.collections if isinstance(one, LineCollection)]
    assert len(hairs) == sum(len(one.raw["chain"]) for one in found) == 9
    assert "Wilson" in figure._supxlabel.get_text()
    last = found[0].raw["lanes"]  # of the last iteration
    wins = [sum(lane["returns"]) for lane in last]
    ends = [[stats.wilson(int(num), len(last[0]["returns"]))] for num in wins]
    drawn = [np.array(one.get_segments())[:, :, 1] for one in hairs]
    style.plt.close(figure)
    assert any(np.allclose(np.array(ends)[:, 0], one) for one in drawn)


def test_successes_have_hairs(tmp_path):
    """Wilson's interval of each seed's episodes, where the seed is; none on returns that are no successes."""
    raw = synthetic.result("manipulation", suites.Cell("lift", "bc", "bc-5"), lambda *_: 0.1, 0.2, 0)
    for lane, wins in zip(raw["lanes"], (3, 5, 5, 7, 0), strict=True):
        lane |= {"returns": [1.0] * wins + [0.0] * (10 - wins), "progress": [0.5] * 10}
    raw["lanes"][4] = {"seed": 4, "status": "diverged", "diverged_at": 3, "evaluations": []}
    found = results.view(raw)
    figure, (axis, other) = style.plt.subplots(1, 2)
    look = {"color": "red", "marker": "o", "label": "BC"}
    style.curve(axis, [found], lambda one: one.improvement, set(), (0, 0), hairs=True, **look)
    style.curve(other, [found], lambda one: one.nll, set(), (0, 0), **look)
    (hairs,) = [one for one in axis.collections if isinstance(one, LineCollection)]
    for seed, wins in enumerate((3, 5, 5, 7)):
        low, high = (end - found.quality for end in stats.wilson(wins, 10))
        np.testing.assert_allclose(hairs.get_segments()[seed], [[found.quality, low], [found.quality, high]])
    assert not [one for one in other.collections if isinstance(one, LineCollection)]
    assert "Hairs" in style.dots([found]) and "Hairs" not in style.dots([])
    style.plt.close(figure)


def test_unconverged_cells_are_hollow_and_pale(folder):
    figure, found = drawn("improvement", folder, "sibench")
    colour = style.COLOURS["vfo-bin"]
    marked = [one for one in axes_of(figure)["hopper"].lines if one.get_marker() == "s" and one.get_color() == colour]
    faces = {one.get_markerfacecolor(): list(one.get_xdata()) for one in marked}
    unlearned = next(result.quality for result in found if result.dataset == "bc-5" and result.task == "hopper")
    assert faces["white"] == [unlearned] and unlearned not in faces[colour] and len(faces[colour]) == 2
    (pale,) = [
        one for one in axes_of(figure)["hopper"].lines if one.get_label() == "VfO-bin" and len(one.get_xdata()) > 1
    ]
    assert pale.get_alpha() < 0.5
    assert "BC has not converged" in figure._supxlabel.get_text().replace("\n", " ")
    assert "(1 of 6)" in figure._supxlabel.get_text()
    style.plt.close(figure)


def test_spectrum_means(folder):
    """Weighted by the trapezoid rule, which is SI times the mean headroom."""
    figure, found = drawn("improvement", folder, "sibench")
    own = style.by_task(found)["ant"]["awr"]
    quality = np.array([result.quality for result in own])
    expected = np.trapezoid([result.improvement.mean() for result in own], quality) / np.ptp(quality)
    side = figure.axes[1]
    points = [one.get_ydata()[0] for one in side.lines if one.get_label() == style.LABELS["awr"]]
    np.testing.assert_allclose(points, [expected])
    style.plt.close(figure)


def test_scores(folder):
    figure, found = drawn("score", folder, "sibench")
    for row in stats.summarise(found):
        for name, axis in axes_of(figure).items():
            (shown,) = [one.get_xdata()[0] for one in axis.lines if one.get_label() == style.LABELS[row.method]]
            np.testing.assert_allclose(shown, row.score.mean if name == "all tasks" else row.per_task[name].mean)
    style.plt.close(figure)


def test_sweeps(folder):
    """Each value's line is of that value, with the other setting as usual; BC is of the suite beside it."""
    figure, found = drawn("sweeps", folder, "sqil", "sibench")
    for row, (name, usual) in zip(
        (0, 1), (("temperature", {"mixture": 0.9}), ("mixture", {"temperature": 1.0})), strict=True
    ):
        axis = figure.axes[2 * row]
        for level in (0.1, 0.3):
            own = [
                result
                for result in found
                if result.task == "ant" and result.settings == {name: level} | usual and result.method == "sqil"
            ]
            x, y = line(axis, f"{level:g}")
            own.sort(key=lambda result: result.quality)
            np.testing.assert_allclose(x, [result.quality for result in own])
            np.testing.assert_allclose(y, [result.improvement.mean() for result in own])
    assert "(1 of 6)" in figure._supxlabel.get_text()
    style.plt.close(figure)


def test_usual_value_from_another_suite(folder):
    """A sweep may leave it out, for the main comparison has it."""
    sweep = [one for one in results.read_suite("temperature", folder) if one.settings["temperature"] != 1.0]
    figure = module("sweeps").draw(sweep + results.read_suite("sibench", folder))
    own = style.by_task(results.read_suite("sibench", folder))["ant"]["vfo-bin"]
    np.testing.assert_allclose(line(figure.axes[0], "1")[1], [one.improvement.mean() for one in own])
    style.plt.close(figure)


def test_demonstrations(folder):
    """Against their number, on a logarithmic scale; of other suites only BC is shown."""
    figure, found = drawn("demos", folder, "demos", "sibench")
    (axis,) = [own for name, own in axes_of(figure).items() if name.startswith("ant bc-5,")]
    own = [one for one in found if (one.task, one.method, one.dataset) == ("ant", "vfo-bin", "bc-5") and one.settings]
    x, y = line(axis, style.LABELS["vfo-bin"])
    own.sort(key=lambda one: one.settings["demos"])
    np.testing.assert_allclose(x, [0, 1, 2, 3])
    np.testing.assert_allclose(y, [one.improvement.mean() for one in own])
    (bc,) = [one.improvement.mean() for one in found if (one.task, one.method, one.dataset) == ("ant", "bc", "bc-5")]
    assert any(np.allclose(one.get_ydata(), bc) for one in axis.lines)
    assert style.LABELS["awr"] not in {one.get_label() for one in axis.lines}
    style.plt.close(figure)


def test_stairs():
    """Up from the diagonal to the policy, across to the data that it collected."""
    x, y = module("staircase").corners(np.array([0.1, 0.42, 0.5]), np.array([0.4, 0.5, 0.45]))
    np.testing.assert_allclose(x, [0.1, 0.1, 0.42, 0.42, 0.5, 0.5])
    np.testing.assert_allclose(y, [0.1, 0.4, 0.4, 0.5, 0.5, 0.45])


def test_chains(folder):
    figure, found = drawn("self_improvement", folder, "self-improve")
    (one,) = [result for result in found if (result.task, result.method, result.dataset) == ("ant", "awr", "bc-1")]
    data, policy = evidence.chain(one)
    x, y = line(axes_of(figure)["ant"], style.LABELS["awr"])
    np.testing.assert_allclose(x, range(21))
    np.testing.assert_allclose(y, [data[0].mean(), *policy.mean(1)])
    style.plt.close(figure)


def test_variance(folder):
    figure, found = drawn("variance", folder, "sibench")
    own = style.by_task(found)["ant"]["awr"]
    for row, of in enumerate((evidence.last_tenth, lambda result: result.score)):
        _, y = line(figure.axes[2 * row], style.LABELS["awr"])
        np.testing.assert_allclose(y, [np.mean(of(result) - result.quality) for result in own])
    style.plt.close(figure)


def test_variance_of_few_episodes(folder):
    """Two during training, or none, as in small suites: the figure shows them, though claims do not go by them."""
    found = results.read_suite("sibench", folder)
    for result in found:
        for lane in result.raw["lanes"]:
            lane["evaluations"] = [row | {"returns": row["returns"][:2]} for row in lane["evaluations"]]
            if result.task == "hopper":
                lane["evaluations"] = []
    assert all(np.isnan(evidence.last_tenth(result)).all() for result in found)
    figure = module("variance").draw(found)
    own = style.by_task(found)["ant"]["awr"]
    np.testing.assert_allclose(
        line(figure.axes[0], style.LABELS["awr"])[1],
        [np.mean(evidence.last_tenth(result, fewest=1) - result.quality) for result in own],
    )
    style.plt.close(figure)


# --- looks ------------------------------------------------------------------------------------------------------------

DEUTERANOPIA = np.array(  # Machado et al. 2009, severity 1, of linear RGB
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour, seen_as):
    """CIELAB of a colour as some eyes see it."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(XYZ @ np.clip(seen_as @ linear, 0, 1) / XYZ.sum(1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_every_method_has_a_look():
    assert style.LOOKS.keys() == suites.METHODS.keys()
    assert len({look[1] for look in style.LOOKS.values()}) == len({*style.LABELS.values()}) == len(style.LOOKS)


@pytest.mark.parametrize("eyes", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_colours_are_distinguishable(eyes):
    """A just noticeable difference is about 2.3; those of the main figures are far from that."""
    seen = {method: lab(colour, eyes) for method, colour in style.COLOURS.items()}
    for a, b in itertools.combinations(seen, 2):
        enough = 20 if {a, b} <= set(suites.MAIN) else 12
        assert np.linalg.norm(seen[a] - seen[b]) > enough, (a, b)
    assert all(value[0] < 80 for value in seen.values())  # seen on white


# --- what is drawn from other files -----------------------------------------------------------------------------------


def test_schematic(tmp_path, monkeypatch, capsys):
    """Shares of a bimodal ridge are those of its episodes, and the ladder's are measured."""
    run(monkeypatch, "schematic", "--out", tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"schematic.png", "schematic.svg"}
    measured = assets.ladder()["hopper"]
    figure = module("schematic").draw("hopper", measured)
    left, right = figure.axes
    half = left.patches[1 + module("schematic").SHARES.index(0.5)].get_data()
    assert np.sum(half.values > half.baseline) >= 2
    np.testing.assert_allclose(np.sum(((half.values - half.baseline) / 0.95) ** 2), 1)
    assert right.get_yticklabels()[0].get_text() == "cloned from 1"
    style.plt.close(figure)
    with pytest.raises(SystemExit):
        run(monkeypatch, "schematic", "--task", "hoper")
    assert "did you mean 'hopper'" in capsys.readouterr().err


def test_style_by_itself_does_nothing(monkeypatch, capsys):
    before = sorted(PLOTS.iterdir())
    run(monkeypatch, "style")
    assert capsys.readouterr().out == "" and sorted(PLOTS.iterdir()) == before


def test_frames_say_what_they_need_where_nothing_can_be_rendered():
    before = (PLOTS / "frames.png").read_bytes()
    run = subprocess.run(
        [sys.executable, PLOTS / "frames.py"], env=os.environ | {"MUJOCO_GL": "none"}, capture_output=True, text=True
    )
    assert run.returncode == 0 and "not drawn: no OpenGL" in run.stdout and "libosmesa6" in run.stdout
    assert (PLOTS / "frames.png").read_bytes() == before
