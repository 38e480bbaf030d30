"""How every command starts: it parses the command line before it imports anything slow."""

import logging
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import tyro

from sibench.core import system
from sibench.core.errors import UserError


def run(main: Callable[..., Any], config_type: Any, prog: str, default: Any = None, rest: bool = False) -> None:
    """Parse a config and run `main` on it. A user's mistake ends in one line and exit code 2.

    `default`, or what it returns, lies under the flags. With `rest`, unknown words are `main`'s second argument.
    """
    try:
        system.end_with_parent()
        logging.getLogger("jax._src.callback").setLevel(logging.CRITICAL)  # it prints exceptions that are caught here
        given: dict[str, Any] = {} if default is None else {"default": default() if callable(default) else default}
        parsed = tyro.cli(config_type, prog=prog, return_unknown_args=rest, **given)
        main(*parsed) if rest else main(parsed)
    except UserError as error:
        _fail(error)
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        _mute()
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    except MemoryError as error:
        _fail(f"not enough memory: {error}")
    except RuntimeError as error:
        if (said := re.search(r"UserError: (.*)", str(error))) is None:
            raise
        _fail(said[1])  # raised in a callback of a compiled program, which draws or reads frames
    except KeyboardInterrupt:
        try:
            sys.stdout.flush()
            print("\ninterrupted; run the same command again to go on", file=sys.stderr)
        except BrokenPipeError:  # Ctrl-C also ended the reader of our output
            _mute()
        sys.exit(130)


def _fail(message: object) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _mute() -> None:
    """Send what is flushed at exit nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())
