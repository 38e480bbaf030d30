"""Learners on tasks with frames: batches hold the frames of their steps, and runs end with a result or one line."""

import dataclasses
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import REPO, command
from learners import FILES, small

import sibench
from sibench import policies, tasks
from sibench.core import cli, system
from sibench.core.ids import parse_id
from sibench.data import Dataset, frames, storage
from sibench.data.collect import recipe, statistics
from sibench.learning import convergence, methods, results
from sibench.learning.convergence import held_out
from sibench.learning.lanes import Program
from sibench.learning.run import Run
from sibench.learning.sampling import make_data, sample, shifted
from sibench.learning.train import Trainer, train
from sibench.policies import Policy
from sibench.policies.evaluation import evaluate
from sibench.policies.networks import BinsPolicy
from sibench.tasks import cameras
from sibench.tasks.cameras import FRAMES

TAKE_PIXELS = [file.stem for file in FILES if file.stem != "bc" and methods.load(file.stem).takes_pixels]


def movement(frame: np.ndarray, original: np.ndarray) -> tuple[int, int]:
    """Return by how many pixels a frame is moved, with its edges repeated."""
    padded = np.pad(original, ((4, 4), (4, 4), (0, 0)), "edge")
    return next((y, x) for y in range(9) for x in range(9) if np.array_equal(frame, padded[y : y + 84, x : x + 84]))


@pytest.mark.parametrize("room", [0, frames.CACHE_BYTES])
def test_batch_has_the_frames_of_its_steps(room, frames_root, monkeypatch):
    """Two lanes draw from two datasets inside a compiled function, with and without a cache.

    Each frame is moved a little, the start of a step and its end alike, so that the movement makes no difference of
    their values.
    """
    monkeypatch.setattr(frames, "CACHE_BYTES", room)
    names = ("bc-20-n3", "expert-n4")
    datasets = [sibench.load_privileged(f"lift-image/{name}") for name in names]
    data = make_data(datasets, datasets[1], [1, 0])
    for lane, dataset in enumerate(reversed(datasets)):
        source = data.background._replace(
            stretch=jax.tree.map(lambda column, lane=lane: column[lane], data.background.stretch)
        )
        batch = jax.jit(lambda source: sample(source, 16, jax.random.key(3)))(source)
        numbers, _ = cameras.unpack(np.asarray(batch.obs))
        index = np.array([np.flatnonzero((dataset.observations == row).all(1))[0] for row in numbers])
        step = index - np.searchsorted(dataset.offsets + np.arange(len(dataset.offsets)), index, side="right") + 1
        assert np.array_equal(batch.action, dataset.actions[step]) and len(set(step)) > 10
        moves = []
        for rows, at in ((batch.obs, index), (batch.next_obs, index + 1)):
            numbers, drawn = cameras.unpack(np.asarray(rows))
            assert np.array_equal(numbers, dataset.observations[at])
            pairs = zip(drawn.reshape(-1, *FRAMES[1:]), dataset.pixels[at].reshape(-1, *FRAMES[1:]), strict=True)
            moves.append([movement(*pair) for pair in pairs])
        assert len(set(moves[0])) > 10 and moves[0] == moves[1]


def test_each_frame_is_moved_by_itself_and_by_any_distance():
    rng = np.random.default_rng(0)
    row = cameras.pack(rng.normal(size=9).astype(np.float32), rng.integers(0, 256, FRAMES, np.uint8))
    numbers, original = cameras.unpack(row)
    moves = []
    for key in jax.random.split(jax.random.key(1)):
        rows = [cameras.unpack(np.asarray(moved)) for moved in shifted(jnp.tile(row, (40, 1)), key)]
        assert all(np.array_equal(beside, numbers) for beside, _ in rows)
        moves.append([[movement(*pair) for pair in zip(seen, original, strict=True)] for _, seen in rows])
    moves = np.array(moves)  # [key, row, camera, axis]
    assert set(moves[..., 0].ravel()) == set(moves[..., 1].ravel()) == set(range(9))
    for other in (moves[:, :, ::-1], moves[::-1], moves[..., ::-1]):  # camera, key, axis
        assert (moves == other).mean() < 0.3


@pytest.mark.parametrize("name", TAKE_PIXELS)
def test_learner_takes_frames(name, frames_root, tmp_path):
    config = small(name, task="lift-image", dataset=("bc-20-n3",), expert="expert-n4", demos=2, seeds=1, out=tmp_path)
    run = Run(config, methods.load(name))
    states = run.program.init()
    before = jax.tree.map(np.array, jax.tree.leaves(run.program.policy(states, 0).params))
    for phase, num in (("pretrain", run.algorithm.num_pretrain), ("update", 2)):
        if num:
            states, metrics, diverged = run.program.chunk(phase, states, 0, num)
            assert all(np.isfinite(values).all() for values in metrics.values()) and diverged.min() > num
    after = jax.tree.leaves(run.program.policy(states, 0).params)
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_stored_policy_of_a_run_on_frames_reproduces_its_result(frames_root, tmp_path, monkeypatch):
    monkeypatch.setattr(convergence, "NUM", 1)
    config = small("bc", task="lift-image", dataset=("bc-20-n3",), expert="expert-n4", demos=2, seeds=1, steps=6)
    config = dataclasses.replace(config, evals=1, eval_episodes=2, final_episodes=2, checkpoint_every=3, out=tmp_path)
    (file,) = train(config, methods.load("bc"))
    result = results.read(file)
    (seed,) = result.seeds
    assert result.background.id == "lift-image/bc-20-n3-v1" and seed.status == "finished"
    assert 0 < result.background.teacher_nll < seed.nll
    again = evaluate(policies.load(file.parent / "bc-20-n3-seed-0/policy"), "lift-image", 2)
    assert tuple(again.returns) == seed.returns and tuple(again.lengths) == seed.lengths
    assert tuple(np.round(again.progress, 3)) == seed.progress


@pytest.mark.slow
def test_convergence_judges_teacher_by_states_and_learner_by_frames(frames_root, monkeypatch):
    monkeypatch.setattr(convergence, "NUM", 2)
    judged = [held_out(tasks.make(task, "c"), sibench.load(f"{task}/bc-20-n3").card) for task in ("lift", "lift-image")]
    assert np.isfinite(judged[1].teacher_nll) and judged[1].obs.dtype == np.uint8
    assert len(judged[1].obs) == len(judged[1].action)
    policy = Policy(
        network := BinsPolicy(7, (8,)), network.init(jax.random.key(0), judged[1].obs[:1]), judged[1].obs.shape[1]
    )
    at_once = -network.apply(policy.params, judged[1].obs).log_prob(judged[1].action).mean()
    assert judged[1].nll(policy) == pytest.approx(float(at_once), rel=1e-4)


@pytest.mark.slow
def test_learner_needs_less_memory_than_its_data(frames_root, tmp_path, monkeypatch):
    """VfO of the paper's size and the processes it starts take less than the 2.4 GiB of 60 000 observations."""
    original = sibench.load_privileged("lift-image/expert-n4")
    copies = 60_000 // len(original.pixels)
    columns = {
        name: np.concatenate([getattr(original, name)] * copies) for name in storage.COLUMNS if name != "offsets"
    }
    steps = np.concatenate([original.lengths] * copies)
    many = frames.Pixels(original.pixels._read, np.concatenate([original.pixels._rows] * copies))
    assert len(many) * cameras.NUM_BYTES > frames.CACHE_BYTES
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path))
    name = f"bc-20-n{len(steps)}"  # a source whose policy is known, so that convergence is judged
    id = parse_id(f"lift-image/{name}")
    card = {"task": "lift-image-v1", "engine": "c", "id": f"lift-image/{name}-v1"} | recipe(id)
    dataset = Dataset(**columns, offsets=np.concatenate([[0], np.cumsum(steps)]), card=card, pixels=many)
    storage.write(id, dataset._replace(card=card | statistics(dataset, "lift-image")))
    words = f"--task lift-image --dataset {name} --expert {name} --demos 4 --seeds 1 --steps 5 --evals 1"
    program = f"""
import gc, os, re, runpy, sys
from sibench.tasks.cameras import Painter
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
def test_frames_damaged_during_a_run_end_it_with_one_line(frames_root, tmp_path, monkeypatch):
    """The file is cut after it was checked and before it is read."""
    monkeypatch.setattr(frames, "CACHE_BYTES", 0)
    open_stored, opened = frames.open_stored, []
    monkeypatch.setattr(storage, "content_sha256", lambda dataset: "not read before")
    monkeypatch.setattr(frames, "open_stored", lambda file, ends: (opened.append(file), open_stored(file, ends))[1])
    config = small("bc", task="lift-image", dataset=("bc-20-n3",), expert="expert-n4", demos=2, seeds=1, steps=3)
    config = dataclasses.replace(config, evals=1, eval_episodes=2, final_episodes=2, out=tmp_path)
    contents = {}

    def main(_):
        run = Run(config, methods.load("bc"))
        for file in opened:
            contents[file] = file.read_bytes()
            file.write_bytes(b"")
        with system.stop_on_signals() as stop:
            run.begin()
            Trainer(run).learn(stop)

    messages = []
    monkeypatch.setattr(cli, "print", lambda *args, **_: messages.append(args[0]), raising=False)
    monkeypatch.setattr(sys, "argv", ["x"])
    try:
        with pytest.raises(SystemExit) as ended:
            cli.run(main, int, "x", 0)
    finally:
        for file, content in contents.items():
            file.write_bytes(content)
    assert ended.value.code == 2 and "the frames of observation" in messages[-1]


@pytest.mark.slow
def test_training_is_kept_when_its_evaluation_fails(frames_root, tmp_path, monkeypatch):
    """The same command resumes with the evaluation, without further updates."""
    monkeypatch.setattr(convergence, "NUM", 1)
    config = small("bc", task="lift-image", dataset=("bc-20-n3",), expert="expert-n4", demos=2, seeds=1, steps=4)
    config = dataclasses.replace(config, evals=1, eval_episodes=2, final_episodes=2, out=tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(Trainer, "play", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(config, methods.load("bc"))
    updates = []
    chunk = Program.chunk
    monkeypatch.setattr(Program, "chunk", lambda *args: updates.append(args) or chunk(*args))
    (file,) = train(config, methods.load("bc"))
    (seed,) = results.read(file).seeds
    assert not updates and [row.updates for row in seed.evaluations] == [4] and len(seed.returns) == 2


@pytest.mark.parametrize("program", ["algorithms.nce --dataset bc-5", "data_gen.experts", "data_gen.ladder"])
def test_command_that_cannot_take_frames_names_the_state_twin(program, tmp_path):
    ran = command(*program.split(), "--task", "lift-image", "--out", str(tmp_path))
    assert ran.returncode == 2 and re.search(r"task=lift-image; .*(the task without frames is|use) lift", ran.stderr), (
        ran.stderr
    )
