"""The registry of tasks. A file of this folder that defines `Task` subclasses is found by itself."""

import functools
import importlib
import pkgutil
import re
from pathlib import Path

from sibench.core.errors import UserError, unknown
from sibench.tasks.base import Task
from sibench.tasks.physics import pick_engine


@functools.cache
def _registry() -> dict[str, type[Task]]:
    """Map every task id, and every bare name (to its newest version), to its class."""
    classes = []
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        for value in vars(importlib.import_module(f"sibench.tasks.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Task) and "name" in vars(value):
                if not re.fullmatch(r"[a-z0-9]+(-image)?", value.name):  # what dataset ids can hold
                    allowed = "lower-case letters and digits, then '-image' if it is observed through cameras"
                    raise UserError(f"{module.name}.py: task name '{value.name}'; allowed: {allowed}")
                classes.append(value)
    classes.sort(key=lambda task: (task.name, task.version))
    by_name = {task.name: task for task in classes}
    return by_name | {f"{task.name}-v{task.version}": task for task in classes}


def names() -> list[str]:
    """Return the task names, without versions."""
    return [name for name in _registry() if not re.search(r"-v\d+$", name)]


def task_type(name: str) -> type[Task]:
    """Return the class of a task, given its id or its name."""
    if name not in _registry():
        raise unknown("task", name, names())
    return _registry()[name]


def task_id(name: str) -> str:
    """Return the id of a task's newest version: `hopper-v1` for `hopper`."""
    task = task_type(name)
    return f"{task.name}-v{task.version}"


def observes_pixels(name: str) -> bool:
    """Return whether a task's observations contain camera frames."""
    return task_type(name).observes_pixels


def state_twin(name: str) -> str:
    """Return the name of the same task observed by its state: `lift` for `lift-image`, otherwise the task itself."""
    task = task_type(name)
    return task.state_twin or task.name


def require_no_pixels(name: str, why: str) -> None:
    """Raise `UserError`, with the reason, if a task is observed through cameras."""
    if observes_pixels(name):
        raise UserError(f"task={name}; {why}; the task without frames is {state_twin(name)}")


def make(task: str, engine: str = "auto") -> Task:
    """Make a task from its id (`hopper-v1`) or its name (`hopper`, the newest version)."""
    return _make(task_type(task), pick_engine(engine))


@functools.cache
def _make(task: type[Task], engine: str) -> Task:
    return task(engine)  # once, so that its programs compile once
