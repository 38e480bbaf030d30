"""Improvement against the number of expert demonstrations, a panel for each dataset."""

import numpy as np
import panels
import style

from sibench.analysis import stats
from sibench.analysis.measures import converged_places


def draw(results: list):
    """Draw a panel for each dataset. BC, which uses no demonstrations, is a horizontal band."""
    converged, swept = converged_places(results), [result for result in results if result.settings]
    names = {(each.task, each.dataset): f"{each.task} {each.dataset}, quality {each.quality:.2f}" for each in swept}
    clones = [result for result in results if result.method == "bc" and not result.settings]
    results = swept + [clone for clone in clones if (clone.task, clone.dataset) in names]
    looks = style.looks(result.method for result in results)
    numbers = sorted({result.settings["demos"] for result in swept})
    limits = panels.limits(np.concatenate([result.improvement for result in results]))
    figure, axes = panels.make_panels([*names.values()], "expert demonstrations", "score minus quality of the data")
    for where, (axis,) in zip(names, axes.values(), strict=True):
        for method, dodge in zip(looks, panels.dodges(len(looks), 0.03), strict=True):
            cells = [each for each in results if (each.task, each.dataset, each.method) == (*where, method)]
            if cells and not cells[0].settings:
                mean, low, high, _ = stats.interval([cells[0].gains])
                axis.axhline(mean, color=looks[method].color, linewidth=1.1)
                axis.axhspan(low, high, color=looks[method].color, alpha=0.13, linewidth=0)
            elif cells:
                cells.sort(key=num_demos)
                panels.curve(axis, cells, lambda cell: cell.gains, converged, dodge, looks[method], x=num_demos)
        axis.axhline(0, color="0.35", linewidth=0.7, zorder=-1)
        axis.set(ylim=limits["ylim"])
        axis.set_xticks(np.log10(numbers), [str(number) for number in numbers])
    panels.key(figure, looks, results, converged, hatched=False)
    panels.caption(figure, panels.seeds_note(swept))
    return figure


def num_demos(result) -> float:
    """Return the number of demonstrations, on a logarithmic scale."""
    return np.log10(result.settings["demos"])
