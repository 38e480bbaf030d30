"""Returns of the episodes in bimodal data and in the ladder's data (figure 1 of the paper)."""

from pathlib import Path

import numpy as np
import panels
import style

from sibench import tasks
from sibench.core.ids import LADDER

SHARES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of expert episodes in the bimodal data."""


def main(out: Path) -> None:
    panels.save(draw("halfcheetah", tasks.ladder()["halfcheetah"]), out / "schematic")


def draw(task: str, measured: dict):
    """Draw a ridge of histograms for each kind of data, with the demonstrations on top."""
    returns = {source: np.array(entry["returns"], float) for source, entry in measured.items()}
    random, expert = returns["random"], returns["expert"]
    both = np.concatenate([random, expert])
    mixes = {share: np.repeat([1 - share, share], [len(random), len(expert)]) for share in SHARES}
    bimodal = {f"{share:.0%} expert": (both, weights) for share, weights in mixes.items()}
    ladder = {f"cloned from {d}": (returns[f"bc-{d}"], None) for d in LADDER if f"bc-{d}" in returns}
    columns = {"bimodal data": bimodal, "the ladder's data": ladder}
    figure, axes = panels.make_rows(1, list(columns), f"return of an episode on {task}", 2.3, sharey=False)
    bins = np.linspace(min(map(np.min, returns.values())), max(map(np.max, returns.values())), 41)
    for axis, rows in zip(axes[0], columns.values(), strict=True):
        axis.axvspan(*np.quantile(expert, (0.05, 0.95)), color=style.EXPERT, alpha=0.12, linewidth=0, zorder=-99)
        draw_ridges(axis, bins, {**rows, "demonstrations": (expert, None)})
    panels.caption(figure, "Heights: square root of the share of episodes. Red: the demonstrations.")
    return figure


def draw_ridges(axis, bins: np.ndarray, rows: dict) -> None:
    """Draw the share of episodes in each bin, for each row of (returns, weights); the last row is the expert's."""
    for height, (returns, weights) in enumerate(rows.values()):
        share, _ = np.histogram(returns, bins, weights=weights)
        top = height + 0.95 * np.sqrt(share / share.sum())
        colour = style.EXPERT if height == len(rows) - 1 else style.DATA
        axis.stairs(top, bins, baseline=height, fill=True, facecolor=colour, edgecolor="white", zorder=-height)
        axis.axhline(height, color="0.8", linewidth=0.5, zorder=-height)
    axis.set_yticks(range(len(rows)), rows)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
