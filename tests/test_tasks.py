"""The registry, and what every task must be."""

import os
import shutil
import subprocess
import sys

import gymnasium
import jax
import numpy as np
import pytest
from brax.envs.base import Env
from conftest import MANIPULATION, REPO, TASKS

from sibench import assets, policies, tasks
from sibench.errors import UserError


def test_all_tasks_are_found():
    assert set(tasks.names()) >= {*TASKS, *MANIPULATION, *(f"{name}-image" for name in MANIPULATION)}


NEW = """
from sibench.tasks.locomotion import Hopper

class Leap(Hopper):
    name = "leap"
    version = 1
    horizon = 8
"""


def copy_with_a_new_task(folder, text=NEW):
    """This repository with one file more, and how to run its programs."""
    for part in ("sibench", "data_gen", "algorithms"):
        shutil.copytree(REPO / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "sibench" / "tasks" / "new.py").write_text(text)
    env = os.environ | {"PYTHONPATH": str(folder), "SIBENCH_DATA": str(folder / "datasets")}

    def run(line):
        return subprocess.run([sys.executable, *line.split()], cwd=folder, env=env, capture_output=True, text=True)

    return run


def test_a_task_is_added_by_one_file(tmp_path):
    run = copy_with_a_new_task(tmp_path)
    made = run("-m data_gen.collect --task leap --dataset random --episodes 3 --engine c")
    assert made.returncode == 0, made.stderr
    assert "3 episodes replayed on engine c, up to 8 steps: good" in run("-m sibench.data verify").stdout
    assert "| `leap-v1` | Hopper-v5 | 11 | 3 | not measured | not measured |" in run("-m sibench.tables tasks").stdout
    missing = run("-m data_gen.collect --task leap --dataset expert")
    assert missing.returncode == 2 and "python -m data_gen.experts --task leap" in missing.stderr


@pytest.mark.slow
def test_an_added_task_has_experts_ladder_and_learners(tmp_path):
    """The whole way of the README, tiny."""
    run = copy_with_a_new_task(tmp_path)
    tiny = "--eval-every 8 --num-updates 16 --checkpoint-every 16 --num-envs 8 --width 16 --batch-size 8 "
    tiny += "--warmup-steps 160 --replay-size 4096 --eval-episodes 2 --reference-episodes 4"
    for line in (
        f"-m data_gen.experts --task leap --engine c {tiny} --ship",
        "-m data_gen.ladder --task leap --engine c --levels 1 --num-updates 20 --width 16 --eval-episodes 2 --ship",
        "-m data_gen.collect --task leap --dataset bc-1 mix-500 --episodes 10",
        "algorithms/bc.py --task leap --dataset bc-1-n10 mix-500-n10 --seeds 2 --steps 10 --eval-episodes 2",
        "-m sibench.data verify",
    ):
        done = run(line)
        assert done.returncode == 0, done.stderr
    assert "| `leap-v1` | Hopper-v5 | 11 | 3 | not measured" not in run("-m sibench.tables tasks").stdout
    assert len(list((tmp_path / "runs" / "leap").rglob("policy.safetensors"))) == 4


def test_a_name_that_no_dataset_could_have_is_refused(tmp_path):
    refused = copy_with_a_new_task(tmp_path, NEW.replace('"leap"', '"big_leap"'))("-m sibench.tables tasks")
    assert refused.returncode == 2 and "new.py: task name 'big_leap'" in refused.stderr


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
