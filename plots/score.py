"""SIBench's score of every method, over all tasks and on each."""

import panels
import style

from sibench.analysis import stats
from sibench.analysis.measures import converged_places, place, sibench_score


def draw(results: list):
    """Draw a row for each method, the best on top."""
    converged, tasks = converged_places(results), panels.by_task(results)
    looks = style.looks(result.method for result in results)
    table = stats.summarise(results)
    columns = ({"all tasks": list(tasks)} if len(tasks) > 1 else {}) | {task: [task] for task in tasks}
    figure, axes = panels.make_rows(1, list(columns), "score", 0.25 * len(table) + 0.6)
    for height, row in enumerate(table):
        for axis, names in zip(axes[0], columns.values(), strict=True):
            if by_task := [tasks[name][row.method] for name in names if row.method in tasks[name]]:
                solid = all(place(cell) in converged for cells in by_task for cell in cells)
                scores = [sibench_score(cells) for cells in by_task]
                panels.point(axis, height, scores, solid, looks[row.method], horizontal=True)
    for axis in axes[0]:
        axis.axvline(0, color="0.35", linewidth=0.7, zorder=-1)
        axis.grid(axis="x", color="0.92", linewidth=0.6)
        axis.xaxis.set_major_formatter("{x:+.1f}")
        axis.locator_params(axis="x", nbins=max(3, 8 // len(columns)))
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
    axes[0, 0].set(ylim=(len(table) - 0.4, -0.6))
    axes[0, 0].set_yticks(range(len(table)), [row_label(row, looks[row.method].label) for row in table])
    for label, row in zip(axes[0, 0].get_yticklabels(), table, strict=True):
        label.set_color(looks[row.method].color)
    panels.key(figure, {}, results, converged, hatched=False)
    text = "Share of the headroom gained: 0 is as good as the data, 1 the expert. Brackets: 95 % interval."
    panels.caption(figure, text)
    return figure


def row_label(row, label: str) -> str:
    """Return the name of a method with its score and the score's interval."""
    cells = f" ({row.cells} of {row.cells + row.missing})" if row.missing else ""
    values = row.score[:3] if row.score.seeds > 1 else row.score[:1]
    mean, *ends = (f"{value:+.2f}".replace("-", "\N{MINUS SIGN}") for value in values)
    return f"{label}{cells}\n{mean}" + (f" [{', '.join(ends)}]" if ends else "")
