"""How much seeds differ: evaluations during training, and final policies (figures 17 and 18 of the paper).

python plots/variance.py    draws plots/variance-<suite>.png and .svg for every suite in results
"""

from collections.abc import Iterable

import numpy as np
import style
from matplotlib.figure import Figure

METHODS = ("vfo-bin", "vfo-disc", "awr")


def draw(results: list) -> Figure:
    """The paper's two ways to judge a method, and the standard deviation over seeds that either leaves."""
    from sibench.evidence import converged_places, last_tenth, played_late

    own = [one for one in results if one.method in METHODS]

    def episodes(numbers: Iterable[int]) -> str:
        return style.spell(numbers, "episode")

    def rough(one) -> np.ndarray:
        return last_tenth(one, fewest=1)

    good, tasks = converged_places(results), style.by_task(own)
    figure, axes = style.rows(3, list(tasks), "quality of the data", height=1.75, sharey="row")
    scores = {
        f"during training,\n{episodes(late.size for one in own for late in played_late(one))}": rough,
        f"final policies,\n{episodes(one.episodes.shape[1] for one in own)}": lambda one: one.score,
    }
    values = np.concatenate([of(one) - one.quality for of in scores.values() for one in results])
    values = values[np.isfinite(values)]
    for (way, of), row in zip(scores.items(), axes, strict=False):
        row[0].set_ylabel(f"{way}\nimprovement")
        for task, axis in zip(tasks, row, strict=True):
            axis.set(**style.limits(values), xticks=(0, 0.5, 1))
            for (method, found), dodge in zip(tasks[task].items(), style.dodges(len(tasks[task]), 0.015), strict=True):
                style.curve(axis, found, lambda one, of=of: of(one) - one.quality, good, dodge, **style.look(method))
            style.headroom(axis)
    axes[-1, 0].set_ylabel("standard deviation\nover seeds")
    for task, axis in zip(tasks, axes[-1], strict=True):
        for method, found in tasks[task].items():
            for of, line in zip(scores.values(), (":", "-"), strict=True):
                spread = [np.std(of(one), ddof=1) if len(one.score) > 1 else np.nan for one in found]
                quality, colour = [one.quality for one in found], style.COLOURS[method]
                axis.plot(quality, spread, color=colour, linewidth=1.1, linestyle=line)
    axes[-1, 0].set_ylim(bottom=0)
    style.key(figure, [method for method in METHODS if any(method in found for found in tasks.values())])
    style.footnote(
        figure,
        own,
        good,
        "During training: evaluations in the last tenth of it, as the paper reports (manipulation: half). Final "
        "policies: as all other figures here. Bottom: dotted for the first, full for the second.",
        style.DOTS,
        "Hatched: above the expert.",
    )
    return figure


if __name__ == "__main__":
    style.run(draw, kinds=["ladder"], methods=METHODS)
