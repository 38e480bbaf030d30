"""Whether BC has converged on the data: its held-out likelihood against the behaviour policy's own."""

import numpy as np
import panels
import style

from sibench.analysis.measures import converged_places
from sibench.learning.results import MAX_GAP


def draw(results: list):
    """Draw a panel for each task with the gap of every method; other methods than BC leave their data on purpose."""
    converged, tasks = converged_places(results), panels.by_task(results)
    looks = style.looks(result.method for result in results)
    figure, axes = panels.make_panels(list(tasks), panels.quality_label(results), "gap (nats per action dimension)")
    gaps = np.concatenate([result.gap for result in results])
    ticks = [0, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
    for task, (axis,) in axes.items():
        axis.set_yscale("symlog", linthresh=0.4, linscale=0.8)
        axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_yticks([], minor=True)
        axis.set(xlim=(-0.06, 1.07), ylim=(min(-0.1, np.nanmin(gaps)), 1.3 * max(2 * MAX_GAP, np.nanmax(gaps))))
        for method, dodge in zip(reversed(looks), panels.dodges(len(looks)), strict=True):  # BC on top
            if cells := tasks[task].get(method):
                panels.curve(axis, cells, lambda cell: cell.gap, converged, dodge, looks[method])
        axis.axhspan(MAX_GAP, axis.get_ylim()[1], color="0.96", linewidth=0, zorder=-2)
        for y, line in ((0, "-"), (MAX_GAP, ":")):
            axis.axhline(y, color="0.35", linewidth=0.7, linestyle=line, zorder=-1)
        panels.number_ticks(axis, [result for result in results if result.task == task])
    panels.key(figure, looks, results, converged, hatched=False)
    text = "Gap: held-out NLL minus the behaviour policy's. BC above the dotted line has not converged."
    panels.caption(figure, text)
    return figure
