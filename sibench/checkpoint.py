"""Training states on disk: written by orbax, under a sha256 manifest, since orbax loads flipped bits without a word."""

import contextlib
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from sibench import files
from sibench.errors import UserError

KEEP = 2
NOTES = "notes.json"
log = logging.getLogger(__name__)


def save(folder: Path, step: int, state: Any, notes: Any = None) -> None:
    """Write `state`, with notes in JSON, as `folder/<step>`, whole or not at all, and drop all but the newest ones.

    Later steps than this are damaged ones, or `restore` had gone on from there: they are dropped too.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    size, free = sum(leaf.nbytes for leaf in jax.tree.leaves(state)), shutil.disk_usage(folder).free
    if size > free:  # said before orbax's threads fail one after the other, each with a traceback
        raise UserError(f"{folder / str(step)}: not written: it takes {size:,} bytes, {free:,} are free; make room")
    with _failing_in_a_line(folder / str(step)), files.atomic_folder(folder / str(step)) as temporary:
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
def _failing_in_a_line(checkpoint: Path) -> Iterator[None]:
    """On a full disk orbax prints a traceback from each of its threads, and raises what is not always an OSError."""
    absl, say = logging.getLogger("absl"), sys.unraisablehook
    level = absl.level
    absl.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda raised: None if str(raised.exc_value) == "Event loop is closed" else say(raised)
    try:
        yield
        sys.unraisablehook = say  # after a failure more may come
    except (OSError, ValueError) as error:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # orbax's other tasks fail too, and nobody asks them
        code = getattr(error, "errno", None) or (re.search(r"os_error_code='(\d+)'", str(error)) or [0, 0])[1]
        why = os.strerror(int(code)) if code else error
        raise UserError(
            f"{checkpoint}: not written: {why}; once that is mended, the same command goes on from the one before"
        ) from None
    finally:
        absl.setLevel(level)


def restore(folder: Path, like: Any) -> tuple[int, Any, Any] | None:
    """The newest intact checkpoint in `folder`: its step, its state, shaped as `like`, and its notes."""
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
