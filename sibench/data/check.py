"""Check that a dataset holds what its card says, and what the simulator computes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sibench import tasks
from sibench.core import provenance
from sibench.core.errors import UserError
from sibench.core.ids import Id
from sibench.data import storage
from sibench.data.collect import check_recipe, check_widths, seed_name, statistics
from sibench.data.dataset import Dataset
from sibench.tasks import cameras
from sibench.tasks.rollout import episode_keys, seeds

TOLERANCE, MJX_TOLERANCE = 1e-5, 0.1
OTHER_MACHINE_STEPS, MJX_STEPS = 100, 2
"""Steps that are compared of a dataset made with other versions or on another kind of machine, and of one made by mjx.

Contacts are chaotic: another processor's last bit, or float32, leaves the stored path after a while."""
FRAMES_PER_EPISODE, MAX_SHADE, MAX_PIXELS = 5, 50, 20
"""Another driver shades otherwise: at most `MAX_PIXELS` pixels of an observation by more than `MAX_SHADE` of 255.
An object elsewhere changes more pixels."""


def verify(id: Id, replays: int = 10) -> list[str]:
    """Check a stored dataset; return what was checked, or raise `UserError` at the first thing that is wrong."""
    dataset = storage.read(id)  # checks hashes, structure, shapes, finite values, bounds, ends
    arrays, steps = len(storage.COLUMNS), len(dataset.actions)
    checked = [f"{arrays} arrays, {dataset.num_episodes} episodes, {steps} steps: hashes and form"]
    if storage.content_sha256(dataset) != dataset.card.get("content_sha256"):
        raise _wrong(id, "its content differs from the content_sha256 of its card")
    check_recipe(id, dataset.card)
    check_widths(id, dataset)
    _check_statistics(id, dataset)
    checked.append("the card's statistics")
    if id.kind != "other":
        _check_episodes(id, dataset)
        checked.append("seeds and starts")
    if replays > 0 and dataset.initial_states.shape[1] == 0:
        checked.append("not replayed: the states of the simulation in which its episodes started are not known")
    elif replays > 0:
        episodes = np.unique(np.linspace(0, dataset.num_episodes - 1, replays).astype(int))
        checked.append(_replay(id, dataset, episodes))
    return checked


def _check_statistics(id: Id, dataset: Dataset) -> None:
    """Compare the numbers of the card with the arrays."""
    for name, value in statistics(dataset, id.task).items():
        stored = dataset.card.get(name)
        try:
            same = stored == value if value is None else np.allclose(stored, value, rtol=1e-5, atol=1e-3)
            same = same and np.asarray(stored).shape == np.asarray(value).shape
        except (TypeError, ValueError):  # the card holds something that is not a number
            same = False
        if name != "quality" and not same:  # quality moves with the reference returns
            raise _wrong(id, f"its card says {name} = {stored}, its arrays say {value}")


def _check_episodes(id: Id, dataset: Dataset) -> None:
    """Check lengths, ends and seeds, and that the episodes start where their seeds say."""
    task = tasks.make(id.task, "c")
    is_truncated = dataset.truncated[dataset.offsets[1:] - 1]
    wrong = (dataset.lengths > task.horizon) | (is_truncated & (dataset.lengths != task.horizon))
    if wrong.any():
        raise _wrong(id, f"episode {wrong.argmax()} has {dataset.lengths[wrong.argmax()]} steps, truncated or too long")
    if not np.array_equal(dataset.seeds, seeds("collect", seed_name(id), dataset.num_episodes)):
        raise _wrong(id, "its episode seeds are not those of its recipe")
    draws = jax.vmap(jax.random.fold_in, (0, None))(episode_keys(dataset.seeds), 0)
    starts = np.concatenate(jax.vmap(task.initial)(draws), axis=1)
    if not np.allclose(starts, dataset.initial_states, atol=1e-5):
        raise _wrong(id, "its episodes do not start where their seeds say")


def _replay(id: Id, dataset: Dataset, episodes: np.ndarray) -> str:
    """Play the stored actions of some episodes on engine c, and compare what they lead to."""
    task = tasks.make(tasks.state_twin(id.task), "c")
    without_frames = ""
    if dataset.pixels is not None:
        try:
            cameras.backend()
        except UserError as error:
            without_frames = f"; its frames were not drawn again: {error}"
    steps, tolerance = int(dataset.lengths[episodes].max()), TOLERANCE
    if dataset.card.get("engine") == "mjx":
        steps, tolerance = min(steps, MJX_STEPS), MJX_TOLERANCE
    elif dataset.card.get("versions") != provenance.versions():
        steps = min(steps, OTHER_MACHINE_STEPS)
    actions = np.zeros((steps, len(episodes), task.action_size), np.float32)
    for lane, episode in enumerate(episodes):
        stored = dataset.actions[dataset.offsets[episode] : dataset.offsets[episode + 1]][:steps]
        actions[: len(stored), lane] = stored

    obs, next_obs, rewards, terminal = map(np.asarray, _play(task, dataset.initial_states[episodes], actions))
    for lane, episode in enumerate(episodes):
        start, length = dataset.offsets[episode], min(steps, dataset.lengths[episode])
        step, observation = slice(start, start + length), slice(start + episode, start + episode + length + 1)
        states = np.append(obs[:1, lane], next_obs[:length, lane], 0)
        pairs = {
            "rewards": (rewards[:length, lane], dataset.rewards[step]),
            "observations": (states[:, : dataset.observations.shape[1]], dataset.observations[observation]),
            "terminal": (terminal[:length, lane], dataset.terminal[step]),
        }
        for name, (replayed, stored) in pairs.items():
            error = np.abs(replayed - stored.astype(np.float32)).max()
            if not error <= tolerance:
                raise _wrong(id, f"replaying the actions of episode {episode} gives other {name}, by {error:.2g}")
        if dataset.pixels is not None and not without_frames:
            times = np.linspace(0, length, FRAMES_PER_EPISODE).astype(int)
            drawn, stored = tasks.make(id.task, "c").frames(states[times]), dataset.pixels[observation.start + times]
            error = (np.abs(drawn.astype(int) - stored) > MAX_SHADE).any(-1).sum(axis=(1, 2, 3)).max()
            if not error <= MAX_PIXELS:
                raise _wrong(id, f"the frames of episode {episode} differ from the drawn scene by {error} pixels")
    return f"{len(episodes)} episodes replayed on engine c, up to {steps} steps" + without_frames


@functools.partial(jax.jit, static_argnums=0)
def _play(task: tasks.Task, initial_states: jax.Array, actions: jax.Array):
    """Return observation, next observation, reward and end of every step, each [T, N]."""
    qpos, qvel = jnp.split(initial_states, [task.model.nq], axis=1)
    state = jax.vmap(task.reset_to)(qpos, qvel)

    def step(state, action):
        after = jax.vmap(task.step)(state, action)
        return after, (state.obs, after.obs, after.reward, after.done)

    return jax.lax.scan(step, state, actions)[1]


def _wrong(id: Id, problem: str) -> UserError:
    return UserError(f"{storage.folder(id)}: {problem}; {storage.remedy(id)}")
