"""Where a file came from: commit, packages, machine, command."""

import functools
import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import sibench
from sibench.core import files
from sibench.core.errors import UserError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "brax", "mujoco", "mujoco-mjx", "gymnasium", "numpy")
"""Packages whose versions can move a number."""


def start_run(folder: Path, settings: dict[str, Any], source_sha256: str = "") -> dict[str, Any]:
    """Write `run.json` at the start of a run; on a restart, refuse a folder that holds a different run.

    Returns what it holds: the settings, the packages and the LEARNING_VERSION, which must be the same; and the commit
    and the method file that began the run, which may differ.
    """
    file = folder / "run.json"
    determines = {"packages": packages(), "learning_version": sibench.LEARNING_VERSION}
    run = json.loads(json.dumps({"settings": settings | determines}, default=str))
    run |= {"code": code_version()} | ({"source_sha256": source_sha256} if source_sha256 else {})
    if not file.exists():
        files.write_atomic(file, files.to_json(run))
        return run
    before = _read_run(file)
    known, now = before["settings"], run["settings"]
    other = sorted(name for name in known.keys() | now if known.get(name) != now.get(name))
    if other:
        told = ", ".join(f"{name}={known.get(name)} (here {now.get(name)})" for name in other)
        raise UserError(f"{folder} holds a run with {told}; choose another --out, or delete it to start anew")
    return before


def _read_run(file: Path) -> dict[str, Any]:
    try:
        before = dict(files.from_json(file.read_bytes()))
        if isinstance(before.get("settings"), dict) and "code" in before:
            return before
        why: object = "it lacks settings or code"
    except (ValueError, TypeError) as error:
        why = error
    raise UserError(f"{file}: does not describe a run: {why}; choose another --out, or delete {file.parent}")


@functools.cache
def packages() -> dict[str, str]:
    """Return the version of every package that can move a number."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


@functools.cache
def python() -> str:
    return platform.python_version()


@functools.cache
def machine() -> str:
    return f"{platform.system()} {platform.machine()}"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages, and the kind of machine."""
    return {"python": python(), "machine": machine()} | packages()


@functools.cache
def code_version() -> str:
    """Return the commit of the checkout, with `+` if files differ from it; otherwise the version of the package."""
    checkout = Path(sibench.__file__).parents[1]
    git = ["git", "-C", str(checkout)]
    try:
        if not (checkout / ".git").exists():
            return sibench.__version__
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = [*git, "status", "--porcelain", "--untracked-files=no"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True).stdout.strip()
        return commit + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return sibench.__version__


def command() -> str:
    """Return the command line of this process, as it would be typed in the checkout."""
    module, file = getattr(sys.modules["__main__"], "__spec__", None), Path(sys.argv[0]).resolve()
    checkout = Path(sibench.__file__).parents[1]
    inside = file.relative_to(checkout) if file.is_relative_to(checkout) else file.name
    start = ["python", "-m", module.name] if module else ["python", str(inside)]
    return " ".join([*start, *sys.argv[1:]])
