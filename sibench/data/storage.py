"""Datasets on disk: a folder that is written whole or not at all, and checked when it is read.

<root>/<task>/<source>-v<version>/
    data.hdf5         the arrays, flat
    pixels.zlib       the frames, if the task observes them
    card.json         what the dataset is made of, and its statistics
    MANIFEST.json     the sha256 of the other files
"""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import platformdirs

from sibench import tasks
from sibench.core import files
from sibench.core.errors import UserError, nearest
from sibench.core.ids import Id, parse_id, sources
from sibench.data import frames, hdf5
from sibench.data.dataset import Dataset

COLUMNS = {
    "observations": np.float32,
    "actions": np.float32,
    "rewards": np.float32,
    "terminal": np.uint8,
    "truncated": np.uint8,
    "offsets": np.int64,
    "seeds": np.uint64,
    "initial_states": np.float32,
}
PIXEL_ENDS = {"pixel_ends": np.int64}
"""Further column of a dataset with frames: where in their file those of each observation end (`frames.write`)."""
DATA, PIXELS, CARD, MANIFEST = "data.hdf5", "pixels.zlib", "card.json", "MANIFEST.json"


def root() -> Path:
    """Return the folder of all datasets: $SIBENCH_DATA, or one in the platform's cache folder."""
    chosen = os.environ.get("SIBENCH_DATA")
    return Path(chosen).expanduser().resolve() if chosen else Path(platformdirs.user_cache_dir("sibench")) / "data"


def folder(id: Id) -> Path:
    """Return the folder of a dataset."""
    return root() / str(id)


def exists(id: Id) -> bool:
    """Return whether a dataset is on this machine, intact or not."""
    files.recover(folder(id))
    return folder(id).exists()


def parse_known_id(text: str) -> Id:
    """Parse an id; raise `UserError` if it is malformed or its task is unknown."""
    id = parse_id(text)
    tasks.task_type(id.task)  # raises for an unknown task
    return id


def build_command(id: Id) -> str:
    """Return the command that makes a dataset."""
    size = "" if str(id) == str(Id(id.task, id.source, version=id.version)) else f" --episodes {id.episodes}"
    return f"python -m data_gen.collect --task {id.task} --dataset {id.source}{size}"


def remedy(id: Id) -> str:
    """Return the advice for a damaged dataset."""
    if id.kind == "other":
        return "delete its folder and import it again"
    return f"delete its folder and make it again: {build_command(id)}"


def content_sha256(dataset: Dataset) -> str:
    """Return a hash of the arrays, independent of how the file is chunked, compressed or copied."""
    digest = hashlib.sha256()
    for name, dtype in COLUMNS.items():
        array = np.ascontiguousarray(getattr(dataset, name), dtype)
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    if dataset.pixels is not None:
        digest.update(f"pixels {dataset.pixels.dtype.str} {dataset.pixels.shape}\n".encode())
        for block in dataset.pixels.blocks():
            digest.update(block.data)
    return digest.hexdigest()


def write(id: Id, dataset: Dataset) -> Path:
    """Store a dataset with its card, in place of an older one; return its folder."""
    if problem := inconsistency({name: getattr(dataset, name) for name in COLUMNS}):
        raise UserError(f"dataset {id} cannot be stored: {problem}")
    path = folder(id)
    columns = {name: np.ascontiguousarray(getattr(dataset, name), dtype) for name, dtype in COLUMNS.items()}
    buffer = io.BytesIO()  # HDF5 itself crashes when the disk is full
    with files.atomic_folder(path) as temporary:
        if dataset.pixels is not None:
            columns["pixel_ends"] = frames.write(temporary / PIXELS, dataset.pixels)
            dataset = dataset._replace(pixels=frames.open_stored(temporary / PIXELS, columns["pixel_ends"]))
        with h5py.File(buffer, "w") as file:
            for name, array in columns.items():
                rows = max(1, min(len(array), (1 << 20) // max(1, array[:1].nbytes)))
                layout = {"chunks": (rows, *array.shape[1:]), "fletcher32": True} if array.size else {}
                file.create_dataset(name, data=array, **layout)
        files.write_atomic(temporary / DATA, buffer.getbuffer())
        card = dataset.card | {"content_sha256": content_sha256(dataset)}
        files.write_atomic(temporary / CARD, files.to_json(card))
        names = (DATA, CARD) if dataset.pixels is None else (DATA, PIXELS, CARD)
        manifest = {name: files.sha256(temporary / name) for name in names}
        files.write_atomic(temporary / MANIFEST, files.to_json(manifest))
    return path


def read_card(id: Id) -> dict[str, Any]:
    """Read the card alone, checked against the manifest, with `data_sha256`, the hashes of the other files."""
    path = folder(id)
    if not exists(id):
        near = nearest(id.source, sources())
        suggestion = f"did you mean {id.task}/{near}? else " if near else ""
        hint = f"make it: {build_command(id)}" if id.kind != "other" else f"{suggestion}import or write it first"
        raise UserError(f"dataset {id} is not in {root()}; {hint}")
    try:
        manifest = files.from_json((path / MANIFEST).read_bytes())
        content = (path / CARD).read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest[CARD]:
            raise ValueError(f"{CARD} differs from its sha256")
        hashes = {name: digest for name, digest in manifest.items() if name != CARD}
        if DATA not in hashes or not hashes.keys() <= {DATA, PIXELS}:
            raise ValueError(f"{MANIFEST} names {sorted(hashes)[:5]}")
        card = dict(files.from_json(content))
        _check_card(card)
        return card | {"data_sha256": hashes}
    except hdf5.UNREADABLE as error:
        raise _refusal(path / CARD, error, id) from None


def _check_card(card: dict[str, Any]) -> None:
    """Raise ValueError unless a card has what every reader needs."""
    numbers = ("num_episodes", "num_steps", "return_mean", "return_std")
    if missing := {"engine", *numbers} - card.keys():
        raise ValueError(f"{CARD} has no {', '.join(sorted(missing))}")
    for name in (*numbers, "quality"):
        value = card.get(name)
        if type(value) not in (int, float) and (name, value) != ("quality", None):
            raise ValueError(f"its {name} is {value!r}, which is not a number")


def is_intact(id: Id) -> bool:
    """Return whether all files of a dataset have the hashes of its manifest."""
    return not _damaged_files(id, read_card(id))


def _damaged_files(id: Id, card: dict[str, Any]) -> list[str]:
    hashes = {folder(id) / name: digest for name, digest in card["data_sha256"].items()}
    return [file.name for file, digest in hashes.items() if not file.exists() or files.sha256(file) != digest]


def read(id: Id) -> Dataset:
    """Read a dataset after checking its hashes, its HDF5 structure and its arrays."""
    card = read_card(id)
    pixels, file = None, folder(id) / DATA
    try:
        if damaged := _damaged_files(id, card):
            file = folder(id) / damaged[0]
            raise ValueError("differs from its sha256")
        columns = hdf5.read(file, COLUMNS | (PIXEL_ENDS if PIXELS in card["data_sha256"] else {}))
        if (ends := columns.pop("pixel_ends", None)) is not None:
            pixels = frames.open_stored(folder(id) / PIXELS, ends)
            if len(pixels) != len(columns["observations"]):
                raise ValueError(f"{len(pixels)} observations have frames, of {len(columns['observations'])}")
    except hdf5.UNREADABLE as error:
        raise _refusal(file, error, id) from None
    if problem := inconsistency(columns):
        raise _refusal(file, problem, id)
    flags = {name: columns.pop(name).astype(bool) for name in ("terminal", "truncated")}
    return Dataset(card=card, pixels=pixels, **columns, **flags)


def _refusal(file: Path, why: object, id: Id) -> UserError:
    return UserError(f"{file}: refused: {hdf5.in_one_line(why)}; {remedy(id)}")


def inconsistency(columns: dict[str, np.ndarray]) -> str | None:
    """Return the first thing that is wrong with the arrays of a dataset; None if they are consistent."""
    offsets = columns["offsets"]
    if offsets.ndim != 1 or len(offsets) < 2 or offsets[0] != 0 or (offsets[1:] <= offsets[:-1]).any():
        return "offsets must start at 0 and grow by at least one step an episode"
    num_steps, num_episodes = int(offsets[-1]), len(offsets) - 1
    rows = dict.fromkeys(("actions", "rewards", "terminal", "truncated"), num_steps)
    rows |= {"observations": num_steps + num_episodes, "seeds": num_episodes, "initial_states": num_episodes}
    for name, expected in rows.items():
        column, ndim = columns[name], 2 if name in ("observations", "actions", "initial_states") else 1
        if len(column) != expected or column.ndim != ndim:
            return f"{name} has shape {column.shape}, expected {expected} rows"
    for name in ("observations", "actions", "rewards", "initial_states"):
        if not np.isfinite(columns[name]).all():
            return f"{name} holds a value that is not finite, first at row {_first(~np.isfinite(columns[name]))}"
    if (np.abs(columns["actions"]) > 1).any():
        return f"actions leave [-1, 1], first at row {_first(np.abs(columns['actions']) > 1)}"
    is_last = np.zeros(num_steps, bool)
    is_last[offsets[1:] - 1] = True
    terminal, truncated = (columns[name].astype(bool) for name in ("terminal", "truncated"))
    is_end = terminal | truncated
    if (is_end & ~is_last).any():
        return f"an episode ends inside another, at step {_first(is_end & ~is_last)}"
    if (is_last & ~is_end).any():
        return f"an episode stops without being terminal or truncated, at step {_first(is_last & ~is_end)}"
    if (terminal & truncated).any():
        return "a step is both terminal and truncated"
    return None


def _first(wrong: np.ndarray) -> int:
    return int(np.argwhere(wrong)[0, 0])
