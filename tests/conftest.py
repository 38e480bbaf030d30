"""Helpers of all tests: compiler settings, an empty dataset folder, and running commands."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

REPO = Path(__file__).parents[1]
TASKS = ("ant", "halfcheetah", "hopper", "walker2d")
MANIPULATION = ("can", "lift", "square")

# Most tests run a compiled program only for a moment, so XLA compiles in a third of the time and optimises nothing.
# Programs that run long, or are tested for their bits, are compiled with the options `WELL`; `make test-slow` compiles
# everything as a user's programs are.
HAS_EMITTERS_FLAG = jax.__version_info__ < (0, 11)
FAST = "--xla_backend_optimization_level=0" + " --xla_cpu_use_fusion_emitters=false" * HAS_EMITTERS_FLAG
os.environ.setdefault("XLA_FLAGS", FAST)
WELL = {"xla_backend_optimization_level": 3} | ({"xla_cpu_use_fusion_emitters": True} if HAS_EMITTERS_FLAG else {})


def as_a_user() -> dict[str, str]:
    """Return the environment of a process that compiles as a user's does."""
    return {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}


# all processes that the tests start share compiled programs
CACHE = Path(os.environ.get("SIBENCH_TEST_CACHE", REPO / ".cache" / "test-compilation"))
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture
def data_root(tmp_path, monkeypatch):
    """Set an empty dataset folder for this process and those that it starts."""
    root = tmp_path / "datasets"
    monkeypatch.setenv("SIBENCH_DATA", str(root))
    return root


@pytest.fixture(scope="session")
def small_source(tmp_path_factory):
    """A folder with the dataset of tests/small_data.py."""
    from small_data import ID

    from sibench.data.collect import build

    root = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIBENCH_DATA", str(root))
        build(ID, "c")
    return root


@pytest.fixture
def small_root(small_source, data_root):
    """A copy of that folder, to be damaged."""
    shutil.copytree(small_source, data_root)
    return data_root


@pytest.fixture(scope="session")
def drawing():
    """Skip a test where nothing can be drawn."""
    from sibench.core.errors import UserError
    from sibench.tasks import cameras

    try:
        cameras.backend()
    except UserError as error:
        pytest.skip(f"no OpenGL here: {error}")


@pytest.fixture(scope="session")
def frames_source(tmp_path_factory, drawing):
    """A folder of datasets with frames: four of the demonstrator's episodes, three of a clone's."""
    from sibench.core.ids import Id
    from sibench.data.collect import build

    root = tmp_path_factory.mktemp("frames")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIBENCH_DATA", str(root))
        for source, num in (("expert", 4), ("bc-20", 3)):
            build(Id("lift-image", source, num))
    return root


@pytest.fixture
def frames_root(frames_source, monkeypatch):
    """That folder, to be read."""
    monkeypatch.setenv("SIBENCH_DATA", str(frames_source))
    return frames_source


@pytest.fixture
def algorithms_copy(tmp_path, monkeypatch):
    """A copy of algorithms/ in which methods are looked for."""
    from sibench.learning import methods

    folder = tmp_path / "checkout" / "algorithms"
    shutil.copytree(REPO / "algorithms", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(methods, "FOLDER", folder)
    caches = (methods.load, methods.variants)
    for cache in caches:
        cache.cache_clear()
    yield folder
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def tiny(monkeypatch, tmp_path, data_root):
    """The config of a suite that runs in seconds, called `tiny`."""
    from tiny_suite import TINY

    from sibench.bench.config import Config
    from sibench.bench.suites import SUITES, Suite, grid

    cells = grid(("hopper",), ("bc", "vfo-disc"), ("random-n5", "bc-1-n3"))
    monkeypatch.setitem(SUITES, "tiny", Suite("tiny", "", cells, TINY))
    return Config("tiny", results=tmp_path / "results", runs=tmp_path / "runs", workers=2)


def command(*args: str, **kwargs) -> subprocess.CompletedProcess:
    """Run `python -m ...` in the repository, as a user would."""
    return subprocess.run(
        [sys.executable, "-m", *args], cwd=REPO, capture_output=True, text=True, timeout=500, **kwargs
    )
