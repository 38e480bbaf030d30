"""What a user did wrong, said in one message: what, the value, what is allowed, what to do."""

import difflib
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
        if not getattr(config, name) > 0:
            raise UserError(f"{name}={getattr(config, name)}; it must be above 0")


def require_no_frames(task: str, why: str) -> None:
    from sibench.ids import has_frames, twin  # which needs this module

    if has_frames(task):
        raise UserError(f"task={task}; {why}; the task without frames is {twin(task)}")


def unknown(kind: str, value: str, choices: Iterable[str]) -> UserError:
    """`unknown task 'hoper'; did you mean 'hopper'? tasks: ant, halfcheetah, ...`"""
    choices = list(choices)
    near = difflib.get_close_matches(value, choices, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    return UserError(f"unknown {kind} '{value}'{hint} {kind}s: {', '.join(choices)}")
