"""Commands that run for several tasks, with defaults for each task."""

import sys
from collections.abc import Mapping
from typing import Any, TypeVar

import tyro

from sibench import tasks

Config = TypeVar("Config")


def names(chosen: tuple[str, ...]) -> list[str]:
    """Return the chosen tasks; if none are, all whose observations contain no frames."""
    for name in chosen:
        tasks.task_type(name)  # raises for an unknown task
    return list(chosen) or sorted({tasks.state_twin(name) for name in tasks.names()})


def configs(
    kind: type[Config], chosen: tuple[str, ...], task_defaults: Mapping[str, Mapping[str, Any]], prog: str
) -> dict[str, Config]:
    """Parse the command line once for each task, over the defaults of its family and its own."""
    parsed = {}
    for name in names(chosen):
        task = tasks.task_type(name)
        defaults = dict(task_defaults.get(task.family, {})) | dict(task_defaults.get(task.name, {}))
        parsed[name] = tyro.cli(kind, prog=prog, args=sys.argv[1:], default=kind(**defaults))
    return parsed
