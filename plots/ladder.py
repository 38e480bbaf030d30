"""Returns of the experts and of the ladder's policies: what the background datasets are made of.

python plots/ladder.py                           draws plots/ladder.png and .svg from sibench/assets/ladder.json
python plots/ladder.py --measure --episodes 100  first takes the returns from the datasets bc-<d>-n100 on this machine
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sibench import cli
from sibench.assets import ASSETS
from sibench.ids import EPISODES, LADDER, Id, twin
from sibench.suites import MANIPULATION

HERE = Path(__file__).parent
RESULTS = ASSETS / "ladder.json"


@dataclass(frozen=True)
class Config:
    """Draw the return distributions of the ladder, per task, and print their qualities."""

    measure: bool = False
    """Read the returns anew from the datasets on this machine; those that are not there keep their old ones."""
    episodes: int = EPISODES
    """Episodes in the datasets that are read."""


def main(config: Config) -> None:
    from sibench import files

    if config.measure:
        files.write_atomic(RESULTS, files.to_json(measure(config.episodes)))
    results = json.loads(RESULTS.read_text())
    print(table(results))
    draw("ladder", {task: sources for task, sources in results.items() if task not in MANIPULATION}, 2)
    draw("ladder-manipulation", {task: sources for task, sources in results.items() if task in MANIPULATION}, 3)


def measure(episodes: int) -> dict:
    """Task -> source -> returns of its episodes, and how they were made."""
    from sibench import tasks
    from sibench.data import storage
    from sibench.data.collect import check_recipe
    from sibench.errors import UserError

    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for task in sorted({*map(twin, tasks.names())}):
        for source in ("random", *(f"bc-{d}" for d in LADDER), "expert"):
            try:
                card = storage.read_card(Id(task, source, episodes))
                check_recipe(Id(task, source, episodes), card)
            except UserError:
                continue
            kept = {name: card[name] for name in ("engine", "policy", "content_sha256", "code")}
            kept["quality"] = round(tasks.quality(task, card["return_mean"]), 4)
            results.setdefault(task, {})[source] = kept | {"returns": [round(value) for value in card["returns"]]}
    return results


def table(results: dict) -> str:
    """Quality, mean and standard deviation over episodes, in Markdown."""
    from sibench import tasks

    sources = ("random", *(f"bc-{d}" for d in LADDER), "expert")
    lines = ["| task | " + " | ".join(sources) + " |", "| --- |" + " --- |" * len(sources)]
    for task, of in sorted(results.items()):
        cells = []
        for source in sources:
            spread = np.std([tasks.quality(task, value) for value in of[source]["returns"]]) if source in of else 0
            cells.append(f"{round(of[source]['quality'], 2) + 0.0:.2f} ± {spread:.2f}" if source in of else "")
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(name: str, results: dict, columns: int) -> None:
    """Every episode of a task of returns; of one of success the share that succeeds, with its Wilson interval."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from sibench import stats

    plt.rcParams |= {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "sibench"}
    order = ("random", *(f"bc-{d}" for d in LADDER), "expert")
    colours = plt.colormaps["viridis"](np.linspace(0.0, 0.85, len(LADDER)))
    colour = dict(zip(order, ["0.6", *colours, "#d1495b"], strict=True))
    rows = -(-len(results) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(7.6, 2.9 * rows), squeeze=False, layout="constrained")
    for axis, (task, sources) in zip(axes.flat, sorted(results.items()), strict=False):
        shown = [source for source in order if source in sources]
        for x, source in enumerate(shown):
            returns = np.array(sources[source]["returns"], float)
            if task in MANIPULATION:
                low, high = stats.wilson(int(returns.sum()), len(returns))
                axis.bar(x, returns.mean(), color=colour[source], width=0.75)
                axis.plot([x, x], [low, high], color="black", linewidth=1.1)
                continue
            jitter = np.random.default_rng(x).uniform(-0.32, 0.32, len(returns))
            dots = {"s": 2 if len(returns) > 300 else 7, "alpha": 0.35, "linewidths": 0, "rasterized": True}
            axis.scatter(x + jitter, returns, color=colour[source], **dots)
            axis.plot([x - 0.38, x + 0.38], [returns.mean()] * 2, color="black", linewidth=1.6, solid_capstyle="butt")
        labels = [source.removeprefix("bc-") for source in shown]
        axis.set_xticks(range(len(shown)), labels, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_title(task)
        axis.margins(x=0.02)
    for axis in axes.flat[len(results) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("demonstrations cloned")
    for axis in axes[:, 0]:
        success = "episodes that succeed (95 %)"
        axis.set_ylabel(success if name == "ladder-manipulation" else "return of an episode (bar: mean)")
    for suffix in ("png", "svg"):
        figure.savefig(HERE / f"{name}.{suffix}", dpi=180, metadata={"Date": None} if suffix == "svg" else None)
    print(f"drew {HERE / name}.png and .svg")


if __name__ == "__main__":
    cli.run(main, Config, "python plots/ladder.py")
