"""No room and no permission: one line that names the file, and the old file stays."""

import dataclasses
import os
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import command
from faults import EXPERT, LADDER, leftovers
from small_data import COLLECT, ID

from sibench.core import cli, files
from sibench.core.errors import UserError
from sibench.data import storage
from sibench.learning import checkpoint

TRAINERS = {"experts": [*EXPERT.split(), "80"], "ladder": [*LADDER.split(), "40"]}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)  # lazily, since a child process may be about to end


def make_read_only(folder):
    """Root may write anywhere but on a disk that is mounted so."""
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)


def test_write_that_fails_in_the_middle_leaves_the_old_dataset(small_root):
    """RLIMIT_FSIZE stands in for a full disk."""
    before = storage.read(ID).card["content_sha256"]
    manifest = small_root / str(ID) / "MANIFEST.json"
    manifest.write_text("{}")  # damaged, so that the dataset is made again

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    result = command(*COLLECT, preexec_fn=limit)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr and "error:" in result.stderr
    assert manifest.read_text() == "{}"
    assert not leftovers(small_root)
    assert command(*COLLECT).returncode == 0
    assert storage.read(ID).card["content_sha256"] == before


def test_full_disk_is_named_and_left_clean(small_disk, monkeypatch):
    monkeypatch.setenv("SIBENCH_DATA", str(small_disk))
    result = command(*COLLECT[:-4], "--episodes", "60", "--engine", "c")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert re.search(rf"error: .*No space left.*{small_disk}", result.stderr), result.stderr
    assert not leftovers(small_disk) and not (small_disk / "hopper" / "random-n60-v1").exists()


def test_read_only_disk_is_named(small_disk, monkeypatch):
    make_read_only(small_disk)
    monkeypatch.setenv("SIBENCH_DATA", str(small_disk))
    result = command(*COLLECT)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert f"error: Read-only file system: {small_disk}" in result.stderr


def test_folder_that_cannot_be_made_is_named():
    result = command(*COLLECT, env=os.environ | {"SIBENCH_DATA": "/proc/sibench"})
    assert result.returncode == 2
    assert "/proc/sibench" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("num", [200, 100_000])
def test_checkpoint_that_does_not_fit_leaves_the_one_before(small_disk, num, capfd):
    checkpoint.save(small_disk, 1, {"weights": np.arange(9.0)})
    with pytest.raises(UserError, match=r"2: not written: (No space left on device|it needs 800,008 bytes)"):
        for _ in range(50):
            checkpoint.save(small_disk, 2, {"weights": np.random.default_rng(0).random(num), "step": np.array(4)})
            (small_disk / "2").rename(small_disk / f"other-{time.monotonic_ns()}")
    assert "Traceback" not in "".join(capfd.readouterr())
    assert not leftovers(small_disk)
    step, state, _ = checkpoint.restore(small_disk, {"weights": np.zeros(9)})
    assert step == 1 and state["weights"][3] == 3


@pytest.mark.slow
@pytest.mark.parametrize("trainer", TRAINERS)
def test_trainer_on_a_full_disk_ends_with_one_line(small_disk, trainer):
    result = command(*TRAINERS[trainer], "--out", str(small_disk / "out"))
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    assert "not written: " in result.stderr or "No space left" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("trainer", TRAINERS)
def test_trainer_on_a_read_only_disk_names_it(small_disk, trainer):
    make_read_only(small_disk)
    result = command(*TRAINERS[trainer], "--out", str(small_disk / "out"))
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    assert f"error: Read-only file system: {small_disk}" in result.stderr


@dataclasses.dataclass
class Nothing:
    """No settings."""


def test_too_little_memory_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["program"])

    def main(config):
        raise MemoryError("Unable to allocate 410. GiB")

    with pytest.raises(SystemExit) as end:
        cli.run(main, Nothing, "program")
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: not enough memory: Unable to allocate 410. GiB\n"


def test_json_with_nan_is_not_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.to_json({"x": float("nan")})
