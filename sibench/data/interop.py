"""Datasets from and to other suites' formats: Minari (through the minari package), D4RL's and robomimic's HDF5.

Ours are float32. Minari data that is float64 is rounded on import, which the card says; the other way nothing is lost.
"""

import itertools
import re
from pathlib import Path

import numpy as np

from sibench import tasks
from sibench.data import Dataset, storage
from sibench.data.pixels import Pixels
from sibench.errors import UserError, unknown
from sibench.ids import has_frames

OVERSHOOT = 1e-4
"""How far an action of another suite may leave [-1, 1] and still be clipped to it."""


def to_minari(dataset: Dataset, minari_id: str) -> None:
    """Write a dataset as a local Minari dataset."""
    import gymnasium

    if dataset.pixels is not None:
        raise UserError(f"{dataset.card['id']} has frames, which are not exported; its twin without them can be")
    if _minari_folder(minari_id).exists():
        raise UserError(f"a Minari dataset '{minari_id}' is there already; delete it or choose another id")
    minari = _minari()
    task = tasks.make(dataset.card["task"], "c")
    references = tasks.references(task.name)
    buffers = []
    for episode in range(dataset.num_episodes):
        steps = slice(dataset.offsets[episode], dataset.offsets[episode + 1])
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                id=episode,
                seed=int(dataset.seeds[episode]),
                options={"initial_state": dataset.initial_states[episode]},
                observations=dataset.observations[steps.start + episode : steps.stop + episode + 1],
                actions=dataset.actions[steps],
                rewards=dataset.rewards[steps],
                terminations=dataset.terminal[steps],
                truncations=dataset.truncated[steps],
                infos={},
            )
        )
    scores = {}
    if references:
        scores = {"ref_min_score": references["random"]["mean"], "ref_max_score": references["expert"]["mean"]}
    try:
        minari.create_dataset_from_buffers(
            minari_id,
            buffers,
            env=gymnasium.make(task.gymnasium_id, **task.gymnasium_options).spec if task.gymnasium_id else None,
            observation_space=task.observation_space,
            action_space=task.action_space,
            algorithm_name=str(dataset.card.get("id")),
            description=f"sibench {dataset.card.get('id')}, content sha256 {dataset.card.get('content_sha256')}",
            jpeg_encoding=False,
            **scores,
        )
    except ValueError as error:
        raise UserError(f"minari: {error}") from None


def from_minari(minari_id: str, task: str) -> Dataset:
    """A local Minari dataset as one of ours."""
    import h5py

    minari, folder = _minari(), _minari_folder(minari_id)
    if not (folder / "data").is_dir():
        raise UserError(f"Minari dataset '{minari_id}' is not in {folder.parent}; see what is: minari list local")
    try:
        for file in folder.rglob("*.hdf5"):
            with h5py.File(file, "r") as tree:
                storage.check_tree(tree)
        source = minari.load_dataset(minari_id)
        episodes = list(source.iterate_episodes())
        metadata = list(source.storage.get_episode_metadata(source.episode_indices))
        seeds = np.array([int(m.get("seed") or 0) for m in metadata], np.uint64)
        states = np.array([m.get("options", {}).get("initial_state", ()) for m in metadata], np.float32)
        columns = {
            "observations": [e.observations for e in episodes],
            "actions": [e.actions for e in episodes],
            "rewards": [e.rewards for e in episodes],
        }
        flags = [
            (len(e.observations) - 1, len(e.rewards), len(e.actions), len(e.terminations), len(e.truncations))
            for e in episodes
        ]
    except (AssertionError, AttributeError, ImportError, OverflowError, *storage.UNREADABLE) as error:
        raise UserError(
            f"{folder}: not a Minari dataset that can be read: {storage.in_a_line(error) or 'it is incomplete'}"
        ) from None
    if not episodes or any(len(set(lengths)) > 1 for lengths in flags):
        raise UserError(f"{folder}: it has no episodes, or one whose arrays do not fit together in length")
    if not all(isinstance(array, np.ndarray) for arrays in columns.values() for array in arrays):
        raise UserError(f"'{minari_id}' has structured observations or actions; only flat arrays fit")
    rounded = sorted({str(array.dtype) for arrays in columns.values() for array in arrays} - {"float32"})
    lengths = [len(e.rewards) for e in episodes]
    ends = np.cumsum(lengths) - 1
    terminal = np.concatenate([e.terminations for e in episodes]).astype(bool)
    truncated = np.concatenate([e.truncations for e in episodes]).astype(bool) & ~terminal
    truncated[ends] |= ~terminal[ends]  # data may stop in the middle of an episode
    card = {"source": f"minari {minari_id}"} | ({"rounded_to_float32_from": rounded} if rounded else {})
    arrays = {name: np.concatenate(arrays) for name, arrays in columns.items()}
    return _dataset(task, arrays, terminal, truncated, lengths, card, seeds, states)


def _minari_folder(minari_id: str) -> Path:
    """Where Minari keeps it."""
    _minari()
    from minari.storage import get_dataset_path

    if not re.fullmatch(r"(\w[\w-]*/)*\w[\w-]*-v\d+", minari_id):
        raise UserError(f"'{minari_id}' is not the id of a Minari dataset; one looks like mujoco/hopper/expert-v0")
    return Path(get_dataset_path(minari_id))


def _minari():
    try:
        import minari
        import minari.data_collector
    except ImportError:
        raise UserError("this needs the minari package: make setup EXTRAS=interop") from None
    return minari


def from_d4rl(path: Path, task: str, max_episode_steps: int = 1000) -> Dataset:
    """A D4RL file as one of ours.

    Its arrays are flat, with `terminals` and perhaps `timeouts` at the ends, and hold no last observation unless
    there are `next_observations`. So:
      - an episode ends at a terminal, at a timeout, after `max_episode_steps`, and wherever the next observation is
        not the one that follows;
      - without `next_observations`, the last step of an episode that was cut or timed out has no successor that is
        surely its own and is dropped; a terminal step is kept, with its own observation standing in for the last one,
        which nothing bootstraps from.
    """
    import h5py

    if max_episode_steps < 1:
        raise UserError(f"max_episode_steps={max_episode_steps}; at least 1 is needed")

    def column(name: str, kinds: str) -> np.ndarray:
        array = storage.read_column(file, name, None)
        if array.dtype.kind not in kinds:
            raise ValueError(f"'{name}' is of type {array.dtype}")
        return array

    try:
        with h5py.File(path, "r") as file:
            missing = {"observations", "actions", "rewards", "terminals"} - set(file)
            if missing:
                raise ValueError(f"has no {', '.join(sorted(missing))}")
            obs, action, reward = (column(name, "f") for name in ("observations", "actions", "rewards"))
            terminal = column("terminals", "biu").astype(bool)
            timeout = column("timeouts", "biu").astype(bool) if "timeouts" in file else np.zeros_like(terminal)
            next_obs = column("next_observations", "f") if "next_observations" in file else None
    except storage.UNREADABLE as error:
        raise UserError(f"{path}: not a D4RL file that can be read: {storage.in_a_line(error)}") from None
    if (obs.ndim, action.ndim, reward.ndim, terminal.ndim, timeout.ndim) != (2, 2, 1, 1, 1):
        raise UserError(f"{path}: observations and actions must have a row a step, the others a number")
    lengths = {len(array) for array in (obs, action, reward, terminal, timeout)}
    if len(lengths) != 1 or 0 in lengths or (next_obs is not None and next_obs.shape != obs.shape):
        raise UserError(f"{path}: its arrays differ in length: {sorted(lengths)}")

    num = len(obs)
    ends = terminal | timeout
    if next_obs is not None:
        ends[:-1] |= (next_obs[:-1] != obs[1:]).any(axis=1)
    ends[-1] = True
    pieces = []
    start = 0
    for end in np.flatnonzero(ends):
        for first in range(start, end + 1, max_episode_steps):
            pieces.append((first, min(first + max_episode_steps, end + 1)))
        start = end + 1
    observations, steps, terminals, lengths = [], [], [], []
    for first, stop in pieces:
        is_terminal = bool(terminal[stop - 1])
        if next_obs is not None:
            last = next_obs[stop - 1]
        elif is_terminal:
            last = obs[stop - 1]
        else:
            stop -= 1
            last = obs[stop]
        if stop > first:
            observations += [obs[first:stop], last[None]]
            steps.append(np.arange(first, stop))
            terminals.append(is_terminal)
            lengths.append(stop - first)
    if not steps:
        raise UserError(f"{path}: holds no complete step")
    kept = np.concatenate(steps)
    columns = {"observations": np.concatenate(observations), "actions": action[kept], "rewards": reward[kept]}
    card = {
        "source": f"d4rl {path.name}",
        "last_observations": "true" if next_obs is not None else "missing: repeated at terminals, dropped at timeouts",
        "dropped_steps": num - len(kept),
    }
    return _dataset(task, columns, *_ends(terminals, lengths), lengths, card)


LOW_DIM = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")
"""robomimic's names of what the manipulation tasks observe, in their order; beside frames, all but the last."""
ROBOMIMIC_VIEWS = ("agentview_image", "robot0_eye_in_hand_image")
"""robomimic's names of the frames, in the order of ours."""


def from_robomimic(path: Path, task: str, mask: str = "") -> Dataset:
    """A robomimic file as one of ours: all demonstrations, or those of a filter key.

    An episode ends with its first reward, which is success, as in our tasks; what was recorded afterwards is left out.
    robomimic's `dones` may mean success, the end of the recording, or both, and are not read. A file without
    `next_obs` does not tell the last observation: the last step is treated as in `from_d4rl`. Numbers stay as they
    are, in robosuite's frames: its table is 0.8 m high, and its gripper's rotation is counted from another one.
    """
    import h5py

    names = LOW_DIM[:-1] if has_frames(task) else LOW_DIM
    observations, actions, rewards, terminals, lengths, places, steps, size = [], [], [], [], [], [], 0, 0
    try:
        with h5py.File(path, "r") as file:
            data = storage.read_group(file, "data")
            for name in _demos(file, mask):
                demo = storage.read_group(data, name)
                obs, next_obs = (_low_dim(demo, what, names) for what in ("obs", "next_obs"))
                action, reward = (storage.read_column(demo, column, None) for column in ("actions", "rewards"))
                columns = [column for column in (obs, next_obs, action, reward) if column is not None]
                if len({len(column) for column in columns}) != 1 or not len(reward):
                    raise ValueError(f"'{name}' has columns of {[len(column) for column in columns]} rows")
                if has_frames(task):
                    _check_frames(demo, len(reward), ("obs",) if next_obs is None else ("obs", "next_obs"))
                if not np.isin(reward, (0, 1)).all():
                    raise ValueError(f"'{name}' has rewards beside 0 and 1; take the file with sparse ones")
                if (size := size + sum(column.nbytes for column in columns)) > storage.MAX_COLUMN_BYTES:
                    raise ValueError(f"more than {storage.MAX_COLUMN_BYTES >> 20} MiB")
                success = np.flatnonzero(reward)
                stop = int(success[0]) + 1 if len(success) else len(reward)
                if next_obs is not None:
                    last = "next_obs", stop - 1
                elif len(success):
                    last = "obs", min(stop, len(obs) - 1)
                else:
                    stop -= 1
                    last = "obs", stop
                steps += len(reward)
                if stop > 0:
                    observations += [obs[:stop], (obs if last[0] == "obs" else next_obs)[last[1], None]]
                    places += [*((name, "obs", row) for row in range(stop)), (name, *last)]
                    actions.append(action[:stop])
                    rewards.append(reward[:stop])
                    terminals.append(len(success) > 0)
                    lengths.append(stop)
        if not lengths:
            raise ValueError("it holds no complete step")
        parts = {"observations": observations, "actions": actions, "rewards": rewards}
        columns = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    except storage.UNREADABLE as error:
        raise UserError(
            f"{path}: not a robomimic file of {task} that can be read: {storage.in_a_line(error)}"
        ) from None
    card = {"source": f"robomimic {path.name}", "mask": mask or "all", "dropped_steps": steps - sum(lengths)}
    pixels = Pixels(lambda rows: _frames(path, [places[row] for row in rows]), np.arange(len(places)))
    shown = pixels if has_frames(task) else None
    return _dataset(task, columns, *_ends(terminals, lengths), lengths, card, pixels=shown)


def _demos(file, mask: str) -> list[str]:
    """Names, in the order of their numbers."""
    names = list(file["data"])
    if mask:
        masks = storage.read_group(file, "mask") if "mask" in file else {}
        if mask not in masks:
            raise unknown("mask", mask, sorted(masks)[:20])
        names = [
            name.decode() if isinstance(name, bytes) else str(name)
            for name in storage.read_names(masks, mask, len(names))
        ]
    if wrong := [name for name in names if not re.fullmatch(r"demo_\d{1,9}", name)]:
        raise ValueError(f"demonstrations are called demo_<number>, not {wrong[0][:40]!a}")
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def _low_dim(demo, what: str, names: tuple[str, ...]) -> np.ndarray | None:
    if what == "next_obs" and what not in demo:
        return None
    group = storage.read_group(demo, what)
    if missing := [name for name in names if name not in group]:
        raise ValueError(f"'{what}' has no {', '.join(missing)}, but {', '.join(sorted(group)[:20])!a}")
    return np.concatenate([storage.read_column(group, name, None) for name in names], axis=1)


def _check_frames(demo, num: int, parts: tuple[str, ...]) -> None:
    for group in (storage.read_group(demo, part) for part in parts):
        for view in ROBOMIMIC_VIEWS:
            if view not in group or len(storage.frames(group, view)) != num:
                raise ValueError(f"'{group.name}' has not {num} frames called {view}")


def _frames(path: Path, places: list[tuple[str, str, int]]) -> np.ndarray:
    """[N, 2, 84, 84, 3] of as many demonstrations, their groups and rows."""
    import h5py

    shown = []
    with h5py.File(path, "r") as file:
        data = storage.read_group(file, "data")
        for (demo, part), some in itertools.groupby(places, lambda place: place[:2]):
            rows = [row for _, _, row in some]
            first, last = min(rows), max(rows)
            try:
                group = storage.read_group(storage.read_group(data, demo), part)
                views = [storage.frames(group, view)[first : last + 1] for view in ROBOMIMIC_VIEWS]
            except storage.UNREADABLE as error:
                raise UserError(f"{path}: the frames of {demo} cannot be read: {storage.in_a_line(error)}") from None
            shown.append(np.stack(views, axis=1)[np.array(rows) - first])
    return np.concatenate(shown)


def _ends(terminals: list[bool], lengths: list[int]) -> np.ndarray:
    """[2, steps] `terminal` and `truncated`: one of them at the last step of every episode."""
    flags, last = np.zeros((2, sum(lengths)), bool), np.cumsum(lengths) - 1
    flags[:, last] = terminals, ~np.array(terminals)
    return flags


def _dataset(
    task, columns, terminal, truncated, lengths, card, seeds=None, initial_states=None, pixels=None
) -> Dataset:
    if has_frames(task) and pixels is None:
        raise UserError(f"{task} has frames, and the data has none")
    target = tasks.make(task, "c")
    numbers = target.num_kept if has_frames(task) else target.observation_size
    expected = (numbers, target.action_size)
    actions = columns["actions"]
    got = tuple(array.shape[-1] if array.ndim == 2 else 0 for array in (columns["observations"], actions))
    if got != expected:
        raise UserError(f"{card['source']}: {got[0]} observations and {got[1]} actions; {target.id} has {expected}")
    if np.abs(actions).max() > 1 + OVERSHOOT:
        raise UserError(f"{card['source']}: actions up to {np.abs(actions).max():.3g}; {target.id} has -1 to 1")
    with np.errstate(over="ignore"):  # what is too large is found, and said, where data is checked
        observations, rewards = (columns[name].astype(np.float32) for name in ("observations", "rewards"))
    return Dataset(
        observations=observations,
        actions=np.clip(actions, -1, 1).astype(np.float32),
        rewards=rewards,
        terminal=terminal,
        truncated=truncated,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        seeds=np.zeros(len(lengths), np.uint64) if seeds is None else seeds,
        initial_states=np.zeros((len(lengths), 0), np.float32) if initial_states is None else initial_states,
        card={"task": target.id, "engine": "unknown"} | card,
        pixels=pixels,
    )
