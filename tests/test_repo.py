"""Rules of the repository that a reader relies on."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
from conftest import REPO

TOP_LEVEL = {
    *("pyproject.toml", "sibench", "algorithms", "data_gen", "plots", "tests", "Makefile"),
    *("results", "docs", "README.md", "RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"),
    *(".ci", ".github", ".gitignore", ".pre-commit-config.yaml", "requirements.lock"),
}
LAYERS = ("core", "tasks", "policies", "data", "learning", "bench", "analysis", "leaderboard")
"""Packages of sibench, lowest first. Each imports only itself and those before it."""
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
ONE_LONG_FILE = "sibench/analysis/claims.py"
"""A list of claims, which is clearer in one file; at most 600 lines."""


def tracked() -> list[str]:
    return subprocess.run(["git", "ls-files"], cwd=REPO, capture_output=True, text=True, check=True).stdout.split()


def python_files(*folders: str) -> list[str]:
    return [path for path in tracked() if path.endswith(".py") and path.startswith(folders) and (REPO / path).exists()]


def imports_of(path: str) -> list[str]:
    """List every module of sibench and data_gen that a file imports, at any level, type-checking imports included."""
    found = []
    for node in ast.walk(ast.parse((REPO / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.startswith(("sibench", "data_gen"))]


def test_top_level_is_what_the_design_fixes():
    assert {path.split("/")[0] for path in tracked()} <= TOP_LEVEL


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_imports_only_lower_layers(layer):
    for path in python_files(f"sibench/{layer}/"):
        for name in imports_of(path):
            parts = name.split(".")
            if len(parts) > 1 and parts[1] in LAYERS:
                assert LAYERS.index(parts[1]) <= LAYERS.index(layer), f"{path} imports {name}"


def test_no_import_cycles_between_files():
    files = {path.removesuffix(".py").replace("/", "."): path for path in python_files("sibench/", "data_gen/")}
    names = {name.removesuffix(".__init__"): name for name in files}
    edges = {
        module: {names[name] for name in imports_of(path) if name in names and not names[name].endswith("__init__")}
        for module, path in files.items()
    }
    done: set[str] = set()

    def visit(module: str, chain: tuple[str, ...]) -> None:
        assert module not in chain, " -> ".join([*chain[chain.index(module) :], module])
        if module not in done:
            for other in edges[module] - {module}:
                visit(other, (*chain, module))
            done.add(module)

    for module in edges:
        visit(module, ())


def test_method_files_import_one_facade():
    for path in python_files("algorithms/"):
        assert {name for name in imports_of(path) if name.count(".") == 1} == {"sibench.method"}, path


@pytest.mark.parametrize("path", python_files("sibench", "algorithms", "data_gen", "plots", "tests"))
def test_files_and_functions_are_short(path):
    source = (REPO / path).read_text()
    assert len(source.splitlines()) <= (600 if path == ONE_LONG_FILE else LONGEST_FILE)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name != "make":
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{path}: {node.name}"


def test_no_pickle_anywhere():
    """Neither by name nor through a library that uses it."""
    words = re.compile(r"\b(c?pickle|dill|cloudpickle|joblib|jsonpickle|shelve|marshal|allow_pickle|torch\.load)\b")
    files = [path for path in python_files("") if path != "tests/test_repo.py"]
    assert [path for path in files if words.search((REPO / path).read_text())] == []


def test_every_imported_package_is_declared():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[\[><=!~ ]", line)[0].replace("-", "_") for line in project["dependencies"]}
    optional = {"ray", "minari", "tensorboardX", "wandb", "OpenGL"}
    names = {"orbax_checkpoint": "orbax", "mujoco_mjx": "mujoco"}
    declared = {names.get(name, name) for name in declared} | optional | {"sibench", "data_gen", "plots"}
    for path in python_files("sibench", "algorithms", "data_gen", "plots"):
        for node in ast.walk(ast.parse((REPO / path).read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in (name.split(".")[0] for name in modules):
                local = (REPO / path).with_name(f"{module}.py").exists()
                assert local or module in declared or module in sys.stdlib_module_names, f"{path} imports {module}"


def test_one_mujoco():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    pins = dict(line.split("==") for line in project["dependencies"] if line.startswith("mujoco"))
    assert pins.keys() == {"mujoco", "mujoco-mjx"} and len(set(pins.values())) == 1
    lock = (REPO / "requirements.lock").read_text()
    assert all(f"\n{name}=={version} " in lock for name, version in pins.items())
    assert {"cuda12", "cuda13", "cluster", "interop", "log", "render"} == project["optional-dependencies"].keys()


def test_lock_excludes_the_wrong_compiler_and_names_no_index():
    lock = (REPO / "requirements.lock").read_text()
    assert "\njaxlib==" in lock and "\njaxlib==0.10.2 " not in lock
    assert "://" not in lock


def test_shipped_files_are_small():
    sizes = [(REPO / path).stat().st_size for path in tracked() if path.startswith("sibench/assets/")]
    assert sum(sizes) < 40e6


def test_versions_agree():
    version = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["version"]
    assert f'__version__ = "{version}"' in (REPO / "sibench/__init__.py").read_text()
    assert f"\nversion: {version}\n" in (REPO / "CITATION.cff").read_text()
    assert f"\n## {version}\n" in (REPO / "CHANGELOG.md").read_text()
