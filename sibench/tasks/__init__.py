"""The tasks, the physics engines that step them, and how episodes are played."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sibench.tasks.base import Task
    from sibench.tasks.reference_returns import ladder, quality, references
    from sibench.tasks.registry import make, names, observes_pixels, require_no_pixels, state_twin, task_id, task_type

__all__ = [
    "Task",
    "ladder",
    "make",
    "names",
    "observes_pixels",
    "quality",
    "references",
    "require_no_pixels",
    "state_twin",
    "task_id",
    "task_type",
]


def __getattr__(name: str) -> Any:
    """Import on first use: neither `--help` nor the processes that draw frames wait for the simulators."""
    if name not in __all__:
        raise AttributeError(f"module 'sibench.tasks' has no attribute '{name}'")
    module = "reference_returns" if name in ("ladder", "quality", "references") else "registry"
    value = globals()[name] = getattr(importlib.import_module(f"sibench.tasks.{module}"), name)
    return value
