"""Returns of the experts and of the ladder's policies, which make the background datasets.

python plots/ladder.py --episodes 100    writes sibench/assets/ladder.json from the datasets bc-<d>-n100 on this machine
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import panels
import style
from matplotlib import colormaps

from sibench import tasks
from sibench.analysis import stats
from sibench.core import cli, files
from sibench.core.assets import ASSETS
from sibench.core.errors import UserError
from sibench.core.ids import EPISODES, LADDER, Id
from sibench.data import storage
from sibench.data.collect import check_recipe

RESULTS = ASSETS / "ladder.json"
SOURCES = ("random", *(f"bc-{d}" for d in LADDER), "expert")


@dataclass(frozen=True)
class Config:
    """Measure the returns of the ladder's policies; those of absent datasets stay."""

    episodes: int = EPISODES
    """Episodes in the datasets that are read."""


def measure(config: Config) -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for task in sorted({*map(tasks.state_twin, tasks.names())}):
        for source in SOURCES:
            dataset = Id(task, source, config.episodes)
            try:
                card = storage.read_card(dataset)
                check_recipe(dataset, card)
            except UserError:
                continue
            entry = {name: card[name] for name in ("engine", "policy", "content_sha256", "code")}
            entry["quality"] = round(float(tasks.quality(task, card["return_mean"])), 4)
            results.setdefault(task, {})[source] = entry | {"returns": [round(value) for value in card["returns"]]}
    files.write_atomic(RESULTS, files.to_json(results))


def main(out: Path) -> None:
    results = tasks.ladder()
    success = {task for task in results if tasks.task_type(task).family == "manipulation"}
    for name, shown, columns in (
        ("ladder", sorted(results.keys() - success), 2),
        ("ladder-manipulation", sorted(success), 3),
    ):
        panels.save(draw({task: results[task] for task in shown}, columns, name != "ladder"), out / name)


def draw(results: dict, columns: int, success: bool):
    """Draw every episode of tasks with returns; of tasks with success its share, with Wilson's interval."""
    shades = colormaps["viridis"](np.linspace(0.0, 0.85, len(LADDER)))
    colours = dict(zip(SOURCES, ["0.6", *shades, style.EXPERT], strict=True))
    y = "share of successes" if success else "return of an episode"
    figure, axes = panels.make_panels(list(results), "demonstrations cloned", y, 2.1, columns, sharey=success)
    for task, (axis,) in axes.items():
        shown = [source for source in SOURCES if source in results[task]]
        for x, source in enumerate(shown):
            returns = np.array(results[task][source]["returns"], float)
            if success:
                axis.bar(x, returns.mean(), color=colours[source], width=0.75)
                axis.plot([x, x], stats.wilson(int(returns.sum()), len(returns)), color="black", linewidth=1.1)
                continue
            jitter = np.random.default_rng(x).uniform(-0.32, 0.32, len(returns))
            dots = {"s": 2 if len(returns) > 300 else 6, "alpha": 0.35, "linewidths": 0, "rasterized": True}
            axis.scatter(x + jitter, returns, color=colours[source], **dots)
            axis.plot([x - 0.38, x + 0.38], [returns.mean()] * 2, color="black", linewidth=1.6, solid_capstyle="butt")
        labels = [source.removeprefix("bc-") for source in shown]
        axis.set_xticks(range(len(shown)), labels, rotation=45, ha="right", rotation_mode="anchor")
        axis.margins(x=0.02)
    sizes = (len(entry["returns"]) for entries in results.values() for entry in entries.values())
    episodes = panels.count(sizes, "episode")
    text = f"Line: 95 % interval of {episodes}." if success else f"Dots: {episodes} of a policy. Line: mean."
    panels.caption(figure, text)
    return figure


if __name__ == "__main__":
    cli.run(measure, Config, "python plots/ladder.py")
