"""Files that are written whole or not at all, strict JSON, and hashes."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sibench.core.errors import UserError

ASIDE = ".old.tmp"
"""Suffix of a folder that has stepped aside for its replacement: `.<name>.<random>.old.tmp`."""


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_json(value: Any) -> bytes:
    """Return a value as JSON; raise ValueError for NaN and infinities."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def from_json(content: bytes | str) -> Any:
    """Parse JSON; raise ValueError for NaN, infinities, numbers beyond 64 bits, and duplicate names."""

    def refuse_constant(constant: str) -> None:
        raise ValueError(f"{constant} is not a number of JSON")

    def parse_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if twice := [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]:
            raise ValueError(f"a name is given twice: {', '.join(sorted(twice))}")
        return dict(pairs)

    def parse_float(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"{number[:20]} is too large")
        return value

    def parse_int(number: str) -> int:
        if len(number) > 20 or not -(2**63) <= (value := int(number)) < 2**64:
            raise ValueError(f"{number[:20]} is too large")
        return value

    hooks = {"parse_constant": refuse_constant, "parse_float": parse_float, "parse_int": parse_int}
    try:
        return json.loads(content, object_pairs_hook=parse_object, **hooks)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def write_atomic(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that, whatever happens, `path` holds either its old content or all of the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with naming(path), os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync(path.parent)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file that was being written in an OSError that names none, as that of a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_signed(path: Path, value: dict[str, Any]) -> None:
    """Write an object as JSON that contains its own hash."""
    write_atomic(path, to_json({"sha256": hashlib.sha256(to_json(value)).hexdigest()} | value))


def read_signed(path: Path) -> dict[str, Any] | None:
    """Read what `write_signed` wrote; return None if the file is missing or damaged."""
    try:
        value = json.loads(path.read_bytes())
        digest = value.pop("sha256")
        return value if hashlib.sha256(to_json(value)).hexdigest() == digest else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` when the block succeeds, and is deleted when it fails.

    An old folder steps aside first. If the process is killed at that moment, `sole_user` and `recover` put it back.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    aside = temporary.with_suffix(ASIDE)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        _sync(temporary)
        os.chmod(temporary, 0o755)
        if path.exists():
            os.replace(path, aside)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        if aside.exists() and not path.exists():
            os.replace(aside, path)
        for leftover in (aside, temporary):
            shutil.rmtree(leftover, ignore_errors=True)


def recover(folder: Path) -> None:
    """Put a folder back whose replacement was killed after the old one had stepped aside."""
    if not folder.exists() and any(folder.parent.glob(f".{folder.name}.*{ASIDE}")):
        with sole_user(folder, wait=True):  # a writer that is alive finishes first
            pass


@contextlib.contextmanager
def sole_user(folder: Path, wait: bool = False) -> Iterator[None]:
    """Lock a folder, which need not exist yet, and clean up after writers that were killed.

    If another process holds the lock, wait for it or, without `wait`, raise `UserError`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise UserError(f"another process is at work in {folder}; wait for it or choose another folder") from None
    try:
        _clean_up(folder.parent.glob(f".{folder.name}.*.tmp"))
        _clean_up(folder.rglob(".*.tmp"))
        yield
    finally:
        lock.release()


def _clean_up(temporaries: Iterator[Path]) -> None:
    """Put folders back that stepped aside for a replacement that never came; delete everything else."""
    for path in list(temporaries):
        original = path.with_name(path.name[1:].removesuffix(ASIDE).rpartition(".")[0])
        if path.name.endswith(ASIDE) and not original.exists():
            os.replace(path, original)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
