"""Improvement over the data against the quality of the data (figures 2, 3, 4 and 5 of the paper).

python plots/improvement.py    draws plots/improvement-<suite>.png and .svg for every suite in results
"""

import numpy as np
import style
from matplotlib.figure import Figure


def draw(results: list) -> Figure:
    """Beside each task, in place of the paper's boxplots, the means over its spectrum of qualities."""
    from sibench.evidence import converged_places, place

    good, tasks = converged_places(results), style.by_task(results)
    figure, panels = style.panels(
        list(tasks), "quality of the data (0 random, 1 expert)", "improvement", widths=(3.4, 1.2)
    )
    values = np.concatenate([style.reach(result, result.improvement) for result in results])
    methods = [method for method in style.LOOKS if any(method in found for found in tasks.values())]
    for task, (axis, side) in panels.items():
        axis.set(**style.limits(values))
        for method, dodge in zip(methods, style.dodges(len(methods)), strict=True):
            if found := tasks[task].get(method):
                style.curve(axis, found, lambda one: one.gains, good, dodge, hairs=True, **style.look(method))
                solid = all(place(one) in good for one in found)
                style.point(side, methods.index(method), [mean(found)], solid, method)
        style.headroom(axis)
        style.number_ticks(axis, [one for found in tasks[task].values() for one in found], inches=2.1)
        side.axhline(0, color="0.35", linewidth=0.7, zorder=-1)
        side.set(xlim=(-0.7, len(methods) - 0.3), xticks=[])
        side.tick_params(left=False)
        side.spines[["left", "bottom"]].set_visible(False)
    for _, side in list(panels.values())[-2:]:  # below their columns
        side.set_xticks(range(len(methods)), [style.LABELS[method] for method in methods], rotation=90)
        side.tick_params(bottom=False)
        for label, method in zip(side.get_xticklabels(), methods, strict=True):
            label.set_color(style.COLOURS[method])
    style.footnote(
        figure,
        results,
        good,
        "Improvement: score minus quality, both 0 for random and 1 for the expert.",
        style.dots(results),
        f"Hatched: above the expert. {style.number_note(results)} Right: mean over the spectrum, with its interval.",
    )
    return figure


def mean(found: list) -> np.ndarray:
    """[S, E], over the spectrum of qualities, weighted as in SIBench's score."""
    from sibench import stats

    weights = stats.weights(np.array([one.quality for one in found]))
    seeds = min(len(one.gains) for one in found)
    return np.tensordot(weights, np.array([one.gains[:seeds] for one in found]), 1) / weights.sum()


if __name__ == "__main__":
    style.run(draw)
