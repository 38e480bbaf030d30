"""Returns of the experts and of the ladder's policies: what the background datasets are made of.

python plots/ladder.py            draws plots/ladder.png and .svg from plots/ladder.json
python plots/ladder.py --measure  first takes the returns out of the cards of the datasets on this machine
"""

import json
from dataclasses import dataclass
from pathlib import Path

from sibench import cli
from sibench.ids import LADDER, Id

HERE = Path(__file__).parent
RESULTS = HERE / "ladder.json"


@dataclass(frozen=True)
class Config:
    """Draw the return distributions of the ladder, per task."""

    measure: bool = False
    """Read the returns anew from the datasets on this machine; those that are not there keep their old ones."""


def main(config: Config) -> None:
    from sibench import files

    if config.measure:
        files.write_atomic(RESULTS, files.to_json(measure()))
    draw(json.loads(RESULTS.read_text()))


def measure() -> dict:
    """Task -> source -> returns of its 1000 episodes, and how they were made."""
    from sibench import tasks
    from sibench.data import storage
    from sibench.data.collect import check_recipe
    from sibench.errors import UserError

    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for task in tasks.names():
        for source in ("random", *(f"bc-{d}" for d in LADDER), "expert"):
            try:
                card = storage.read_card(Id(task, source))
                check_recipe(Id(task, source), card)
            except UserError:
                continue
            kept = {name: card[name] for name in ("engine", "policy", "content_sha256", "code")}
            kept["quality"] = round(tasks.quality(task, card["return_mean"]), 4)
            results.setdefault(task, {})[source] = kept | {"returns": [round(value) for value in card["returns"]]}
    return results


def draw(results: dict) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    import numpy as np

    plt.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "sibench"}
    order = ("random", *(f"bc-{d}" for d in LADDER), "expert")
    colours = plt.colormaps["viridis"](np.linspace(0.0, 0.85, len(LADDER)))
    colour = dict(zip(order, ["0.6", *colours, "#d1495b"], strict=True))
    columns = len(results)
    figure, axes = plt.subplots(1, columns, figsize=(3.1 * columns + 0.6, 3.4), squeeze=False, layout="constrained")
    for axis, (task, sources) in zip(axes[0], sorted(results.items()), strict=True):
        shown = [source for source in order if source in sources]
        for x, source in enumerate(shown):
            returns = np.array(sources[source]["returns"], float)
            jitter = np.random.default_rng(x).uniform(-0.32, 0.32, len(returns))
            axis.scatter(x + jitter, returns, s=2, color=colour[source], alpha=0.35, linewidths=0, rasterized=True)
            axis.plot([x - 0.38, x + 0.38], [returns.mean()] * 2, color="black", linewidth=1.6, solid_capstyle="butt")
        axis.set_xticks(range(len(shown)), [source.removeprefix("bc-") for source in shown], rotation=60)
        axis.set_title(task)
        axis.set_xlabel("demonstrations cloned")
        axis.margins(x=0.02)
    axes[0, 0].set_ylabel("return of an episode (bar: mean)")
    for suffix in ("png", "svg"):
        figure.savefig(HERE / f"ladder.{suffix}", dpi=180, metadata={"Date": None} if suffix == "svg" else None)
    print(f"drew {HERE / 'ladder.png'} and .svg")


if __name__ == "__main__":
    cli.run(main, Config, "python plots/ladder.py")
