"""Tasks with camera frames: the frames show the right moment, networks take them apart, and drawing survives faults."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MANIPULATION, REPO

from sibench import tasks
from sibench.core.errors import UserError
from sibench.data.collect import player
from sibench.policies.evaluation import evaluate
from sibench.policies.networks import STATS, BinsPolicy, Stats, is_statistic, unpack, with_stats
from sibench.tasks import cameras
from sibench.tasks.cameras import FRAMES, NUM_BYTES
from sibench.tasks.manipulation import joints
from sibench.tasks.rollout import rollout, seeds


@pytest.fixture(scope="module")
def demonstration(drawing):
    """Observations of the state [T + 1, O] in one episode of each task."""
    states = {}
    for name in MANIPULATION:
        task = tasks.make(name, "c")
        act, params, _ = player(task, "expert")
        played = rollout(task, act, params, seeds("select", f"images/{name}", 1), record=True)
        states[name] = played.obs[0, : played.length[0] + 1]
    return states


def new_states(task: str) -> np.ndarray:
    """Two observations that no studio drew before."""
    return np.asarray(jax.vmap(tasks.make(task, "c").reset)(jax.random.split(jax.random.key(time.time_ns()), 2)).obs)


# --- what is seen -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIPULATION)
def test_drawn_poses_are_those_of_the_simulation(name, demonstration):
    task = tasks.make(name, "c")
    reset = jax.jit(task.reset_to)
    for states in demonstration[name][::10]:
        again = reset(jnp.asarray(joints(states[None])[0], jnp.float32), jnp.zeros(task.model.nv)).obs
        for places in (np.r_[0:3], np.r_[7:12]):
            np.testing.assert_allclose(again[places], states[places], atol=1e-6)
        for rotation in (np.r_[3:7], np.r_[12:16]):  # a quaternion and its negative are one
            assert abs(again[rotation] @ states[rotation]) > 1 - 1e-6


@pytest.mark.parametrize("name", MANIPULATION)
def test_both_cameras_show_what_moves(name, demonstration):
    task, states = tasks.make(f"{name}-image", "c"), demonstration[name]
    frames = task.frames(states)
    assert frames.shape == (len(states), *FRAMES)
    for view in range(2):
        changes = np.abs(np.diff(frames[:, view].astype(int), axis=0)).max(axis=(1, 2, 3))
        assert (changes > 20).mean() > 0.8  # demonstrators pause
    elsewhere = states[:1] + np.where(np.isin(np.arange(states.shape[1]), (9, 10)), 0.03, 0.0)  # the object alone
    seen = np.abs(task.frames(elsewhere.astype(np.float32)).astype(int) - frames[:1]).max(axis=(2, 3, 4))
    assert (seen > 50).all()


def test_observation_shows_the_object_in_its_frames_only(demonstration):
    task, states = tasks.make("lift-image", "c"), demonstration["lift"]
    rows = task.full_observation(states)
    assert rows.shape == (len(states), task.observation_size) and rows.dtype == np.uint8
    numbers, frames = cameras.unpack(rows)
    assert np.array_equal(numbers, states[:, :9]) and np.array_equal(frames, task.frames(states))
    state = jax.jit(task.reset)(jax.random.key(5))
    alone = task.full_observation(np.asarray(jax.jit(tasks.make("lift", "c").reset)(jax.random.key(5)).obs))
    assert np.array_equal(cameras.unpack(np.asarray(state.obs))[1], cameras.unpack(alone)[1])
    assert task.observation_space.contains(np.asarray(state.obs))


def test_rows_unpack_to_what_was_packed():
    rng = np.random.default_rng(0)
    numbers, frames = rng.normal(size=(3, 9)).astype(np.float32), rng.integers(0, 256, (3, *FRAMES), np.uint8)
    rows = cameras.pack(numbers, frames)
    for parts in (cameras.unpack(rows), unpack(jnp.asarray(rows))):
        assert np.array_equal(parts[0], numbers) and np.array_equal(parts[1], frames)


def test_policy_uses_and_trains_on_every_part_of_a_row():
    rng = np.random.default_rng(0)
    rows = cameras.pack(rng.normal(size=(1, 9)), rng.integers(0, 256, (1, *FRAMES), np.uint8))
    network = BinsPolicy(7, (16,))
    params = network.init(jax.random.key(0), rows)
    stats = Stats(jnp.arange(9.0), jnp.full(9, 2.0))
    encoder = with_stats(params, stats)[STATS]["encoder"]
    assert np.array_equal(encoder["mean"], stats.mean) and np.array_equal(encoder["std"], stats.std)
    kinds = jax.tree_util.tree_leaves_with_path(params)
    assert sum(is_statistic(path) for path, _ in kinds) == 2
    before = network.apply(params, rows).logits
    for byte in (2, 36 + 40 * 84 * 3, 36 + NUM_BYTES // 2 + 40 * 84 * 3):
        other = rows.copy()
        other[:, byte] ^= 0x3F
        assert not np.array_equal(network.apply(params, other).logits, before)

    grads = jax.grad(lambda p: network.apply(p, jnp.asarray(rows)).log_prob(jnp.zeros((1, 7))).sum())(params)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert is_statistic(path) != bool(np.abs(grad).max() > 0), path


def test_callable_policy_gets_rows_that_it_can_unpack(drawing):
    shapes = set()

    def policy(rows: np.ndarray) -> np.ndarray:
        numbers, frames = cameras.unpack(rows)
        shapes.add((rows.dtype, numbers.shape, frames.shape))
        return np.ones((len(rows), 7)) * [0, 0, 1, 0, 0, 0, -1]

    judged = evaluate(policy, "lift-image", 2)
    assert shapes == {(np.dtype(np.uint8), (2, 9), (2, *FRAMES))} and judged.lengths.tolist() == [400, 400]


# --- processes that draw ----------------------------------------------------------------------------------------------


def test_killed_painter_is_replaced(drawing, monkeypatch):
    task = tasks.make("lift-image", "c")
    states = new_states("lift")
    expected = task.frames(states).copy()
    painters = [painter for painter in cameras.studio(task.model).painters if painter.process]
    for painter in painters:
        painter.process.kill()
    task.frames(new_states("lift"))
    assert painters and np.array_equal(task.frames(states), expected)

    # also in the middle of its work; if its replacement is killed too, that is an error, from which it recovers
    many = np.repeat(states, 100, axis=0) + np.linspace(0, 1e-3, 200, dtype=np.float32)[:, None]
    receive, killed = cameras.Painter.receive, []
    with monkeypatch.context() as patch:

        def interrupted(self, size):
            if self not in killed:
                killed.append(self)
                self.process.stdout.read(size // 2)
                self.process.kill()
            return receive(self, size)

        patch.setattr(cameras.Painter, "receive", interrupted)
        drawn = task.frames(many)
    assert set(killed) == set(painters)
    assert np.array_equal(drawn[::50], [task.frames(row[None])[0] for row in many[::50]])
    monkeypatch.setattr(cameras.Painter, "receive", lambda self, size: (self.process.kill(), b"")[1][:size] or fail())
    with pytest.raises(UserError, match=r"no frames with MUJOCO_GL=.*: the process that draws ended with -9"):
        task.frames(new_states("lift"))
    monkeypatch.undo()
    assert np.array_equal(task.frames(states), expected)


def test_hanging_painter_is_replaced(drawing, monkeypatch):
    task = tasks.make("lift-image", "c")
    states = np.repeat(new_states("lift"), 100, axis=0) + np.linspace(0, 1e-3, 200, dtype=np.float32)[:, None]
    expected, stopped = task.frames(states).copy(), []
    for painter in cameras.studio(task.model).painters:
        stopped.append(painter.process)
        painter.process.send_signal(signal.SIGSTOP)

        def stop(painter=painter, stop=painter.stop):
            painter.patience = 300  # its replacement may take long to start
            return stop()

        monkeypatch.setattr(painter, "patience", 0.5, raising=False)
        monkeypatch.setattr(painter, "stop", stop)
    task.frames(states + np.float32(1e-3))
    assert stopped and all(process.poll() == -signal.SIGKILL for process in stopped)
    assert np.array_equal(task.frames(states), expected)


def test_large_request_is_split_so_that_a_slow_painter_does_not_seem_to_hang(drawing, monkeypatch):
    task, states = tasks.make("lift-image", "c"), new_states("lift")
    painter, asked = cameras.studio(task.model).painters[0], []
    expected = painter.draw(joints(states)[[0, 1, 0, 1, 1]])
    monkeypatch.setattr(painter, "max_rows", 2, raising=False)
    monkeypatch.setattr(painter, "_draw", lambda qpos, draw=painter._draw: asked.append(len(qpos)) or draw(qpos))
    assert np.array_equal(painter.draw(joints(states)[[0, 1, 0, 1, 1]]), expected) and asked == [2, 2, 1]


def test_painter_that_hangs_at_its_start_is_reported(monkeypatch):
    """It does not read its model, which is more than a pipe holds. No timer is left that would delay the exit."""
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda words, **how: popen(["sleep", "100"], **how))
    painter = cameras.Painter(tasks.make("lift", "c").model, "egl")
    painter.patience = 0.5
    with pytest.raises(UserError, match="no frames with MUJOCO_GL=egl: the process that draws ended with -9"):
        painter.draw(np.zeros((1, painter.model.nq)))
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer) and not thread.daemon]


def fail():
    raise EOFError


def test_missing_opengl_is_reported_in_one_helpful_line(drawing):
    program = """
import jax, sibench
from sibench.core import cli
cli.run(lambda _: sibench.make("lift-image").reset(jax.random.key(0)), int, "x", 0)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"MUJOCO_GL": "glfw", "DISPLAY": ""}, capture_output=True
    )
    last = ran.stderr.decode().strip().splitlines()[-1]
    assert ran.returncode == 2 and last.startswith("error: no frames with MUJOCO_GL=glfw") and "apt install" in last
    assert "Traceback" not in ran.stderr.decode()


@pytest.mark.parametrize("gl", ["foo", "osmesa", "egl"])
def test_missing_opengl_library_is_reported_without_frames_too(gl, tmp_path):
    hidden = """
        import ctypes, ctypes.util
        def found(name, of=ctypes.util.find_library):
            return None if name in ("OSMesa", "EGL") else of(name)
        def load(self, name, *a, of=ctypes.CDLL.__init__, **k):
            if any(part in str(name) for part in ("OSMesa", "EGL")):
                raise OSError("no such library")
            of(self, name, *a, **k)
        ctypes.util.find_library, ctypes.CDLL.__init__ = found, load
    """
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(hidden))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    run = {"env": os.environ | {"MUJOCO_GL": gl, "PYTHONPATH": path}, "capture_output": True, "text": True, "cwd": REPO}
    learner = [sys.executable, "algorithms/bc.py"]
    for words in (
        [sys.executable, "-m", "sibench.data", "verify"],
        [*learner, "--task", "hopper", "--dataset", "bc-1"],
    ):
        ran = subprocess.run(words, **run)
        (line,) = ran.stderr.strip().splitlines()
        assert ran.returncode == 2 and line.startswith(f"error: MuJoCo cannot be loaded with MUJOCO_GL={gl}: ")
        assert line.endswith("unset it: nothing but tasks with frames needs OpenGL")
    assert subprocess.run([*learner, "--help"], **run).returncode == 0


def test_unchanged_rows_are_drawn_once(drawing):
    """Episodes that are over stand still while others go on."""
    model = tasks.make("lift-image", "c").model
    studio = cameras.studio(model)
    states = np.repeat(new_states("lift"), 2, axis=0)
    asked = []
    for painter in studio.painters:
        painter.draw = lambda qpos, draw=painter.draw: asked.append(len(qpos)) or draw(qpos)
    try:
        first = studio.draw(joints(states))
        states[2, 9] += 0.02
        second = studio.draw(joints(states))
    finally:
        for painter in studio.painters:
            del painter.draw
    assert sum(asked) == 4 + 1
    assert [np.array_equal(a, b) for a, b in zip(first, second, strict=True)] == [True, True, False, True]
