"""Killed, full, read-only, raced: afterwards the old file or the whole new one, and the same numbers as undisturbed."""

import dataclasses
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import REPO, command

from sibench import checkpoint, cli, files, provenance
from sibench.data import storage
from sibench.data.collect import build
from sibench.errors import UserError
from sibench.ids import parse_id

ID = parse_id("hopper/random-n20")


def start(*args: str, **kwargs) -> subprocess.Popen:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", *args], cwd=REPO, **quiet | kwargs)


def leftovers(folder):
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


# --- killed -----------------------------------------------------------------------------------------------------------


def test_a_writer_killed_at_20_moments_leaves_old_or_new(data_root):
    """A process stores two versions of a dataset in turn, and dies somewhere in it."""
    build(ID, "c")
    code = """
        import numpy as np
        from sibench.data import storage
        from sibench.ids import Id
        id = Id("hopper", "random", 20)
        one = storage.read(id)
        other = one._replace(rewards=one.rewards + 1, card=one.card | {"other": True})
        print("ready", flush=True)
        while True:
            storage.write(id, other)
            storage.write(id, one)
    """
    rng, seen = random.Random(0), set()
    for _ in range(20):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], cwd=REPO, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.15))
        writer.kill()
        writer.wait()
        dataset = storage.read(ID)
        assert storage.content_sha256(dataset) == dataset.card["content_sha256"]
        seen.add("other" in dataset.card)
        if "other" in dataset.card:
            storage.write(
                ID,
                dataset._replace(
                    rewards=dataset.rewards - 1, card={k: v for k, v in dataset.card.items() if k != "other"}
                ),
            )
    assert seen == {True, False}


def kill_after(args, seconds: float) -> bool:
    """Start a command and SIGKILL it; False if it was done before."""
    process = start(*args)
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def kill_after_progress(args, progress, seconds: float) -> bool:
    """Start a command and SIGKILL it some time after it has got further than `progress()` says it is now."""
    before, process = progress(), start(*args)
    while process.poll() is None and progress() == before:
        time.sleep(0.002)
    time.sleep(seconds)
    landed = process.poll() is None
    process.kill()
    process.wait()
    return landed


def check_killed_collection(data_root, monkeypatch, tmp_path, num: int):
    args = ("data_gen.collect", "--task", "hopper", "--dataset", "random", "--episodes", "400", "--engine", "c")
    id = parse_id("hopper/random-n400")
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path / "undisturbed"))
    began = time.monotonic()
    assert command(*args).returncode == 0
    duration = time.monotonic() - began
    expected = storage.read(id).card["content_sha256"]
    monkeypatch.setenv("SIBENCH_DATA", str(data_root))
    rng, killed = random.Random(1), 0
    while killed < num:
        killed += kill_after(args, rng.uniform(0.3, 1.0) * duration)
        if storage.folder(id).exists():
            assert storage.read(id).card["content_sha256"] == expected
            shutil.rmtree(storage.folder(id))
    assert command(*args).returncode == 0
    assert storage.read(id).card["content_sha256"] == expected
    assert not leftovers(data_root)


@pytest.mark.slow
def test_killed_collection(data_root, monkeypatch, tmp_path):
    check_killed_collection(data_root, monkeypatch, tmp_path, 1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_collection_killed_at_20_moments(data_root, monkeypatch, tmp_path):
    check_killed_collection(data_root, monkeypatch, tmp_path, 20)


def check_killed_training(tmp_path, args, num: int, outputs: list[str]):
    """The same files, bit for bit, from a run killed `num` times at any moment and as often after a checkpoint."""
    assert command(*args, "--out", str(tmp_path / "undisturbed")).returncode == 0
    killed_args = (*args, "--out", str(tmp_path / "killed"))

    def checkpoints():
        folders = os.walk(tmp_path / "killed")  # which does not mind that some vanish while it walks
        return {path for path, _, names in folders if "MANIFEST.json" in names and not Path(path).name.startswith(".")}

    rng = random.Random(2)
    for _ in range(num):
        kill_after(killed_args, rng.uniform(0, 10))  # while it starts, compiles or learns
        assert kill_after_progress(killed_args, checkpoints, rng.uniform(0, 0.05))
    last = command(*killed_args)
    assert last.returncode == 0, last.stderr
    assert "resumed at update" in last.stdout
    for name in outputs:
        ours, undisturbed = ((tmp_path / out / "hopper" / name).read_bytes() for out in ("killed", "undisturbed"))
        assert ours == undisturbed, name


EXPERT = "data_gen.experts --task hopper --engine c --eval-every 8 --checkpoint-every 8 --num-envs 8 --width 16 "
EXPERT += "--batch-size 8 --warmup-steps 160 --replay-size 4096 --eval-episodes 2 --reference-episodes 4 --num-updates"
LADDER = "data_gen.ladder --task hopper --engine c --levels 1 5 --checkpoint-every 20 --width 16 --batch-size 16 "
LADDER += "--eval-episodes 2"
"""Against the datasets of this machine: it needs the expert's 1000 episodes."""


@pytest.mark.slow
def test_killed_expert_goes_on_bit_for_bit(tmp_path):
    check_killed_training(tmp_path, [*EXPERT.split(), "80"], 1, ["expert.safetensors", "curve.json"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_expert_killed_at_20_moments(tmp_path):
    check_killed_training(tmp_path, [*EXPERT.split(), "1600"], 10, ["expert.safetensors", "curve.json"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ladder_killed_at_20_moments(tmp_path):
    outputs = ["bc-1.safetensors", "bc-5.safetensors"]
    check_killed_training(tmp_path, [*LADDER.split(), "--num-updates", "8000"], 10, outputs)


def test_a_run_with_other_settings_is_refused(tmp_path):
    """A folder's checkpoints belong to the settings they were made with."""
    provenance.start_run(tmp_path, {"seed": 0, "gains": (1.0, 2.0)})
    assert provenance.start_run(tmp_path, {"seed": 0, "gains": (1.0, 2.0)})["settings"]["seed"] == 0
    with pytest.raises(UserError, match=r"holds a run with seed=0 \(here 1\)"):
        provenance.start_run(tmp_path, {"seed": 1, "gains": (1.0, 2.0)})


def test_a_run_of_other_programs_is_refused_and_one_of_another_commit_goes_on(tmp_path, monkeypatch):
    begun = provenance.start_run(tmp_path, {"seed": 0})
    monkeypatch.setattr(provenance, "code_version", lambda: "of the day after")
    assert provenance.start_run(tmp_path, {"seed": 0}) == begun
    monkeypatch.setattr(provenance, "programs_sha256", lambda: "other")
    with pytest.raises(UserError, match=r"begun at .* with programs_sha256 [0-9a-f]{64}, and this is of the day after"):
        provenance.start_run(tmp_path, {"seed": 0})


def test_a_learner_does_not_start_with_other_programs_than_its_suite_was_planned_with(tmp_path, monkeypatch):
    """Its result would be published as made by those; nor with other packages."""
    monkeypatch.setenv("SIBENCH_SUITE_MADE_BY", provenance.made_by())
    provenance.start_run(tmp_path / "one", {"seed": 0})
    for what, other in (("programs_sha256", "other"), ("packages", {"jax": "0.0.1"})):
        with monkeypatch.context() as context, pytest.raises(UserError, match="not those that the suite was started"):
            context.setattr(provenance, what, lambda other=other: other)
            provenance.start_run(tmp_path / "two", {"seed": 0})
        assert not (tmp_path / "two").exists()


def test_programs_are_those_of_data_and_results(tmp_path, monkeypatch):
    """With the scenes, and without plots."""
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "sibench/provenance.py"))
    seen = [provenance.programs_sha256.__wrapped__()]
    for name in ("sibench/a.py", "sibench/scenes/a.xml", "algorithms/a.py", "data_gen/a.py", "plots/a.py", "a.py"):
        files.write_atomic(tmp_path / name, b"1")
        seen.append(provenance.programs_sha256.__wrapped__())
    assert len(set(seen)) == 5 and seen[4] == seen[-1]


def test_a_learner_that_nobody_reads_keeps_what_it_has(tmp_path, data_root):
    """Ctrl-C on `learner 2>&1 | tee log` ends `tee` first."""
    build(ID, "c")
    settings = "--seeds 1 --hidden 8 8 --batch-size 8 --evals 1 --steps 1000000 --checkpoint-every 1000000"
    code = ["algorithms/bc.py", "--task", "hopper", "--dataset", ID.source + "-n20", *settings.split()]
    reader, writer = os.pipe()
    learner = subprocess.Popen(
        [sys.executable, *code, "--log-every", "50", "--expert", ID.source + "-n20", "--out", str(tmp_path)],
        cwd=REPO,
        stdout=writer,
        stderr=writer,
    )
    os.close(writer)
    said = b""
    while not re.search(b"first update.*\n", said):
        said += (more := os.read(reader, 1000))
        assert more, said.decode()
    os.close(reader)
    learner.send_signal(signal.SIGINT)
    assert learner.wait(100) == 130
    assert len(list(tmp_path.rglob("checkpoints/*/MANIFEST.json"))) == 1


# --- damaged checkpoints ----------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_passed_over(tmp_path, caplog):
    state = {"weights": np.arange(1000.0, dtype=np.float32), "step": np.array(3)}
    checkpoint.save(tmp_path, 1, state, {"seconds": 3})
    checkpoint.save(tmp_path, 2, {"weights": state["weights"] + 1, "step": np.array(4)})
    assert checkpoint.restore(tmp_path, state)[0] == 2
    largest = max((p for p in (tmp_path / "2").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    step, restored, notes = checkpoint.restore(tmp_path, state)
    assert step == 1 and np.array_equal(restored["weights"], state["weights"]) and notes == {"seconds": 3}
    assert "damaged" in caplog.text
    (tmp_path / "1" / "MANIFEST.json").unlink()
    assert checkpoint.restore(tmp_path, state) is None


def test_damaged_ones_do_not_crowd_out_good_ones(tmp_path):
    """Two later ones are damaged, so that a run began anew: what it saves is kept."""
    for step in (60, 80):
        checkpoint.save(tmp_path, step, {"x": np.zeros(3)})
        (tmp_path / str(step) / "MANIFEST.json").write_text("{}")
    assert checkpoint.restore(tmp_path, {"x": np.zeros(3)}) is None
    for step in (20, 40):
        checkpoint.save(tmp_path, step, {"x": np.full(3, step)})
        assert checkpoint.restore(tmp_path, {"x": np.zeros(3)})[0] == step


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, step, {"x": np.zeros(3)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "2"]


# --- no room, no permission, no time ----------------------------------------------------------------------------------


def test_a_full_disk_is_said_and_leaves_the_old_dataset(data_root):
    """RLIMIT_FSIZE stands in for a disk that is full: a write fails in the middle of a file."""
    build(ID, "c")
    before = storage.read(ID).card["content_sha256"]
    (storage.folder(ID) / "MANIFEST.json").write_text("{}")  # stale, so that it is made anew

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    args = ("data_gen.collect", "--task", "hopper", "--dataset", "random", "--episodes", "20", "--engine", "c")
    result = command(*args, preexec_fn=limit)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr and "error:" in result.stderr
    assert (storage.folder(ID) / "MANIFEST.json").read_text() == "{}"
    assert not leftovers(data_root)
    assert command(*args).returncode == 0
    assert storage.read(ID).card["content_sha256"] == before


@pytest.fixture
def small(tmp_path):
    """A disk of 64 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)  # lazily: a child may be about to end


COLLECT = ["data_gen.collect", "--task", "hopper", "--dataset", "random", "--episodes", "60", "--engine", "c"]
SLOW = pytest.mark.slow
TRAINERS = {"experts": [*EXPERT.split(), "80"], "ladder": [*LADDER.split(), "--num-updates", "40"]}


def test_a_full_disk(small, monkeypatch):
    monkeypatch.setenv("SIBENCH_DATA", str(small))
    result = command(*COLLECT)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert re.search(rf"error: .*No space left.*{small}", result.stderr), result.stderr
    assert not leftovers(small) and not (small / "hopper" / "random-n60-v1").exists()


@pytest.mark.parametrize("num", [200, 100_000])
def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(small, num, capfd):
    checkpoint.save(small, 1, {"weights": np.arange(9.0)})
    with pytest.raises(UserError, match=r"2: not written: (No space left on device|it takes 800,008 bytes)"):
        for _ in range(50):
            checkpoint.save(small, 2, {"weights": np.random.default_rng(0).random(num), "step": np.array(4)})
            (small / "2").rename(small / f"other-{time.monotonic_ns()}")
    assert "Traceback" not in "".join(capfd.readouterr())
    assert not leftovers(small)
    step, state, _ = checkpoint.restore(small, {"weights": np.zeros(9)})
    assert step == 1 and state["weights"][3] == 3


@SLOW
@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainer_on_a_full_disk(small, trainer):
    result = command(*TRAINERS[trainer], "--out", str(small / "out"))
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    assert "not written: " in result.stderr or "No space left" in result.stderr


def read_only(folder):
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)


def test_a_read_only_folder(small, monkeypatch):
    """Root may write anywhere but there."""
    read_only(small)
    monkeypatch.setenv("SIBENCH_DATA", str(small))
    result = command(*COLLECT)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert f"error: Read-only file system: {small}" in result.stderr


@SLOW
@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainer_on_a_read_only_disk(small, trainer):
    read_only(small)
    result = command(*TRAINERS[trainer], "--out", str(small / "out"))
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    assert f"error: Read-only file system: {small}" in result.stderr


def test_a_folder_that_cannot_be_is_named(monkeypatch):
    result = command(*COLLECT, env=os.environ | {"SIBENCH_DATA": "/proc/sibench"})
    assert result.returncode == 2
    assert "/proc/sibench" in result.stderr and "Traceback" not in result.stderr


def test_two_processes_make_one_dataset(data_root):
    args = ("data_gen.collect", "--task", "hopper", "--dataset", "random", "--episodes", "20", "--engine", "c")
    both = [start(*args), start(*args)]
    assert [process.wait(200) for process in both] == [0, 0]
    assert storage.read(ID).num_episodes == 20
    assert not leftovers(data_root)


def test_a_folder_has_one_user_and_no_leftovers(tmp_path):
    folder = tmp_path / "run"
    dead = [tmp_path / ".run.abc.tmp", folder / "checkpoints" / ".3.xyz.tmp"]
    for path in dead:
        path.mkdir(parents=True)
    with files.sole_user(folder):
        assert not any(path.exists() for path in dead)
        with pytest.raises(UserError, match="another process is at work"), files.sole_user(folder):
            pass


def test_a_folder_is_put_back_if_its_exchange_was_cut_short(tmp_path):
    """Where folders cannot swap names at one stroke: killed after the old one stepped aside."""
    for name in (".data.abc.old.tmp", ".data.abc.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("old" if "old" in name else "new")
    with files.sole_user(tmp_path / "data"):
        assert (tmp_path / "data" / "file").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == ["data"]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(RuntimeError), files.atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "half").write_text("x")
        raise RuntimeError
    with pytest.raises(TypeError):
        files.write_atomic(tmp_path / "file", "not bytes")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("content", ["", "[1]", "{}", "[" * 100_000])
def test_a_run_that_cannot_be_read_is_said(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json: does not describe a run: .*choose another --out"):
        provenance.start_run(tmp_path, {"seed": 1})


def test_too_little_memory_is_said(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["program"])

    def main(config):
        raise MemoryError("Unable to allocate 410. GiB")

    with pytest.raises(SystemExit) as end:
        cli.run(main, Nothing, "program")
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: not enough memory: Unable to allocate 410. GiB\n"


@dataclasses.dataclass
class Nothing:
    """No settings."""


def test_json_holds_no_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.to_json({"x": float("nan")})
