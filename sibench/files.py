"""Writing files so that nobody ever reads half of one, and hashing them."""

import contextlib
import ctypes
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

from sibench.errors import UserError


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def from_json(content: bytes | str) -> Any:
    """Strict: NaN, infinities, what no 64 bits hold, and a name given twice are refused (ValueError)."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number of JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if twice := [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]:
            raise ValueError(f"a name is given twice: {', '.join(sorted(twice))}")
        return dict(pairs)

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"{number[:20]} is too large")
        return value

    def whole(number: str) -> int:
        if len(number) > 20 or not -(2**63) <= (value := int(number)) < 2**64:
            raise ValueError(f"{number[:20]} is too large")
        return value

    try:
        return json.loads(content, parse_constant=refuse, object_pairs_hook=once, parse_float=finite, parse_int=whole)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def write_atomic(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that, whatever happens, `path` holds either its old bytes or all the new ones."""
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
    """An error of the disk names the file that was being written; a full one names none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_signed(path: Path, value: dict[str, Any]) -> None:
    """JSON with its own hash."""
    write_atomic(path, to_json({"sha256": hashlib.sha256(to_json(value)).hexdigest()} | value))


def read_signed(path: Path) -> dict[str, Any] | None:
    """What `write_signed` wrote; None if that is not there, or not what was written."""
    try:
        value = json.loads(path.read_bytes())
        digest = value.pop("sha256")
        return value if hashlib.sha256(to_json(value)).hexdigest() == digest else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that takes the name `path` when the block ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        _sync(temporary)
        os.chmod(temporary, 0o755)
        if path.exists():
            _exchange(temporary, path)
            shutil.rmtree(temporary)
        else:
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(path.parent)


@contextlib.contextmanager
def sole_user(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder that need not exist yet: wait for another process to be done with it, or say that there is one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise UserError(f"another process is at work in {folder}; wait for it or choose another folder") from None
    try:
        for aside in folder.parent.glob(f".{folder.name}.*.old.tmp"):  # of one killed between the renames of _exchange
            if not folder.exists():
                os.replace(aside, folder)
        for left_by_the_dead in [*folder.parent.glob(f".{folder.name}.*.tmp"), *folder.rglob(".*.tmp")]:
            if left_by_the_dead.is_dir():
                shutil.rmtree(left_by_the_dead, ignore_errors=True)
            else:
                left_by_the_dead.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def _exchange(new: Path, old: Path) -> None:
    """Let two folders swap names, at one stroke where the system can (Linux's renameat2)."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2 and renameat2(here, os.fsencode(new), here, os.fsencode(old), exchange) == 0:
        return
    aside = new.with_name(new.name.removesuffix(".tmp") + ".old.tmp")
    os.replace(old, aside)
    os.replace(new, old)
    os.replace(aside, new)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
