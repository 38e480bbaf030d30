"""Tasks seen through cameras: are the frames of the right moment, do they stay whole, and do learners get them?"""

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MANIPULATION, REPO, command
from learners import FILES, module, small

import sibench
from sibench import cameras, cli, heldout, policies, tasks
from sibench import data as data_module
from sibench.batches import make_data, sample, shifted
from sibench.cameras import FRAMES, NUM_BYTES
from sibench.data import Dataset, interop, pixels, storage
from sibench.data.collect import build, player, recipe, statistics
from sibench.data.verify import verify
from sibench.errors import UserError
from sibench.evaluation import evaluate
from sibench.heldout import held_out
from sibench.ids import Id, parse_id
from sibench.lanes import Program
from sibench.networks import BinsPolicy, Stats, is_statistic, unpack, with_stats
from sibench.policies import Policy
from sibench.rollout import rollout, seeds
from sibench.tasks.manipulation import joints
from sibench.train import Run, stoppable, train


@pytest.fixture(scope="session")
def drawing():
    try:
        cameras.backend()
    except UserError as error:
        pytest.skip(f"no OpenGL here: {error}")


@pytest.fixture(scope="module")
def demonstration(drawing):
    """Whole observations of one episode of each task."""
    found = {}
    for name in MANIPULATION:
        task = tasks.make(name, "c")
        act, params, _ = player(task, "expert")
        played = rollout(task, act, params, seeds("select", f"images/{name}", 1), record=True)
        found[name] = played.obs[0, : played.length[0] + 1]
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory, drawing):
    """A folder of datasets with frames: four of the demonstrator's episodes, three of a clone's."""
    where = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIBENCH_DATA", str(where))
        for source, num in (("expert", 4), ("bc-20", 3)):
            build(Id("lift-image", source, num))
    return where


@pytest.fixture
def here(data, monkeypatch):
    monkeypatch.setenv("SIBENCH_DATA", str(data))
    return data


def fresh(task) -> np.ndarray:
    """Two rows that no studio drew before."""
    return np.asarray(jax.vmap(tasks.make(task, "c").reset)(jax.random.split(jax.random.key(time.time_ns()), 2)).obs)


# --- what is seen -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIPULATION)
def test_the_scene_is_that_of_the_observation(name, demonstration):
    """The poses that are drawn are those that MuJoCo has, to micrometres."""
    task = tasks.make(name, "c")
    reset = jax.jit(task.reset_to)
    for whole in demonstration[name][::10]:
        again = reset(jnp.asarray(joints(whole[None])[0], jnp.float32), jnp.zeros(task.model.nv)).obs
        for places in (np.r_[0:3], np.r_[7:12]):
            np.testing.assert_allclose(again[places], whole[places], atol=1e-6)
        for rotation in (np.r_[3:7], np.r_[12:16]):  # a quaternion and its negative are one
            assert abs(again[rotation] @ whole[rotation]) > 1 - 1e-6


@pytest.mark.parametrize("name", MANIPULATION)
def test_both_cameras_see_what_moves(name, demonstration):
    task, whole = tasks.make(f"{name}-image", "c"), demonstration[name]
    frames = task.frames(whole)
    assert frames.shape == (len(whole), *FRAMES)
    for view in range(2):
        changes = np.abs(np.diff(frames[:, view].astype(int), axis=0)).max(axis=(1, 2, 3))
        assert (changes > 20).mean() > 0.8  # demonstrators pause
    elsewhere = whole[:1] + np.where(np.isin(np.arange(whole.shape[1]), (9, 10)), 0.03, 0.0)  # the object alone
    seen = np.abs(task.frames(elsewhere.astype(np.float32)).astype(int) - frames[:1]).max(axis=(2, 3, 4))
    assert (seen > 50).all()


def test_an_observation_tells_the_object_by_its_frames_only(demonstration):
    task, whole = tasks.make("lift-image", "c"), demonstration["lift"]
    rows = task.seen(whole)
    assert rows.shape == (len(whole), task.observation_size) and rows.dtype == np.uint8
    numbers, frames = cameras.unpack(rows)
    assert np.array_equal(numbers, whole[:, :9]) and np.array_equal(frames, task.frames(whole))
    state = jax.jit(task.reset)(jax.random.key(5))
    alone = task.seen(np.asarray(jax.jit(tasks.make("lift", "c").reset)(jax.random.key(5)).obs))
    assert np.array_equal(cameras.unpack(np.asarray(state.obs))[1], cameras.unpack(alone)[1])
    assert task.observation_space.contains(np.asarray(state.obs))


def test_networks_take_rows_apart_as_they_were_put_together():
    rng = np.random.default_rng(0)
    numbers, frames = rng.normal(size=(3, 9)).astype(np.float32), rng.integers(0, 256, (3, *FRAMES), np.uint8)
    rows = cameras.pack(numbers, frames)
    for parts in (cameras.unpack(rows), unpack(jnp.asarray(rows))):
        assert np.array_equal(parts[0], numbers) and np.array_equal(parts[1], frames)


def test_a_policy_looks_at_every_part_of_a_row():
    """Its statistics are of the numbers, its eyes are trained and decayed, and both frames reach its actions."""
    rng = np.random.default_rng(0)
    rows = cameras.pack(rng.normal(size=(1, 9)), rng.integers(0, 256, (1, *FRAMES), np.uint8))
    network = BinsPolicy(7, (16,))
    params = network.init(jax.random.key(0), rows)
    stats = Stats(jnp.arange(9.0), jnp.full(9, 2.0))
    found = with_stats(params, stats)["params"]["encoder"]
    assert np.array_equal(found["mean"], stats.mean) and np.array_equal(found["std"], stats.std)
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


# --- on disk ----------------------------------------------------------------------------------------------------------


def test_a_dataset_is_its_twin_seen_through_cameras(here):
    seen, whole = sibench.load("lift-image/bc-20-n3"), sibench.load("lift/bc-20-n3")
    for name in ("actions", "rewards", "terminal", "truncated", "offsets", "seeds", "initial_states"):
        assert np.array_equal(getattr(seen, name), getattr(whole, name)), name
    assert np.array_equal(seen.observations, whole.observations[:, :9])
    assert np.array_equal(seen.pixels[:], tasks.make("lift-image", "c").frames(whole.observations))
    assert storage.content_sha256(seen) == seen.card["content_sha256"]
    assert "lift-image-v1" in seen.card["task"] and seen.card["quality"] == whole.card["quality"]
    assert "3 episodes replayed" in verify(parse_id("lift-image/bc-20-n3"), 3)[-1]
    demos = sibench.load("lift-image/expert-n4")
    assert len(demos.pixels) == len(demos.observations) and not hasattr(demos, "actions")


def test_rows_are_found_by_numbers_slices_and_arrays_of_any_shape(here, monkeypatch):
    first, second = (sibench.load_privileged(f"lift-image/{name}") for name in ("bc-20-n3", "expert-n4"))
    every = first.pixels[:]
    index = np.array([[3, 0], [len(every) - 1, 7]])
    assert np.array_equal(first.pixels[index], every[index]) and np.array_equal(first.pixels[5], every[5])
    assert np.array_equal(first.first(2).pixels[:], every[: first.offsets[2] + 2])
    last = first.last(2)
    assert np.array_equal(last.pixels[:], every[first.offsets[1] + 1 :]) and len(last.observations) == len(last.pixels)
    both = pixels.join([first.pixels, second.pixels])
    at = np.array([len(every), 1, len(every) + 9, 0])
    assert np.array_equal(both[at], np.stack([second.pixels[0], every[1], second.pixels[9], every[0]]))
    random, begins = second, second.offsets[:-1] + np.arange(4)  # another dataset would take longer to draw
    monkeypatch.setattr(data_module, "load_privileged", lambda id, build: first if "expert" in id else random)
    for share, num in ((0, 0), (500, 2)):
        mixed = data_module._mix(Id("lift-image", f"mix-{share}", 4), build=False)
        assert len(mixed.pixels) == len(mixed.observations)
        at = mixed.offsets[num] + num
        assert np.array_equal(mixed.pixels[at], random.pixels[begins[0]])
    with pytest.raises(UserError, match="take those of a batch from `pixels`"):
        first.transitions()


def test_damage_is_refused(here, tmp_path, monkeypatch):
    id = parse_id("lift-image/expert-n4")
    whole = storage.read(id)
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path))
    file = storage.write(id, whole) / storage.PIXELS
    good = file.read_bytes()
    for bad in (good[:-1], good[:999] + bytes([good[999] ^ 1]) + good[1000:]):
        file.write_bytes(bad)
        with pytest.raises(UserError, match=r"pixels.zlib: refused: differs from its sha256; delete its folder and"):
            storage.read(id)
    file.unlink()
    with pytest.raises(UserError, match=r"pixels.zlib: refused"):
        storage.read(id)

    # and what is damaged after it was opened, or made by somebody else
    file.write_bytes(good)
    ends = h5py.File(file.parent / storage.DATA)["pixel_ends"][()]
    opened = pixels.open_stored(file, ends)
    file.write_bytes(good[:999] + bytes([good[999] ^ 1]) + good[1000:])
    with pytest.raises(UserError, match=r"the frames of observation \d+ cannot be read"):
        opened[:]
    huge = np.array([2**63 - 1, -(2**63) + 5, -1, len(good)])
    for wrong in (ends[:-1], ends + 1, ends[::-1], ends[:0], huge):
        with pytest.raises(ValueError, match="length"):
            pixels.open_stored(file, wrong)
    with pytest.raises(ValueError, match="longer than its frames"):
        pixels.open_stored(file, ends[-1:])


def test_frames_of_something_else_are_found(here, tmp_path, monkeypatch):
    """Of another moment; and of the same with the object, and nothing else, two centimetres away."""
    id, whole = parse_id("lift-image/expert-n4"), sibench.load_privileged("lift/expert-n4").observations
    good = storage.read(id)
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path))
    moved = whole + np.where(np.arange(whole.shape[1]) == 10, 0.02, 0.0).astype(np.float32)
    task = tasks.make("lift-image", "c")
    for other in (
        pixels.Pixels(good.pixels._read, np.roll(good.pixels._rows, 5)),
        pixels.Pixels(lambda rows: task.frames(moved[rows]), np.arange(len(moved))),
    ):
        storage.write(id, good._replace(pixels=other))
        with pytest.raises(UserError, match="the frames of episode 0 are not what is there to see"):
            verify(id, 2)


def test_a_full_disk_leaves_nothing(here, tmp_path, monkeypatch):
    """RLIMIT_FSIZE stands in for it: a write fails in the middle of the frames."""
    id = parse_id("lift-image/expert-n4")
    whole = storage.read(id)
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[0][1]))
        with pytest.raises(OSError):
            storage.write(id, whole)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[0])
        signal.signal(signal.SIGXFSZ, before[1])
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "lock" not in path.name]


# --- processes that draw ----------------------------------------------------------------------------------------------


def test_a_painter_that_is_killed_is_replaced(drawing, monkeypatch):
    task = tasks.make("lift-image", "c")
    whole = fresh("lift")
    expected = task.frames(whole).copy()
    painters = [painter for painter in cameras.studio(task.model).painters if painter.process]
    for painter in painters:
        painter.process.kill()
    task.frames(fresh("lift"))
    assert painters and np.array_equal(task.frames(whole), expected)

    # and in the middle of its work; if it is killed again, there is an error, and then all is well
    many = np.repeat(whole, 100, axis=0) + np.linspace(0, 1e-3, 200, dtype=np.float32)[:, None]
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
        task.frames(fresh("lift"))
    monkeypatch.undo()
    assert np.array_equal(task.frames(whole), expected)


def test_a_painter_that_hangs_is_replaced(drawing, monkeypatch):
    task = tasks.make("lift-image", "c")
    whole = np.repeat(fresh("lift"), 100, axis=0) + np.linspace(0, 1e-3, 200, dtype=np.float32)[:, None]
    expected, stopped = task.frames(whole).copy(), []
    for painter in cameras.studio(task.model).painters:
        stopped.append(painter.process)
        painter.process.send_signal(signal.SIGSTOP)

        def stop(painter=painter, stop=painter.stop):
            painter.patience = 300  # the one that comes instead may take long to start
            return stop()

        monkeypatch.setattr(painter, "patience", 0.5, raising=False)
        monkeypatch.setattr(painter, "stop", stop)
    task.frames(whole + np.float32(1e-3))
    assert stopped and all(process.poll() == -signal.SIGKILL for process in stopped)
    assert np.array_equal(task.frames(whole), expected)


def test_much_is_asked_of_a_painter_in_pieces(drawing, monkeypatch):
    """So that one which needs long for much is not taken for one that hangs."""
    task, whole = tasks.make("lift-image", "c"), fresh("lift")
    painter, asked = cameras.studio(task.model).painters[0], []
    expected = painter.draw(joints(whole)[[0, 1, 0, 1, 1]])
    monkeypatch.setattr(painter, "most", 2, raising=False)
    monkeypatch.setattr(painter, "_draw", lambda qpos, draw=painter._draw: asked.append(len(qpos)) or draw(qpos))
    assert np.array_equal(painter.draw(joints(whole)[[0, 1, 0, 1, 1]]), expected) and asked == [2, 2, 1]


def test_a_painter_that_hangs_while_it_starts_is_told(monkeypatch):
    """It does not read its model, which is more than a pipe holds; nobody waits for the timer afterwards."""
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda words, **how: popen(["sleep", "100"], **how))
    painter = cameras.Painter(tasks.make("lift", "c").model, "egl")
    painter.patience = 0.5
    with pytest.raises(UserError, match="no frames with MUJOCO_GL=egl: the process that draws ended with -9"):
        painter.draw(np.zeros((1, painter.model.nq)))
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer) and not thread.daemon]


def fail():
    raise EOFError


def test_without_opengl_there_is_one_line_that_helps(here):
    line = (
        "import sibench; from sibench import cli; cli.run(lambda _: sibench.make('lift-image').reset(KEY), int, 'x', 0)"
    )
    program = "import jax; KEY = jax.random.key(0); " + line
    ran = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"MUJOCO_GL": "glfw", "DISPLAY": ""}, capture_output=True
    )
    last = ran.stderr.decode().strip().splitlines()[-1]
    assert ran.returncode == 2 and last.startswith("error: no frames with MUJOCO_GL=glfw") and "apt install" in last
    assert "Traceback" not in ran.stderr.decode()


@pytest.mark.parametrize("gl", ["foo", "osmesa", "egl"])
def test_a_library_that_is_named_and_not_there_is_said(gl, here, tmp_path):
    """On a task without frames too: MuJoCo's import fails."""
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
    for words in ([sys.executable, "-m", "sibench.data", "list"], [*learner, "--task", "hopper", "--dataset", "bc-1"]):
        ran = subprocess.run(words, **run)
        (line,) = ran.stderr.strip().splitlines()
        assert ran.returncode == 2 and line.startswith(f"error: MuJoCo cannot be loaded with MUJOCO_GL={gl}: ")
        assert line.endswith("unset it: nothing but tasks with frames needs OpenGL")
    assert subprocess.run([*learner, "--help"], **run).returncode == 0


def test_rows_that_stay_are_drawn_once(drawing):
    """What is over stands still while others go on; others that change are drawn anew."""
    model = tasks.make("lift-image", "c").model
    studio = cameras.studio(model)
    whole = np.repeat(fresh("lift"), 2, axis=0)
    asked = []
    for painter in studio.painters:
        painter.draw = lambda qpos, draw=painter.draw: asked.append(len(qpos)) or draw(qpos)
    try:
        first = studio.draw(joints(whole))
        whole[2, 9] += 0.02
        second = studio.draw(joints(whole))
    finally:
        for painter in studio.painters:
            del painter.draw
    assert sum(asked) == 4 + 1
    assert [np.array_equal(a, b) for a, b in zip(first, second, strict=True)] == [True, True, False, True]


# --- learners ---------------------------------------------------------------------------------------------------------


def movement(frame: np.ndarray, of: np.ndarray) -> tuple[int, int]:
    """By how many pixels a frame is another one moved, with its edges repeated."""
    padded = np.pad(of, ((4, 4), (4, 4), (0, 0)), "edge")
    return next((y, x) for y in range(9) for x in range(9) if np.array_equal(frame, padded[y : y + 84, x : x + 84]))


@pytest.mark.parametrize("room", [0, pixels.KEPT])
def test_a_batch_has_the_frames_of_its_steps(room, here, monkeypatch):
    """Of both datasets of two lanes, inside a compiled function; kept in memory or not.

    Each is a little moved, the start of a step and its end alike: a difference of their values is not of the movement.
    """
    monkeypatch.setattr(pixels, "KEPT", room)
    names = ("bc-20-n3", "expert-n4")
    datasets = [sibench.load_privileged(f"lift-image/{name}") for name in names]
    data = make_data(datasets, datasets[1], [1, 0])
    for lane, dataset in enumerate(reversed(datasets)):
        source = data.background._replace(
            stretch=jax.tree.map(lambda column, lane=lane: column[lane], data.background.stretch)
        )
        batch = jax.jit(lambda source: sample(source, 16, jax.random.key(3)))(source)
        numbers, frames = cameras.unpack(np.asarray(batch.obs))
        index = np.array([np.flatnonzero((dataset.observations == row).all(1))[0] for row in numbers])
        step = index - np.searchsorted(dataset.offsets + np.arange(len(dataset.offsets)), index, side="right") + 1
        assert np.array_equal(batch.action, dataset.actions[step]) and len(set(step)) > 10
        moves = []
        for rows, at in ((batch.obs, index), (batch.next_obs, index + 1)):
            numbers, frames = cameras.unpack(np.asarray(rows))
            assert np.array_equal(numbers, dataset.observations[at])
            both = zip(frames.reshape(-1, *FRAMES[1:]), dataset.pixels[at].reshape(-1, *FRAMES[1:]), strict=True)
            moves.append([movement(*pair) for pair in both])
        assert len(set(moves[0])) > 10 and moves[0] == moves[1]


def test_frames_are_moved_everywhere_and_anew():
    """By every number of pixels up to four, each frame by itself; the numbers beside them are not touched."""
    rng = np.random.default_rng(0)
    row = cameras.pack(rng.normal(size=9).astype(np.float32), rng.integers(0, 256, FRAMES, np.uint8))
    numbers, frames = cameras.unpack(row)
    moves = []
    for key in jax.random.split(jax.random.key(1)):
        found = [cameras.unpack(np.asarray(one)) for one in shifted(jnp.tile(row, (40, 1)), key)]
        assert all(np.array_equal(beside, numbers) for beside, _ in found)
        moves.append([[movement(*pair) for pair in zip(seen, frames, strict=True)] for _, seen in found])
    moves = np.array(moves)  # [key, row, camera, axis]
    assert set(moves[..., 0].ravel()) == set(moves[..., 1].ravel()) == set(range(9))
    for other in (moves[:, :, ::-1], moves[::-1], moves[..., ::-1]):  # camera, key, axis
        assert (moves == other).mean() < 0.3


@pytest.mark.parametrize("name", [file.stem for file in FILES if file.stem not in ("bc", "nce")])
def test_every_learner_but_nce_takes_frames(name, here, tmp_path):
    config = small(name, task="lift-image", dataset=("bc-20-n3",), expert="expert-n4", demos=2, seeds=1, out=tmp_path)
    run = Run(config, module(name).make)
    states = run.program.init()
    before = jax.tree.map(np.array, jax.tree.leaves(run.program.policy(states, 0).params))
    for phase, num in (("pretrain", run.algorithm.num_pretrain), ("update", 2)):
        if num:
            states, metrics, diverged = run.program.chunk(phase, states, 0, num)
            assert all(np.isfinite(values).all() for values in metrics.values()) and diverged.min() > num
    after = jax.tree.leaves(run.program.policy(states, 0).params)
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_learner_from_frames_to_a_result(here, tmp_path, monkeypatch):
    """Trained by the same loop as any, judged through cameras; its policy is stored, and is the same when loaded."""
    monkeypatch.setattr(heldout, "NUM", 1)
    config = small("bc", task="lift-image", dataset=("bc-20-n3",), expert="expert-n4", demos=2, seeds=1, steps=6)
    config = dataclasses.replace(config, evals=1, eval_episodes=2, final_episodes=2, checkpoint_every=3, out=tmp_path)
    (file,) = train(config, module("bc").make)
    result = json.loads(file.read_text())
    (lane,) = result["lanes"]
    assert result["dataset"]["id"] == "lift-image/bc-20-n3-v1" and lane["status"] == "finished"
    assert 0 < result["dataset"]["teacher_nll"] < lane["nll"]
    again = evaluate(policies.load(file.parent / "bc-20-n3-seed-0/policy"), "lift-image", 2)
    assert again.returns.tolist() == lane["returns"] and again.lengths.tolist() == lane["lengths"]
    assert np.round(again.progress, 3).tolist() == lane["progress"]


def test_a_callable_gets_rows_that_it_can_take_apart(drawing):
    shapes = set()

    def policy(rows: np.ndarray) -> np.ndarray:
        numbers, frames = cameras.unpack(rows)
        shapes.add((rows.dtype, numbers.shape, frames.shape))
        return np.ones((len(rows), 7)) * [0, 0, 1, 0, 0, 0, -1]

    judged = evaluate(policy, "lift-image", 2)
    assert shapes == {(np.dtype(np.uint8), (2, 9), (2, *FRAMES))} and judged.lengths.tolist() == [400, 400]


@pytest.mark.slow
def test_the_teacher_is_asked_about_what_it_saw(here, monkeypatch):
    """And the learner about the frames of the same moments."""
    monkeypatch.setattr(heldout, "NUM", 2)
    judged = [held_out(tasks.make(task, "c"), sibench.load(f"{task}/bc-20-n3").card) for task in ("lift", "lift-image")]
    assert np.isfinite(judged[1].teacher_nll) and judged[1].obs.dtype == np.uint8
    assert len(judged[1].obs) == len(judged[1].action)
    policy = Policy(
        network := BinsPolicy(7, (8,)), network.init(jax.random.key(0), judged[1].obs[:1]), judged[1].obs.shape[1]
    )
    at_once = -network.apply(policy.params, judged[1].obs).log_prob(judged[1].action).mean()
    assert judged[1].nll(policy) == pytest.approx(float(at_once), rel=1e-4)


@pytest.mark.slow
def test_memory_is_not_that_of_the_data(here, tmp_path, monkeypatch):
    """VfO of the paper's size and all it starts, from 60 000 observations, 2.4 GiB of frames, take less than those."""
    some = sibench.load_privileged("lift-image/expert-n4")
    copies = 60_000 // len(some.pixels)
    columns = {name: np.concatenate([getattr(some, name)] * copies) for name in storage.COLUMNS if name != "offsets"}
    steps = np.concatenate([some.lengths] * copies)
    many = pixels.Pixels(some.pixels._read, np.concatenate([some.pixels._rows] * copies))
    assert len(many) * cameras.NUM_BYTES > pixels.KEPT
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path))
    name = f"bc-20-n{len(steps)}"  # its teacher is asked too
    id = parse_id(f"lift-image/{name}")
    card = {"task": "lift-image-v1", "engine": "c", "id": f"lift-image/{name}-v1"} | recipe(id)
    dataset = Dataset(**columns, offsets=np.concatenate([[0], np.cumsum(steps)]), card=card, pixels=many)
    storage.write(id, dataset._replace(card=card | statistics(dataset, "lift-image")))
    words = f"--task lift-image --dataset {name} --expert {name} --demos 4 --seeds 1 --steps 5 --evals 1"
    program = f"""
import gc, os, re, runpy, sys
from sibench.cameras import Painter
sys.argv = ["vfo", *"{words} --eval-episodes 1 --final-episodes 1 --out {tmp_path}/runs".split()]
runpy.run_path("algorithms/vfo.py", run_name="__main__")
painters = [it.process.pid for it in gc.get_objects() if isinstance(it, Painter) and it.process]
statuses = [open(f"/proc/{{pid}}/status").read() for pid in (os.getpid(), *painters)]
peaks = [int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) >> 10 for status in statuses]
print(*peaks, "MiB, in all", sum(peaks))
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True)
    print(ran.stdout)
    assert ran.returncode == 0 and int(ran.stdout.split()[-1]) < 2000, ran


@pytest.mark.slow
def test_frames_that_rot_under_a_learner_end_it_with_a_line(here, tmp_path, monkeypatch):
    """The file is cut between its being checked and its being read."""
    monkeypatch.setattr(pixels, "KEPT", 0)
    opened, ends = pixels.open_stored, []
    monkeypatch.setattr(storage, "content_sha256", lambda dataset: "not read before")
    monkeypatch.setattr(pixels, "open_stored", lambda file, e: (ends.append(file), opened(file, e))[1])
    config = small("bc", task="lift-image", dataset=("bc-20-n3",), expert="expert-n4", demos=2, seeds=1, steps=3)
    config = dataclasses.replace(config, evals=1, eval_episodes=2, final_episodes=2, out=tmp_path)
    whole = {}

    def main(_):
        run = Run(config, module("bc").make)
        for file in ends:
            whole[file] = file.read_bytes()
            file.write_bytes(b"")
        with stoppable() as stop:
            run.begin()
            run.learn(stop)

    said = []
    monkeypatch.setattr(cli, "print", lambda *args, **_: said.append(args[0]), raising=False)
    monkeypatch.setattr(sys, "argv", ["x"])
    try:
        with pytest.raises(SystemExit) as ended:
            cli.run(main, int, "x", 0)
    finally:
        for file, content in whole.items():
            file.write_bytes(content)
    assert ended.value.code == 2 and "the frames of observation" in said[-1]


@pytest.mark.slow
def test_a_training_is_not_lost_with_its_evaluation(here, tmp_path, monkeypatch):
    """It fails, for want of somebody to draw; the same command goes on with the evaluation, to the same result."""
    monkeypatch.setattr(heldout, "NUM", 1)
    config = small("bc", task="lift-image", dataset=("bc-20-n3",), expert="expert-n4", demos=2, seeds=1, steps=4)
    config = dataclasses.replace(config, evals=1, eval_episodes=2, final_episodes=2, out=tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(Run, "evaluate", lambda self, done: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(config, module("bc").make)
    updates = []
    chunk = Program.chunk
    monkeypatch.setattr(Program, "chunk", lambda *args: updates.append(args) or chunk(*args))
    (file,) = train(config, module("bc").make)
    (lane,) = json.loads(file.read_text())["lanes"]
    assert not updates and [row["updates"] for row in lane["evaluations"]] == [4] and len(lane["returns"]) == 2


@pytest.mark.parametrize("program", ["algorithms.nce --dataset bc-5", "data_gen.experts", "data_gen.ladder"])
def test_what_cannot_take_frames_says_so(program, tmp_path):
    ran = command(*program.split(), "--task", "lift-image", "--out", str(tmp_path))
    assert ran.returncode == 2 and "the task without frames is lift" in ran.stderr, ran.stderr


# --- robomimic's files ------------------------------------------------------------------------------------------------


def robomimic(path, *, next_obs: bool = True, side: int = 84, views=interop.ROBOMIMIC_VIEWS) -> dict:
    """Two demonstrations, the second of which fails; what they hold."""
    rng, made = np.random.default_rng(0), {}
    with h5py.File(path, "w") as file:
        for name, length, success in (("demo_0", 5, 4), ("demo_1", 3, None)):
            demo = file.create_group(f"data/{name}")
            reward = np.zeros(length)
            if success is not None:
                reward[success - 1 :] = 1
            demo["rewards"], demo["actions"] = reward, rng.uniform(-1, 1, (length, 7))
            for part in ("obs", "next_obs")[: 2 if next_obs else 1]:
                for column, width in zip(interop.LOW_DIM[:-1], (3, 4, 2), strict=True):
                    demo[f"{part}/{column}"] = made[name, part, column] = rng.normal(size=(length, width))
                for view in views:
                    frames = made[name, part, view] = rng.integers(0, 256, (length, side, side, 3), np.uint8)
                    demo.create_dataset(
                        f"{part}/{view}", data=frames, chunks=(1, *frames.shape[1:]), compression="gzip"
                    )
    return made


def test_robomimic_frames_are_imported(tmp_path, monkeypatch):
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path / "data"))
    made = robomimic(tmp_path / "image.hdf5")
    command("sibench.data", "import-robomimic", str(tmp_path / "image.hdf5"), "lift-image/robomimic-ph", check=True)
    read = sibench.load("lift-image/robomimic-ph")
    assert read.lengths.tolist() == [4, 3] and read.terminal.sum() == 1
    for at, (demo, part, row) in {
        0: ("demo_0", "obs", 0),
        3: ("demo_0", "obs", 3),
        4: ("demo_0", "next_obs", 3),
        5: ("demo_1", "obs", 0),
        8: ("demo_1", "next_obs", 2),
    }.items():
        assert np.array_equal(
            read.pixels[at], np.stack([made[demo, part, view][row] for view in interop.ROBOMIMIC_VIEWS])
        )
        numbers = np.concatenate([made[demo, part, name][row] for name in interop.LOW_DIM[:-1]])
        np.testing.assert_allclose(read.observations[at], numbers, rtol=1e-6)
    assert verify(parse_id("lift-image/robomimic-ph"))
    with pytest.raises(UserError, match="has frames, which are not exported"):
        interop.to_minari(read, "sibench/lift")


def test_a_damaged_robomimic_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path / "data"))
    robomimic(file := tmp_path / "image.hdf5")
    with h5py.File(file) as opened:
        place = opened[f"data/demo_1/obs/{interop.ROBOMIMIC_VIEWS[1]}"].id.get_chunk_info(1)
    content = bytearray(file.read_bytes())
    content[place.byte_offset : place.byte_offset + 100] = b"\0" * 100
    file.write_bytes(content)
    ran = command("sibench.data", "import-robomimic", str(file), "lift-image/robomimic-ph")
    assert ran.returncode == 2 and f"{file}: the frames of demo_1 cannot be read" in ran.stderr
    assert [path.suffix for path in (tmp_path / "data").rglob("*.*")] == [".lock"]


def test_data_without_frames_is_no_data_of_a_task_with_frames(tmp_path):
    columns = {"observations": np.zeros((4, 9)), "actions": np.zeros((4, 7)), "rewards": np.zeros(4)}
    with h5py.File(tmp_path / "d4rl.hdf5", "w") as file:
        for name, column in (columns | {"terminals": np.arange(4) == 3}).items():
            file[name] = column
    with pytest.raises(UserError, match="lift-image has frames, and the data has none"):
        interop.from_d4rl(tmp_path / "d4rl.hdf5", "lift-image")


def test_robomimic_files_without_the_frames_are_refused(tmp_path):
    for options, message in (
        ({"side": 64}, r"expected uint8 and \(84, 84, 3\)"),
        ({"views": interop.ROBOMIMIC_VIEWS[:1]}, "has not 5 frames called robot0_eye_in_hand_image"),
    ):
        robomimic(tmp_path / "image.hdf5", **options)
        with pytest.raises(UserError, match=message):
            interop.from_robomimic(tmp_path / "image.hdf5", "lift-image")
    robomimic(tmp_path / "image.hdf5", next_obs=False)
    cut = interop.from_robomimic(tmp_path / "image.hdf5", "lift-image")
    assert cut.lengths.tolist() == [4, 2] and len(cut.pixels) == 8 == len(cut.observations)
