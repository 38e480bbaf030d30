"""What a dataset holds.

    background = sibench.load("hopper/bc-10-v1")     # a Dataset
    expert = sibench.load("hopper/expert-v1")        # Demonstrations: no actions, no rewards

An episode of T steps has T + 1 observations. Episodes lie one after the other, so steps and observations are counted
differently; `offsets` counts steps:

    steps          a0 a1 a2 | a0 a1            offsets = [0, 3, 5]
    observations   o0 o1 o2 o3 | o0 o1 o2      episode e starts at observation offsets[e] + e
"""

from typing import Any, NamedTuple

import numpy as np

from sibench.core.errors import UserError
from sibench.data.frames import Pixels, join


class Demonstrations(NamedTuple):
    """What an action-free learner may see of an expert: its observations, and how its episodes ended."""

    observations: np.ndarray  # [N + E, O] float32; without what only the frames show, if there are frames
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
        """Steps of each episode [E]."""
        return np.diff(self.offsets)


class Dataset(NamedTuple):
    """A background dataset."""

    observations: np.ndarray  # [N + E, O] float32; without what only the frames show, if there are frames
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
        """Undiscounted return of each episode, [E] float64."""
        sums = np.concatenate([[0.0], np.cumsum(self.rewards, dtype=np.float64)])
        return sums[self.offsets[1:]] - sums[self.offsets[:-1]]

    def transitions(self) -> dict[str, np.ndarray]:
        """Return obs, action, reward, next_obs and terminal of every step; next_obs is the true successor."""
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
        """Return the first `num` episodes."""
        return self.episodes(0, num)

    def last(self, num: int) -> "Dataset":
        """Return the last `num` episodes."""
        return self.episodes(self.num_episodes - num, self.num_episodes)

    def episodes(self, first: int, end: int) -> "Dataset":
        """Return the episodes from `first` up to, but not including, `end`."""
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
    """Return the index [N] of the observation that each step starts from."""
    lengths = np.diff(offsets)
    return np.arange(offsets[-1]) + np.repeat(np.arange(len(lengths)), lengths)


def concatenate(first: Dataset, second: Dataset, card: dict[str, Any]) -> Dataset:
    """Return the episodes of two datasets as one dataset with a new card."""
    columns = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in ("observations", "actions", "rewards", "terminal", "truncated", "seeds", "initial_states")
    }
    offsets = np.concatenate([first.offsets, first.offsets[-1] + second.offsets[1:]])
    pixels = [dataset.pixels for dataset in (first, second) if dataset.pixels is not None]
    assert len(pixels) in (0, 2), "datasets with and without frames cannot be concatenated"
    return Dataset(offsets=offsets, card=card, pixels=join(pixels) if pixels else None, **columns)
