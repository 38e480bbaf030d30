"""Score of the learned policies against the quality of the data (figures 10, 11, 12 and 13 of the paper)."""

from functools import partial

import numpy as np
import panels
import style

from sibench.analysis.measures import converged_places, to_return
from sibench.tasks import quality


def draw(results: list):
    """Draw a panel for each task, with scores on the left and returns on the right."""
    converged, tasks = converged_places(results), panels.by_task(results)
    looks = style.looks(result.method for result in results)
    figure, axes = panels.make_panels(list(tasks), panels.quality_label(results), "score")
    values = np.concatenate([[0.0, 1.0], *(result.score for result in results)])
    for task, (axis,) in axes.items():
        axis.set(xlim=(-0.06, 1.07), ylim=(values.min() - 0.05, values.max() + 0.1))
        for method, dodge in zip(looks, panels.dodges(len(looks), 0.01, 0.01), strict=True):  # along the diagonal
            if cells := tasks[task].get(method):
                panels.curve(axis, cells, lambda cell: cell.episodes, converged, dodge, looks[method], hairs=True)
        panels.mark_expert(axis, absolute=True)
        panels.number_ticks(axis, [result for result in results if result.task == task])
        right = axis.secondary_yaxis("right", functions=(partial(to_return, task=task), partial(quality, task)))
        right.set_ylabel("return", color="0.4")
        right.tick_params(color="0.4", labelcolor="0.4")
        right.spines["right"].set_visible(False)
    panels.key(figure, looks, results, converged)
    panels.caption(figure, f"Diagonal: as good as the data. {panels.seeds_note(results, hairs=True)}")
    return figure
