"""Killed, interrupted, raced: afterwards the old file or the whole new one, and the same numbers as undisturbed."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from conftest import REPO, command
from faults import EXPERT, LADDER, leftovers, start
from small_data import COLLECT, ID

import sibench
from sibench.core import files, provenance
from sibench.core.errors import UserError
from sibench.core.ids import parse_id
from sibench.data import storage

WRITER = """
    from sibench.core import files
    from sibench.core.ids import Id
    from sibench.data import storage
    id = Id("hopper", "random", 20)
    original = storage.read(id)
    changed = original._replace(rewards=original.rewards + 1, card=original.card | {"changed": True})
"""


def python(code: str) -> subprocess.Popen:
    words = [sys.executable, "-c", textwrap.dedent(WRITER) + textwrap.dedent(code)]
    return subprocess.Popen(words, cwd=REPO, stdout=subprocess.PIPE, text=True)


# --- killed -----------------------------------------------------------------------------------------------------------


def test_writer_killed_at_20_moments_leaves_old_or_new_dataset(small_root):
    code = """
        print("ready", flush=True)
        while True:
            for dataset in (changed, original):
                with files.sole_user(storage.folder(id), wait=True):
                    storage.write(id, dataset)
    """
    rng, seen = random.Random(0), set()
    for _ in range(20):
        writer = python(code)
        assert writer.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.15))
        writer.kill()
        writer.wait()
        dataset = storage.read(ID)
        assert storage.content_sha256(dataset) == dataset.card["content_sha256"]
        seen.add("changed" in dataset.card)
        if "changed" in dataset.card:
            card = {name: value for name, value in dataset.card.items() if name != "changed"}
            storage.write(ID, dataset._replace(rewards=dataset.rewards - 1, card=card))
    assert seen == {True, False}


@pytest.mark.parametrize("renames", [0, 1, 2])
@pytest.mark.parametrize("use", ["read", "build"])
def test_writer_killed_between_its_renames_leaves_old_or_new_dataset(small_root, renames, use):
    """Kill the writer before the old folder steps aside, between the two renames, and after them."""
    expected = storage.read(ID).card
    code = f"""
        import os, signal
        from pathlib import Path
        replace, folders = os.replace, []
        def replace_or_die(source, target):
            if Path(source).is_dir():
                if len(folders) == {renames}:
                    os.kill(os.getpid(), signal.SIGKILL)
                folders.append(source)
            replace(source, target)
        os.replace = replace_or_die
        with files.sole_user(storage.folder(id)):
            storage.write(id, changed)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    assert python(code).wait() == -signal.SIGKILL
    assert storage.folder(ID).exists() == (renames != 1)
    if use == "build":
        assert "there already" in command(*COLLECT).stdout
    dataset = storage.read(ID)
    assert ("changed" in dataset.card) == (renames == 2)
    assert renames == 2 or dataset.card == expected
    assert storage.content_sha256(dataset) == dataset.card["content_sha256"]
    with files.sole_user(storage.folder(ID)):
        assert not leftovers(small_root)


def kill_after(args, seconds: float) -> bool:
    """Start a command and SIGKILL it; return False if it was done before."""
    process = start(*args)
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def kill_after_progress(args, progress, seconds: float) -> bool:
    """Start a command and SIGKILL it some time after `progress()` has changed."""
    before, process = progress(), start(*args)
    while process.poll() is None and progress() == before:
        time.sleep(0.002)
    time.sleep(seconds)
    was_running = process.poll() is None
    process.kill()
    process.wait()
    return was_running


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [1, 20])
def test_killed_collection_ends_with_the_same_dataset(data_root, monkeypatch, tmp_path, kills):
    args = ("data_gen.collect", "--task", "hopper", "--dataset", "random", "--episodes", "400", "--engine", "c")
    id = parse_id("hopper/random-n400")
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path / "undisturbed"))
    began = time.monotonic()
    assert command(*args).returncode == 0
    duration = time.monotonic() - began
    expected = storage.read(id).card["content_sha256"]
    monkeypatch.setenv("SIBENCH_DATA", str(data_root))
    rng, killed = random.Random(1), 0
    while killed < kills:
        killed += kill_after(args, rng.uniform(0.3, 1.0) * duration)
        if storage.exists(id):
            assert storage.read(id).card["content_sha256"] == expected
            shutil.rmtree(storage.folder(id))
    assert command(*args).returncode == 0
    assert storage.read(id).card["content_sha256"] == expected
    assert not leftovers(data_root)


EXPERT_FILES, LADDER_FILES = ("expert.safetensors", "curve.json"), ("bc-1.safetensors", "bc-5.safetensors")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("trainer", "num_updates", "kills", "outputs"),
    [(EXPERT, "80", 1, EXPERT_FILES), (EXPERT, "1600", 10, EXPERT_FILES), (LADDER, "8000", 10, LADDER_FILES)],
    ids=["expert-1", "expert-10", "ladder-10"],
)
def test_killed_trainer_resumes_bit_for_bit(tmp_path, trainer, num_updates, kills, outputs):
    """Kill it so many times at any moment, and as often just after a checkpoint."""
    args = (*trainer.split(), num_updates)
    assert command(*args, "--out", str(tmp_path / "undisturbed")).returncode == 0
    killed_args = (*args, "--out", str(tmp_path / "killed"))

    def checkpoints():
        folders = os.walk(tmp_path / "killed")  # which tolerates that some vanish while it walks
        return {path for path, _, names in folders if "MANIFEST.json" in names and not Path(path).name.startswith(".")}

    rng = random.Random(2)
    for _ in range(kills):
        kill_after(killed_args, rng.uniform(0, 10))  # while it starts, compiles or learns
        assert kill_after_progress(killed_args, checkpoints, rng.uniform(0, 0.05))
    last = command(*killed_args)
    assert last.returncode == 0, last.stderr
    assert "resumed at update" in last.stdout
    for name in outputs:
        resumed, undisturbed = ((tmp_path / out / "hopper" / name).read_bytes() for out in ("killed", "undisturbed"))
        assert resumed == undisturbed, name


def test_interrupted_learner_saves_though_nobody_reads_its_output(tmp_path, small_root):
    """Ctrl-C on `learner 2>&1 | tee log` ends `tee` first."""
    name = "random-n20"
    settings = "--seeds 1 --hidden 8 8 --batch-size 8 --evals 1 --steps 1000000 --checkpoint-every 1000000"
    words = ["--task", "hopper", "--dataset", name, "--expert", name, *settings.split(), "--out", str(tmp_path)]
    reader, writer = os.pipe()
    learner = subprocess.Popen([sys.executable, "algorithms/bc.py", *words], cwd=REPO, stdout=writer, stderr=writer)
    os.close(writer)
    output = b""
    while not re.search(b"compiled in .*\n", output):
        output += (chunk := os.read(reader, 1000))
        assert chunk, output.decode()
    os.close(reader)
    learner.send_signal(signal.SIGINT)
    assert learner.wait(100) == 130
    assert len(list(tmp_path.rglob("checkpoints/*/MANIFEST.json"))) == 1


def test_interrupted_write_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(RuntimeError), files.atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "half").write_text("x")
        raise RuntimeError
    with pytest.raises(TypeError):
        files.write_atomic(tmp_path / "file", "not bytes")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


# --- raced ------------------------------------------------------------------------------------------------------------


def test_two_processes_make_one_dataset(data_root):
    both = [start(*COLLECT), start(*COLLECT)]
    assert [process.wait(200) for process in both] == [0, 0]
    assert storage.read(ID).num_episodes == 20
    assert not leftovers(data_root)


def test_locked_folder_is_refused_to_others_and_cleaned_up(tmp_path):
    folder = tmp_path / "run"
    abandoned = [tmp_path / ".run.abc.tmp", folder / "checkpoints" / ".3.xyz.tmp"]
    for path in abandoned:
        path.mkdir(parents=True)
    with files.sole_user(folder):
        assert not any(path.exists() for path in abandoned)
        with pytest.raises(UserError, match="another process is at work"), files.sole_user(folder):
            pass


def test_inner_folder_that_stepped_aside_is_put_back(tmp_path):
    """Its replacement was killed between the two renames, in a folder that is locked as a whole."""
    for name in (".3.abc.old.tmp", ".3.abc.tmp"):
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "file").write_text("old" if "old" in name else "new")
    with files.sole_user(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["3"]
        assert (tmp_path / "run" / "3" / "file").read_text() == "old"


# --- other runs -------------------------------------------------------------------------------------------------------


def test_run_folder_with_other_settings_is_refused(tmp_path):
    provenance.start_run(tmp_path, {"seed": 0, "gains": (1.0, 2.0)})
    assert provenance.start_run(tmp_path, {"seed": 0, "gains": (1.0, 2.0)})["settings"]["seed"] == 0
    with pytest.raises(UserError, match=r"holds a run with seed=0 \(here 1\)"):
        provenance.start_run(tmp_path, {"seed": 1, "gains": (1.0, 2.0)})


def test_run_of_another_commit_resumes(tmp_path, monkeypatch):
    begun = provenance.start_run(tmp_path, {"seed": 0})
    monkeypatch.setattr(provenance, "code_version", lambda: "of the day after")
    assert provenance.start_run(tmp_path, {"seed": 0}) == begun


@pytest.mark.parametrize(
    ("owner", "name", "value", "setting"),
    [
        (provenance, "packages", lambda: {"jax": "0.0.1"}, "packages"),
        (sibench, "LEARNING_VERSION", 10**6, "learning_version"),
    ],
)
def test_run_of_other_packages_or_learning_version_is_refused(tmp_path, monkeypatch, owner, name, value, setting):
    provenance.start_run(tmp_path, {"seed": 0})
    monkeypatch.setattr(owner, name, value)
    with pytest.raises(UserError, match=f"holds a run with {setting}="):
        provenance.start_run(tmp_path, {"seed": 0})


@pytest.mark.parametrize("content", ["", "[1]", "{}", "[" * 100_000])
def test_unreadable_run_file_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"run\.json: does not describe a run: .*choose another --out"):
        provenance.start_run(tmp_path, {"seed": 1})
