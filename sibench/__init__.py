"""SIBench: how much better than its data does an imitation learner get?"""

import importlib
from typing import Any

__version__ = "0.2.0"
LEARNING_VERSION = 1
"""Version of what methods share: sampling, optimiser, networks, loop, evaluation. Raise it when it moves numbers."""

_LAZY = {
    "load": "sibench.data",
    "load_privileged": "sibench.data",
    "evaluate": "sibench.policies.evaluation",
    "make": "sibench.tasks",
    "Policy": "sibench.policies",
    "load_policy": "sibench.policies.shipped",
}
__all__ = list(_LAZY)


def __getattr__(name: str) -> Any:
    """Import on first use, so that `--help` of a command need not wait for jax."""
    if name not in _LAZY:
        raise AttributeError(f"module 'sibench' has no attribute '{name}'")
    value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return value
