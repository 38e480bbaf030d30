"""The figures of plots/, made-up results to draw, and ways to read what was drawn."""

import sys
from importlib import import_module
from pathlib import Path

import synthetic
from conftest import REPO

from sibench.bench.suites import read_suite

PLOTS = REPO / "plots"
SUITES = ("sibench", "bimodal", "self-improve", "temperature", "mixture", "sqil", "ablations", "demos")
LEVELS = ("bc-1", "bc-5", "bc-20", "mix-0", "mix-300", "mix-1000")

sys.path.insert(0, str(PLOTS))
style, figures, panels = map(import_module, ("style", "figures", "panels"))


def gap(cell):
    """Return the gap of BC, which has not converged on bc-5 of hopper."""
    return 3.0 if (cell.task, cell.dataset) == ("hopper", "bc-5") else 0.2


def write_suites(root: Path) -> Path:
    for suite in SUITES:
        synthetic.write(
            root, suite, gap=gap, keep=lambda cell: cell.task in ("ant", "hopper", "lift") and cell.dataset in LEVELS
        )
    synthetic.write(root, "small", seeds=1, keep=lambda cell: cell.dataset != "bc-2")
    synthetic.write(root, "small-walker2d", seeds=2)
    return root


def drawn(name: str, folder: Path, *suites: str):
    """Draw a figure of whole suites; return it and the results."""
    results = [result for suite in suites for result in read_suite(suite, folder)]
    return import_module(name).draw(results), results


def axes_by_title(figure) -> dict:
    return {axis.get_title(loc="left"): axis for axis in figure.axes if axis.get_title(loc="left")}


def line(axis, label: str):
    """Return the data of the line with this label."""
    (found,) = [each for each in axis.lines if each.get_label() == label and len(each.get_xdata()) > 1]
    return found.get_xdata(), found.get_ydata()


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]
