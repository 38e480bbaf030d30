"""The registry of tasks, and the properties that every task has."""

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

from sibench import policies, tasks
from sibench.core.errors import UserError
from sibench.policies import shipped


def test_registry_finds_all_tasks():
    assert set(tasks.names()) >= {*TASKS, *MANIPULATION, *(f"{name}-image" for name in MANIPULATION)}


LEAP = """
from sibench.tasks.locomotion import Hopper

class Leap(Hopper):
    name = "leap"
    version = 1
    horizon = 8
"""


def copy_with_new_task(folder, text=LEAP):
    """Copy the repository, add a task file, and return a function that runs commands in the copy."""
    for part in ("sibench", "data_gen", "algorithms"):
        shutil.copytree(REPO / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "sibench" / "tasks" / "new.py").write_text(text)
    env = os.environ | {"PYTHONPATH": str(folder), "SIBENCH_DATA": str(folder / "datasets")}

    def run(line):
        return subprocess.run([sys.executable, *line.split()], cwd=folder, env=env, capture_output=True, text=True)

    return run


def test_task_is_added_by_one_file(tmp_path):
    run = copy_with_new_task(tmp_path)
    made = run("-m data_gen.collect --task leap --dataset random --episodes 3 --engine c")
    assert made.returncode == 0, made.stderr
    assert "3 episodes replayed on engine c, up to 8 steps: good" in run("-m sibench.data verify").stdout
    assert (
        "| `leap-v1` | Hopper-v5 | 11 | 3 | not measured | not measured |"
        in run("-m sibench.analysis.tables tasks").stdout
    )
    missing = run("-m data_gen.collect --task leap --dataset expert")
    assert missing.returncode == 2 and "python -m data_gen.experts --task leap" in missing.stderr


@pytest.mark.slow
def test_added_task_trains_experts_ladder_and_learners(tmp_path):
    """The README's steps for a new task, with tiny settings."""
    run = copy_with_new_task(tmp_path)
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
    assert "| `leap-v1` | Hopper-v5 | 11 | 3 | not measured" not in run("-m sibench.analysis.tables tasks").stdout
    assert len(list((tmp_path / "runs" / "leap").rglob("policy.safetensors"))) == 4


def test_task_name_that_dataset_ids_cannot_contain_is_refused(tmp_path):
    refused = copy_with_new_task(tmp_path, LEAP.replace('"leap"', '"big_leap"'))("-m sibench.analysis.tables tasks")
    assert refused.returncode == 2 and "new.py: task name 'big_leap'" in refused.stderr


def test_tasks_are_made_by_name_or_id_only():
    assert tasks.make("hopper").id == tasks.make("hopper-v1").id == tasks.task_id("hopper") == "hopper-v1"
    for unknown_name in ("hoper", "hopper-v2", "../hopper", ""):
        with pytest.raises(UserError, match="unknown task"):
            tasks.make(unknown_name)
    with pytest.raises(UserError, match="did you mean 'mjx'"):
        tasks.make("hopper", "mjxx")


@pytest.mark.parametrize("name", TASKS)
def test_spaces_match_gymnasium(name):
    task = tasks.make(name, "c")
    assert isinstance(task, Env)
    env = gymnasium.make(task.gymnasium_id, **task.gymnasium_options)
    assert task.observation_space.shape == env.observation_space.shape == (task.observation_size,)
    assert task.action_space == env.action_space
    assert task.horizon == env.spec.max_episode_steps
    assert task.dt == pytest.approx(env.unwrapped.dt)


@pytest.mark.parametrize("name", TASKS)
def test_step_preserves_types_of_state(name):
    """Weak types included: otherwise a program that scans states compiles twice."""
    task = tasks.make(name, "c")
    state = jax.eval_shape(task.reset, jax.random.key(0))
    after = jax.eval_shape(task.step, state, np.zeros(task.action_size, np.float32))

    def types(state):
        return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(state)]

    assert types(after) == types(state)


@pytest.mark.parametrize("name", TASKS)
def test_reset_noise_matches_gymnasium(name):
    """Mean and standard deviation of the initial state agree in every coordinate."""
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
def test_reference_returns_define_quality(name):
    references = tasks.references(name)
    for policy in ("random", "expert"):
        assert references[policy].keys() >= {"mean", "std", "n", "engine", "seeds"}
        assert references[policy]["n"] == 1000
    random, expert = references["random"]["mean"], references["expert"]["mean"]
    assert expert >= {"ant": 4000, "halfcheetah": 9000, "hopper": 3200, "walker2d": 4200}[name]
    assert tasks.quality(name, random) == 0 and tasks.quality(name, expert) == 1
    assert tasks.quality(name, (random + expert) / 2) == pytest.approx(0.5)


@pytest.mark.parametrize("name", [*TASKS, *MANIPULATION])
def test_every_ladder_level_ships_and_acts(name):
    levels = [1, 2, 5, 10, 20, 50, 100, 200] + [500, 1000] * (name in TASKS)
    assert {f"bc-{level}" for level in levels} <= set(shipped.shipped(name))
    task = tasks.make(name, "c")
    for level in levels:
        policy = shipped.load_policy(name, f"bc-{level}")
        card = policies.read_description(shipped.path(name, f"bc-{level}"))["card"]
        assert card["demonstrations"] == level
        actions = policy.act(np.zeros((3, task.observation_size), np.float32), jax.random.key(0), "sample")
        assert np.isfinite(actions).all() and np.shape(actions) == (3, task.action_size)
