"""Learning curves of the shipped experts, from the cards of their policies.

python plots/experts.py    draws plots/experts.png and .svg
"""

from dataclasses import dataclass
from pathlib import Path

from sibench import cli

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Config:
    """Draw the learning curves of the shipped experts."""


def main(config: Config) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    import numpy as np

    from sibench import assets, policies

    plt.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "sibench"}
    names = sorted(path.parent.name for path in assets.ASSETS.glob("*/expert.json"))
    figure, axes = plt.subplots(
        1, len(names), figsize=(3.1 * len(names) + 0.6, 2.8), squeeze=False, layout="constrained"
    )
    for axis, name in zip(axes[0], names, strict=True):
        card = policies.read_description(assets.path(name, "expert"))["card"]
        updates = np.array([row["updates"] for row in card["curve"]]) / 1e5
        for mode, colour in (("deterministic", "#3d5a80"), ("stochastic", "#d1495b")):
            returns = np.array([row[mode] for row in card["curve"]])
            axis.plot(updates, returns.mean(1), color=colour, label=mode)
            axis.fill_between(updates, *np.quantile(returns, (0.1, 0.9), axis=1), color=colour, alpha=0.2, linewidth=0)
        axis.axhline(card["stochastic"]["mean"], color="black", linewidth=0.8, linestyle=":")
        axis.set_title(f"{name}: {card['stochastic']['mean']:.0f} ± {card['stochastic']['std']:.0f}")
        axis.set_xlabel("updates / 100 000")
        axis.set_ylim(bottom=min(0, returns.min()))
    axes[0, 0].set_ylabel("return (band: 10 % to 90 %)")
    axes[0, 0].legend(frameon=False)
    for suffix in ("png", "svg"):
        figure.savefig(HERE / f"experts.{suffix}", dpi=180, metadata={"Date": None} if suffix == "svg" else None)
    print(f"drew {HERE / 'experts.png'} and .svg")


if __name__ == "__main__":
    cli.run(main, Config, "python plots/experts.py")
