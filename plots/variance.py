"""How much seeds differ: evaluations during training, and final policies (figures 17 and 18 of the paper)."""

from functools import partial
from typing import Any

import numpy as np
import panels
import style
from matplotlib.lines import Line2D

from sibench.analysis.measures import converged_places, last_tenth, played_late

BOTH: dict[str, Any] = {"linewidth": 1.1, "marker": "o", "markersize": 2.5, "markeredgewidth": 0.6}
LINES = {"during training": BOTH | {"linestyle": ":", "markerfacecolor": "white"}, "final policies": BOTH}


def draw(results: list):
    """Draw the paper's two ways to judge a method, and the standard deviation over seeds of each."""
    converged, tasks = converged_places(results), panels.by_task(results)
    looks = style.looks(result.method for result in results)
    figure, axes = panels.make_rows(3, list(tasks), "quality of the data", height=1.75, sharey="row")
    during = panels.count((late.size for result in results for late in played_late(result)), "episode")
    final = panels.count((result.episodes.shape[1] for result in results), "episode")
    ways = {
        f"during training,\n{during}": lambda result: last_tenth(result, min_episodes=1),
        f"final policies,\n{final}": lambda result: result.score,
    }
    values = np.concatenate([score(result) - result.quality for score in ways.values() for result in results])
    limits = panels.limits(values[np.isfinite(values)])
    for (way, score), row in zip(ways.items(), axes, strict=False):
        row[0].set_ylabel(f"{way}\nimprovement")
        for task, axis in zip(tasks, row, strict=True):
            axis.set(**limits, xticks=(0, 0.5, 1))
            for (method, cells), dodge in zip(tasks[task].items(), panels.dodges(len(tasks[task])), strict=True):
                gains = partial(gain, score)
                panels.curve(axis, cells, gains, converged, dodge, looks[method], band=False)
            panels.mark_expert(axis)
    for task, axis in zip(tasks, axes[-1], strict=True):
        for method, cells in tasks[task].items():
            for score, line in zip(ways.values(), LINES.values(), strict=True):
                spread = [np.std(score(cell), ddof=1) if len(cell.score) > 1 else np.nan for cell in cells]
                axis.plot([cell.quality for cell in cells], spread, color=looks[method].color, **line)
    axes[-1, 0].set_ylabel("standard deviation\nover seeds")
    axes[-1, 0].set_ylim(bottom=0)
    axes[-1, 0].legend(handles=[Line2D([], [], color="0.2", label=name, **line) for name, line in LINES.items()])
    panels.key(figure, looks, results, converged)
    panels.caption(figure, panels.seeds_note(results, band=False))
    return figure


def gain(score, result) -> np.ndarray:
    return score(result) - result.quality
