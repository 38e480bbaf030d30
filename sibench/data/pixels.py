"""Frames on disk: each observation's compressed by itself, so that a batch reads its own rows and no others.

A dataset of a thousand episodes has up to 17 GB of frames; on disk it is a sixth of that, in memory what is in use.
"""

import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from sibench.cameras import FRAMES, NUM_BYTES
from sibench.cli import threads
from sibench.errors import UserError
from sibench.files import naming

BLOCK = 512
"""Rows that are handled at a time."""
KEPT = 2 << 30
"""Bytes of frames that a learner keeps, if all of its fit: else a third of a small one's time goes into reading."""


class Pixels:
    """[M, 2, 84, 84, 3] uint8, read when indexed: by a number, a slice, or whole numbers in an array of any shape."""

    dtype = np.dtype(np.uint8)

    def __init__(self, read: Callable[[np.ndarray], np.ndarray], rows: np.ndarray):
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
        return Pixels(self._read, self._rows[index])

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows, some at a time."""
        for first in range(0, len(self), BLOCK):
            yield self[first : first + BLOCK]


def join(parts: list[Pixels]) -> Pixels:
    """End to end."""
    ends = np.cumsum([0, *map(len, parts)])

    def read(rows: np.ndarray) -> np.ndarray:
        frames, part = np.empty((len(rows), *FRAMES), np.uint8), np.searchsorted(ends, rows, side="right") - 1
        for number in np.unique(part):
            frames[part == number] = parts[number][rows[part == number] - ends[number]]
        return frames

    return Pixels(read, np.arange(ends[-1]))


def write(file: Path, pixels: Pixels) -> np.ndarray:
    """Store them; where each row ends."""
    ends = []
    with naming(file), open(file, "wb") as stored, ThreadPoolExecutor(threads()) as pool:
        for block in pixels.blocks():
            for row in pool.map(lambda frames: zlib.compress(frames.data, 1), block):
                stored.write(row)
                ends.append(len(row))
    return np.cumsum(ends, dtype=np.int64)


def open_stored(file: Path, ends: np.ndarray) -> Pixels:
    """What `write` wrote."""
    starts = np.concatenate([[0], ends[:-1]])
    if len(ends) < 1 or not (starts < ends).all() or ends[-1] != file.stat().st_size:
        raise ValueError(f"{file.name} has not the length that its dataset says")
    if (ends - starts).max() > 2 * NUM_BYTES:
        raise ValueError(f"{file.name} has a row that is longer than its frames")
    stored, pool = open(file, "rb"), ThreadPoolExecutor(threads())  # noqa: SIM115 - as long as anybody reads

    def one(row: int) -> np.ndarray:
        try:
            decoder, size = zlib.decompressobj(), int(ends[row] - starts[row])
            frames = decoder.decompress(os.pread(stored.fileno(), size, int(starts[row])), NUM_BYTES)
            if len(frames) != NUM_BYTES or decoder.decompress(decoder.unconsumed_tail, 1) or not decoder.eof:
                raise zlib.error("it is not of their size")
        except (zlib.error, OSError) as error:
            raise UserError(f"{file}: the frames of observation {row} cannot be read: {error}") from None
        return np.frombuffer(frames, np.uint8)

    def read(rows: np.ndarray) -> np.ndarray:
        frames = np.empty((len(rows), NUM_BYTES), np.uint8)

        def some(share: np.ndarray) -> None:
            for at in share:
                frames[at] = one(rows[at])

        list(pool.map(some, np.array_split(np.arange(len(rows)), threads())))
        return frames.reshape(-1, *FRAMES)

    return Pixels(read, np.arange(len(ends)))


def kept(pixels: Pixels, others: int = 0) -> Pixels:
    """The same; if all its rows, beside `others`, fit into `KEPT` bytes, each is read from the disk only once."""
    if (len(pixels) + others) * NUM_BYTES > KEPT:
        return pixels
    known, frames = np.zeros(len(pixels), bool), np.empty(pixels.shape, np.uint8)  # takes memory as it is filled

    def read(rows: np.ndarray) -> np.ndarray:
        missing = np.unique(rows[~known[rows]])
        frames[missing] = pixels[missing]
        known[missing] = True
        return frames[rows]

    return Pixels(read, np.arange(len(pixels)))
