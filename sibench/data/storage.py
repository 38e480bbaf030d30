"""Datasets on disk: one flat HDF5, frames beside it if there are any, a card, a sha256 manifest; written whole or not
at all, and read with suspicion.

HDF5 can point at any file of the machine (external storage, external links, virtual datasets) and can declare
terabytes in a kilobyte, so nothing is followed and every shape is checked before a byte is read.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from sibench import files
from sibench.cameras import FRAMES
from sibench.data import Dataset, pixels, root
from sibench.errors import UserError, nearest
from sibench.ids import Id, sources

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
MAX_COLUMN_BYTES, MAX_CHUNK_BYTES, MAX_FRAMES_CHUNK_BYTES = 4 << 30, 64 << 20, 4 << 20
DATA, PIXELS, CARD, MANIFEST = "data.hdf5", "pixels.zlib", "card.json", "MANIFEST.json"
ENDS = {"pixel_ends": np.int64}
"""The column more of a dataset with frames: where each observation's end in their file (sibench/data/pixels.py)."""
UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, TypeError)
"""What a file raises that is not what it should be."""


def folder(id: Id) -> Path:
    return root() / str(id)


def command(id: Id) -> str:
    """How to make it."""
    size = "" if str(id) == str(Id(id.task, id.source, version=id.version)) else f" --episodes {id.episodes}"
    return f"python -m data_gen.collect --task {id.task} --dataset {id.source}{size}"


def content_sha256(dataset: Dataset) -> str:
    """A hash of the arrays alone: the same however the file is chunked, compressed or copied."""
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
    """Store a dataset with its card, in place of an older one."""
    import h5py

    problem = inconsistency({name: getattr(dataset, name) for name in COLUMNS})
    if problem:
        raise UserError(f"dataset {id} cannot be stored: {problem}")
    path = folder(id)
    image = io.BytesIO()  # HDF5 itself crashes when the disk is full
    columns, parts = {name: np.ascontiguousarray(getattr(dataset, name), dtype) for name, dtype in COLUMNS.items()}, []
    with files.atomic_folder(path) as temporary:
        if dataset.pixels is not None:
            columns["pixel_ends"] = pixels.write(temporary / PIXELS, dataset.pixels)
            dataset = dataset._replace(pixels=pixels.open_stored(temporary / PIXELS, columns["pixel_ends"]))
            parts = [PIXELS]
        with h5py.File(image, "w") as file:
            for name, array in columns.items():
                rows = max(1, min(len(array), (1 << 20) // max(1, array[:1].nbytes)))
                layout = {"chunks": (rows, *array.shape[1:]), "fletcher32": True} if array.size else {}
                file.create_dataset(name, data=array, **layout)
        files.write_atomic(temporary / DATA, image.getbuffer())
        card = dataset.card | {"content_sha256": content_sha256(dataset)}
        files.write_atomic(temporary / CARD, files.to_json(card))
        manifest = {name: files.sha256(temporary / name) for name in (DATA, *parts, CARD)}
        files.write_atomic(temporary / MANIFEST, files.to_json(manifest))
    return path


def read_card(id: Id) -> dict[str, Any]:
    """The card alone, checked against the manifest."""
    path = folder(id)
    if not path.exists():
        near = nearest(id.source, sources())
        meant = f"did you mean {id.task}/{near}? else " if near else ""
        hint = f"make it: {command(id)}" if id.kind != "other" else f"{meant}import or write it first"
        raise UserError(f"dataset {id} is not in {root()}; {hint}")
    try:
        manifest = files.from_json((path / MANIFEST).read_bytes())
        card_bytes = (path / CARD).read_bytes()
        if hashlib.sha256(card_bytes).hexdigest() != manifest[CARD]:
            raise ValueError(f"{CARD} differs from its sha256")
        parts = {name: digest for name, digest in manifest.items() if name != CARD}
        if DATA not in parts or not parts.keys() <= {DATA, PIXELS}:
            raise ValueError(f"{MANIFEST} names {sorted(parts)[:5]}")
        card = dict(files.from_json(card_bytes))
        if missing := {"engine", "num_episodes", "num_steps", "return_mean", "return_std"} - card.keys():
            raise ValueError(f"{CARD} has no {', '.join(sorted(missing))}")
        numbers = {name: card[name] for name in ("num_episodes", "num_steps", "return_mean", "return_std")}
        for name, value in (numbers | {"quality": card.get("quality")}).items():
            if type(value) not in (int, float) and (name, value) != ("quality", None):
                raise ValueError(f"its {name} is {value!r}, which is no number")
        return card | {"data_sha256": parts}
    except UNREADABLE as error:
        raise _refused(path / CARD, error, id) from None


def is_intact(id: Id) -> bool:
    """Whether the data is there and has the hashes that its manifest says."""
    return not _damaged(id, read_card(id))


def _damaged(id: Id, card: dict[str, Any]) -> list[str]:
    """The files that are not what the manifest says."""
    parts = {folder(id) / name: digest for name, digest in card["data_sha256"].items()}
    return [file.name for file, digest in parts.items() if not file.exists() or files.sha256(file) != digest]


def read(id: Id) -> Dataset:
    """The dataset, after its hashes, its HDF5 structure and its arrays have been checked."""
    card = read_card(id)
    seen, file = None, folder(id) / DATA
    try:
        if damaged := _damaged(id, card):
            file = folder(id) / damaged[0]
            raise ValueError("differs from its sha256")
        columns = read_hdf5(file, COLUMNS | (ENDS if PIXELS in card["data_sha256"] else {}))
        if (ends := columns.pop("pixel_ends", None)) is not None:
            seen = pixels.open_stored(folder(id) / PIXELS, ends)
            if len(seen) != len(columns["observations"]):
                raise ValueError(f"{len(seen)} observations have frames, of {len(columns['observations'])}")
    except UNREADABLE as error:
        raise _refused(file, error, id) from None
    problem = inconsistency(columns)
    if problem:
        raise _refused(file, problem, id)
    flags = {name: columns.pop(name).astype(bool) for name in ("terminal", "truncated")}
    return Dataset(card=card, pixels=seen, **columns, **flags)


def _refused(file: Path, why: object, id: Id) -> UserError:
    return UserError(f"{file}: refused: {in_a_line(why)}; {remedy(id)}")


def remedy(id: Id) -> str:
    """What to do about a bad dataset."""
    if id.kind == "other":
        return "delete its folder and import it again"
    return f"delete its folder and make it again: {command(id)}"


def read_hdf5(path: Path, columns: dict[str, Any]) -> dict[str, np.ndarray]:
    """Read the named flat datasets of a file and nothing else. Raises ValueError or OSError."""
    import h5py

    with h5py.File(path, "r") as file:
        if set(file) != set(columns):
            raise ValueError(f"holds {sorted(file)[:20]}, expected {sorted(columns)}")
        return {name: read_column(file, name, dtype) for name, dtype in columns.items()}


def read_group(parent, name: str):
    """A group whose members are in this very file."""
    import h5py

    if _is_link(parent, name) or not isinstance(parent[name], h5py.Group):
        raise ValueError(f"'{name}' is no group, or a link")
    return parent[name]


def check_tree(group) -> None:
    """Refuse a file of which anything is kept in another one, or declares more than it stores."""
    import h5py

    for name in group:
        if not _is_link(group, name) and isinstance(group[name], h5py.Group):
            check_tree(group[name])
        else:
            _check_storage(_plain(group, name), name)


def read_names(group, name: str, most: int) -> np.ndarray:
    """One array of at most so many byte strings."""
    column = _plain(group, name)
    if column.ndim != 1 or column.dtype.kind not in "SO" or len(column) > most or column.nbytes > MAX_CHUNK_BYTES:
        raise ValueError(f"'{name}' is no list of at most {most} names")
    return column[()]


def read_column(group, name: str, dtype: Any) -> np.ndarray:
    """One numeric array of an HDF5 group, if it is a plain one whose bytes are in this very file."""
    column = _plain(group, name)
    _check_storage(column, name)
    if column.dtype.kind not in "biuf" or (dtype is not None and column.dtype != dtype):
        raise ValueError(f"'{name}' is of type {column.dtype}, expected {np.dtype(dtype) if dtype else 'numbers'}")
    if column.ndim not in (1, 2):
        raise ValueError(f"'{name}' has {column.ndim} dimensions")
    return column[()]


def frames(group, name: str):
    """An HDF5 array of frames, to be read by rows."""
    column = _plain(group, name)
    _check_storage(column, name)
    if column.chunks and np.prod(column.chunks, dtype=object) > MAX_FRAMES_CHUNK_BYTES:
        raise ValueError(f"'{name}' has chunks of shape {column.chunks}, of which a frame would read too much")
    if column.dtype != np.uint8 or column.shape[1:] != FRAMES[1:]:
        raise ValueError(f"'{name}' has {column.dtype} of shape {column.shape}, expected uint8 and {FRAMES[1:]}")
    return column


def _check_storage(column, name: str) -> None:
    """Refuse filters that could be anything, and more bytes than a file of its size holds."""
    import h5py

    filters = column.id.get_create_plist()
    names = {filters.get_filter(i)[0] for i in range(filters.get_nfilters())}
    if names - {h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}:
        raise ValueError(f"'{name}' is stored with a filter that is not allowed")
    stored = column.id.get_storage_size()
    if column.nbytes > MAX_COLUMN_BYTES or column.nbytes > (64 << 20) + 100 * stored:
        raise ValueError(f"'{name}' declares {column.nbytes} bytes and stores {stored}")
    if column.chunks and int(np.prod(column.chunks, dtype=object)) * column.dtype.itemsize > MAX_CHUNK_BYTES:
        raise ValueError(f"'{name}' has chunks of shape {column.chunks}")


def _plain(group, name: str):
    """An array whose bytes are in this very file."""
    import h5py

    if _is_link(group, name):
        raise ValueError(f"'{name}' is a link")
    column = group[name]
    if not isinstance(column, h5py.Dataset):
        raise ValueError(f"'{name}' is not an array")
    if column.is_virtual or column.external:
        raise ValueError(f"'{name}' keeps its data in another file")
    return column


def _is_link(group, name: str) -> bool:
    import h5py

    kind = group.get(name, getlink=True)
    if kind is None:
        raise ValueError(f"there is no '{name}'")
    return not isinstance(kind, h5py.HardLink)


def in_a_line(error: object) -> str:
    """What h5py says in several."""
    return " ".join(str(error).split())


def inconsistency(columns: dict[str, np.ndarray]) -> str | None:
    """What is wrong with the arrays of a dataset, if anything."""
    offsets = columns["offsets"]
    if offsets.ndim != 1 or len(offsets) < 2 or offsets[0] != 0 or (offsets[1:] <= offsets[:-1]).any():
        return "offsets must start at 0 and grow by at least one step an episode"
    num_steps, num_episodes = int(offsets[-1]), len(offsets) - 1
    rows = dict.fromkeys(("actions", "rewards", "terminal", "truncated"), num_steps)
    rows |= {"observations": num_steps + num_episodes, "seeds": num_episodes, "initial_states": num_episodes}
    for name, expected in rows.items():
        column = columns[name]
        if len(column) != expected or column.ndim != (
            2 if name in ("observations", "actions", "initial_states") else 1
        ):
            return f"{name} has shape {column.shape}, expected {expected} rows"
    for name in ("observations", "actions", "rewards", "initial_states"):
        if not np.isfinite(columns[name]).all():
            return f"{name} holds a value that is not finite, first at row {_first(~np.isfinite(columns[name]))}"
    if (np.abs(columns["actions"]) > 1).any():
        return f"actions leave [-1, 1], first at row {_first(np.abs(columns['actions']) > 1)}"
    ends = np.zeros(num_steps, bool)
    ends[offsets[1:] - 1] = True
    over = columns["terminal"].astype(bool) | columns["truncated"].astype(bool)
    if (over & ~ends).any():
        return f"an episode ends inside another, at step {_first(over & ~ends)}"
    if (ends & ~over).any():
        return f"an episode stops without being terminal or truncated, at step {_first(ends & ~over)}"
    if (columns["terminal"].astype(bool) & columns["truncated"].astype(bool)).any():
        return "a step is both terminal and truncated"
    return None


def _first(wrong: np.ndarray) -> int:
    return int(np.argwhere(wrong)[0, 0])
