"""SIBench: how much better than its data does an imitation learner get?"""

import importlib
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "load": "sibench.data",
    "load_privileged": "sibench.data",
    "evaluate": "sibench.evaluation",
    "make": "sibench.tasks",
    "Policy": "sibench.policies",
    "load_policy": "sibench.assets",
}
__all__ = list(_LAZY)


def __getattr__(name: str) -> Any:
    """Import on first use: `--help` of a command should not wait for jax."""
    if name not in _LAZY:
        raise AttributeError(f"module 'sibench' has no attribute '{name}'")
    value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return value
