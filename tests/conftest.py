"""Shared by all tests: a dataset folder of their own, and small helpers."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

REPO = Path(__file__).parents[1]
TASKS = ("ant", "halfcheetah", "hopper", "walker2d")
MANIPULATION = ("can", "lift", "square")

# Most tests compile a program to run it for a moment: XLA is to compile in a third of the time and not to care how that
# runs. What runs long or is about bits is compiled `WELL`, and all of `make test-slow` as a user's programs are.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")
WELL = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}


def as_a_user() -> dict[str, str]:
    """The environment of a process that compiles as a user's does."""
    return {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}


# compiled programs are shared by the many processes that the tests start
CACHE = Path(os.environ.get("SIBENCH_TEST_CACHE", REPO / ".cache" / "test-compilation"))
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture
def data_root(tmp_path, monkeypatch):
    """An empty place for datasets, for this process and those it starts."""
    root = tmp_path / "datasets"
    monkeypatch.setenv("SIBENCH_DATA", str(root))
    return root


def command(*args: str, **kwargs) -> subprocess.CompletedProcess:
    """Run `python -m ...` in the repository as a user would."""
    return subprocess.run(
        [sys.executable, "-m", *args], cwd=REPO, capture_output=True, text=True, timeout=500, **kwargs
    )
