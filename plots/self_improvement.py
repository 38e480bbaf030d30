"""Self-improvement, iteration by iteration, of all methods (figures 7 and 14 of the paper).

python plots/self_improvement.py    draws plots/self_improvement-<suite>.png and .svg for every suite in results
"""

import numpy as np
import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def draw(results: list) -> Figure:
    """A row of panels for each dataset to start from."""
    from sibench import stats
    from sibench.evidence import chain, converged_places, number, place

    good, tasks = converged_places(results), style.by_task(results)
    starts = sorted({one.dataset for one in results}, key=number)
    figure, axes = style.rows(len(starts), list(tasks), "iteration")
    methods = [method for method in style.LOOKS if any(method in found for found in tasks.values())]
    for start, row in zip(starts, axes, strict=True):
        row[0].set_ylabel(f"from {start}\nscore")
        for task, axis in zip(tasks, row, strict=True):
            found = [one for own in tasks[task].values() for one in own if one.dataset == start]
            for one in found:
                data, policy = chain(one)
                scores = np.concatenate([data[:1], policy])  # before, and after each iteration
                iteration = np.arange(len(scores))
                colour, marker, line, label = style.LOOKS[one.method]
                solid = place(one) in good
                mean, low, high = style.band(scores)
                axis.fill_between(
                    iteration, low, high, color=colour, alpha=0.13, linewidth=0, label=f"_band of {label}"
                )
                axis.plot(iteration, scores, color=colour, linewidth=0.35, alpha=0.35)
                if style.successes(one) is not None:  # these scores are shares of episodes that succeed
                    num = one.raw["config"]["final_episodes"]
                    for at, shares in enumerate(policy, 1):
                        ends = np.array([stats.wilson(round(share * num), num) for share in shares]).T
                        axis.vlines(np.full(len(shares), at), *ends, color=colour, linewidth=0.4, alpha=0.35)
                axis.plot(iteration, mean, color=colour, linestyle=line, alpha=1.0 if solid else 0.35, label=label)
                end = {"marker": marker, "markersize": 4, "markerfacecolor": colour if solid else "white"}
                axis.plot(iteration[-1], mean[-1], color=colour, **end)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.axhline(1, color="0.6", linewidth=0.6, zorder=-1)
    style.key(figure, methods)
    style.footnote(
        figure,
        results,
        good,
        "Score after each iteration, at 0 the quality of the data to start from; grey: the expert. "
        "Thin: seeds. Thick: mean. Band: its 95 % interval over three seeds or more (Welch's t)."
        + style.hair_note(results),
    )
    return figure


if __name__ == "__main__":
    style.run(draw, kinds=["chain"])
