"""The policies and reference returns that ship with the package, in `sibench/assets/<task>/`, and their hashes."""

import functools
import hashlib
import re
from pathlib import Path
from typing import Any

from sibench import files
from sibench.errors import UserError, unknown
from sibench.ids import sources, twin

ASSETS = Path(__file__).parent / "assets"
MANIFEST = "manifest.json"
"""Of each task: file -> sha256, of every file that ships."""


def path(task: str, source: str) -> Path:
    """Without suffix; `source` is `expert` or `bc-<d>`."""
    return ASSETS / twin(task) / source


def shipped(task: str) -> list[str]:
    """`expert` and `bc-<d>`, as far as there are policies of them."""
    return [source for source in sources() if path(task, source).with_suffix(".json").exists()]


def _require(task: str, source: str) -> Path:
    from sibench import tasks  # which needs this module

    kind = tasks.task_type(task)
    if not re.fullmatch(r"expert|bc-\d+", source):
        raise unknown("source", source, shipped(task))
    file = path(task, source)
    if not file.with_suffix(".json").exists():
        if source == "expert" and kind.script:
            raise UserError(f"{task} has no expert policy: a script demonstrates it; see {task}/expert-v1, its dataset")
        if source.startswith("bc-") and source[3:] not in map(str, kind.ladder):
            raise UserError(f"{task} has no '{source}'; its ladder is of {', '.join(map(str, kind.ladder))}")
        program = "experts" if source == "expert" else "ladder"
        raise UserError(
            f"{task} has no shipped policy '{source}' ({file}.json); train it: "
            f"python -m data_gen.{program} --task {task} --ship"
        )
    for suffix in (".safetensors", ".json"):
        _read(file.with_suffix(suffix))
    return file


def _read(file: Path) -> bytes:
    """What is in a file, if that is what was shipped."""
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != _manifest(file.parent).get(file.name):
        raise UserError(f"{file} differs from its sha256 in {MANIFEST}: get the package anew, or ship it again")
    return content


def _manifest(folder: Path) -> dict[str, str]:
    file = folder / MANIFEST
    return dict(files.from_json(file.read_bytes())) if file.exists() else {}


def load_policy(task: str, source: str):
    """The shipped policy `expert` or `bc-<d>` of a task."""
    from sibench import policies

    return policies.load(_require(task, source))


def policy_sha256(task: str, source: str) -> str:
    """The hash of its weights."""
    return files.from_json(_require(task, source).with_suffix(".json").read_bytes())["weights_sha256"]


def ship(task: str, *files_to_ship: Path) -> None:
    """Put files among those that ship with the package; one that is not all there is not taken for one that is."""
    hashes = _manifest(path(task, MANIFEST).parent)
    for file in files_to_ship:
        content = file.read_bytes()
        files.write_atomic(path(task, file.name), content)
        hashes[file.name] = hashlib.sha256(content).hexdigest()
    files.write_atomic(path(task, MANIFEST), files.to_json(dict(sorted(hashes.items()))))


@functools.cache
def references(task: str) -> dict[str, Any] | None:
    """Returns of the uniform-random and the expert policy, each with n, std, engine and seeds; None if not measured."""
    file = ASSETS / twin(task) / "references.json"
    return files.from_json(_read(file)) if file.exists() else None


@functools.cache
def ladder() -> dict[str, dict[str, Any]]:
    """Task -> source -> `returns` of some of its episodes, and how they were made, by plots/ladder.py."""
    return files.from_json((ASSETS / "ladder.json").read_bytes())
