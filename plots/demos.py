"""Improvement against the number of expert demonstrations, a panel for each dataset.

python plots/demos.py    draws plots/demos-<suite>.png and .svg for every suite in results
"""

import numpy as np
import style
from matplotlib.figure import Figure


def draw(results: list) -> Figure:
    """BC, which has no use for demonstrations, is a band across."""
    from sibench import stats
    from sibench.evidence import converged_places

    good, swept = converged_places(results), [one for one in results if one.settings]
    names = {(one.task, one.dataset): f"{one.task} {one.dataset}, quality {one.quality:.2f}" for one in swept}
    results = [one for one in results if (one.task, one.dataset) in names and (one.settings or one.method == "bc")]
    methods = [method for method in style.LOOKS if any(one.method == method for one in results)]
    numbers = sorted({one.settings["demos"] for one in swept})
    limits = style.limits(np.concatenate([one.improvement for one in results]))
    figure, panels = style.panels([*names.values()], "expert demonstrations", "improvement")
    for where, (axis,) in zip(names, panels.values(), strict=True):
        for method, dodge in zip(methods, style.dodges(len(methods), 0.03), strict=True):
            own = [one for one in results if (one.task, one.dataset) == where and one.method == method]
            if method == "bc" and own:
                mean, low, high, _ = stats.interval([own[0].gains])
                axis.axhline(mean, color=style.COLOURS["bc"], linewidth=1.1)
                axis.axhspan(low, high, color=style.COLOURS["bc"], alpha=0.13, linewidth=0)
            elif own:
                own.sort(key=demos)
                style.curve(axis, own, lambda one: one.gains, good, dodge, at=demos, **style.look(method))
        axis.axhline(0, color="0.35", linewidth=0.7, zorder=-1)
        axis.set(ylim=limits["ylim"])
        axis.set_xticks(np.log10(numbers), [str(number) for number in numbers])
    style.key(figure, methods)
    style.footnote(
        figure,
        results,
        good,
        "Improvement: score minus quality of the data, both 0 for random and 1 for the expert.",
        style.DOTS,
    )
    return figure


def demos(result) -> float:
    return np.log10(result.settings["demos"])


if __name__ == "__main__":
    style.run(draw, kinds=("demos",), beside=True)
