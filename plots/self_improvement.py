"""Self-improvement, round by round, of all methods (figures 7 and 14 of the paper)."""

import numpy as np
import panels
import style
from matplotlib.ticker import MaxNLocator

from sibench.analysis import stats
from sibench.analysis.measures import chain, converged_places, number, place


def draw(results: list):
    """Draw a row of panels for each dataset that self-improvement starts from."""
    converged, tasks = converged_places(results), panels.by_task(results)
    looks = style.looks(result.method for result in results)
    starts = sorted({result.dataset for result in results}, key=number)
    figure, axes = panels.make_rows(len(starts), list(tasks), "round")
    for start, row in zip(starts, axes, strict=True):
        row[0].set_ylabel(f"from {start}\nscore")
        for task, axis in zip(tasks, row, strict=True):
            for method, chains in tasks[task].items():
                for result in chains:
                    if result.dataset == start:
                        draw_rounds(axis, result, looks[method], place(result) in converged)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.axhline(1, color="0.6", linewidth=0.6, zorder=-1)
    panels.key(figure, looks, results, converged, hatched=False)
    panels.caption(figure, f"Round 0: the data. Top line: expert. {panels.seeds_note(results, 'Thin', hairs=True)}")
    return figure


def draw_rounds(axis, result, look: style.Look, solid: bool) -> None:
    """Draw the scores after each round: the mean, its 95 % band, and every seed."""
    data, policy = chain(result)
    scores = np.concatenate([data[:1], policy])
    rounds, colour = np.arange(len(scores)), look.color
    mean, low, high = panels.bands(scores)
    axis.fill_between(rounds, low, high, color=colour, alpha=0.13, linewidth=0, label=f"_band of {look.label}")
    axis.plot(rounds, scores, color=colour, linewidth=0.35, alpha=0.35)
    if panels.success_intervals(result) is not None:  # these scores are shares of episodes that succeed
        num = panels.setting(result, "final_episodes")
        for at, shares in enumerate(policy, 1):
            ends = np.array([stats.wilson(round(share * num), num) for share in shares]).T
            axis.vlines(np.full(len(shares), at), *ends, color=colour, linewidth=0.4, alpha=0.35)
    axis.plot(rounds, mean, color=colour, linestyle=look.linestyle, alpha=1.0 if solid else 0.35, label=look.label)
    end = {"marker": look.marker, "markersize": 4, "markerfacecolor": colour if solid else "white"}
    axis.plot(rounds[-1], mean[-1], color=colour, **end)
