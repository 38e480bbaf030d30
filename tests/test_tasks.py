"""The registry, and what every task must be."""

import gymnasium
import jax
import numpy as np
import pytest
from brax.envs.base import Env
from conftest import MANIPULATION, TASKS

from sibench import assets, policies, tasks
from sibench.errors import UserError


def test_all_tasks_are_found():
    assert set(tasks.names()) == {*TASKS, *MANIPULATION, *(f"{name}-image" for name in MANIPULATION)}


def test_ids():
    assert tasks.make("hopper").id == tasks.make("hopper-v1").id == tasks.task_id("hopper") == "hopper-v1"
    for wrong in ("hoper", "hopper-v2", "../hopper", ""):
        with pytest.raises(UserError, match="unknown task"):
            tasks.make(wrong)
    with pytest.raises(UserError, match="did you mean 'mjx'"):
        tasks.make("hopper", "mjxx")


@pytest.mark.parametrize("name", TASKS)
def test_spaces_are_gymnasiums(name):
    task = tasks.make(name, "c")
    assert isinstance(task, Env)
    env = gymnasium.make(task.gymnasium_id, **task.gymnasium_options)
    assert task.observation_space.shape == env.observation_space.shape == (task.observation_size,)
    assert task.action_space == env.action_space
    assert task.horizon == env.spec.max_episode_steps
    assert task.dt == pytest.approx(env.unwrapped.dt)


@pytest.mark.parametrize("name", TASKS)
def test_a_step_keeps_the_types_of_a_state(name):
    """Weak types too: a program that scans states would be compiled once more for its second call."""
    task = tasks.make(name, "c")
    state = jax.eval_shape(task.reset, jax.random.key(0))
    after = jax.eval_shape(task.step, state, np.zeros(task.action_size, np.float32))

    def types(state):
        return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(state)]

    assert types(after) == types(state)


@pytest.mark.parametrize("name", TASKS)
def test_reset_noise_is_gymnasiums(name):
    """The distribution of the first state: same mean and standard deviation, in every coordinate."""
    task = tasks.make(name, "c")
    qpos, qvel = jax.vmap(task.initial)(jax.random.split(jax.random.key(0), 4000))
    env = gymnasium.make(task.gymnasium_id, **task.gymnasium_options).unwrapped
    env.reset(seed=0)
    theirs = []
    for _ in range(1000):
        env.reset_model()
        theirs.append(np.concatenate([env.data.qpos, env.data.qvel]))
    ours, theirs = np.concatenate([qpos, qvel], axis=1), np.array(theirs)
    scale = theirs.std(0)
    assert np.all(np.abs(ours.mean(0) - theirs.mean(0)) < 5 * scale / np.sqrt(1000))
    assert np.all(np.abs(ours.std(0) / scale - 1) < 0.12)
    # uniform or normal: the largest draws tell them apart
    np.testing.assert_allclose(
        np.abs(ours - ours.mean(0)).max(0) / scale, np.abs(theirs - theirs.mean(0)).max(0) / scale, rtol=0.4
    )


@pytest.mark.parametrize("name", TASKS)
def test_reference_returns(name):
    """Measured, with how; and the quality of a return lies between them."""
    references = assets.references(name)
    for policy in ("random", "expert"):
        assert references[policy].keys() >= {"mean", "std", "n", "engine", "seeds"}
        assert references[policy]["n"] == 1000
    random, expert = references["random"]["mean"], references["expert"]["mean"]
    assert expert >= {"ant": 4000, "halfcheetah": 9000, "hopper": 3200, "walker2d": 4200}[name]
    assert tasks.quality(name, random) == 0 and tasks.quality(name, expert) == 1
    assert tasks.quality(name, (random + expert) / 2) == pytest.approx(0.5)


@pytest.mark.parametrize("name", [*TASKS, *MANIPULATION])
def test_the_ladder_is_shipped(name):
    """Every level, of as many demonstrations as its name says, in float32 numbers that act."""
    levels = [1, 2, 5, 10, 20, 50, 100, 200] + [500, 1000] * (name in TASKS)
    assert {f"bc-{level}" for level in levels} <= set(assets.shipped(name))
    task = tasks.make(name, "c")
    for level in levels:
        policy = assets.load_policy(name, f"bc-{level}")
        card = policies.read_description(assets.path(name, f"bc-{level}"))["card"]
        assert card["demonstrations"] == level
        actions = policy.act(np.zeros((3, task.observation_size), np.float32), jax.random.key(0), "sample")
        assert np.isfinite(actions).all() and np.shape(actions) == (3, task.action_size)
