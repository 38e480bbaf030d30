"""Read HDF5 files that nobody vouches for.

HDF5 can point at any file of the machine (external storage, external links, virtual datasets) and can declare
terabytes in a kilobyte. So no link is followed, and every shape is checked before a byte is read. Everything here
raises an exception of `UNREADABLE` for a bad file.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sibench.tasks.cameras import FRAMES

MAX_COLUMN_BYTES, MAX_CHUNK_BYTES, MAX_FRAMES_CHUNK_BYTES = 4 << 30, 64 << 20, 4 << 20
UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, TypeError)
"""Exceptions that reading a damaged or hostile file can raise."""
FILTERS = {h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}


def read(path: Path, columns: dict[str, Any]) -> dict[str, np.ndarray]:
    """Read a file that holds arrays of these names and types, and nothing else."""
    with h5py.File(path, "r") as file:
        if set(file) != set(columns):
            raise ValueError(f"holds {sorted(file)[:20]}, expected {sorted(columns)}")
        return {name: read_column(file, name, dtype) for name, dtype in columns.items()}


def read_group(parent: h5py.Group, name: str) -> h5py.Group:
    """Return a group that is stored in the file itself."""
    if _is_link(parent, name) or not isinstance(group := parent[name], h5py.Group):
        raise ValueError(f"'{name}' is no group, or a link")
    return group


def check_tree(group: h5py.Group) -> None:
    """Refuse a file that keeps anything in another file, or declares more than it stores."""
    for name in group:
        if not _is_link(group, name) and isinstance(member := group[name], h5py.Group):
            check_tree(member)
        else:
            _check_size(_array(group, name), name)


def read_names(group: h5py.Group, name: str, most: int) -> np.ndarray:
    """Read a list of at most `most` byte strings."""
    column = _array(group, name)
    if column.ndim != 1 or column.dtype.kind not in "SO" or len(column) > most or column.nbytes > MAX_CHUNK_BYTES:
        raise ValueError(f"'{name}' is not a list of at most {most} names")
    return column[()]


def read_column(group: h5py.Group, name: str, dtype: Any = None) -> np.ndarray:
    """Read an array of numbers with one or two dimensions; of any numeric type if `dtype` is None."""
    column = _array(group, name)
    _check_size(column, name)
    if column.dtype.kind not in "biuf" or (dtype is not None and column.dtype != dtype):
        raise ValueError(f"'{name}' is of type {column.dtype}, expected {np.dtype(dtype) if dtype else 'numbers'}")
    if column.ndim not in (1, 2):
        raise ValueError(f"'{name}' has {column.ndim} dimensions, expected 1 or 2")
    return column[()]


def open_frames(group: h5py.Group, name: str) -> h5py.Dataset:
    """Return an array of the frames of one camera, to be read by rows."""
    column = _array(group, name)
    _check_size(column, name)
    if column.chunks and np.prod(column.chunks, dtype=object) > MAX_FRAMES_CHUNK_BYTES:
        raise ValueError(f"'{name}' has chunks of shape {column.chunks}, too large to read single frames")
    if column.dtype != np.uint8 or column.shape[1:] != FRAMES[1:]:
        raise ValueError(f"'{name}' has {column.dtype} of shape {column.shape}, expected uint8 and {FRAMES[1:]}")
    return column


def in_one_line(error: object) -> str:
    """Return the message of an error, which in h5py may have several lines."""
    return " ".join(str(error).split())


def _check_size(column: h5py.Dataset, name: str) -> None:
    """Refuse unknown filters, and more bytes than a file of this size can hold."""
    properties = column.id.get_create_plist()
    if {properties.get_filter(i)[0] for i in range(properties.get_nfilters())} - FILTERS:
        raise ValueError(f"'{name}' is stored with a filter that is not allowed")
    stored = column.id.get_storage_size()
    if column.nbytes > MAX_COLUMN_BYTES or column.nbytes > (64 << 20) + 100 * stored:
        raise ValueError(f"'{name}' declares {column.nbytes} bytes and stores {stored}")
    if column.chunks and int(np.prod(column.chunks, dtype=object)) * column.dtype.itemsize > MAX_CHUNK_BYTES:
        raise ValueError(f"'{name}' has chunks of shape {column.chunks}")


def _array(group: h5py.Group, name: str) -> h5py.Dataset:
    """Return an array whose bytes are in the file itself."""
    if _is_link(group, name):
        raise ValueError(f"'{name}' is a link")
    column = group[name]
    if not isinstance(column, h5py.Dataset):
        raise ValueError(f"'{name}' is not an array")
    if column.is_virtual or column.external:
        raise ValueError(f"'{name}' keeps its data in another file")
    return column


def _is_link(group: h5py.Group, name: str) -> bool:
    kind = group.get(name, getlink=True)
    if kind is None:
        raise ValueError(f"there is no '{name}'")
    return not isinstance(kind, h5py.HardLink)
