"""How long packs may take, going by what results took."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sibench import results
from sibench.algorithm import RunConfig
from sibench.errors import UserError
from sibench.ids import has_frames


class Timing(NamedTuple):
    """What a result took."""

    method: str
    frames: bool  # whether its task is seen through cameras, where other things take long
    size: float
    update: float  # seconds of each, of one lane
    episode: float  # seconds


def timings(folder: Path) -> Iterator[Timing]:
    for file in folder.glob("*/*/*.json"):
        with contextlib.suppress(UserError):
            raw = results.read(file).raw
            if "seconds" in raw and (lanes := raw["lanes_together"]):
                settings, seconds = raw["config"], raw["seconds"]
                lanes *= len(raw["chain"]) if "chain" in raw else 1
                updates = (settings["steps"] + raw["num_pretrain"]) * lanes
                episodes = max(1, num_episodes(settings) * lanes)
                method, frames = raw["cell"]["method"], has_frames(raw["cell"]["task"])
                yield Timing(method, frames, size(settings), seconds["train"] / updates, seconds["evaluate"] / episodes)


def size(settings: dict[str, Any]) -> float:
    """What the time of an update is about proportional to."""
    widths = [80, *settings["hidden"], 80]
    return settings["batch_size"] * (sum(a * b for a, b in itertools.pairwise(widths)) + 20_000)


def num_episodes(settings: dict[str, Any]) -> int:
    """That a lane plays."""
    return settings["evals"] * settings["eval_episodes"] + settings["final_episodes"]


def guess(known: list[Timing], method: str, options: RunConfig, updates: int, lanes: int) -> float | None:
    """Seconds of a pack, from results of like methods on whatever machine they were made."""
    known = [row for row in known if row.frames == has_frames(options.task)]
    for like in ([row for row in known if row.method == method], known):
        if like:
            now = size(dataclasses.asdict(options))
            train = sum(row.update * now / row.size for row in like) / len(like)
            play = sum(row.episode for row in like) / len(like)
            return lanes * (updates * train + num_episodes(dataclasses.asdict(options)) * play)
    return None


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
