"""What a user did wrong, said in one message: what, the value, what is allowed, what to do."""

import difflib
import math
import re
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """A mistake of the user's; a command ends with exit code 2 and this message, without a traceback."""


def require_positive(config: Any, *names: str) -> None:
    """Refuse settings below 1, before anything is computed."""
    for name in names:
        if getattr(config, name) < 1:
            raise UserError(f"{name}={getattr(config, name)}; at least 1 is needed")


def require_share(config: Any, *names: str) -> None:
    """Refuse settings outside ]0, 1[."""
    for name in names:
        if not 0 < getattr(config, name) < 1:
            raise UserError(f"{name}={getattr(config, name)}; it must lie between 0 and 1")


def require_above_zero(config: Any, *names: str) -> None:
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise UserError(f"{name}={getattr(config, name)}; it must be above 0")


def require_seed(config: Any, num: int = 1) -> None:
    """Of `num` seeds in a row: 31 bits, as JAX's keys take them everywhere."""
    if not 0 <= config.seed <= 2**31 - num:
        raise UserError(f"seed={config.seed}; it must lie between 0 and {2**31 - num}")


def require_no_frames(task: str, why: str) -> None:
    from sibench.ids import has_frames, twin  # which needs this module

    if has_frames(task):
        raise UserError(f"task={task}; {why}; the task without frames is {twin(task)}")


def nearest(value: str, choices: Iterable[str]) -> str | None:
    """What was probably meant: of choices that end with a number as `value` does, the one with the closest number."""
    stem, digits = re.fullmatch(r"(.*?)(\d{0,9})", value).groups()
    numbered = [choice for choice in choices if digits and re.fullmatch(re.escape(stem) + r"\d+", choice)]
    if numbered:
        return min(numbered, key=lambda choice: abs(int(choice[len(stem) :]) - int(digits)))
    return next(iter(difflib.get_close_matches(value, choices, n=1, cutoff=0.5)), None)


def unknown(kind: str, value: str, choices: Iterable[str]) -> UserError:
    """`unknown task 'hoper'; did you mean 'hopper'? tasks: ant, halfcheetah, ...`"""
    choices = list(choices)
    near = nearest(value, choices)
    hint = f"; did you mean '{near}'?" if near else ";"
    return UserError(f"unknown {kind} '{value}'{hint} {kind}s: {', '.join(choices)}")
