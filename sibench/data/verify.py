"""Does a dataset hold what its card says, and is it what the simulator does?"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sibench import cameras, provenance, tasks
from sibench.data import Dataset, storage
from sibench.data.collect import check_recipe, check_widths, seed_name, statistics
from sibench.errors import UserError
from sibench.ids import Id, twin
from sibench.rollout import keys_of, seeds

TOLERANCE, MJX_TOLERANCE = 1e-5, 0.1
FRAMES_AN_EPISODE, FAR, MOST = 5, 50, 20
"""Another driver shades otherwise, but at most `MOST` pixels of an observation by more than `FAR` of 255; an object
elsewhere changes more of them."""
ELSEWHERE_STEPS, MJX_STEPS = 100, 2
"""Contacts are chaotic: another processor's last bit, or float32, leaves the stored path after a while. So a dataset
made with other versions or on another kind of machine is compared for its first 100 steps, one made by mjx for 2."""


def verify(id: Id, replays: int = 10) -> list[str]:
    """Raise `UserError` at the first thing that is wrong; otherwise say what was checked."""
    dataset = storage.read(id)  # hashes, structure, shapes, finiteness, bounds, ends
    done = [
        f"{len(storage.COLUMNS)} arrays, {dataset.num_episodes} episodes, {len(dataset.actions)} steps: hashes and form"
    ]
    if storage.content_sha256(dataset) != dataset.card.get("content_sha256"):
        raise _wrong(id, "its content differs from the content_sha256 of its card")
    check_recipe(id, dataset.card)
    check_widths(id, dataset)
    for name, value in statistics(dataset, id.task).items():
        stored = dataset.card.get(name)
        try:
            same = stored == value if value is None else np.allclose(stored, value, rtol=1e-5, atol=1e-3)
            same = same and np.shape(stored) == np.shape(value)
        except (TypeError, ValueError):  # it is no number
            same = False
        if name != "quality" and not same:  # quality moves with the reference returns
            raise _wrong(id, f"its card says {name} = {stored}, its arrays say {value}")
    done.append("the card's statistics")
    if id.kind != "other":
        _check_episodes(id, dataset)
        done.append("seeds and starts")
    if replays > 0:
        if dataset.initial_states.shape[1] == 0:
            done.append("not replayed: it does not say from which states of the simulation its episodes started")
        else:
            chosen = np.unique(np.linspace(0, dataset.num_episodes - 1, replays).astype(int))
            done.append(_replay(id, dataset, chosen))
    return done


def _check_episodes(id: Id, dataset: Dataset) -> None:
    """Lengths, kinds of end, seeds, and that the episodes start where their seeds say."""
    task = tasks.make(id.task, "c")
    wrong = (dataset.lengths > task.horizon) | (
        dataset.truncated[dataset.offsets[1:] - 1] & (dataset.lengths != task.horizon)
    )
    if wrong.any():
        raise _wrong(id, f"episode {wrong.argmax()} has {dataset.lengths[wrong.argmax()]} steps, truncated or too long")
    if not np.array_equal(dataset.seeds, seeds("collect", seed_name(id), dataset.num_episodes)):
        raise _wrong(id, "its episode seeds are not those of its recipe")
    draws = jax.vmap(jax.random.fold_in, (0, None))(keys_of(dataset.seeds), 0)
    starts = np.concatenate(jax.vmap(task.initial)(draws), axis=1)
    if not np.allclose(starts, dataset.initial_states, atol=1e-5):
        raise _wrong(id, "its episodes do not start where their seeds say")


def _replay(id: Id, dataset: Dataset, chosen: np.ndarray) -> str:
    """Play the stored actions of some episodes on engine c and compare what comes out."""
    task = tasks.make(twin(id.task), "c")
    no_gl = ""
    if dataset.pixels is not None:
        try:
            cameras.backend()
        except UserError as error:
            no_gl = f"; its frames were not drawn again: {error}"
    steps, tolerance = int(dataset.lengths[chosen].max()), TOLERANCE
    if dataset.card.get("engine") == "mjx":
        steps, tolerance = min(steps, MJX_STEPS), MJX_TOLERANCE
    elif dataset.card.get("versions") != provenance.versions():
        steps = min(steps, ELSEWHERE_STEPS)
    actions = np.zeros((steps, len(chosen), task.action_size), np.float32)
    for lane, episode in enumerate(chosen):
        part = dataset.actions[dataset.offsets[episode] : dataset.offsets[episode + 1]][:steps]
        actions[: len(part), lane] = part

    obs, next_obs, rewards, terminal = map(np.asarray, _play(task, dataset.initial_states[chosen], actions))
    for lane, episode in enumerate(chosen):
        start, length = dataset.offsets[episode], min(steps, dataset.lengths[episode])
        ours = slice(start, start + length), slice(start + episode, start + episode + length + 1)
        whole = np.append(obs[:1, lane], next_obs[:length, lane], 0)
        pairs = {
            "rewards": (rewards[:length, lane], dataset.rewards[ours[0]]),
            "observations": (whole[:, : dataset.observations.shape[1]], dataset.observations[ours[1]]),
            "terminal": (terminal[:length, lane], dataset.terminal[ours[0]]),
        }
        for name, (replayed, stored) in pairs.items():
            error = np.abs(replayed - stored.astype(np.float32)).max()
            if not error <= tolerance:
                raise _wrong(id, f"replaying the actions of episode {episode} gives other {name}, by {error:.2g}")
        if dataset.pixels is not None and not no_gl:
            some = np.linspace(0, length, FRAMES_AN_EPISODE).astype(int)
            drawn, stored = tasks.make(id.task, "c").frames(whole[some]), dataset.pixels[ours[1].start + some]
            error = (np.abs(drawn.astype(int) - stored) > FAR).any(-1).sum(axis=(1, 2, 3)).max()
            if not error <= MOST:
                raise _wrong(id, f"the frames of episode {episode} are not what is there to see: {error} pixels")
    return f"{len(chosen)} episodes replayed on engine c, up to {steps} steps" + no_gl


@functools.partial(jax.jit, static_argnums=0)
def _play(task: tasks.Task, initial_states: jax.Array, actions: jax.Array):
    """Observation, next observation, reward and end of every step; [T, N]."""
    qpos, qvel = jnp.split(initial_states, [task.model.nq], axis=1)
    state = jax.vmap(task.reset_to)(qpos, qvel)

    def step(state, action):
        after = jax.vmap(task.step)(state, action)
        return after, (state.obs, after.obs, after.reward, after.done)

    return jax.lax.scan(step, state, actions)[1]


def _wrong(id: Id, what: str) -> UserError:
    return UserError(f"{storage.folder(id)}: {what}; {storage.remedy(id)}")
