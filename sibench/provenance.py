"""What a card says of where a file came from."""

import ast
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from sibench import files
from sibench.errors import UserError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "brax", "mujoco", "mujoco-mjx", "gymnasium", "numpy")


def start_run(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Write down what is run, once, at its start; refuse a folder that holds a run of other settings or programs.

    A suite that started this has planned it with programs and packages, and promises its result to be theirs.
    """
    file = folder / "run.json"
    settings = json.loads(json.dumps(settings, default=str))
    run = {"settings": settings, "code": code_version(), "programs_sha256": programs_sha256(), "versions": versions()}
    if os.environ.get("SIBENCH_SUITE_MADE_BY", made_by()) != made_by():
        raise UserError("the programs or packages are not those that the suite was started with; start it again")
    if file.exists():
        before = _begun(file)
        known = before["settings"]
        other = {name: known.get(name) for name in known.keys() | settings if known.get(name) != settings.get(name)}
        if other:
            told = ", ".join(f"{name}={value} (here {settings.get(name)})" for name, value in sorted(other.items()))
            raise UserError(f"{folder} holds a run with {told}; choose another --out, or delete it to start anew")
        for what in ("programs_sha256", "versions"):
            if before[what] != run[what]:
                raise UserError(
                    f"{folder} holds a run begun at {before['code']} with {what} {before[what]}, and this is "
                    f"{run['code']} with {run[what]}; go on with that, choose another --out, or delete it to start anew"
                )
        return before
    files.write_atomic(file, files.to_json(run))
    return run


def _begun(file: Path) -> dict[str, Any]:
    try:
        before = dict(files.from_json(file.read_bytes()))
        if {"settings", "code", "programs_sha256", "versions"} <= before.keys() and isinstance(
            before["settings"], dict
        ):
            return before
        why = "it lacks some of settings, code, programs_sha256 and versions"
    except (ValueError, TypeError) as error:
        why = error
    raise UserError(f"{file}: does not describe a run: {why}; choose another --out, or delete {file.parent}")


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of every package that can move a number, and the kind of machine."""
    machine = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    return machine | packages()


@functools.cache
def packages() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


@functools.cache
def code_version() -> str:
    """The commit of the checkout, with `+` after it when files differ from it; else the version of the package."""
    checkout = Path(__file__).parents[1]
    git = ["git", "-C", str(checkout)]
    try:
        if not (checkout / ".git").exists():
            raise FileNotFoundError
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = [*git, "status", "--porcelain", "--untracked-files=no"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True).stdout.strip()
        return commit + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        from sibench import __version__

        return __version__


@functools.cache
def programs_sha256() -> str:
    """Of all that makes data and results: what was begun can go on after a commit that leaves these as they are."""
    checkout = Path(__file__).parents[1]
    folders = [checkout / name for name in ("sibench", "algorithms", "data_gen")]
    every = [file for folder in folders for kind in ("*.py", "*.xml") for file in folder.rglob(kind)]
    digest = hashlib.sha256()
    for file in sorted(every):
        digest.update(str(file.relative_to(checkout)).encode() + file.read_bytes())
    return digest.hexdigest()


def made_by() -> str:
    """One hash of programs and packages: alike on all machines of a cluster, or its results are not of one kind."""
    return hashlib.sha256(json.dumps([programs_sha256(), packages()]).encode()).hexdigest()


def program_sha256(file: Path) -> str:
    """Of what a Python file does: its comments, layout and docstrings, such as the help of flags, are no part of it."""
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [
                part for part in node.body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            ]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def command() -> str:
    """The command line of this process, as it would be typed."""
    module, file = getattr(sys.modules["__main__"], "__spec__", None), Path(sys.argv[0]).resolve()
    checkout = Path(__file__).parents[1]
    inside = file.relative_to(checkout) if file.is_relative_to(checkout) else file.name
    start = ["python", "-m", module.name] if module else ["python", str(inside)]
    return " ".join([*start, *sys.argv[1:]])
