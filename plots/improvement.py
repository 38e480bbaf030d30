"""Improvement over the data against the quality of the data (figures 2, 3, 4 and 5 of the paper)."""

import numpy as np
import panels
import style

from sibench.analysis import stats
from sibench.analysis.measures import converged_places, place


def draw(results: list):
    """Draw a panel for each task and beside it, in place of the paper's box plots, the mean over its datasets."""
    converged, tasks = converged_places(results), panels.by_task(results)
    looks = style.looks(result.method for result in results)
    figure, axes = panels.make_panels(
        list(tasks), panels.quality_label(results), "score minus quality of the data", widths=(3.4, 1)
    )
    hairs = (panels.hair_ends(result, result.improvement) for result in results)
    values = [result.improvement for result in results] + [ends.ravel() for ends in hairs if ends is not None]
    limits = panels.limits(np.concatenate(values))
    for task, (axis, side) in axes.items():
        axis.set(**limits)
        for index, (method, dodge) in enumerate(zip(looks, panels.dodges(len(looks)), strict=True)):
            if cells := tasks[task].get(method):
                panels.curve(axis, cells, lambda cell: cell.gains, converged, dodge, looks[method], hairs=True)
                solid = all(place(cell) in converged for cell in cells)
                panels.point(side, index, [mean_gains(cells)], solid, looks[method])
        panels.mark_expert(axis)
        panels.number_ticks(axis, [result for result in results if result.task == task])
        side.axhline(0, color="0.35", linewidth=0.7, zorder=-1)
        side.set(xlim=(-0.7, len(looks) - 0.3), xticks=[])
        side.set_title("mean", loc="center", fontsize=7, fontweight="normal", color="0.4")
        side.tick_params(left=False)
        side.spines[["left", "bottom"]].set_visible(False)
    panels.key(figure, looks, results, converged)
    panels.caption(figure, panels.seeds_note(results, hairs=True))
    return figure


def mean_gains(cells: list) -> np.ndarray:
    """Return [S, E], the mean over the qualities of the data, weighted as in SIBench's score."""
    weights = stats.weights(np.array([cell.quality for cell in cells]))
    seeds = min(len(cell.gains) for cell in cells)
    return np.tensordot(weights, np.array([cell.gains[:seeds] for cell in cells]), 1) / weights.sum()
