"""Bimodal data and that of the ladder: whose returns the policies behind the data have (figure 1 of the paper).

python plots/schematic.py                  draws plots/schematic.png and .svg from sibench/assets/ladder.json
python plots/schematic.py --task walker2d
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sibench import cli
from sibench.ids import LADDER

EXPERT, DATA = "#c5420f", "#2365c8"
SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
"""Of expert episodes in bimodal data."""


@dataclass(frozen=True)
class Config:
    """Draw the returns of bimodal data and of the ladder's, on one task."""

    task: str = "halfcheetah"
    """A task of the ladder."""
    out: Path = style.HERE
    """Folder to draw into."""


def main(config: Config) -> None:
    from sibench import assets
    from sibench.errors import unknown

    measured = assets.ladder()
    if config.task not in measured:
        raise unknown("task", config.task, measured)
    style.save(draw(config.task, measured[config.task]), config.out / "schematic")


def draw(task: str, measured: dict) -> Figure:
    """Ridges of histograms, one a dataset; on top of both what is to be imitated."""
    returns = {source: np.array(known["returns"], float) for source, known in measured.items()}
    random, expert = returns["random"], returns["expert"]
    both = np.concatenate([random, expert])
    mixes = {share: np.repeat([1 - share, share], [len(random), len(expert)]) for share in SHARES}
    bimodal = {f"{share:.0%} expert": (both, weights) for share, weights in mixes.items()}
    ladder = {f"cloned from {d}": (returns[f"bc-{d}"], None) for d in LADDER if f"bc-{d}" in returns}
    figure, axes = plt.subplots(1, 2, figsize=(style.WIDTH, 3.1), sharex=True)
    bins = np.linspace(min(map(np.min, returns.values())), max(map(np.max, returns.values())), 41)
    for axis, title, rows in ((axes[0], "bimodal", bimodal), (axes[1], "self-improvement", ladder)):
        axis.axvspan(*np.quantile(expert, (0.05, 0.95)), color=EXPERT, alpha=0.12, linewidth=0, zorder=-99)
        ridges(axis, bins, {**rows, "demonstrations": (expert, None)})
        axis.set_title(title)
        axis.set_xlabel(f"return of an episode on {task}")
    style.note(
        figure,
        "Episodes by their return; heights: the square root of a bin's share. Left: expert episodes among random ones, "
        "as in earlier work. Right: policies cloned from ever more demonstrations, in place of those that "
        "self-improvement goes through. Red: the demonstrations, of which learners see no actions.",
    )
    return figure


def ridges(axis: Axes, bins: np.ndarray, rows: dict) -> None:
    """Of each row of (returns, weights), its share of episodes in each bin; the last one is the expert's."""
    for height, (returns, weights) in enumerate(rows.values()):
        share, _ = np.histogram(returns, bins, weights=weights)
        top = height + 0.95 * np.sqrt(share / share.sum())
        colour = EXPERT if height == len(rows) - 1 else DATA
        axis.stairs(top, bins, baseline=height, fill=True, facecolor=colour, edgecolor="white", zorder=-height)
        axis.axhline(height, color="0.8", linewidth=0.5, zorder=-height)
    axis.set_yticks(range(len(rows)), rows)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)


if __name__ == "__main__":
    cli.run(main, Config, "python plots/schematic.py")
