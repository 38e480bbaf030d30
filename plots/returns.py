"""What a method makes of data, against the quality of the data: absolute (figures 10, 11, 12 and 13 of the paper).

python plots/returns.py    draws plots/returns-<suite>.png and .svg for every suite in results
"""

import numpy as np
import style
from matplotlib.figure import Figure


def draw(results: list) -> Figure:
    from sibench import tasks as known
    from sibench.evidence import converged_places

    good, tasks = converged_places(results), style.by_task(results)
    figure, panels = style.panels(list(tasks), "quality of the data (0 random, 1 expert)", "score")
    methods = [method for method in style.LOOKS if any(method in found for found in tasks.values())]
    values = np.concatenate([[0.0, 1.0], *(result.score for result in results)])
    for task, (axis,) in panels.items():
        axis.set(xlim=(-0.06, 1.07), ylim=(values.min() - 0.05, values.max() + 0.1))
        for method, dodge in zip(methods, style.dodges(len(methods), 0.01, 0.01), strict=True):  # along the diagonal
            if found := tasks[task].get(method):
                style.curve(axis, found, lambda one: one.episodes, good, dodge, hairs=True, **style.look(method))
        style.headroom(axis, absolute=True)
        style.number_ticks(axis, [one for found in tasks[task].values() for one in found], inches=2.9)
        random, expert = (known.references(task)[name]["mean"] for name in ("random", "expert"))
        returns = axis.secondary_yaxis(
            "right",
            functions=(lambda y, a=random, b=expert: a + y * (b - a), lambda r, a=random, b=expert: (r - a) / (b - a)),
        )
        returns.set_ylabel("return", color="0.4")
        returns.tick_params(color="0.4", labelcolor="0.4")
        returns.spines["right"].set_visible(False)
    style.key(figure, methods)
    style.footnote(
        figure,
        results,
        good,
        style.dots(results),
        f"Diagonal: as good as the data. Hatched: above the expert. {style.number_note(results)}",
    )
    return figure


if __name__ == "__main__":
    style.run(draw)
