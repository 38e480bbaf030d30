"""Mistakes of the user, each reported in one message: what was wrong, the value, what is allowed, what to do."""

import difflib
import re
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the user; a command ends with exit code 2 and this message, without a traceback."""


def nearest(value: str, choices: Iterable[str]) -> str | None:
    """Return the choice that was probably meant.

    A value that ends with a number is matched to the choice with the same stem and the closest number.
    """
    stem, digits = re.fullmatch(r"(.*?)(\d{0,9})", value, re.DOTALL).groups()  # type: ignore[union-attr]
    numbered = [choice for choice in choices if digits and re.fullmatch(re.escape(stem) + r"\d+", choice)]
    if numbered:
        return min(numbered, key=lambda choice: abs(int(choice[len(stem) :]) - int(digits)))
    return next(iter(difflib.get_close_matches(value, choices, n=1, cutoff=0.5)), None)


def unknown(kind: str, value: str, choices: Iterable[str]) -> UserError:
    """Return an error such as `unknown task 'hoper'; did you mean 'hopper'? tasks: ant, halfcheetah, ...`."""
    choices = list(choices)
    near = nearest(value, choices)
    hint = f"; did you mean '{near}'?" if near else ";"
    return UserError(f"unknown {kind} '{value}'{hint} {kind}s: {', '.join(choices)}")
