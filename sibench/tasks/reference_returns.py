"""Measured returns that ship with the package: the two ends of the quality axis, and the ladder between them."""

import functools
from typing import Any

from sibench.core import assets, files
from sibench.tasks.registry import state_twin


@functools.cache
def references(task: str) -> dict[str, Any] | None:
    """Return mean, std, n, engine and seeds of the random and the expert policy's returns; None if not measured."""
    file = assets.ASSETS / state_twin(task) / "references.json"
    return files.from_json(assets.read(file)) if file.exists() else None


@functools.cache
def ladder() -> dict[str, dict[str, Any]]:
    """Return sample returns of every ladder policy, as task -> source -> `returns` (made by plots/ladder.py)."""
    return files.from_json((assets.ASSETS / "ladder.json").read_bytes())


def quality(task: str, mean_return: Any) -> Any:
    """Scale a return, or an array of them, so that random is 0 and expert is 1; None without reference returns."""
    if (measured := references(task)) is None:
        return None
    random, expert = measured["random"]["mean"], measured["expert"]["mean"]
    return (mean_return - random) / (expert - random)
