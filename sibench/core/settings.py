"""Settings of a command or a method: dataclass fields that declare their bounds."""

import dataclasses
import math
from typing import Any

from sibench.core.errors import UserError


def setting(
    default: Any = dataclasses.MISSING,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    sweep: bool = False,
    phase: bool = False,
    moves_results: bool = True,
) -> Any:
    """Declare a field of a config.

    Args:
        at_least, above, below: bounds, which `check_bounds` enforces.
        sweep: whether `--sweep` may vary it. Inside `make` it is then a traced scalar: use it in arithmetic only.
        phase: whether it is the length of a phase in updates, which `--scale` of a suite shortens.
        moves_results: False for what changes no number, such as where files go.
    """
    metadata = {"bounds": (at_least, above, below), "sweep": sweep, "phase": phase, "moves_results": moves_results}
    return dataclasses.field(default=default, metadata=metadata)


def check_bounds(config: Any) -> None:
    """Raise `UserError` if a number of a config is not finite or outside the bounds that its field declares."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not math.isfinite(value):
            raise UserError(f"{field.name}={value}; it must be finite (1e30 amounts to no limit)")
        at_least, above, below = field.metadata.get("bounds", (-math.inf, -math.inf, math.inf))
        if value < at_least or value <= above or value >= below:
            bounds = (("at least", at_least), ("above", above), ("below", below))
            allowed = " and ".join(f"{word} {bound}" for word, bound in bounds if math.isfinite(bound))
            raise UserError(f"{field.name}={value}; allowed: {allowed}")
