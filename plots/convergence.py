"""Have the learners learned their data? Their likelihood of held-out actions beside the teacher's own.

python plots/convergence.py    draws plots/convergence-<suite>.png and .svg for every suite in results
"""

import numpy as np
import style
from matplotlib.figure import Figure


def draw(results: list) -> Figure:
    """BC above all: where its gap is large, or it loses much of the data's quality, no comparison says anything."""
    from sibench.evidence import converged_places
    from sibench.results import GAP, LOSS

    good, tasks = converged_places(results), style.by_task(results)
    figure, panels = style.panels(list(tasks), "quality of the data (0 random, 1 expert)", "gap, nats a dimension")
    methods = [method for method in style.LOOKS if any(method in found for found in tasks.values())]
    gaps = np.concatenate([one.gap for one in results])
    for task, (axis,) in panels.items():
        axis.set_yscale("symlog", linthresh=0.4, linscale=0.8)
        axis.set_yticks(ticks := [0, 0.2, 0.5, 1, 2, 5, 10, 20], [f"{tick:g}" for tick in ticks])
        axis.set(xlim=(-0.06, 1.07), ylim=(min(-0.1, np.nanmin(gaps)), 1.3 * max(2 * GAP, np.nanmax(gaps))))
        for method, dodge in zip(reversed(methods), style.dodges(len(methods)), strict=True):  # BC on top
            if found := tasks[task].get(method):
                style.curve(axis, found, lambda one: one.gap, good, dodge, **style.look(method))
        axis.axhspan(GAP, axis.get_ylim()[1], color="0.96", linewidth=0, zorder=-2)
        for y, line in ((0, "-"), (GAP, ":")):
            axis.axhline(y, color="0.35", linewidth=0.7, linestyle=line, zorder=-1)
        style.number_ticks(axis, [one for found in tasks[task].values() for one in found], inches=3.1)
    style.key(figure, methods)
    style.footnote(
        figure,
        results,
        good,
        "Gap: how much less likely held-out actions of the data's policy are under the learner than under that policy, "
        "which none can better, divided by their dimensions. "
        f"BC has converged if its own is below {GAP:g} (dotted) and it loses less than {LOSS:g} "
        "of the data's quality; other methods leave their data on purpose.",
        style.DOTS,
        style.number_note(results),
    )
    return figure


if __name__ == "__main__":
    style.run(draw)
