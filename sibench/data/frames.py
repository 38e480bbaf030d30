"""Frames on disk. Those of each observation are compressed by themselves, so that a batch reads its own rows only.

A dataset of a thousand episodes has up to 17 GB of frames; compressed they take a sixth of that.
"""

import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from sibench.core.errors import UserError
from sibench.core.files import naming
from sibench.core.system import threads
from sibench.tasks.cameras import FRAMES, NUM_BYTES

BLOCK = 512
"""Rows that `Pixels.blocks` reads at a time."""
CACHE_BYTES = 2 << 30
"""Frames of a learner that fit into so many bytes are cached; otherwise small learners spend a third of their time
reading."""


class Pixels:
    """Frames [M, 2, 84, 84, 3] uint8, read when indexed: by a number, a slice, or an array of numbers of any shape."""

    dtype = np.dtype(np.uint8)

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], rows: np.ndarray):
        """`read` returns the frames of row numbers [N]; `rows` [M] are the row numbers that this view shows."""
        self._read, self._rows = read, rows

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._rows), *FRAMES)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        rows = np.asarray(self._rows[index])
        return self._read(rows.reshape(-1)).reshape(*rows.shape, *FRAMES)

    def rows(self, index: slice) -> "Pixels":
        """Return a view on some of the rows."""
        return Pixels(self._read, self._rows[index])

    def blocks(self) -> Iterator[np.ndarray]:
        """Iterate over all frames, a block of rows at a time."""
        for first in range(0, len(self), BLOCK):
            yield self[first : first + BLOCK]


def join(parts: list[Pixels]) -> Pixels:
    """Return a view on several parts, one after the other."""
    ends = np.cumsum([0, *map(len, parts)])

    def read(rows: np.ndarray) -> np.ndarray:
        frames, part = np.empty((len(rows), *FRAMES), np.uint8), np.searchsorted(ends, rows, side="right") - 1
        for number in np.unique(part):
            frames[part == number] = parts[number][rows[part == number] - ends[number]]
        return frames

    return Pixels(read, np.arange(ends[-1]))


def write(file: Path, pixels: Pixels) -> np.ndarray:
    """Write frames to a file; return where in it each row ends."""
    sizes = []
    with naming(file), open(file, "wb") as stored, ThreadPoolExecutor(threads()) as pool:
        for block in pixels.blocks():
            for row in pool.map(lambda frames: zlib.compress(frames.data, 1), block):
                stored.write(row)
                sizes.append(len(row))
    return np.cumsum(sizes, dtype=np.int64)


def open_stored(file: Path, ends: np.ndarray) -> Pixels:
    """Open what `write` wrote; raise ValueError if the file does not fit the ends."""
    starts = np.concatenate([[0], ends[:-1]])
    if len(ends) < 1 or not (starts < ends).all() or ends[-1] != file.stat().st_size:
        raise ValueError(f"the length of {file.name} is not the one that its dataset records")
    if (ends - starts).max() > 2 * NUM_BYTES:
        raise ValueError(f"{file.name} has a row that is longer than its frames")
    stored, pool = open(file, "rb"), ThreadPoolExecutor(threads())  # noqa: SIM115 - open as long as anybody reads

    def read_row(row: int) -> np.ndarray:
        try:
            decoder, size = zlib.decompressobj(), int(ends[row] - starts[row])
            frames = decoder.decompress(os.pread(stored.fileno(), size, int(starts[row])), NUM_BYTES)
            if len(frames) != NUM_BYTES or decoder.decompress(decoder.unconsumed_tail, 1) or not decoder.eof:
                raise zlib.error("they have another size than two frames")
        except (zlib.error, OSError) as error:
            raise UserError(f"{file}: the frames of observation {row} cannot be read: {error}") from None
        return np.frombuffer(frames, np.uint8)

    def read(rows: np.ndarray) -> np.ndarray:
        frames = np.empty((len(rows), NUM_BYTES), np.uint8)

        def read_share(positions: np.ndarray) -> None:
            for position in positions:
                frames[position] = read_row(rows[position])

        list(pool.map(read_share, np.array_split(np.arange(len(rows)), threads())))
        return frames.reshape(-1, *FRAMES)

    return Pixels(read, np.arange(len(ends)))


def cached(pixels: Pixels, other_rows: int = 0) -> Pixels:
    """Read each row only once if all of them, together with `other_rows` of other data, fit into `CACHE_BYTES`."""
    if (len(pixels) + other_rows) * NUM_BYTES > CACHE_BYTES:
        return pixels
    is_cached, frames = np.zeros(len(pixels), bool), np.empty(pixels.shape, np.uint8)  # takes memory as it is filled

    def read(rows: np.ndarray) -> np.ndarray:
        missing = np.unique(rows[~is_cached[rows]])
        frames[missing] = pixels[missing]
        is_cached[missing] = True
        return frames[rows]

    return Pixels(read, np.arange(len(pixels)))
