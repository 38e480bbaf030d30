"""Learning curves of the shipped experts, from the cards of their policies."""

from pathlib import Path

import numpy as np
import panels
import style

from sibench import policies
from sibench.core import assets
from sibench.policies import shipped


def main(out: Path) -> None:
    names = sorted(path.parent.name for path in assets.ASSETS.glob("*/expert.json"))
    cards = {name: policies.read_description(shipped.path(name, "expert"))["card"] for name in names}
    titles = [f"{name}: {card['stochastic']['mean']:.0f}" for name, card in cards.items()]
    figure, axes = panels.make_panels(titles, "updates / 100 000", "return", 1.9, sharey=False)
    for (axis,), card in zip(axes.values(), cards.values(), strict=True):
        updates = np.array([row["updates"] for row in card["curve"]]) / 1e5
        for mode, colour in (("deterministic", style.DATA), ("stochastic", style.EXPERT)):
            returns = np.array([row[mode] for row in card["curve"]])
            axis.plot(updates, returns.mean(1), color=colour, label=mode, linewidth=1.1)
            axis.fill_between(updates, *np.quantile(returns, (0.1, 0.9), axis=1), color=colour, alpha=0.2, linewidth=0)
        axis.axhline(card["stochastic"]["mean"], color="black", linewidth=0.8, linestyle=":")
        axis.set_ylim(bottom=min(0, returns.min()))
    next(iter(axes.values()))[0].legend(loc="lower right")
    panels.caption(figure, "Band: 10 % to 90 % of the episodes. Dotted, and number: mean return of the shipped policy.")
    panels.save(figure, out / "experts")
