"""Figures draw every method of the results, legibly, and report what they leave out."""

import dataclasses
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
from drawing import PLOTS, axes_by_title, drawn, figures, legend, line, panels, style, write_suites
from matplotlib import pyplot as plt
from matplotlib.text import Text

from sibench import tasks
from sibench.bench import suites
from sibench.bench.suites import read_suite
from sibench.learning import results
from sibench.learning.methods import variants

PROGRAM = runpy.run_path(str(PLOTS / "__main__.py"))
FIGURES = (*figures.OF_SUITES,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_suites(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def folder_with_new_method(tmp_path_factory):
    """Results in which `mymethod`, which no file of the repository names, takes the place of VfO-bin."""
    root = tmp_path_factory.mktemp("new")
    for suite in ("small", "small-demos", "small-temperature", "small-self-improve"):
        synthetic.write(root, suite, keep=lambda cell: cell.method in ("bc", "vfo-bin", "awr"))
        for result in read_suite(suite, root):
            if result.method == "vfo-bin":
                cell = suites.Cell(result.task, "mymethod", result.dataset, tuple(sorted(result.settings.items())))
                file = results.path(root, suite, result.task, cell.name)
                results.write(file, dataclasses.replace(result, method="mymethod"))
                results.path(root, suite, result.task, cell._replace(method="vfo-bin").name).unlink()
    return root


def run(monkeypatch, name, *args):
    """Draw a figure in this process; lines that are printed once are printed again."""
    panels.warn.cache_clear()
    monkeypatch.setattr(sys, "argv", ["plots", "--figures", name, *map(str, args)])
    runpy.run_path(str(PLOTS / "__main__.py"), run_name="__main__")


def error_of(monkeypatch, capsys, name, *args):
    with pytest.raises(SystemExit) as exit:
        run(monkeypatch, name, *args)
    assert exit.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def texts(monkeypatch):
    """Record every text as it is drawn: itself, its size, its box, and the box of its figure."""
    found, draw = [], Text.draw

    def record(text, renderer):
        if text.get_text().strip() and text.get_visible():
            boxes = text.get_window_extent(renderer), text.get_figure(root=True).bbox
            found.append((text, text.get_fontsize(), *(box.extents for box in boxes)))
        draw(text, renderer)

    monkeypatch.setattr(Text, "draw", record)
    return found


def check_texts(texts):
    """Assert that texts are legible, inside their figure, and not on each other."""
    for text, size, box, whole in texts:
        assert size >= 7, text
        assert (box[:2] > whole[:2] - 2).all() and (box[2:] < whole[2:] + 2).all(), text
    for _, group in itertools.groupby(texts, lambda each: (id(each[0].get_figure(root=True)), *each[3])):
        for (a, _, left, _), (b, _, right, _) in itertools.combinations(group, 2):
            overlap = np.minimum(left[2:], right[2:]) - np.maximum(left[:2], right[:2])
            rotated = a.get_rotation() % 90 or b.get_rotation() % 90
            assert a is b or rotated or (overlap < 1.5).any(), (a, b)


def test_paper_figures_1_to_18_are_all_drawn():
    docstrings = [file.read_text().split('"""')[1] for file in PLOTS.glob("*.py")]
    words = " ".join(text.replace(",", " ").replace(")", " ") for text in docstrings if "of the paper" in text)
    assert all(f" {number} " in words for number in range(1, 19))


@pytest.mark.parametrize("name", FIGURES)
def test_figure_of_every_suite_is_legible_and_reports_missing_cells(name, folder, tmp_path, monkeypatch, capsys, texts):
    run(monkeypatch, name, "--results", folder, "--out", tmp_path)
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files and len(files) % 2 == 0 and all(file.startswith(f"{name}-") for file in files)
    assert "missing" in capsys.readouterr().err
    for svg in tmp_path.glob("*.svg"):
        assert "<text" in svg.read_text() and "<dc:date>" not in svg.read_text()
    assert len(texts) > 20
    check_texts(texts)


@pytest.mark.parametrize("name", FIGURES)
def test_unknown_method_appears_in_every_figure(name, folder_with_new_method, tmp_path, monkeypatch, texts):
    run(monkeypatch, name, "--results", folder_with_new_method, "--out", tmp_path)
    files = list(tmp_path.glob("*.svg"))
    assert files and all("mymethod" in file.read_text() for file in files)
    check_texts(texts)


def test_unknown_method_is_drawn_at_its_results(folder_with_new_method):
    figure, found = drawn("improvement", folder_with_new_method, "small")
    cells = panels.by_task(found)["hopper"]["mymethod"]
    np.testing.assert_allclose(
        line(axes_by_title(figure)["hopper"], "mymethod")[1], [cell.improvement.mean() for cell in cells]
    )
    plt.close(figure)


def test_chosen_methods_are_drawn_with_bc(folder, tmp_path, monkeypatch):
    drew = {}
    monkeypatch.setattr(panels, "save", lambda figure, path: drew.update({path.name: figure}))
    chosen = ["--suite", "small", "small-walker2d", "--methods", "awr", "dilo"]
    run(monkeypatch, "improvement", "--results", folder, "--out", tmp_path, *chosen)
    assert drew.keys() == {"improvement-small", "improvement-small-walker2d"}
    labels = set(legend(drew["improvement-small"]))
    assert {"BC", "AWR (oracle)", "DILO"} <= labels and "VfO-bin" not in labels


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--methods", "awrr"), "unknown method 'awrr'; did you mean 'awr'?"),
        (("--methods", "sqil", "--suite", "small"), "unknown method 'sqil'"),
        (("--suite", "sibnech"), "did you mean 'sibench'"),
    ],
)
def test_mistakes_are_named(args, message, folder, monkeypatch, capsys):
    assert message in error_of(monkeypatch, capsys, "improvement", "--results", folder, *args)


@pytest.mark.parametrize("name", FIGURES)
def test_no_results_draw_nothing(name, tmp_path, monkeypatch, capsys):
    run(monkeypatch, name, "--results", tmp_path / "none", "--out", tmp_path)
    assert capsys.readouterr().err.startswith(f"{name}: nothing drawn")
    assert not list(tmp_path.iterdir())


def test_results_of_another_kind_draw_nothing(folder, tmp_path, monkeypatch, capsys):
    run(monkeypatch, "improvement", "--results", folder, "--out", tmp_path, "--suite", "demos")
    assert "improvement: nothing drawn: no results of single trainings" in capsys.readouterr().err


def test_missing_cells_are_counted_by_task(folder, tmp_path, monkeypatch, capsys):
    run(monkeypatch, "score", "--results", folder, "--out", tmp_path, "--suite", "sibench")
    cells = Counter(cell.task for cell in suites.suite("sibench").cells) - Counter({"ant": 21, "hopper": 21})
    text = ", ".join(f"{num} cells of {task}" for task, num in sorted(cells.items()))
    assert capsys.readouterr().err.splitlines() == [f"sibench: missing {text}"]


def test_same_results_give_same_bytes(folder, tmp_path, monkeypatch):
    for out in ("a", "b"):
        run(monkeypatch, "score", "--results", folder, "--out", tmp_path / out, "--suite", "small")
    for name in ("score-small.png", "score-small.svg"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_program_draws_the_figures_of_a_suite_and_the_readme(tmp_path, monkeypatch, capsys):
    main, config = PROGRAM["main"], PROGRAM["Config"]
    drew = []
    monkeypatch.setattr(panels, "save", lambda figure, path: drew.append(path.name))
    main(config(suite=("small-demos",), results=REPO / "results", out=tmp_path))
    assert drew == ["demos-small-demos"]
    drew.clear()
    main(config(figures=("improvement", "schematic"), results=REPO / "results", out=tmp_path))
    assert drew[-1] == "improvement-locomotion" and {"schematic", "improvement-quick"} <= set(drew)
    with pytest.raises(ValueError, match="did you mean 'returns'"):
        main(config(figures=("return",)))
    stems = {file.stem for file in PLOTS.glob("*.py")} - {"__main__", "style", "figures", "panels"}
    assert stems == {*FIGURES, *figures.OTHERS}


def test_help_imports_neither_jax_nor_matplotlib():
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "plots", "--help"],
        cwd=REPO, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    modules = {row.split("|")[-1].strip() for row in run.stderr.splitlines() if row.startswith("import time:")}
    assert "usage:" in run.stdout and not modules & {"jax", "matplotlib", "mujoco"}


# --- looks ------------------------------------------------------------------------------------------------------------

DEUTERANOPIA = np.array(  # Machado et al. 2009, severity 1, of linear RGB
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour, eyes):
    """Return CIELAB of a colour as these eyes see it."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(XYZ @ np.clip(eyes @ linear, 0, 1) / XYZ.sum(1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_every_shipped_method_has_its_own_look():
    assert style.LOOKS.keys() == variants().keys()
    for name in ("marker", "label", "color"):
        assert len({getattr(look, name) for look in style.LOOKS.values()}) == len(style.LOOKS)


def test_unknown_methods_get_looks_in_the_order_of_their_names():
    names = [f"method{index}" for index in range(12)]
    looks = style.looks([*reversed(names), "awr", "bc"])
    assert list(looks) == ["bc", "awr", *sorted(names)] and looks["awr"] == style.LOOKS["awr"]
    assert looks["method0"] == style.Look(style.OTHER_COLOURS[0], style.OTHER_MARKERS[0], "-.", "method0")
    assert len({(look.color, look.marker) for look in looks.values()}) == len(looks)


@pytest.mark.parametrize("eyes", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
def test_colours_are_distinguishable_by_colour_blind_readers(eyes):
    """A just noticeable difference is about 2.3."""
    colours = {method: look.color for method, look in style.LOOKS.items()}
    seen = {name: lab(colour, eyes) for name, colour in (colours | {c: c for c in style.OTHER_COLOURS}).items()}
    for a, b in itertools.combinations(seen, 2):
        enough = 20 if {a, b} <= set(suites.MAIN) else 12
        assert np.linalg.norm(seen[a] - seen[b]) > enough, (a, b)
    assert all(value[0] < 80 for value in seen.values())  # on white


# --- figures of other files -------------------------------------------------------------------------------------------


def test_schematic_shows_measured_shares(tmp_path, monkeypatch):
    run(monkeypatch, "schematic", "--out", tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"schematic.png", "schematic.svg"}
    schematic = import_module("schematic")
    figure = schematic.draw("hopper", tasks.ladder()["hopper"])
    left, right = figure.axes
    half = left.patches[1 + schematic.SHARES.index(0.5)].get_data()
    assert np.sum(half.values > half.baseline) >= 2
    np.testing.assert_allclose(np.sum(((half.values - half.baseline) / 0.95) ** 2), 1)
    assert right.get_yticklabels()[0].get_text() == "cloned from 1"
    plt.close(figure)


@pytest.mark.parametrize("name", ["schematic", "ladder", "experts"])
def test_other_figures_are_legible(name, tmp_path, monkeypatch, texts):
    run(monkeypatch, name, "--out", tmp_path)
    assert len(texts) > 20
    check_texts(texts)


def test_frames_without_opengl_say_what_to_install(tmp_path):
    run = subprocess.run(
        [sys.executable, PLOTS / "frames.py", tmp_path],
        env=os.environ | {"MUJOCO_GL": "none"}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0 and "not drawn: no OpenGL" in run.stderr and "libosmesa6" in run.stderr
    assert not list(tmp_path.iterdir())
