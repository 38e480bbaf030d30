"""The process: its processors, its signals, and its compilation cache."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

PARENT = "SIBENCH_PARENT_PID"
"""Environment variable of processes that are to end when their parent, a suite, is killed."""


def threads() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """Let this process end when the suite that started it is killed, so that its folder is free again."""
    if (parent := os.environ.pop(PARENT, "")) and hasattr(libc := ctypes.CDLL(None), "prctl"):
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != int(parent):
            sys.exit(1)


def use_compilation_cache() -> None:
    """Enable the persistent compilation cache, unless the user configured or disabled it."""
    import jax
    import platformdirs

    if jax.config.jax_compilation_cache_dir is None and "JAX_ENABLE_COMPILATION_CACHE" not in os.environ:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", platformdirs.user_cache_dir("sibench") + "/xla")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        jax.config.update("jax_logging_level", "CRITICAL")  # jaxlib 0.10.1 prints a screenful for each cached program


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C or SIGTERM sets, so that a loop saves and ends. A second Ctrl-C ends it at once."""
    stop = threading.Event()
    before = {}

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:  # a cluster sends SIGTERM to the group, and so does the suite
            raise KeyboardInterrupt
        stop.set()
        with contextlib.suppress(OSError):  # Ctrl-C may have ended the reader of a pipe, too
            message = "\nstopping after this chunk of updates or this seed's episodes; again to stop at once"
            print(message, file=sys.stderr, flush=True)

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """Treat SIGTERM, which clusters send, as Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
