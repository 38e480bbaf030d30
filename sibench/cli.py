"""How every command starts: the command line is parsed before anything slow is imported."""

import ctypes
import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

import tyro

from sibench.errors import UserError


def run(main: Callable[..., Any], config_type: Any, prog: str, default: Any = None, rest: bool = False) -> None:
    """Parse a config, run `main` on it, and turn a user's mistake into one line and exit code 2.

    With `rest`, words that the config does not know go to `main` too.
    """
    try:
        _die_with_the_suite()
        logging.getLogger("jax._src.callback").setLevel(logging.CRITICAL)  # it prints what is caught here
        given = {} if default is None else {"default": default}
        parsed = tyro.cli(config_type, prog=prog, return_unknown_args=rest, **given)
        main(*parsed) if rest else main(parsed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever read this has read enough, as `head` does
        _nobody_reads()
        sys.exit(1)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {error.strerror or error}{where}", file=sys.stderr)
        sys.exit(2)
    except MemoryError as error:
        print(f"error: not enough memory: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:  # of a compiled program that called back, to draw frames or to read them
        if (said := re.search(r"UserError: (.*)", str(error))) is None:
            raise
        print(f"error: {said[1]}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        try:
            sys.stdout.flush()
            print("\ninterrupted; run the same command again to go on", file=sys.stderr)
        except BrokenPipeError:  # Ctrl-C has ended what this is piped into, too
            _nobody_reads()
        sys.exit(130)


def _nobody_reads() -> None:
    """What is flushed at exit goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())


def _die_with_the_suite() -> None:
    """A learner that a suite started ends when the suite is killed, so that the next one finds its folder free."""
    if (suite := os.environ.pop("SIBENCH_SUITE_PID", "")) and hasattr(libc := ctypes.CDLL(None), "prctl"):
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != int(suite):
            sys.exit(1)


def threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
