"""Improvement at other temperatures and mixtures, for VfO and SQIL in figures 8, 9, 15 and 16 of the paper."""

import dataclasses
import itertools

import numpy as np
import panels
import style
from matplotlib import colormaps, colors
from matplotlib.lines import Line2D

from sibench.analysis.measures import converged_places
from sibench.learning.methods import resolve, variants


def draw(results: list):
    """Draw a row of panels for each method and each setting that is swept."""
    converged, swept = converged_places(results), with_defaults(results)
    looks, tasks = style.looks(result.method for result in swept), panels.by_task(swept)
    limits = panels.limits(np.concatenate([result.improvement for result in swept]))
    cells = {method: [result for result in swept if result.method == method] for method in looks}
    pairs = [
        (method, name)
        for method in looks
        for name in sorted({name for each in cells[method] for name in each.settings})
    ]
    all_lines = [lines_of(name, cells[method]) for method, name in pairs]
    shown = {id(cell) for lines in all_lines for level in lines.values() for cell in level}
    if num := sum(id(result) not in shown for result in swept):
        panels.warn(f"sweeps: left out {num} results that differ from the others in more than one setting")
    figure, axes = panels.make_rows(len(pairs), list(tasks), "quality of the data")
    for (method, name), lines, row in zip(pairs, all_lines, axes, strict=True):
        levels = level_looks(name, lines, method)
        for task, axis in zip(tasks, row, strict=True):
            axis.set(**limits, xticks=(0, 0.5, 1))
            for level, dodge in zip(lines, panels.dodges(len(lines), 0.015), strict=True):
                if shown := [cell for cell in lines[level] if cell.task == task]:
                    panels.curve(axis, shown, lambda cell: cell.gains, converged, dodge, levels[level])
            panels.mark_expert(axis)
        row[0].set_ylabel("score minus quality")
        handles = [Line2D([], [], markersize=4, **look._asdict()) for look in levels.values()]
        title = f"{looks[method].label}:\n{name}"
        row[-1].legend(handles=handles, title=title, loc="center left", bbox_to_anchor=(1, 0.5), alignment="left")
    panels.key(figure, {}, swept, converged)
    panels.caption(figure, panels.seeds_note(swept))
    return figure


def lines_of(name: str, cells: list) -> dict:
    """Map each value of a setting to its results, at those values of the other settings that have most results."""
    groups: dict[tuple, list] = {}
    for cell in sorted(cells, key=lambda cell: cell.quality):
        if name in cell.settings:
            groups.setdefault(tuple(sorted((cell.settings | {name: None}).items())), []).append(cell)
    longest = max(groups.values(), key=lambda group: len({cell.settings[name] for cell in group}))
    levels = sorted({cell.settings[name] for cell in longest})
    return {level: [cell for cell in longest if cell.settings[name] == level] for level in levels}


def level_looks(name: str, levels: dict, method: str) -> dict:
    """Map each value of a setting to a look; the label says which value is the method's default."""
    shades = colormaps["viridis"](np.linspace(0.0, 0.9, len(levels)))
    chosen = {}
    for level, shade, marker in zip(levels, shades, itertools.cycle("osD^v"), strict=False):
        label = f"{level:g}" if isinstance(level, float) else str(level)
        is_default = all(level == default(method, name, cell.task) for cell in levels[level])
        chosen[level] = style.Look(colors.to_hex(shade), marker, "-", label + " (default)" * is_default)
    return chosen


def default(method: str, name: str, task: str):
    """Return the default of a setting; None for a method that is not in algorithms/."""
    if method not in variants():
        return None
    variant = variants()[method]
    return getattr(resolve(variant.method, task, variant=variant.settings, dataset=("bc-1",)), name)


def with_defaults(results: list) -> list:
    """Return the results of a sweep, and single trainings with default settings where the sweep leaves these out."""
    sweep, singles = [each for each in results if each.settings], [each for each in results if not each.settings]
    names = {(each.method, each.task, each.dataset): list(each.settings) for each in sweep}
    present = {(each.method, each.task, each.dataset, *sorted(each.settings.items())) for each in sweep}
    for single in singles:
        place = (single.method, single.task, single.dataset)
        settings = {name: panels.setting(single, name) for name in names.get(place, [])}
        key = (*place, *sorted(settings.items()))
        if settings and None not in settings.values() and key not in present:
            present.add(key)
            sweep.append(dataclasses.replace(single, settings=settings))
    return sweep
