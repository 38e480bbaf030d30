"""Does a dataset hold what its card says, and is it what the simulator does?"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sibench import provenance, tasks
from sibench.data import Dataset, storage
from sibench.data.collect import check_recipe, statistics
from sibench.errors import UserError
from sibench.ids import Id

TOLERANCE, MJX_TOLERANCE = 1e-5, 0.05
ELSEWHERE_STEPS, MJX_STEPS = 100, 5
"""Contacts are chaotic: another processor's last bit, or float32, leaves the stored path after a while. So a dataset
made with other versions or on another kind of machine is compared for its first 100 steps, one made by mjx for 5."""


def verify(id: Id, replays: int = 10) -> list[str]:
    """Raise `UserError` at the first thing that is wrong; otherwise say what was checked."""
    dataset = storage.read(id)  # hashes, structure, shapes, finiteness, bounds, ends
    done = [
        f"{len(storage.COLUMNS)} arrays, {dataset.num_episodes} episodes, {len(dataset.actions)} steps: hashes and form"
    ]
    if storage.content_sha256(dataset) != dataset.card.get("content_sha256"):
        raise _wrong(id, "its content differs from the content_sha256 of its card")
    check_recipe(id, dataset.card)
    _check_against_task(id, dataset)
    for name, value in statistics(dataset, id.task).items():
        if name == "quality":
            continue  # moves with the reference returns
        stored = dataset.card.get(name)
        if stored is None or not np.allclose(stored, value, rtol=1e-5, atol=1e-3):
            raise _wrong(id, f"its card says {name} = {stored}, its arrays say {value}")
    done.append("the card's statistics")
    if id.kind != "other" and replays:
        chosen = np.unique(np.linspace(0, dataset.num_episodes - 1, replays).astype(int))
        done.append(_replay(id, dataset, chosen))
    return done


def _check_against_task(id: Id, dataset: Dataset) -> None:
    task = tasks.make(id.task, "c")
    shape = (dataset.observations.shape[1], dataset.actions.shape[1])
    if shape != (task.observation_size, task.action_size):
        raise _wrong(id, f"it has {shape[0]} observations and {shape[1]} actions; {task.id} has others")
    if dataset.lengths.max() > task.horizon:
        raise _wrong(id, f"it has an episode of {dataset.lengths.max()} steps; the horizon is {task.horizon}")
    wrong = dataset.truncated[dataset.offsets[1:] - 1] & (dataset.lengths != task.horizon)
    if id.kind != "other" and wrong.any():
        raise _wrong(id, f"episode {wrong.argmax()} is truncated before the horizon")
    if id.kind != "other" and len(np.unique(dataset.seeds)) != dataset.num_episodes:
        raise _wrong(id, "two of its episodes have the same seed")


def _replay(id: Id, dataset: Dataset, chosen: np.ndarray) -> str:
    """Play the stored actions of some episodes on engine c and compare what comes out."""
    task = tasks.make(id.task, "c")
    steps, tolerance = int(dataset.lengths[chosen].max()), TOLERANCE
    if dataset.card["engine"] == "mjx":
        steps, tolerance = min(steps, MJX_STEPS), MJX_TOLERANCE
    elif dataset.card["versions"] != provenance.versions():
        steps = min(steps, ELSEWHERE_STEPS)
    actions = np.zeros((steps, len(chosen), task.action_size), np.float32)
    for lane, episode in enumerate(chosen):
        part = dataset.actions[dataset.offsets[episode] : dataset.offsets[episode + 1]][:steps]
        actions[: len(part), lane] = part

    obs, rewards, terminal = map(np.asarray, _play(task, dataset.initial_states[chosen], actions))
    for lane, episode in enumerate(chosen):
        start, length = dataset.offsets[episode], min(steps, dataset.lengths[episode])
        ours = slice(start, start + length), slice(start + episode, start + episode + length)
        pairs = {
            "rewards": (rewards[:length, lane], dataset.rewards[ours[0]]),
            "observations": (obs[:length, lane], dataset.observations[ours[1]]),
            "terminal": (terminal[:length, lane], dataset.terminal[ours[0]]),
        }
        for name, (replayed, stored) in pairs.items():
            error = np.abs(replayed - stored.astype(np.float32)).max()
            if not error <= tolerance:
                raise _wrong(id, f"replaying the actions of episode {episode} gives other {name}, by {error:.2g}")
    return f"{len(chosen)} episodes replayed on engine c, up to {steps} steps"


@functools.partial(jax.jit, static_argnums=0)
def _play(task: tasks.Task, initial_states: jax.Array, actions: jax.Array):
    """Observation, reward and end of every step; [T, N]."""
    qpos, qvel = jnp.split(initial_states, [task.model.nq], axis=1)
    state = jax.vmap(task.reset_to)(qpos, qvel)

    def step(state, action):
        after = jax.vmap(task.step)(state, action)
        return after, (state.obs, after.reward, after.done)

    return jax.lax.scan(step, state, actions)[1]


def _wrong(id: Id, what: str) -> UserError:
    return UserError(f"{storage.folder(id)}: {what}; make it again: {storage.command(id)}")
