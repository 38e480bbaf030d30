"""The tasks by their ids. A file of this folder that defines `Task` subclasses is found by itself."""

import functools
import importlib
import pkgutil
import re

import numpy as np

from sibench import physics  # first of all: it imports MuJoCo with few and clear words
from sibench.assets import references
from sibench.errors import UserError, unknown
from sibench.tasks.base import Task

__all__ = ["Task", "make", "names", "quality", "references", "task_id"]


@functools.cache
def _registry() -> dict[str, type[Task]]:
    """Every task by its id, and by its bare name for the newest version."""
    found = []
    for module in pkgutil.iter_modules(__path__):
        for value in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Task) and "name" in vars(value):
                if not re.fullmatch(r"[a-z0-9]+(-image)?", value.name):  # as ids of datasets have it
                    raise UserError(
                        f"{module.name}.py: task name '{value.name}'; it is of lower-case letters and digits"
                    )
                found.append(value)
    found.sort(key=lambda task: (task.name, task.version))
    registry = {task.name: task for task in found}
    registry |= {f"{task.name}-v{task.version}": task for task in found}
    return registry


def names() -> list[str]:
    """The names of the tasks, without their versions."""
    return [name for name in _registry() if not re.search(r"-v\d+$", name)]


def task_id(name: str) -> str:
    """`hopper-v1` for `hopper`."""
    task = task_type(name)
    return f"{task.name}-v{task.version}"


def task_type(name: str) -> type[Task]:
    if name not in _registry():
        raise unknown("task", name, names())
    return _registry()[name]


def quality(name: str, mean_return: float | np.ndarray) -> float | np.ndarray | None:
    """Where a return lies between random (0) and expert (1); None for a task without reference returns."""
    measured = references(name)
    if measured is None:
        return None
    random, expert = measured["random"]["mean"], measured["expert"]["mean"]
    return (mean_return - random) / (expert - random)


def make(task: str, engine: str = "auto") -> Task:
    """The task of an id such as `hopper-v1`, or of a name such as `hopper`: its newest version."""
    return _make(task_id(task), physics.pick_engine(engine))


@functools.cache
def _make(id: str, engine: str) -> Task:
    """One object for each, so that what is compiled for a task is compiled once."""
    return _registry()[id](engine)
