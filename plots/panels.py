"""What the figures share: panels, curves with their intervals, legends and captions."""

import functools
import itertools
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import style
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import Affine2D
from style import Look

from sibench.analysis import stats
from sibench.analysis.measures import Place, number, place
from sibench.learning.results import Result

matplotlib.use("agg")
plt.rcParams |= style.SETTINGS
ABOVE_EXPERT = {"facecolor": "0.985", "edgecolor": "0.78", "hatch": "/////", "linewidth": 0}


def save(figure: Figure, path: Path) -> None:
    """Write PNG and SVG, the same bytes for the same figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_name(f"{path.name}.png"), dpi=200)
    figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None})
    plt.close(figure)
    print(f"drew {path}.png and .svg")


# --- panels -----------------------------------------------------------------------------------------------------------


def make_panels(
    names: Sequence[str], x: str, y: str, height: float = 2.4, columns: int = 0, widths=(1.0,), sharey: bool = True
) -> tuple[Figure, dict[str, np.ndarray]]:
    """Return a figure with one panel for each name, of as many axes as there are widths."""
    columns = min(columns or (3 if len(names) == 3 else 2), len(names))
    num_rows = -(-len(names) // columns)
    figure, axes = plt.subplots(
        num_rows,
        columns * len(widths),
        figsize=(style.WIDTHS[columns > 1], height * num_rows + (0.8 if num_rows > 1 else 1.2)),
        squeeze=False,
        sharey=sharey,
        width_ratios=[*widths] * columns,
    )
    axes = axes.reshape(num_rows * columns, len(widths))
    for panel in axes[len(names) - columns : len(names)]:
        panel[0].set_xlabel(x)
    for panel in axes[::columns]:
        panel[0].set_ylabel(y)
    for unused in axes[len(names) :].flat:
        unused.set_visible(False)
    panels = dict(zip(names, axes, strict=False))
    for name, panel in panels.items():
        panel[0].set_title(name)
    return figure, panels


def make_rows(
    num: int, names: Sequence[str], x: str, height: float = 1.9, sharey: bool | Literal["row"] = True
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes [num, names]: a column for each name."""
    size = (style.WIDTHS[len(names) > 1], height * num + 0.8)
    figure, axes = plt.subplots(num, len(names), figsize=size, squeeze=False, sharex=True, sharey=sharey)
    for name, top, bottom in zip(names, axes[0], axes[-1], strict=True):
        top.set_title(name)
        bottom.set_xlabel(x)
    return figure, axes


def limits(values: np.ndarray) -> dict:
    """Return limits of axes of improvement against quality that hold all values, and zero."""
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    margin = 0.05 * (high - low) + 0.02
    return {"xlim": (-0.06, 1.07), "ylim": (low - margin, high + margin)}


def mark_expert(axis: Axes, absolute: bool = False) -> None:
    """Draw the line of no improvement, and hatch the region above the expert; keep the limits of the axis."""
    left, right, bottom, top = axis.axis()
    x = np.array([left, 1.0, right]) if left < 1 < right else np.array([left, right])
    as_good, expert = (x, np.ones_like(x)) if absolute else (np.zeros_like(x), np.maximum(1 - x, 0))
    axis.fill_between(x, expert, 10, zorder=-2, **ABOVE_EXPERT)
    axis.plot(x, expert, color="0.6", linewidth=0.6, zorder=-1)
    axis.plot(x, as_good, color="0.35", linewidth=0.7, zorder=-1)
    axis.axis((left, right, bottom, top))


def quality_label(results: Iterable[Result]) -> str:
    """Return the label of the x axis, which also says what `number_ticks` are."""
    mixed = all(result.dataset.startswith("mix") for result in results)
    ticks = "expert episodes of 1000" if mixed else "demonstrations cloned"
    return f"data quality (0 random, 1 expert)\ntop: {ticks}"


def number_ticks(axis: Axes, results: Collection[Result]) -> None:
    """Put a tick on top for each dataset, with the d of bc-<d>, the e of mix-<e>. Close ones share a label."""
    quality = {number(result.dataset): result.quality for result in results}
    left, right = axis.get_xlim()
    points = axis.bbox.width * 72 / plt.rcParams["figure.dpi"] / (right - left)

    def label(group: list[int]) -> str:
        first, last = min(group), max(group)
        return str(first) if first == last else f"{first}+" if last == max(quality) else f"{first}–{last}"

    def middle(group: list[int]) -> float:
        return sum(quality[each] for each in group) / len(group)

    def room(pair: tuple[list[int], list[int]]) -> float:
        """Return the points that are free between two labels."""
        return (middle(pair[1]) - middle(pair[0])) * points - 2.3 * sum(len(label(group)) for group in pair) - 3

    groups = [[each] for each in sorted(quality, key=lambda each: quality[each])]
    while len(groups) > 1 and room(pair := min(itertools.pairwise(groups), key=room)) < 0:
        at = groups.index(pair[0])
        groups[at : at + 2] = [pair[0] + pair[1]]
    top = axis.secondary_xaxis("top")
    top.set_xticks([middle(group) for group in groups], [label(group) for group in groups], color="0.4")
    top.set_xticks(list(quality.values()), minor=True)
    top.xaxis.remove_overlapping_locs = False  # a tick for each, with the label of its group or between others
    top.tick_params(length=0, pad=3, color="0.4")
    top.tick_params(which="minor", length=2, width=0.5, color="0.4")
    top.spines["top"].set_visible(False)


# --- data in a panel --------------------------------------------------------------------------------------------------


def curve(
    axis: Axes,
    results: Sequence[Result],
    values: Callable[[Result], np.ndarray],
    converged: set[Place],
    dodge: Sequence[float],
    look: Look,
    band: bool = True,
    hairs: bool = False,
    x: Callable[[Result], float] = lambda result: result.quality,
) -> None:
    """Draw `values` of results, [S] or [S, E], against `x`: the mean, its 95 % Welch band, and every seed.

    Results are pale and hollow where BC has not converged. `dodge` shifts what is drawn, but not the data of the lines.
    With `hairs`, values are scores or differences from scores, and seeds get the intervals of `success_intervals`.
    """
    at, groups = np.array([x(result) for result in results]), [values(result) for result in results]
    mean, low, high = bands(groups)
    solid, colour = np.array([place(result) in converged for result in results]), look.color
    shift: dict[str, Any] = {"transform": Affine2D().translate(*dodge) + axis.transData}
    if band:
        axis.fill_between(at, low, high, color=colour, alpha=0.13, linewidth=0, label=f"_band of {look.label}", **shift)
    seeds = [stats.seed_means(group) for group in groups]
    dots = {"marker": "o", "markersize": 1.9, "markeredgewidth": 0, "linestyle": "", "alpha": 0.45}
    axis.plot(np.repeat(at, [len(each) for each in seeds]), np.concatenate(seeds), color=colour, **dots, **shift)
    for where, result, each in zip(at, results, seeds, strict=True):
        if hairs and (ends := hair_ends(result, each)) is not None:
            axis.vlines(np.full(len(each), where), *ends, color=colour, linewidth=0.4, alpha=0.35, **shift)
    line = {"color": colour, "linestyle": look.linestyle, "linewidth": 1.1}
    axis.plot(at, mean, label=look.label, alpha=1.0 if solid.all() else 0.3, **line, **shift)
    if not solid.all():
        axis.plot(at, np.where(solid, mean, np.nan), **line, **shift)
    for which, face, alpha in ((solid, colour, 1.0), (~solid, "white", 0.6)):
        means = {"markersize": 3.2, "markeredgewidth": 0.7, "markerfacecolor": face, "linestyle": "", "alpha": alpha}
        axis.plot(at[which], mean[which], marker=look.marker, color=colour, **means, **shift)


def bands(groups: Iterable[np.ndarray]) -> np.ndarray:
    """Return [3, N]: the mean of each group of seeds and the ends of its 95 % interval, NaN of fewer than 3 seeds.

    The interval of two seeds is 13 times as wide as they are apart.
    """
    rows = [(*stats.interval([group])[:3], len(group)) for group in groups]
    return np.array([(mean, low, high) if num > 2 else (mean, np.nan, np.nan) for mean, low, high, num in rows]).T


def success_intervals(result: Result) -> np.ndarray | None:
    """Return [2, S], Wilson's interval of each seed, if episodes succeed or fail; otherwise None."""
    if not any(seed.progress for seed in result.seeds):
        return None
    counts = [(int(sum(seed.returns)), len(seed.returns)) for seed in result.seeds]
    return np.array([stats.wilson(*pair) if pair[1] else (0.0, 0.0) for pair in counts]).T


def hair_ends(result: Result, values: np.ndarray) -> np.ndarray | None:
    """Return [2, S], the intervals of seeds around values that are scores or differences from scores."""
    intervals = success_intervals(result)
    return None if intervals is None else intervals + values - result.score


def point(
    axis: Axes, position: float, groups: Sequence[np.ndarray], solid: bool, look: Look, horizontal: bool = False
) -> None:
    """Draw the mean over groups of seeds with its 95 % Welch interval; of a single group also its seeds.

    `position` is on the x axis, or on the y axis if the interval is horizontal.
    """
    mean, low, high = bands(groups)[:, 0] if len(groups) == 1 else stats.interval(groups)[:3]
    face = look.color if solid else "white"

    def plot(values: Sequence[float] | np.ndarray, **how) -> None:
        pair = (np.full(len(values), position), values)
        axis.plot(*(pair[::-1] if horizontal else pair), color=look.color, **how)

    plot([low, high], linewidth=1.1, alpha=1.0 if solid else 0.35)
    if len(groups) == 1:
        plot(stats.seed_means(groups[0]), marker="o", markersize=2.2, markeredgewidth=0, alpha=0.45, linestyle="")
    how = {"markersize": 4.2, "markeredgewidth": 0.8, "markerfacecolor": face, "linestyle": "", "label": look.label}
    plot([mean], marker=look.marker, **how)


def dodges(num: int, x: float = 0.01, y: float = 0.0) -> np.ndarray:
    """Return [num, 2], shifts that keep apart the methods of a panel."""
    return np.outer(np.arange(num) - (num - 1) / 2, (x, y))


# --- legend and caption -----------------------------------------------------------------------------------------------


def key(
    figure: Figure, looks: Mapping[str, Look], results: Collection[Result], converged: set[Place], hatched: bool = True
) -> None:
    """Put a legend above everything, of the methods and of what else is marked."""
    handles: list = [Line2D([], [], markersize=4, linewidth=1.2, **look._asdict()) for look in looks.values()]
    places = {place(result) for result in results}
    if hollow := len(places - converged):
        label = f"BC not converged ({hollow} of {len(places)} datasets)"
        white = {"marker": "o", "markerfacecolor": "white", "markersize": 4, "alpha": 0.6, "linestyle": ""}
        handles.append(Line2D([], [], color="0.2", label=label, **white))
    if hatched:
        handles.append(Patch(label="above the expert", **ABOVE_EXPERT))
    for lines in range(1, len(handles) + 1):
        columns = -(-len(handles) // lines)
        where = {"loc": "outside upper left", "ncols": columns, "columnspacing": 1.4, "handlelength": 2.2}
        legend = figure.legend(handles=handles, **where)
        if legend.get_window_extent().width < figure.bbox.width or columns == 1:
            return
        legend.remove()


def caption(figure: Figure, text: str) -> None:
    """Put a single short line below everything."""
    figure.supxlabel(text, x=0.01, ha="left", fontsize=7, color="0.3")


def seeds_note(results: Collection[Result], mark: str = "Dots", band: bool = True, hairs: bool = False) -> str:
    """Say what the marks of `curve` are."""
    counts = {len(result.seeds) for result in results}
    parts = [f"{mark}: {count(counts, 'seed')}", "line: mean", *["band: 95 % interval"] * (band and max(counts) > 2)]
    if hairs and any(success_intervals(result) is not None for result in results):
        parts.append("hairs: each seed's")
    return "; ".join(parts) + "."


def count(values: Iterable[int], what: str) -> str:
    """Return `3 seeds`, or `2 to 3 seeds`."""
    values = set(values)
    ends = " to ".join(map(str, sorted({min(values), max(values)})))
    return f"{ends} {what}" + "s" * (values != {1})


@functools.cache
def warn(message: str) -> None:
    """Print a line on stderr, once."""
    print(message, file=sys.stderr)


def by_task(results: Iterable[Result]) -> dict[str, dict[str, list[Result]]]:
    """Map task -> method -> results in the order of quality."""
    results = list(results)
    order = list(style.looks(result.method for result in results))
    groups: dict[str, dict[str, list[Result]]] = {}
    for result in sorted(results, key=lambda each: (each.task, order.index(each.method), each.quality, each.dataset)):
        groups.setdefault(result.task, {}).setdefault(result.method, []).append(result)
    return groups


def setting(result: Result, name: str) -> Any:
    """Return a setting that a result was trained with; None if its method has no such setting."""
    return result.identity.settings.get(name) if result.identity else None
