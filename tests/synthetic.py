"""Made-up results of whole suites, for tests of what reads results."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sibench import results, suites, tasks
from sibench.ids import LADDER, twin
from sibench.suites import MANIPULATION, Cell, base

STEPS, TEACHER = 1_000_000, 8.0
QUALITY = {
    "ant": (0.06, 0.10, 0.19, 0.69, 0.84, 0.93, 0.995, 0.992, 0.97, 1.004),
    "halfcheetah": (-0.02, 0.02, 0.0, 0.05, 0.3, 0.65, 0.89, 0.94, 0.97, 0.98),
    "hopper": (0.30, 0.46, 0.91, 0.98, 1.0, 0.998, 1.0, 1.0, 0.998, 1.0),
    "walker2d": (0.17, 0.5, 0.86, 0.93, 0.976, 0.984, 1.0, 1.0, 0.998, 1.0),
    "lift": (0.1, 0.22, 0.46, 0.67, 0.7, 0.82, 0.88, 0.92),
    "can": (0.0, 0.01, 0.01, 0.07, 0.14, 0.54, 0.83, 0.88),
    "square": (0.01, 0.0, 0.0, 0.02, 0.1, 0.14, 0.44, 0.69),
}
"""Of the ladder's data, about."""


def quality_of(cell: Cell) -> float:
    kind, number = cell.dataset.split("-")[:2]
    return int(number) / 1000 if kind == "mix" else QUALITY[twin(cell.task)][LADDER.index(int(number))]


def like_paper(cell: Cell, quality: float, is_chain: bool = False) -> float:
    """The improvement that the paper reports, or so."""
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
    if twin(cell.task) in MANIPULATION and method in ("awr", "vfo-disc", "smodice-chi2"):
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
    """The contrary, of all of it."""
    method, settings, headroom = cell.method, dict(cell.settings), max(0.0, 1 - quality)
    if cell.dataset.startswith("mix"):
        return {"bc": -0.05, "smodice-kl": 0.2 * quality, "dilo": 0.2 * quality}.get(
            method, (0.7 if settings else 0.5) * headroom
        )
    if twin(cell.task) in MANIPULATION and method in ("awr", "smodice-chi2"):
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


def write(
    folder: Path,
    name: str,
    improvement: Callable = like_paper,
    keep: Callable[[Cell], bool] = lambda cell: True,
    gap: Callable[[Cell], float] = lambda cell: 0.2,
    **how,
) -> None:
    """The results of a suite, of the cells that are to be kept; `gap` is that of BC to its teacher, in nats."""
    described = suites.suite(base(name))
    for cell in filter(keep, described.cells):
        raw = result(name, cell, improvement, gap(cell), described.iterations, **how)
        file = results.path(folder, name, cell.task, cell.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(raw))


def result(
    suite: str,
    cell: Cell,
    improvement: Callable,
    gap: float,
    iterations: int,
    seeds: int = 5,
    noise: float = 0.02,
    training_noise: Callable[[Cell], float] = lambda cell: 0.05,
) -> dict:
    """The content of a result file. The noises are standard deviations over seeds: of final policies, and before."""
    rng = np.random.default_rng(zlib.crc32(f"{suite} {cell}".encode()))
    quality, chain = quality_of(cell), []
    data = np.full(seeds, quality)
    for iteration in range(max(1, iterations)):
        scores = data + [improvement(cell, of, iterations > 0) for of in data] + rng.normal(0, noise, seeds)
        nll = TEACHER + gap + (cell.method != "bc") * rng.gamma(9, 0.1, seeds)
        row = {"iteration": iteration, "data_quality": data.tolist(), "score": scores.tolist(), "nll": nll.tolist()}
        chain.append(row | {"teacher_nll": [TEACHER] * seeds})
        data = scores + rng.normal(0, noise / 5, seeds)
    before = quality + improvement(cell, quality, False) + rng.normal(0, training_noise(cell), seeds)
    random, expert = (tasks.references(cell.task)[name]["mean"] for name in ("random", "expert"))
    lanes = [
        {
            "seed": seed,
            "status": "finished",
            "returns": [random + (expert - random) * scores[seed]],
            "nll": nll[seed],
            "evaluations": [{"updates": STEPS, "returns": [random + (expert - random) * before[seed]] * 20}],
        }
        for seed in range(seeds)
    ]
    place = {"suite": suite, "task": cell.task, "method": cell.method, "dataset": cell.dataset}
    return {
        "format": results.FORMAT,
        "cell": place | {"settings": dict(cell.settings)},
        "engine": "c",
        "dataset": {"quality": quality, "teacher_nll": TEACHER},
        "num_pretrain": 0,
        "config": {"steps": STEPS, "batch_size": 256, "hidden": [512, 512], "final_episodes": 1000},
        "lanes": lanes,
        **({"chain": chain} if iterations else {}),
    }
