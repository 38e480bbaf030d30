"""Improvement at other temperatures and mixtures: of VfO and SQIL (figures 8, 9, 15, 16 of the paper), and of others.

python plots/sweeps.py    draws plots/sweeps-<suite>.png and .svg for every suite in results
"""

import itertools

import numpy as np
import style
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

KINDS = ("temperature", "mixture", "mixture+temperature")
USUAL = {
    "vfo-bin": {"temperature": 1.0, "mixture": 0.5},
    "sqil": {"temperature": 1.0, "mixture": 0.9},
    "awr": {"temperature": 1.0},
    "dilo": {"temperature": 10.0},
}
"""What a setting is while the other is swept."""


def draw(results: list) -> Figure:
    """A row of panels for each setting that is swept."""
    from sibench.evidence import converged_places

    good, results = converged_places(results), with_usual(results)
    (method,) = {result.method for result in results}
    tasks = style.by_task(results)
    swept = sorted({name for result in results for name in result.settings}, reverse=True)
    values = np.concatenate([result.improvement for result in results])
    figure, axes = style.rows(len(swept), list(tasks), "quality of the data")
    for name, row in zip(swept, axes, strict=True):
        usual = {other: USUAL[method][other] for other in swept if other != name}
        levels = sorted({one.settings[name] for one in results if usual.items() <= one.settings.items()})
        colours = [*plt.colormaps["viridis"](np.linspace(0.0, 0.9, len(levels)))]
        looks = [
            {"color": colour, "marker": marker, "linestyle": "-", "label": f"{level:g}"}
            for level, colour, marker in zip(levels, colours, itertools.cycle("osD^v"))
        ]
        for task, axis in zip(tasks, row, strict=True):
            axis.set(**style.limits(values), xticks=(0, 0.5, 1))
            for level, dodge, look in zip(levels, style.dodges(len(levels), 0.015), looks, strict=True):
                own = (usual | {name: level}).items()
                found = [one for one in tasks[task][method] if own <= one.settings.items()]
                if found:
                    style.curve(axis, found, lambda one: one.gains, good, dodge, **look)
            style.headroom(axis)
        row[0].set_ylabel("improvement")
        handles = [Line2D([], [], markersize=4, **look) for look in looks]
        for level, handle in zip(levels, handles, strict=True):
            handle.set_label(f"{level:g}" + " (usual)" * (level == USUAL[method][name]))
        row[-1].legend(handles=handles, title=name, loc="center left", bbox_to_anchor=(1, 0.5), alignment="left")
    style.footnote(
        figure,
        results,
        good,
        f"{style.LABELS[method]}: improvement (score minus quality, both 0 for random and 1 for the expert).",
        style.DOTS,
        "Hatched: above the expert.",
    )
    return figure


def with_usual(results: list) -> list:
    """A sweep, and what another suite has of the same data with usual settings, if the sweep leaves that out."""
    sweep = [one for one in results if one.settings]
    usual = {name: USUAL[sweep[0].method][name] for name in sweep[0].settings}
    there = {(one.task, one.dataset) for one in sweep if one.settings == usual}
    wanted = {(one.task, one.dataset) for one in sweep} - there
    plain = [one for one in results if one.method == sweep[0].method and not one.settings]
    return sweep + [one._replace(settings=usual) for one in plain if (one.task, one.dataset) in wanted]


if __name__ == "__main__":
    style.run(draw, kinds=KINDS, beside=True)
