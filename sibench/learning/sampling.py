"""Datasets on the device, and the batches that learners draw from them.

The episodes of all datasets of a run lie end to end in arrays that all lanes share. A lane holds its own stretch of
them, so lanes may differ in dataset at no cost.

    observations   o0 o1 o2 o3 | o0 o1 o2 | ...      T + 1 an episode
    start          0  1  2       4  5       ...      the observation that a step starts from
    inner          0  1          3          ...      steps that are not the last of their episode
    opening        0             4          ...      the observation that an episode starts from
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np

from sibench.data import Dataset, observation_index
from sibench.data.frames import Pixels, cached
from sibench.data.frames import join as join_pixels
from sibench.policies.networks import Stats
from sibench.tasks.cameras import FRAMES, NUM_BYTES

SHIFT = 4
"""Largest random shift of a frame, in pixels; drawn anew for every batch, against overfitting to few episodes."""


class Stretch(NamedTuple):
    """The rows of the shared arrays that belong to a lane."""

    first_step: jax.Array
    num_steps: jax.Array
    first_episode: jax.Array
    num_episodes: jax.Array


class Stored(flax.struct.PyTreeNode):
    """Observations with frames, as rows of bytes [M, O]. The frames stay on disk until they are indexed."""

    numbers: jax.Array  # [M, P]
    pixels: Pixels = flax.struct.field(pytree_node=False)

    def __getitem__(self, index: jax.Array | slice) -> jax.Array:
        """Return the rows of an index [B], or of a slice."""
        from sibench.tasks.physics import on_host  # so that --help of a learner need not wait for simulators

        index = jnp.arange(len(self.numbers))[index]
        (frames,) = jax.vmap(on_host(lambda rows: [self.pixels[rows]], [(FRAMES, jnp.uint8)]))(index)
        numbers = jax.lax.bitcast_convert_type(self.numbers[index], jnp.uint8)
        return jnp.concatenate([numbers.reshape(len(index), -1), frames.reshape(len(index), -1)], axis=-1)


class Source(NamedTuple):
    """What a learner draws from. `action` and `reward` are None where it may not see them."""

    observations: "jax.Array | Stored"  # [M, O]
    action: jax.Array | None  # [N, A]
    reward: jax.Array | None  # [N]
    terminal: jax.Array  # [N] 1.0 where the task ended for good
    start: jax.Array  # [N]
    inner: jax.Array  # [N - E]
    opening: jax.Array  # [E]
    stats: Stats  # [O], of the lane's own observations
    stretch: Stretch


class Data(NamedTuple):
    """The data that `update(state, data, key)` gets."""

    background: Source
    expert: Source


class Batch(NamedTuple):
    obs: jax.Array  # [B, O]
    action: jax.Array | None  # [B, A]
    reward: jax.Array | None  # [B]
    next_obs: jax.Array  # [B, O]
    terminal: jax.Array  # [B]


def sample(source: Source, num: int, key: jax.Array) -> Batch:
    """Draw steps uniformly, with replacement."""
    own = source.stretch
    return _steps(source, own.first_step + jax.random.randint(key, (num,), 0, own.num_steps), key)


def sample_pairs(source: Source, num: int, key: jax.Array) -> tuple[Batch, jax.Array]:
    """Draw steps that are not the last of their episode, and the observation [B, O] two steps later."""
    own = source.stretch
    first, size = own.first_step - own.first_episode, own.num_steps - own.num_episodes
    step = source.inner[first + jax.random.randint(key, (num,), 0, size)]
    return _steps(source, step, key), _look(source, source.start[step] + 2, key)


def sample_openings(source: Source, num: int, key: jax.Array) -> jax.Array:
    """Draw first observations of episodes, [B, O]."""
    own = source.stretch
    episode = own.first_episode + jax.random.randint(key, (num,), 0, own.num_episodes)
    return _look(source, source.opening[episode], key)


def _look(source: Source, index: jax.Array, key: jax.Array) -> jax.Array:
    """Return observations [B, O]; frames are randomly shifted, all observations of a step alike.

    Independent shifts would add noise to the difference of their values, which a low temperature amplifies.
    """
    rows = source.observations[index]
    if not isinstance(source.observations, Stored):
        return rows
    return shifted(rows, jax.random.fold_in(key, 2))  # 0 and 1 are what `randint` has split this key into


def shifted(rows: jax.Array, key: jax.Array) -> jax.Array:
    """Shift every frame by up to `SHIFT` pixels in both directions, repeating its edges (DrQ, arXiv 2004.13649)."""
    frames = rows[:, -NUM_BYTES:].reshape(-1, *FRAMES)
    corner = jax.random.randint(key, (*frames.shape[:2], 2), 0, 2 * SHIFT + 1)
    padded = jnp.pad(frames, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), "edge")
    crop = jax.vmap(jax.vmap(lambda frame, at: jax.lax.dynamic_slice(frame, (*at, 0), FRAMES[1:])))
    frames = crop(padded, corner)
    return jnp.concatenate([rows[:, :-NUM_BYTES], frames.reshape(len(rows), -1)], axis=-1)


def _steps(source: Source, step: jax.Array, key: jax.Array) -> Batch:
    obs = source.start[step]
    return Batch(
        obs=_look(source, obs, key),
        action=None if source.action is None else source.action[step],
        reward=None if source.reward is None else source.reward[step],
        next_obs=_look(source, obs + 1, key),
        terminal=source.terminal[step],
    )


def make_data(
    backgrounds: Sequence[Dataset], expert: Dataset, lane_background: Sequence[int], privileges: Sequence[str] = ()
) -> Data:
    """Put datasets on the device. Lane i draws from `backgrounds[lane_background[i]]`.

    Rewards and expert actions reach the device only if they are among `privileges`.
    """
    rewards, expert_actions = ("background rewards" in privileges, "expert actions" in privileges)
    return Data(
        background=_source(
            backgrounds, lane_background, actions=True, rewards=rewards, beside=len(expert.observations)
        ),
        expert=_source([expert], [0] * len(lane_background), actions=expert_actions, rewards=False),
    )


def _source(
    datasets: Sequence[Dataset], lane_dataset: Sequence[int], *, actions: bool, rewards: bool, beside: int = 0
) -> Source:
    offsets = [data.offsets for data in datasets]
    steps = np.cumsum([0, *(o[-1] for o in offsets)])
    episodes = np.cumsum([0, *(len(o) - 1 for o in offsets)])
    offsets = np.concatenate([[0], *(o[1:] + first for o, first in zip(offsets, steps, strict=False))])
    inner = np.ones(offsets[-1], bool)
    inner[offsets[1:] - 1] = False

    def join(name: str) -> jax.Array:
        return jnp.asarray(np.concatenate([getattr(data, name) for data in datasets]), jnp.float32)

    observations = join("observations")
    if datasets[0].pixels is not None:
        observations = Stored(observations, cached(join_pixels([data.pixels for data in datasets]), beside))
    lane = np.asarray(lane_dataset)
    stretch = (steps[:-1], np.diff(steps), episodes[:-1], np.diff(episodes))
    return Source(
        observations=observations,
        action=join("actions") if actions else None,
        reward=join("rewards") if rewards else None,
        terminal=join("terminal"),
        start=jnp.asarray(observation_index(offsets), jnp.int32),
        inner=jnp.asarray(np.flatnonzero(inner), jnp.int32),
        opening=jnp.asarray(offsets[:-1] + np.arange(len(offsets) - 1), jnp.int32),
        stats=jax.tree.map(lambda *rows: jnp.stack(rows)[lane], *(statistics(data.observations) for data in datasets)),
        stretch=Stretch(*(jnp.asarray(column[lane], jnp.int32) for column in stretch)),
    )


def statistics(observations: np.ndarray) -> Stats:
    """Return mean and standard deviation of every dimension; the latter is floored at 0.01."""
    observations = np.asarray(observations, np.float64)
    mean, std = observations.mean(0), observations.std(0)
    return Stats(jnp.asarray(mean, jnp.float32), jnp.asarray(np.maximum(std, 1e-2), jnp.float32))


def per_lane(data: Data, lane: object, shared: object) -> Data:
    """Return a tree like `data` with `lane` where lanes differ and `shared` where they do not."""
    trees = (jax.tree.map(lambda _: shared, source) for source in data)
    return Data(*(tree._replace(stats=Stats(lane, lane), stretch=Stretch(*[lane] * 4)) for tree in trees))
