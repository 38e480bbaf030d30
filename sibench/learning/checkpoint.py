"""Checkpoints: written by orbax, under a sha256 manifest, because orbax loads flipped bits silently."""

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from sibench.core import files
from sibench.core.errors import UserError

KEEP = 2
NOTES = "notes.json"
log = logging.getLogger(__name__)


def save(folder: Path, step: int, state: Any, notes: Any = None) -> None:
    """Write `state` and JSON notes as `folder/<step>`, whole or not at all, and keep only the newest checkpoints.

    Checkpoints of later steps are damaged, since `restore` skipped them; they are deleted too.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    size, free = sum(leaf.nbytes for leaf in jax.tree.leaves(state)), shutil.disk_usage(folder).free
    if size > free:  # orbax's threads would fail one after the other, each with a traceback
        raise UserError(f"{folder / str(step)}: not written: it needs {size:,} bytes, {free:,} are free; make room")
    with _as_user_error(folder / str(step)), files.atomic_folder(folder / str(step)) as temporary:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(temporary / "state", state)
        files.write_atomic(temporary / NOTES, files.to_json(notes))
        manifest = {str(p.relative_to(temporary)): files.sha256(p) for p in sorted(temporary.rglob("*")) if p.is_file()}
        files.write_atomic(temporary / "MANIFEST.json", files.to_json(manifest))
    steps = _steps(folder)
    kept = [other for other in steps if other <= step][-KEEP:]
    for other in steps:
        if other not in kept:
            shutil.rmtree(folder / str(other))


@contextlib.contextmanager
def _as_user_error(checkpoint: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))  # orbax hides the code of a full disk in its message
        why = os.strerror(int(code[1])) if code else error
        raise UserError(f"{checkpoint}: not written: {why}; fix that, and the same command resumes") from None


def restore(folder: Path, like: Any) -> tuple[int, Any, Any] | None:
    """Return the newest intact checkpoint: its step, its state, shaped like `like`, and its notes."""
    folder = folder.resolve()
    for step in reversed(_steps(folder)):
        if (damage := _damage(folder / str(step))) is None:
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
            notes = json.loads((folder / str(step) / NOTES).read_bytes())
            with ocp.StandardCheckpointer() as checkpointer:
                return step, checkpointer.restore(folder / str(step) / "state", abstract), notes
        log.warning("checkpoint %s is damaged (%s); trying the one before", folder / str(step), damage)
    return None


def _steps(folder: Path) -> list[int]:
    return sorted(int(p.name) for p in folder.glob("[0-9]*") if p.name.isdigit()) if folder.exists() else []


def _damage(checkpoint: Path) -> str | None:
    try:
        manifest = dict(files.from_json((checkpoint / "MANIFEST.json").read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        return f"no readable manifest: {error}"
    there = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()}
    if more := there - manifest.keys() - {"MANIFEST.json"}:
        return f"{min(more)} is not in its manifest"
    for name, digest in manifest.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if files.sha256(file) != digest:
            return f"{name} differs from its sha256"
    return None


class Saver:
    """Writes checkpoints on a thread of its own while learning goes on."""

    def __init__(self, folder: Path):
        self.folder, self.pool = folder, ThreadPoolExecutor(1)
        self.pending: Future | None = None

    def save(self, step: int, state: Any, notes: Any = None) -> None:
        self.wait()
        copied = jax.tree.map(lambda leaf: np.array(leaf), state)  # the originals are about to be donated
        self.pending = self.pool.submit(save, self.folder, step, copied, notes)

    def wait(self) -> None:
        """Wait until the last checkpoint is written; raise what writing it raised."""
        if self.pending:
            self.pending.result()

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.wait()
        finally:
            self.pool.shutdown()
