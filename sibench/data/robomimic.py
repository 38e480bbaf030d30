"""Datasets from robomimic's HDF5 files."""

import itertools
import re
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from sibench import tasks
from sibench.core.errors import UserError, unknown
from sibench.data import hdf5
from sibench.data.dataset import Dataset
from sibench.data.formats import mark_ends, to_dataset
from sibench.data.frames import Pixels

STATE_NAMES = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")
"""robomimic's names of what the manipulation tasks observe, in their order; tasks with frames do without `object`."""
VIEW_NAMES = ("agentview_image", "robot0_eye_in_hand_image")
"""robomimic's names of the frames, in the order of our cameras."""


class _Demonstration(NamedTuple):
    """The arrays of one recording."""

    obs: np.ndarray
    next_obs: np.ndarray | None
    action: np.ndarray
    reward: np.ndarray

    @property
    def succeeds(self) -> bool:
        return bool(self.reward.any())

    def end(self) -> tuple[int, str, int]:
        """Return the number of steps to import, and the group and the row of the last observation."""
        stop = int(np.flatnonzero(self.reward)[0]) + 1 if self.succeeds else len(self.reward)
        if self.next_obs is not None:
            return stop, "next_obs", stop - 1
        if self.succeeds:
            return stop, "obs", min(stop, len(self.obs) - 1)
        return stop - 1, "obs", stop - 1


def from_robomimic(path: Path, task: str, mask: str = "") -> Dataset:
    """Convert a robomimic file: all demonstrations, or those of a filter key.

    An episode ends with its first reward, which means success, as in our tasks; what follows is dropped.
    robomimic's `dones` may mean success, the end of the recording, or both, and are not read. Without `next_obs` the
    last observation is unknown, and the last step is treated as in `from_d4rl`. Numbers keep robosuite's reference
    frames: its table is 0.8 m high, and its gripper's rotation has another origin.
    """
    has_frames = tasks.observes_pixels(task)
    observations, actions, rewards, terminals, places, steps, size = [], [], [], [], [], 0, 0
    try:
        with h5py.File(path, "r") as file:
            data = hdf5.read_group(file, "data")
            for name in _demonstration_names(file, mask):
                demo = _read_demonstration(data, name, has_frames)
                steps += len(demo.reward)
                size += sum(column.nbytes for column in demo if column is not None)
                if size > hdf5.MAX_COLUMN_BYTES:
                    raise ValueError(f"more than {hdf5.MAX_COLUMN_BYTES >> 20} MiB")
                length, part, row = demo.end()
                if length > 0:
                    last = demo.obs if part == "obs" else demo.next_obs
                    observations += [demo.obs[:length], last[row, None]]
                    places += [*((name, "obs", before) for before in range(length)), (name, part, row)]
                    actions.append(demo.action[:length])
                    rewards.append(demo.reward[:length])
                    terminals.append(demo.succeeds)
        if not actions:
            raise ValueError("it holds no complete step")
        parts = {"observations": observations, "actions": actions, "rewards": rewards}
        columns = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    except hdf5.UNREADABLE as error:
        why = hdf5.in_one_line(error)
        raise UserError(f"{path}: not a robomimic file of {task} that can be read: {why}") from None
    lengths = [len(rows) for rows in rewards]
    card = {"source": f"robomimic {path.name}", "mask": mask or "all", "dropped_steps": steps - sum(lengths)}
    pixels = Pixels(lambda rows: _read_frames(path, [places[row] for row in rows]), np.arange(len(places)))
    return to_dataset(
        task, columns, mark_ends(terminals, lengths), lengths, card, pixels=pixels if has_frames else None
    )


def _demonstration_names(file: h5py.File, mask: str) -> list[str]:
    """List the demonstrations of a filter key, in the order of their numbers."""
    names = list(hdf5.read_group(file, "data"))
    if mask:
        masks = hdf5.read_group(file, "mask") if "mask" in file else {}
        if mask not in masks:
            raise unknown("mask", mask, sorted(masks)[:20])
        names = [
            name.decode() if isinstance(name, bytes) else str(name) for name in hdf5.read_names(masks, mask, len(names))
        ]
    if wrong := [name for name in names if not re.fullmatch(r"demo_\d{1,9}", name)]:
        raise ValueError(f"demonstrations are called demo_<number>, not {wrong[0][:40]!a}")
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def _read_demonstration(data: h5py.Group, name: str, has_frames: bool) -> _Demonstration:
    """Read the numbers of a demonstration, and check that its frames are there."""
    group = hdf5.read_group(data, name)
    obs = _read_states(group, "obs", has_frames)
    next_obs = _read_states(group, "next_obs", has_frames) if "next_obs" in group else None
    demo = _Demonstration(obs, next_obs, *(hdf5.read_column(group, column) for column in ("actions", "rewards")))
    num_rows = [len(column) for column in demo if column is not None]
    if len(set(num_rows)) != 1 or 0 in num_rows:
        raise ValueError(f"'{name}' has columns of {num_rows} rows")
    for part in ("obs", "next_obs") if next_obs is not None else ("obs",):
        for view in VIEW_NAMES if has_frames else ():
            frames = hdf5.read_group(group, part)
            if view not in frames or len(hdf5.open_frames(frames, view)) != num_rows[0]:
                raise ValueError(f"'{frames.name}' has not {num_rows[0]} frames called {view}")
    if not np.isin(demo.reward, (0, 1)).all():
        raise ValueError(f"'{name}' has rewards beside 0 and 1; take the file with sparse ones")
    return demo


def _read_states(demo: h5py.Group, part: str, has_frames: bool) -> np.ndarray:
    """Read the numbers [N, O] that a task observes."""
    group, names = hdf5.read_group(demo, part), STATE_NAMES[:-1] if has_frames else STATE_NAMES
    if missing := [name for name in names if name not in group]:
        raise ValueError(f"'{part}' has no {', '.join(missing)}, but {', '.join(sorted(group)[:20])!a}")
    return np.concatenate([hdf5.read_column(group, name) for name in names], axis=1)


def _read_frames(path: Path, places: list[tuple[str, str, int]]) -> np.ndarray:
    """Read frames [N, 2, 84, 84, 3] at places: demonstration, group and row."""
    shares = []
    with h5py.File(path, "r") as file:
        data = hdf5.read_group(file, "data")
        for (demo, part), members in itertools.groupby(places, lambda place: place[:2]):
            rows = np.array([row for _, _, row in members])
            first, last = rows.min(), rows.max()
            try:
                group = hdf5.read_group(hdf5.read_group(data, demo), part)
                views = [hdf5.open_frames(group, view)[first : last + 1] for view in VIEW_NAMES]
            except hdf5.UNREADABLE as error:
                why = hdf5.in_one_line(error)
                raise UserError(f"{path}: the frames of {demo} cannot be read: {why}") from None
            shares.append(np.stack(views, axis=1)[rows - first])
    return np.concatenate(shares)
