"""Datasets: what is in one, and how to get one.

    background = sibench.load("hopper/bc-10-v1")     # a Dataset
    expert = sibench.load("hopper/expert-v1")        # Demonstrations: no actions, no rewards

One episode of T steps has T + 1 observations. Episodes lie one after the other, so steps and observations are counted
differently; `offsets` counts steps:

    steps          a0 a1 a2 | a0 a1            offsets = [0, 3, 5]
    observations   o0 o1 o2 o3 | o0 o1 o2      episode e starts at observation offsets[e] + e
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sibench.data.pixels import Pixels, join
from sibench.errors import UserError
from sibench.ids import Id, parse_id


class Demonstrations(NamedTuple):
    """What an action-free learner may see of an expert: where it was, and how its episodes ended."""

    observations: np.ndarray  # [N + E, O] float32; beside frames, what is about the gripper
    terminal: np.ndarray  # [N] bool; ends the episode and stops the bootstrap
    truncated: np.ndarray  # [N] bool; ends the episode at the time limit
    offsets: np.ndarray  # [E + 1] int64
    card: dict[str, Any]
    pixels: Pixels | None = None  # [N + E, 2, 84, 84, 3] uint8, on disk: rows are read when it is indexed

    @property
    def num_episodes(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


class Dataset(NamedTuple):
    """A background dataset, everything in it."""

    observations: np.ndarray  # [N + E, O] float32; beside frames, what is about the gripper
    actions: np.ndarray  # [N, A] float32, in [-1, 1]
    rewards: np.ndarray  # [N] float32
    terminal: np.ndarray  # [N] bool
    truncated: np.ndarray  # [N] bool
    offsets: np.ndarray  # [E + 1] int64
    seeds: np.ndarray  # [E] uint64; 0 where unknown
    initial_states: np.ndarray  # [E, nq + nv] float32, qpos and qvel of the simulation; [E, 0] where unknown
    card: dict[str, Any]
    pixels: Pixels | None = None  # [N + E, 2, 84, 84, 3] uint8, on disk: rows are read when it is indexed

    num_episodes = Demonstrations.num_episodes
    lengths = Demonstrations.lengths

    @property
    def returns(self) -> np.ndarray:
        """[E] float64, undiscounted."""
        sums = np.concatenate([[0.0], np.cumsum(self.rewards, dtype=np.float64)])
        return sums[self.offsets[1:]] - sums[self.offsets[:-1]]

    def transitions(self) -> dict[str, np.ndarray]:
        """obs, action, reward, next_obs, terminal of every step; next_obs is the true one, at the ends too."""
        if self.pixels is not None:
            raise UserError("all frames of a dataset do not fit into memory: take those of a batch from `pixels`")
        index = observation_index(self.offsets)
        return {
            "obs": self.observations[index],
            "action": self.actions,
            "reward": self.rewards,
            "next_obs": self.observations[index + 1],
            "terminal": self.terminal,
        }

    def first(self, num: int) -> "Dataset":
        """The first `num` episodes."""
        return self.episodes(0, num)

    def last(self, num: int) -> "Dataset":
        return self.episodes(self.num_episodes - num, self.num_episodes)

    def episodes(self, first: int, end: int) -> "Dataset":
        """Those from `first` to before `end`."""
        begin, stop = map(int, self.offsets[[first, end]])
        step, obs = slice(begin, stop), slice(begin + first, stop + end)
        return self._replace(
            observations=self.observations[obs],
            actions=self.actions[step],
            rewards=self.rewards[step],
            terminal=self.terminal[step],
            truncated=self.truncated[step],
            offsets=self.offsets[first : end + 1] - begin,
            seeds=self.seeds[first:end],
            initial_states=self.initial_states[first:end],
            pixels=None if self.pixels is None else self.pixels.rows(obs),
        )


def observation_index(offsets: np.ndarray) -> np.ndarray:
    """[N]: which observation each step starts from."""
    lengths = np.diff(offsets)
    return np.arange(offsets[-1]) + np.repeat(np.arange(len(lengths)), lengths)


def concatenate(first: Dataset, second: Dataset, card: dict[str, Any]) -> Dataset:
    columns = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in ("observations", "actions", "rewards", "terminal", "truncated", "seeds", "initial_states")
    }
    offsets = np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]])
    frames = None if first.pixels is None else join([first.pixels, second.pixels])
    return Dataset(offsets=offsets, card=card, pixels=frames, **columns)


def root() -> Path:
    """Where datasets are: $SIBENCH_DATA, else the platform's cache folder."""
    import platformdirs

    given = os.environ.get("SIBENCH_DATA")
    return Path(given).expanduser().resolve() if given else Path(platformdirs.user_cache_dir("sibench")) / "data"


def load(dataset: str, *, build: bool = False) -> Dataset | Demonstrations:
    """A dataset by its id; of an expert only the observations.

    Args:
        build: make the dataset if it is absent, which takes a minute or so.
    """
    full = load_privileged(dataset, build=build)
    if parse_id(dataset).kind != "expert":
        return full
    card = {name: value for name, value in full.card.items() if not name.startswith("return")}
    return Demonstrations(full.observations, full.terminal, full.truncated, full.offsets, card, full.pixels)


def load_privileged(dataset: str, *, build: bool = False) -> Dataset:
    """Like `load`, with the expert's actions and rewards: for methods whose results say that they are privileged."""
    from sibench.data import storage
    from sibench.data.collect import build as build_dataset
    from sibench.data.collect import check_recipe, check_widths, parts

    id = parse_id(dataset)
    if id.kind == "mix":
        if missing := [str(part) for part in parts(id) if not build and not storage.folder(part).exists()]:
            raise UserError(
                f"{id} is made of {' and '.join(missing)}, not in {storage.root()}; make it: {storage.command(id)}"
            )
        return _mix(id, build)
    if build and not storage.folder(id).exists():
        build_dataset(id)
    loaded = storage.read(id)
    check_recipe(id, loaded.card)
    check_widths(id, loaded)
    return loaded


def _mix(id: Id, build: bool) -> Dataset:
    """A view on expert and random, in the ratio of the id: the expert's last, for its first are the demonstrations."""
    from sibench.data.collect import statistics

    expert, random = (
        load_privileged(str(Id(id.task, source, id.episodes)), build=build) for source in ("expert", "random")
    )
    card = {"id": str(id), "task": expert.card["task"], "engine": expert.card["engine"]}
    mixed = concatenate(expert.last(id.num_experts), random.first(id.episodes - id.num_experts), card)
    card |= statistics(mixed, id.task) | {"parts": [expert.card["id"], random.card["id"]]}
    return mixed
