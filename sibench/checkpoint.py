"""Training states on disk: written by orbax, under a sha256 manifest, since orbax loads flipped bits without a word."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from sibench import files

KEEP = 2
log = logging.getLogger(__name__)


def save(folder: Path, step: int, state: Any) -> None:
    """Write `state` as `folder/<step>`, whole or not at all, and drop all but the newest ones."""
    folder = folder.resolve()
    with files.atomic_folder(folder / str(step)) as temporary:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(temporary / "state", state)
        manifest = {str(p.relative_to(temporary)): files.sha256(p) for p in sorted(temporary.rglob("*")) if p.is_file()}
        files.write_atomic(temporary / "MANIFEST.json", files.to_json(manifest))
    for old in _steps(folder)[:-KEEP]:
        shutil.rmtree(folder / str(old))


def restore(folder: Path, like: Any) -> tuple[int, Any] | None:
    """The newest intact state in `folder`, shaped as `like`; None if there is none."""
    folder = folder.resolve()
    for step in reversed(_steps(folder)):
        if (damage := _damage(folder / str(step))) is None:
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
            with ocp.StandardCheckpointer() as checkpointer:
                return step, checkpointer.restore(folder / str(step) / "state", abstract)
        log.warning("checkpoint %s is damaged (%s); trying the one before", folder / str(step), damage)
    return None


def _steps(folder: Path) -> list[int]:
    return sorted(int(p.name) for p in folder.glob("[0-9]*") if p.name.isdigit()) if folder.exists() else []


def _damage(checkpoint: Path) -> str | None:
    try:
        manifest = json.loads((checkpoint / "MANIFEST.json").read_bytes())
    except (OSError, ValueError) as error:
        return f"no readable manifest: {error}"
    for name, digest in manifest.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if files.sha256(file) != digest:
            return f"{name} differs from its sha256"
    return None
