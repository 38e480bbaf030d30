"""Rules of the repository that a reader relies on."""

import re
import subprocess
import tomllib

from conftest import REPO

TOP_LEVEL = {
    *("pyproject.toml", "sibench", "algorithms", "data_gen", "plots", "tests", "Makefile"),
    *("results", "RESULTS.md", "README.md", "LICENSE", ".ci", ".gitignore", "requirements.lock"),
}


def tracked():
    return subprocess.run(["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=True).stdout.split()


def test_top_level():
    assert {path.split("/")[0] for path in tracked()} <= TOP_LEVEL


def test_no_pickle_anywhere():
    """Neither by name nor through what uses it."""
    words = re.compile(r"\b(c?pickle|dill|cloudpickle|joblib|jsonpickle|shelve|marshal|allow_pickle|torch\.load)\b")
    found = [
        path
        for path in tracked()
        if path.endswith(".py") and path != "tests/test_repo.py" and words.search((REPO / path).read_text())
    ]
    assert found == []


def test_one_mujoco():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    pins = dict(line.split("==") for line in project["dependencies"] if line.startswith("mujoco"))
    assert pins.keys() == {"mujoco", "mujoco-mjx"} and len(set(pins.values())) == 1
    lock = (REPO / "requirements.lock").read_text()
    assert all(f"\n{name}=={version} " in lock for name, version in pins.items())
    assert {"cuda12", "cuda13", "cluster", "interop", "log", "render"} == project["optional-dependencies"].keys()


def test_the_lock_names_no_index():
    assert "://" not in (REPO / "requirements.lock").read_text()


def test_assets_are_small():
    sizes = [(REPO / path).stat().st_size for path in tracked() if path.startswith("sibench/assets/")]
    assert sum(sizes) < 40e6
