"""What the figures share: one look for each method, panels, bands, footnotes, and the way from results to a figure."""

import itertools
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Affine2D

from sibench import cli
from sibench.errors import UserError, unknown

matplotlib.use("agg")
plt.rcParams |= {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "hatch.linewidth": 0.35,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "svg.hashsalt": "sibench",
    "svg.fonttype": "none",
}
HERE = Path(__file__).parent
WIDTH = 7.2
"""Of a figure, in inches."""

LOOKS = {  # colour (told apart by colour-blind eyes too), marker, line, name
    "bc": ("#a7a7a7", "o", "-", "BC"),
    "bco": ("#00744d", "v", "-", "BCO"),
    "vfo-bin": ("#2365c8", "s", "-", "VfO-bin"),
    "vfo-disc": ("#46beff", "D", "-", "VfO-disc"),
    "awr": ("#000000", "^", (0, (3, 1.5)), "AWR (oracle)"),
    "vfo-disc-ending": ("#3a34e0", "8", (0, (5, 1, 1, 1)), "VfO-disc, ending"),
    "awr-absorbing": ("#737373", "<", (0, (5, 1, 1, 1)), "AWR, absorbing"),
    "smodice-kl": ("#c5420f", "P", "-", "SMODICE"),
    "smodice-chi2": ("#ea8500", "X", "-", "SMODICE χ²"),
    "dilo": ("#8e5b92", "d", "-", "DILO"),
    "sqil": ("#611679", ">", "-", "SQIL (expert actions)"),
    "nce-inverse": ("#7e2011", "p", "-", "NCE inverse"),
    "nce-value": ("#90d169", "h", "-", "NCE value"),
    "nce-privileged": ("#06464e", "*", (0, (1, 1)), "NCE (expert actions)"),
}
COLOURS = {method: look[0] for method, look in LOOKS.items()}
LABELS = {method: look[3] for method, look in LOOKS.items()}


@dataclass(frozen=True)
class Config:
    """Draw a figure from result files, as PNG and SVG, for each suite that has what it shows."""

    suite: tuple[str, ...] = ()
    """Suites; () is all in --results. sibench-x0.1 is one at a tenth of its updates."""
    together: str = ""
    """One figure of all named suites, <out>/<figure>-<together>.png and .svg, in place of one for each."""
    methods: tuple[str, ...] = ()
    """Only these methods, and BC; () is all that the figure is of."""
    results: Path = Path("results")
    """Folder of results, <results>/<suite>/<task>/<cell>.json."""
    out: Path = HERE
    """Folder to draw into, <out>/<figure>-<suite>.png and .svg."""


# --- from results to a figure -----------------------------------------------------------------------------------------


def run(
    draw: Callable[[list], Figure],
    kinds: Sequence[str] = ("ladder", "mix"),
    methods: Sequence[str] = tuple(LOOKS),
    beside: bool = False,
) -> None:
    """The command line of a figure, drawn from results of these kinds and methods.

    With `beside`, it also gets what all methods, trained in the same way, made of the ladder's data: of other suites.
    """
    name = Path(draw.__code__.co_filename).stem

    def main(config: Config) -> None:
        from sibench.evidence import kind_of, refuse_repeats, trained
        from sibench.suites import SUITES, base

        there = [folder.name for folder in sorted(config.results.glob("*")) if base(folder.name) in SUITES]
        chosen = config.suite or there
        for method in config.methods:
            if method not in methods:
                raise unknown("method", method, methods)
        if config.together and (beside or not config.suite):
            raise UserError("--together needs --suite, and a figure of whole suites, such as improvement or returns")
        wanted = config.methods or methods
        groups = {config.together: chosen} if config.together else {suite: [suite] for suite in chosen}
        drawn = 0
        for title, group in groups.items():
            found = []
            for suite in group:
                own = read(suite, config.results, kinds, wanted)
                if own or config.suite:
                    tell_missing(suite, own, kinds, wanted)
                found += own
            if not found:
                continue
            if config.together:
                refuse_repeats(found, "--suite")
                if len({kind_of(one) for one in found}) > 1:
                    raise UserError(f"{', '.join(group)} have both ladder and mix; draw them apart")
            if beside:
                ladder = [one for other in there for one in read(other, config.results, ["ladder"], LOOKS)]
                warmth = {one.method: temperature(one) for one in found if not one.settings}
                alike = {copies(one) for one in found} | {None}
                ladder = [one for one in ladder if trained(one) == trained(found[0]) and copies(one) in alike]
                found += [one for one in ladder if temperature(one) == warmth.get(one.method, temperature(one))]
            save(draw(found), config.out / f"{name}-{title}")
            drawn += 1
        if not drawn:
            told = f" of {', '.join(config.suite)}" if config.suite else ""
            print(f"{name}: not drawn: there are no results{told} for it in {config.results}")

    cli.run(main, Config, f"python plots/{name}.py")


def read(suite: str, folder: Path, kinds: Sequence[str], methods: Iterable[str]) -> list:
    """Results of these kinds and methods, and BC's beside them."""
    from sibench.evidence import kind_of
    from sibench.results import read_suite
    from sibench.suites import base
    from sibench.suites import suite as described

    described(base(suite))  # refuses a name that is none
    found = [one for one in read_suite(suite, folder) if kind_of(one) in kinds and one.method in {*methods, "bc"}]
    return found if any(one.method in methods for one in found) else []


def tell_missing(suite: str, found: Iterable, kinds: Sequence[str], methods: Iterable[str]) -> None:
    from sibench import suites
    from sibench.evidence import kind

    described = suites.suite(suites.base(suite))
    cells = [cell for cell in described.cells if cell.method in {*methods, "bc"}]
    cells = [cell for cell in cells if kind(cell.dataset, dict(cell.settings), described.iterations > 0) in kinds]
    if missing := Counter(cell.task for cell in cells) - Counter(one.task for one in found):
        print(f"{suite}: missing " + ", ".join(f"{num} cells of {task}" for task, num in sorted(missing.items())))


def copies(result) -> int | None:
    """Updates between those of the target network, if the method has one."""
    return result.raw["config"].get("target_every")


def temperature(result) -> float | None:
    """Of the weights, if the method has some: a suite may set it for all its cells."""
    return result.raw["config"].get("temperature")


def save(figure: Figure, path: Path) -> None:
    """The same bytes for the same figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_name(f"{path.name}.png"), dpi=200)
    figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None})
    plt.close(figure)
    print(f"drew {path}.png and .svg")


def by_task(results: Iterable) -> dict[str, dict[str, list]]:
    """Task -> method -> results in order of quality."""
    groups: dict[str, dict[str, list]] = {}
    for result in sorted(results, key=lambda one: (one.task, list(LOOKS).index(one.method), one.quality, one.dataset)):
        groups.setdefault(result.task, {}).setdefault(result.method, []).append(result)
    return groups


# --- what is in a panel -----------------------------------------------------------------------------------------------


def look(method: str) -> dict:
    colour, marker, line, label = LOOKS[method]
    return {"color": colour, "marker": marker, "linestyle": line, "label": label}


def curve(
    axis: Axes,
    results: Sequence,
    of: Callable,
    good: set,
    dodge: tuple[float, float],
    marker: str,
    hairs: bool = False,
    at: Callable = lambda one: one.quality,
    **look,
) -> None:
    """What `of` a result is, [S] or [S, E], `at` its quality: a line of means, the 95 % Welch band, and every seed.

    Full where BC has converged, which is in the `good` places, and pale and hollow elsewhere. Only what is drawn is
    shifted by `dodge`: the data of the lines is that of the results. With `hairs`, what `of` says is a score or a
    difference from one, and seeds have the intervals of `successes`.
    """
    from sibench.evidence import place
    from sibench.stats import of_seeds

    x, groups = np.array([at(one) for one in results]), [of(one) for one in results]
    mean, low, high = band(groups)
    groups = [of_seeds(group) for group in groups]
    solid, colour, label = np.array([place(one) in good for one in results]), look["color"], look.pop("label")
    shift = {"transform": Affine2D().translate(*dodge) + axis.transData}
    axis.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0, label=f"_band of {label}", **shift)
    seeds = {"marker": "o", "markersize": 1.9, "markeredgewidth": 0, "linestyle": "", "alpha": 0.45, **shift}
    axis.plot(np.repeat(x, [len(group) for group in groups]), np.concatenate(groups), color=colour, **seeds)
    for where, one, group in zip(x, results, groups, strict=True):
        if hairs and (ends := hair_ends(one, group)) is not None:
            axis.vlines(np.full(len(group), where), *ends, color=colour, linewidth=0.4, alpha=0.35, **shift)
    axis.plot(x, mean, label=label, linewidth=1.1, alpha=1.0 if solid.all() else 0.3, **look, **shift)
    if not solid.all():
        axis.plot(x, np.where(solid, mean, np.nan), linewidth=1.1, **look, **shift)
    for which, face, alpha in ((solid, colour, 1.0), (~solid, "white", 0.6)):
        means = {"markersize": 3.2, "markeredgewidth": 0.7, "markerfacecolor": face, "linestyle": "", "alpha": alpha}
        axis.plot(x[which], mean[which], marker=marker, color=colour, **means, **shift)


def band(groups: Iterable[np.ndarray]) -> np.ndarray:
    """[3, N] mean of each group of seeds and its 95 % interval. Two seeds have none: it is 13 times as wide as they are
    apart."""
    from sibench import stats

    rows = [(*stats.interval([group])[:3], len(group)) for group in groups]
    return np.array([(mean, low, high) if num > 2 else (mean, np.nan, np.nan) for mean, low, high, num in rows]).T


def successes(result) -> np.ndarray | None:
    """[2, S] Wilson's interval of each seed, where its episodes succeed or fail; None of returns."""
    from sibench import stats

    lanes = result.raw["lanes"]
    if not any("progress" in lane for lane in lanes):
        return None
    ends = [
        stats.wilson(int(sum(lane["returns"])), len(lane["returns"])) if "returns" in lane else (0, 0) for lane in lanes
    ]
    return np.array(ends).T


def hair_ends(result, values: np.ndarray) -> np.ndarray | None:
    """[2, S], at these values of a result, scores or differences from them; None of returns."""
    own = successes(result)
    return None if own is None else own + values - result.score


def reach(result, values: np.ndarray) -> np.ndarray:
    """These values, and the ends of their hairs."""
    ends = hair_ends(result, values)
    return values if ends is None else np.concatenate([values, ends.ravel()])


def point(axis: Axes, x: float, groups: Sequence[np.ndarray], solid: bool, method: str, across: bool = False) -> None:
    """At x, the mean over groups of seeds and its 95 % Welch interval, and the seeds and the `band` of a single group.

    With `across` x is a height.
    """
    from sibench import stats

    mean, low, high = band(groups)[:, 0] if len(groups) == 1 else stats.interval(groups)[:3]
    seeds = stats.of_seeds(groups[0]) if len(groups) == 1 else []
    colour, marker, _, label = LOOKS[method]
    whole = {"markersize": 4.2, "markeredgewidth": 0.8, "markerfacecolor": colour if solid else "white", "label": label}
    for values, how in (
        ([low, high], {"linewidth": 1.1, "alpha": 1.0 if solid else 0.35}),
        (seeds, {"marker": "o", "markersize": 1.9, "markeredgewidth": 0, "alpha": 0.45, "linestyle": ""}),
        ([mean], {"marker": marker, "linestyle": "", **whole}),
    ):
        pair = (np.full(len(values), x), values)
        axis.plot(*(pair[::-1] if across else pair), color=colour, **how)


def limits(values: np.ndarray) -> dict:
    """Of axes of improvement against quality that have room for all of these, and for none."""
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    margin = 0.05 * (high - low) + 0.02
    return {"xlim": (-0.06, 1.07), "ylim": (low - margin, high + margin)}


def dodges(num: int, x: float = 0.01, y: float = 0.0) -> np.ndarray:
    """[num, 2] shifts that keep methods apart that sit on each other."""
    return np.outer(np.arange(num) - (num - 1) / 2, (x, y))


def headroom(axis: Axes, absolute: bool = False) -> None:
    """Zero improvement, and the region above the expert; keeps the limits of the axis."""
    left, right, bottom, top = axis.axis()
    x = np.array([left, 1.0, right]) if left < 1 < right else np.array([left, right])
    none, all_of_it = (x, np.ones_like(x)) if absolute else (np.zeros_like(x), np.maximum(1 - x, 0))
    axis.fill_between(x, all_of_it, 10, facecolor="0.985", edgecolor="0.78", hatch="/////", linewidth=0, zorder=-2)
    axis.plot(x, all_of_it, color="0.6", linewidth=0.6, zorder=-1)
    axis.plot(x, none, color="0.35", linewidth=0.7, zorder=-1)
    axis.axis((left, right, bottom, top))


def number_ticks(axis: Axes, results: Iterable, inches: float) -> None:
    """Ticks on top, at the qualities of the datasets: the d of bc-<d>, the e of mix-<e>; one label for close ones."""
    quality = {int(result.dataset.split("-")[1]): result.quality for result in results}
    left, right = axis.get_xlim()

    def label(group: list[int]) -> str:
        first, last = min(group), max(group)
        return str(first) if first == last else f"{first}+" if last == max(quality) else f"{first}–{last}"

    def middle(group: list[int]) -> float:
        return sum(map(quality.get, group)) / len(group)

    def room(pair: tuple[list[int], list[int]]) -> float:
        a, b = pair
        apart = (middle(b) - middle(a)) * inches / (right - left) * 72
        return apart - 2.3 * (len(label(a)) + len(label(b))) - 1.5

    groups = [[number] for number in sorted(quality, key=quality.get)]
    while len(groups) > 1 and room(pair := min(itertools.pairwise(groups), key=room)) < 0:
        at = groups.index(pair[0])
        groups[at : at + 2] = [pair[0] + pair[1]]
    labels = {middle(group): label(group) for group in groups}
    top = axis.secondary_xaxis("top")
    top.set_xticks(list(labels), list(labels.values()), color="0.4")
    top.set_xticks(list(quality.values()), minor=True)
    top.xaxis.remove_overlapping_locs = False  # a tick for each, with the label of its group or between others
    top.tick_params(length=0, pad=3, color="0.4")
    top.tick_params(which="minor", length=2, width=0.5, color="0.4")
    top.spines["top"].set_visible(False)


def number_note(results: Iterable) -> str:
    if all(result.dataset.startswith("mix") for result in results):
        return "On top: expert episodes of 1000, the others being random."
    return "On top: demonstrations that the data's policy was cloned from."


def panels(
    names: Sequence[str], x: str, y: str, height: float = 2.4, columns: int = 2, widths: Sequence[float] = (1.0,)
) -> tuple[Figure, dict[str, np.ndarray]]:
    """A figure with as many axes as there are widths for each task, and labels on its left and bottom sides."""
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(
        rows,
        columns * len(widths),
        figsize=(_width(columns), height * rows + (0.7 if rows > 1 else 1.6)),  # one row has all that is around it
        squeeze=False,
        sharey=True,
        width_ratios=[*widths] * columns,
    )
    axes = axes.reshape(rows * columns, len(widths))
    for own in axes[max(0, len(names) - columns) : len(names)]:
        own[0].set_xlabel(x)
    for own in axes[::columns]:
        own[0].set_ylabel(y)
    for unused in axes[len(names) :].flat:
        unused.set_visible(False)
    for name, own in zip(names, axes, strict=False):
        own[0].set_title(name)
    return figure, dict(zip(names, axes, strict=False))


def rows(num: int, names: Sequence[str], x: str, height: float = 1.9, sharey: bool | str = True):
    """A figure with a column of `num` axes for each task: [num, tasks]."""
    size = (_width(len(names)), height * num + 0.8)
    figure, axes = plt.subplots(num, len(names), figsize=size, squeeze=False, sharex=True, sharey=sharey)
    for name, top, bottom in zip(names, axes[0], axes[-1], strict=True):
        top.set_title(name)
        bottom.set_xlabel(x)
    return figure, axes


def _width(columns: int) -> float:
    return WIDTH if columns > 1 else 0.68 * WIDTH


def key(figure: Figure, methods: Sequence[str]) -> None:
    """A legend above everything."""
    handles = [Line2D([], [], markersize=4, linewidth=1.2, **look(method)) for method in methods]
    lines = -(-len(handles) // int(figure.get_figwidth()))
    columns = -(-len(handles) // lines)
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, columnspacing=1.4, handlelength=2.2)


def footnote(figure: Figure, results: Sequence, good: set, *notes: str) -> None:
    """What the marks mean, and how the results came about; `good` is where BC has converged."""
    from sibench.evidence import place

    configs = [result.raw["config"] for result in results]
    widths = ", ".join(sorted({"×".join(map(str, config["hidden"])) for config in configs}))
    engines = ", ".join(sorted({result.raw["engine"] for result in results}))
    every = {copies(result) for result in results} - {None}
    copied = f"target networks copied every {spell(every, 'update')}, " if every else ""
    facts = (
        f"{spell((len(result.score) for result in results), 'seed')}, "
        f"{spell((config['steps'] for config in configs), 'update')}, networks {widths}, {copied}"
        f"{spell((config['final_episodes'] for config in configs), 'final episode')} a seed, engine {engines}."
    )
    places = {place(result) for result in results}
    out = places - good
    hollow = "Hollow, pale: no comparison, for BC has not converged on that data, or was not run"
    hollow += f" ({len(out)} of {len(places)})."
    cloned = "Convergence is known of BC's own rounds: no clone was trained on what others collected."
    chains = any("chain" in result.raw for result in results)
    note(figure, " ".join([*notes, *([hollow] if out else []), *([cloned] if chains else []), facts]))


def spell(values: Iterable[int], what: str) -> str:
    values = sorted(set(values))
    ends = " to ".join(f"{value:_}".replace("_", "\N{THIN SPACE}") for value in dict.fromkeys([values[0], values[-1]]))
    return f"{ends} {what}" + "s" * (values != [1])


def note(figure: Figure, text: str) -> None:
    """Below everything, as long lines as fit."""
    wrapped = textwrap.fill(text, int(figure.get_figwidth() * 19.6))
    figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=7, color="0.3", linespacing=1.35)


def dots(results: Iterable) -> str:
    """What the marks of `curve` are."""
    return DOTS + hair_note(results)


def hair_note(results: Iterable) -> str:
    """What they are, where there are any."""
    return " Hairs: each seed's episodes (Wilson's)." if any(successes(one) is not None for one in results) else ""


DOTS = (
    "Dots: seeds. Line: mean. Band: its 95 % interval over three seeds or more (Welch's t), which may leave the panel. "
    "What lies on each other is drawn side by side."
)
