"""Datasets from and to the formats of other suites: Minari's (through the minari package) and D4RL's.

robomimic's is in sibench/data/robomimic.py.

Our arrays are float32. Data in float64 is rounded on import, and the card of a Minari import says so.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import h5py
import numpy as np

from sibench import tasks
from sibench.core.errors import UserError
from sibench.data import hdf5
from sibench.data.dataset import Dataset
from sibench.data.frames import Pixels

OVERSHOOT = 1e-4
"""How far an imported action may leave [-1, 1]; it is clipped to it."""


# --- Minari -----------------------------------------------------------------------------------------------------------


def to_minari(dataset: Dataset, minari_id: str) -> None:
    """Write a dataset as a local Minari dataset."""
    if dataset.pixels is not None:
        raise UserError(f"{dataset.card['id']} has frames, which are not exported; its twin without them can be")
    if _minari_folder(minari_id).exists():
        raise UserError(f"a Minari dataset '{minari_id}' is there already; delete it or choose another id")
    minari = _minari()
    task = tasks.make(dataset.card["task"], "c")
    scores = {}
    if references := tasks.references(task.name):
        scores = {"ref_min_score": references["random"]["mean"], "ref_max_score": references["expert"]["mean"]}
    try:
        minari.create_dataset_from_buffers(
            minari_id,
            [_episode_buffer(minari, dataset, episode) for episode in range(dataset.num_episodes)],
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


def _episode_buffer(minari: Any, dataset: Dataset, episode: int) -> Any:
    """Return an episode in Minari's form."""
    start, stop = dataset.offsets[episode : episode + 2]
    steps = slice(start, stop)
    return minari.data_collector.EpisodeBuffer(
        id=episode,
        seed=int(dataset.seeds[episode]),
        options={"initial_state": dataset.initial_states[episode]},
        observations=dataset.observations[start + episode : stop + episode + 1],
        actions=dataset.actions[steps],
        rewards=dataset.rewards[steps],
        terminations=dataset.terminal[steps],
        truncations=dataset.truncated[steps],
        infos={},
    )


def from_minari(minari_id: str, task: str) -> Dataset:
    """Convert a local Minari dataset."""
    folder = _minari_folder(minari_id)
    if not (folder / "data").is_dir():
        raise UserError(
            f"Minari dataset '{minari_id}' is not in {folder.parent}; list those that are: minari list local"
        )
    try:
        for file in folder.rglob("*.hdf5"):
            with h5py.File(file, "r") as tree:
                hdf5.check_tree(tree)
        source = _minari().load_dataset(minari_id)
        episodes = list(source.iterate_episodes())
        metadata = list(source.storage.get_episode_metadata(source.episode_indices))
        seeds = np.array([int(row.get("seed") or 0) for row in metadata], np.uint64)
        states = np.array([row.get("options", {}).get("initial_state", ()) for row in metadata], np.float32)
        columns = {
            "observations": [e.observations for e in episodes],
            "actions": [e.actions for e in episodes],
            "rewards": [e.rewards for e in episodes],
        }
        num_rows = [
            (len(e.observations) - 1, len(e.rewards), len(e.actions), len(e.terminations), len(e.truncations))
            for e in episodes
        ]
    except (AssertionError, AttributeError, ImportError, OverflowError, *hdf5.UNREADABLE) as error:
        why = hdf5.in_one_line(error) or "it is incomplete"
        raise UserError(f"{folder}: not a Minari dataset that can be read: {why}") from None
    if not episodes or any(len(set(numbers)) > 1 for numbers in num_rows):
        raise UserError(f"{folder}: it has no episodes, or one whose arrays do not fit together in length")
    if not all(isinstance(array, np.ndarray) for arrays in columns.values() for array in arrays):
        raise UserError(f"'{minari_id}' has structured observations or actions; only flat arrays can be imported")
    rounded = sorted({str(array.dtype) for arrays in columns.values() for array in arrays} - {"float32"})
    lengths = [len(e.rewards) for e in episodes]
    ends = np.cumsum(lengths) - 1
    terminal = np.concatenate([e.terminations for e in episodes]).astype(bool)
    truncated = np.concatenate([e.truncations for e in episodes]).astype(bool) & ~terminal
    truncated[ends] |= ~terminal[ends]  # data may stop in the middle of an episode
    card = {"source": f"minari {minari_id}"} | ({"rounded_to_float32_from": rounded} if rounded else {})
    arrays = {name: np.concatenate(arrays) for name, arrays in columns.items()}
    return to_dataset(task, arrays, (terminal, truncated), lengths, card, seeds=seeds, initial_states=states)


def _minari_folder(minari_id: str) -> Path:
    """Return the folder in which Minari keeps a dataset."""
    minari = _minari()
    if not re.fullmatch(r"(\w[\w-]*/)*\w[\w-]*-v\d+", minari_id):
        raise UserError(f"'{minari_id}' is not the id of a Minari dataset; one looks like mujoco/hopper/expert-v0")
    return Path(minari.storage.get_dataset_path(minari_id))


def _minari() -> Any:
    """Import minari, which is optional."""
    try:
        import minari
        import minari.data_collector
        import minari.storage
    except ImportError:
        raise UserError("this needs the minari package: make setup EXTRAS=interop") from None
    return minari


# --- D4RL -------------------------------------------------------------------------------------------------------------


class _D4rl(NamedTuple):
    """The arrays of a D4RL file."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray
    timeout: np.ndarray
    next_obs: np.ndarray | None


def from_d4rl(path: Path, task: str, max_episode_steps: int = 1000) -> Dataset:
    """Convert a D4RL file.

    Its arrays are flat, with `terminals` and perhaps `timeouts` at the ends, and hold no last observation unless
    there are `next_observations`. So:
      - an episode ends at a terminal, at a timeout, after `max_episode_steps`, and wherever the next observation is
        not the one that follows;
      - without `next_observations`, the last step of an episode that was cut or timed out has no successor that is
        surely its own, and is dropped. A terminal step is kept; its own observation stands in for the last one,
        which nothing bootstraps from.
    """
    if max_episode_steps < 1:
        raise UserError(f"max_episode_steps={max_episode_steps}; allowed: at least 1")
    data = _read_d4rl(path)
    observations, steps, terminals = [], [], []
    for start, stop in _d4rl_episodes(data, max_episode_steps):
        is_terminal = bool(data.terminal[stop - 1])
        if data.next_obs is not None:
            last = data.next_obs[stop - 1]
        elif is_terminal:
            last = data.obs[stop - 1]
        else:
            stop -= 1
            last = data.obs[stop]
        if stop > start:
            observations += [data.obs[start:stop], last[None]]
            steps.append(np.arange(start, stop))
            terminals.append(is_terminal)
    if not steps:
        raise UserError(f"{path}: holds no complete step")
    lengths = [len(rows) for rows in steps]
    rows = np.concatenate(steps)
    columns = {
        "observations": np.concatenate(observations),
        "actions": data.action[rows],
        "rewards": data.reward[rows],
    }
    exact = data.next_obs is not None
    card = {
        "source": f"d4rl {path.name}",
        "last_observations": "true" if exact else "missing: repeated at terminals, dropped at timeouts",
        "dropped_steps": len(data.obs) - len(rows),
    }
    return to_dataset(task, columns, mark_ends(terminals, lengths), lengths, card)


def _read_d4rl(path: Path) -> _D4rl:
    """Read and check the arrays of a D4RL file."""

    def column(name: str, kinds: str) -> np.ndarray:
        array = hdf5.read_column(file, name)
        if array.dtype.kind not in kinds:
            raise ValueError(f"'{name}' is of type {array.dtype}")
        return array

    try:
        with h5py.File(path, "r") as file:
            if missing := {"observations", "actions", "rewards", "terminals"} - set(file):
                raise ValueError(f"has no {', '.join(sorted(missing))}")
            terminal = column("terminals", "biu").astype(bool)
            data = _D4rl(
                *(column(name, "f") for name in ("observations", "actions", "rewards")),
                terminal=terminal,
                timeout=column("timeouts", "biu").astype(bool) if "timeouts" in file else np.zeros_like(terminal),
                next_obs=column("next_observations", "f") if "next_observations" in file else None,
            )
    except hdf5.UNREADABLE as error:
        raise UserError(f"{path}: not a D4RL file that can be read: {hdf5.in_one_line(error)}") from None
    if [array.ndim for array in data[:5]] != [2, 2, 1, 1, 1]:
        raise UserError(f"{path}: observations and actions must have a row for each step, the others a number")
    lengths = {len(array) for array in data[:5]}
    if len(lengths) != 1 or 0 in lengths or (data.next_obs is not None and data.next_obs.shape != data.obs.shape):
        raise UserError(f"{path}: its arrays differ in length: {sorted(lengths)}")
    return data


def _d4rl_episodes(data: _D4rl, max_episode_steps: int) -> list[tuple[int, int]]:
    """Return the first step of each episode, and the step after its last one."""
    ends = data.terminal | data.timeout
    if data.next_obs is not None:
        ends[:-1] |= (data.next_obs[:-1] != data.obs[1:]).any(axis=1)
    ends[-1] = True
    episodes, start = [], 0
    for end in np.flatnonzero(ends):
        for first in range(start, end + 1, max_episode_steps):
            episodes.append((first, min(first + max_episode_steps, end + 1)))
        start = end + 1
    return episodes


# --- all formats ------------------------------------------------------------------------------------------------------


def mark_ends(terminals: list[bool], lengths: list[int]) -> np.ndarray:
    """Return `terminal` and `truncated` [2, N]: one of them is set at the last step of every episode."""
    flags, last = np.zeros((2, sum(lengths)), bool), np.cumsum(lengths) - 1
    flags[:, last] = terminals, ~np.array(terminals)
    return flags


def to_dataset(
    task_name: str,
    columns: dict[str, np.ndarray],
    ends: Any,
    lengths: list[int],
    card: dict[str, Any],
    *,
    seeds: np.ndarray | None = None,
    initial_states: np.ndarray | None = None,
    pixels: Pixels | None = None,
) -> Dataset:
    """Check the arrays of another format against a task, and convert them. `ends` are `terminal` and `truncated`."""
    task = tasks.make(task_name, "c")
    has_frames = tasks.observes_pixels(task_name)
    if has_frames and pixels is None:
        raise UserError(f"{task_name} has frames, and the data has none")
    actions = columns["actions"]
    expected = (task.proprioception_size if has_frames else task.observation_size, task.action_size)
    widths = tuple(array.shape[-1] if array.ndim == 2 else 0 for array in (columns["observations"], actions))
    if widths != expected:
        raise UserError(f"{card['source']}: {widths[0]} observations and {widths[1]} actions; {task.id} has {expected}")
    if np.abs(actions).max() > 1 + OVERSHOOT:
        raise UserError(f"{card['source']}: actions up to {np.abs(actions).max():.3g}; {task.id} has -1 to 1")
    with np.errstate(over="ignore"):  # what overflows is refused when the dataset is stored
        observations, rewards = (columns[name].astype(np.float32) for name in ("observations", "rewards"))
    return Dataset(
        observations=observations,
        actions=np.clip(actions, -1, 1).astype(np.float32),
        rewards=rewards,
        terminal=ends[0],
        truncated=ends[1],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        seeds=np.zeros(len(lengths), np.uint64) if seeds is None else seeds,
        initial_states=np.zeros((len(lengths), 0), np.float32) if initial_states is None else initial_states,
        card={"task": task.id, "engine": "unknown"} | card,
        pixels=pixels,
    )
