"""SIBench's score of every method, over all tasks and on each.

python plots/score.py    draws plots/score-<suite>.png and .svg for every suite in results
"""

import style
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter


def draw(results: list) -> Figure:
    """Best on top."""
    from sibench import stats
    from sibench.evidence import converged_places, place, si

    good, tasks = converged_places(results), style.by_task(results)
    table = stats.summarise(results)
    panels = {"all tasks": list(tasks)} if len(tasks) > 1 else {}
    panels |= {task: [task] for task in tasks}
    figure, axes = style.rows(1, list(panels), "score", 0.25 * len(table) + 0.6)
    for height, row in enumerate(table):
        for axis, own in zip(axes[0], panels.values(), strict=True):
            if found := [mine for task in own if (mine := tasks[task].get(row.method))]:
                solid = all(place(one) in good for mine in found for one in mine)
                style.point(axis, height, [si(mine) for mine in found], solid, row.method, across=True)
    for axis in axes[0]:
        axis.axvline(0, color="0.35", linewidth=0.7, zorder=-1)
        axis.grid(axis="x", color="0.92", linewidth=0.6)
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes[0, 0].set(ylim=(len(table) - 0.4, -0.6))
    axes[0, 0].set_yticks(range(len(table)), [name(row) for row in table])
    for label, row in zip(axes[0, 0].get_yticklabels(), table, strict=True):
        label.set_color(style.COLOURS[row.method])
    for axis in axes[0]:
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
    style.footnote(
        figure,
        results,
        good,
        "Score: the share of the headroom, over all qualities of data, that a method turned into return; 0 is as good "
        "as its data, 100 % the expert from any data. Dots: seeds. Line: 95 % interval of the mean (Welch's t).",
    )
    return figure


def name(row) -> str:
    """Of a method, with its score over all tasks."""
    lacking = f" ({row.cells} of {row.cells + row.missing})" if row.missing else ""
    values = row.score[:3] if row.score.seeds > 1 else row.score[:1]
    mean, *ends = (f"{round(100 * value)}".replace("-", "\N{MINUS SIGN}") for value in values)
    return f"{style.LABELS[row.method]}{lacking}\n{mean}" + (f" [{', '.join(ends)}]" if ends else "")


if __name__ == "__main__":
    style.run(draw)
