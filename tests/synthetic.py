"""Made-up results of whole suites, for tests of what reads results."""

import dataclasses
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sibench import tasks
from sibench.analysis.measures import to_return
from sibench.bench import suites
from sibench.bench.suites import MANIPULATION, Cell
from sibench.core.ids import LADDER
from sibench.core.schema import Settings
from sibench.learning import results
from sibench.learning.results import Background, Identity, Origin, Result, Round, SeedResult, TrainingEvaluation

Improvement = Callable[..., float]
"""A function of a cell, the quality of its data, and whether it is a round of self-improvement."""
UPDATES, TEACHER, HASH = 1_000_000, 8.0, "0" * 64
SETTINGS: Settings = {"steps": UPDATES, "batch_size": 256, "hidden": (512, 512), "final_episodes": 1000}
QUALITY = {
    "ant": (0.06, 0.10, 0.19, 0.69, 0.84, 0.93, 0.995, 0.992, 0.97, 1.004),
    "halfcheetah": (-0.02, 0.02, 0.0, 0.05, 0.3, 0.65, 0.89, 0.94, 0.97, 0.98),
    "hopper": (0.30, 0.46, 0.91, 0.98, 1.0, 0.998, 1.0, 1.0, 0.998, 1.0),
    "walker2d": (0.17, 0.5, 0.86, 0.93, 0.976, 0.984, 1.0, 1.0, 0.998, 1.0),
    "lift": (0.1, 0.22, 0.46, 0.67, 0.7, 0.82, 0.88, 0.92),
    "can": (0.0, 0.01, 0.01, 0.07, 0.14, 0.54, 0.83, 0.88),
    "square": (0.01, 0.0, 0.0, 0.02, 0.1, 0.14, 0.44, 0.69),
}
"""Approximate quality of the ladder's data."""


def quality_of(cell: Cell) -> float:
    kind, number = cell.dataset.split("-")[:2]
    return int(number) / 1000 if kind == "mix" else QUALITY[tasks.state_twin(cell.task)][LADDER.index(int(number))]


def like_paper(cell: Cell, quality: float, is_chain: bool = False) -> float:
    """Return about the improvement that the paper reports."""
    method, settings, headroom = cell.method, dict(cell.settings), max(0.0, 1 - quality)
    if method == "dilo" and settings.get("temperature") == 100:
        return 0.0  # as BC
    if cell.dataset.startswith("mix"):
        shares = {
            "bc": 0.2,
            "bco": 0.3,
            "vfo-bin": -0.2 if settings else 0.05,
            "vfo-disc": 0.08,
            "awr": 0.6,
            "smodice-kl": 0.8,
            "dilo": 0.97,
        }
        return shares[method] * headroom * min(1, quality / 0.1)
    if cell.task == "hopper" and method in ("vfo-bin", "vfo-disc", "awr"):
        return 0.3 * (0.5 - quality)
    if is_chain and method in ("smodice-kl", "dilo"):
        return -0.1 * quality
    if tasks.state_twin(cell.task) in MANIPULATION and method in ("awr", "vfo-disc", "smodice-chi2"):
        return {"awr": 0.07 if is_chain else 0.45, "vfo-disc": 0.3, "smodice-chi2": -0.4}[method] * headroom
    if is_chain:
        return {"bc": 0.0, "bco": 0.04, "vfo-bin": 0.08, "awr": 0.09}[method] * headroom
    if method == "sqil":
        return (0.4 - (0.9 - settings["mixture"]) - 0.1 * abs(np.log10(settings["temperature"]))) * headroom
    shares = {"bc": 0.0, "bco": 0.1, "vfo-bin": 0.5, "vfo-disc": 0.53, "awr": 0.57, "awr-absorbing": 0.5}
    shares |= {"vfo-disc-ending": -0.6, "smodice-kl": -0.4, "dilo": -0.5}
    shares |= {"nce-inverse": 0.2, "nce-value": 0.1, "nce-privileged": 0.3}
    share = 0.2 if (cell.task, method) == ("walker2d", "vfo-bin") else shares[method]
    share -= 0.1 * abs(np.log10(settings.get("temperature", 1.0))) + 0.2 * (settings.get("disc_steps", 0) > 10_000)
    return share * headroom


def unlike_paper(cell: Cell, quality: float, is_chain: bool = False) -> float:
    """Return an improvement that contradicts every claim of the paper."""
    method, settings, headroom = cell.method, dict(cell.settings), max(0.0, 1 - quality)
    if cell.dataset.startswith("mix"):
        return {"bc": -0.05, "smodice-kl": 0.2 * quality, "dilo": 0.2 * quality}.get(
            method, (0.7 if settings else 0.5) * headroom
        )
    if tasks.state_twin(cell.task) in MANIPULATION and method in ("awr", "smodice-chi2"):
        return -0.005 if is_chain else 0.3 * headroom
    if is_chain:
        falls = {"bc": 0.07, "bco": 0.06, "vfo-bin": 0.04, "awr": 0.005, "smodice-kl": 0.035, "dilo": 0.08}
        return -falls[method]
    if method == "sqil":
        return -0.5 * settings["mixture"] * headroom
    if (cell.task, method) == ("hopper", "vfo-bin"):
        return 0.2 * (0.95 - quality)
    shares = {"bc": 0.2, "bco": 0.1, "vfo-bin": -1.3, "vfo-disc": -1.6, "awr": -0.3, "awr-absorbing": -0.6}
    shares |= {"vfo-disc-ending": 0.9, "smodice-kl": 0.3, "dilo": 0.4}
    share = shares[method] + 0.2 * (cell.task == "hopper") + 0.2 * (settings.get("disc_steps", 0) > 10_000)
    value = share * headroom
    return min(value, -0.25) if method in ("vfo-bin", "vfo-disc") else value


def write(folder: Path, suite: str, improvement: Improvement = like_paper, **how: Any) -> None:
    """Write what `make` returns as result files."""
    for made in make(suite, improvement, **how):
        cell = Cell(made.task, made.method, made.dataset, tuple(sorted(made.settings.items())))
        file = results.path(folder, suite, made.task, cell.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(dataclasses.asdict(made)))


def make(
    suite: str,
    improvement: Improvement = like_paper,
    keep: Callable[[Cell], bool] = lambda cell: True,
    gap: Callable[[Cell], float] = lambda cell: 0.2,
    **how: Any,
) -> list[Result]:
    """Return results of the cells of a suite that `keep` selects; `gap` is BC's to the behaviour policy, in nats."""
    described = suites.suite(suites.base(suite))
    return [
        result(suite, cell, improvement, gap(cell), described.rounds, **how) for cell in filter(keep, described.cells)
    ]


def result(
    suite: str,
    cell: Cell,
    improvement: Improvement,
    gap: float,
    num_rounds: int,
    seeds: int = 5,
    noise: float = 0.02,
    training_noise: Callable[[Cell], float] = lambda cell: 0.05,
) -> Result:
    """Return the result of a cell. The noises are standard deviations over seeds: of final policies, and before."""
    rng = np.random.default_rng(zlib.crc32(f"{suite} {cell}".encode()))
    quality, rounds = quality_of(cell), []
    data = scores = nll = np.full(seeds, quality)
    for _ in range(max(1, num_rounds)):
        gains = [improvement(cell, start, num_rounds > 0) for start in data]
        scores = data + gains + rng.normal(0, noise, seeds)
        nll = TEACHER + gap + (cell.method != "bc") * rng.gamma(9, 0.1, seeds)
        columns = (tuple(values.tolist()) for values in (data, scores, nll))
        rounds.append(Round(("made-up",) * seeds, *columns, teacher_nll=(TEACHER,) * seeds))
        data = scores + rng.normal(0, noise / 5, seeds)
    before = quality + improvement(cell, quality, False) + rng.normal(0, training_noise(cell), seeds)
    final, late = (to_return(values, cell.task).tolist() for values in (scores, before))
    return Result(
        format=results.FORMAT,
        suite=suite,
        task=cell.task,
        method=cell.method,
        dataset=cell.dataset,
        settings=dict(cell.settings),
        privileges=(),
        engine="c",
        action_size=tasks.make(cell.task, "c").action_size,
        background=Background(f"{cell.task}/{cell.dataset}-v1", "c", 1000, 0.0, 1.0, quality, TEACHER, HASH, HASH),
        expert=None,
        identity=Identity(1, 1, {}, SETTINGS, {}),
        origin=Origin("", "0", "3.11", "made up", "cpu", {}, seeds, UPDATES, 0),
        seeds=tuple(
            SeedResult(
                seed,
                "finished",
                (final[seed],),
                (1000,),
                nll=float(nll[seed]),
                evaluations=(TrainingEvaluation(UPDATES, (late[seed],) * 20),),
            )
            for seed in range(seeds)
        ),
        rounds=tuple(rounds) if num_rounds else (),
    )


def with_scores(result: Result, scores: Any) -> Result:
    """Return a result whose seeds have these normalised returns: [S], or [S, E] per episode."""
    returns = to_return(np.array(scores, float).reshape(len(scores), -1), result.task).tolist()
    template = result.seeds[0]
    seeds = [
        dataclasses.replace(template, seed=seed, returns=tuple(row), lengths=(1000,) * len(row))
        for seed, row in enumerate(returns)
    ]
    return dataclasses.replace(result, seeds=tuple(seeds))


def with_settings(result: Result, **settings: Any) -> Result:
    """Return a result that was trained with other settings."""
    assert result.identity is not None
    identity = dataclasses.replace(result.identity, settings=result.identity.settings | settings)
    return dataclasses.replace(result, identity=identity)
