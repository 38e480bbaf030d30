"""Datasets: how they are made, stored, checked and loaded."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sibench.data.dataset import Dataset, Demonstrations, concatenate, observation_index
    from sibench.data.loading import load, load_privileged
    from sibench.data.storage import root

__all__ = ["Dataset", "Demonstrations", "concatenate", "load", "load_privileged", "observation_index", "root"]
_MODULES = dict.fromkeys(__all__, "dataset") | {"load": "loading", "load_privileged": "loading", "root": "storage"}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `python -m sibench.data --help` need not wait for the simulators."""
    if name not in _MODULES:
        raise AttributeError(f"module 'sibench.data' has no attribute '{name}'")
    value = globals()[name] = getattr(importlib.import_module(f"sibench.data.{_MODULES[name]}"), name)
    return value
