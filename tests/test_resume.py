"""Killed and interrupted runs resume, and end in the same bits as if nothing had happened."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import REPO

ARGS = [
    "--task",
    "hopper",
    "--dataset",
    "random-n5",
    "--build",
    "--expert",
    "expert-n2",
    "--demos",
    "2",
    "--seeds",
    "2",
]
ARGS += ["--steps", "600", "--evals", "6", "--eval-episodes", "2", "--final-episodes", "4", "--hidden", "16", "16"]
ARGS += ["--disc-steps", "100", "--reward", "disc", "--log-every", "20", "--checkpoint-every", "40", "--engine", "c"]


@pytest.fixture(scope="module", autouse=True)
def datasets(tmp_path_factory):
    """One folder of datasets for this file."""
    root = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIBENCH_DATA", str(root))
        yield root


def start(out, *more) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "algorithms/vfo.py", *ARGS, "--out", str(out), *more],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(out, resumed: bool = True) -> tuple[dict, str, bytes]:
    """Finish a run; return its result without seconds, the metrics of a lane, and the weights of a policy."""
    process = start(out)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert ("resumed at update" in said) == resumed, said
    folder = out / "hopper" / "vfo-disc-random-n5"
    result = json.loads((folder / "result-random-n5.json").read_bytes())
    lane = folder / "random-n5-seed-1"
    result["origin"].pop("seconds")
    return result, (lane / "metrics.jsonl").read_text(), (lane / "policy.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("undisturbed"), resumed=False)


def checkpoints(out):
    return sorted((out / "hopper" / "vfo-disc-random-n5" / "checkpoints").glob("[0-9]*"), key=lambda p: int(p.name))


def wait_for_checkpoint(process, out, num=1, timeout=120.0) -> bool:
    """Wait for a newer checkpoint, and `num` in all; return False if the run ended first."""
    until, before = time.monotonic() + timeout, checkpoints(out)[-1:]
    while time.monotonic() < until and process.poll() is None:
        if len(checkpoints(out)) >= num and checkpoints(out)[-1:] != before:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_resume_after_signal_is_bit_identical(number, undisturbed, tmp_path):
    process = start(tmp_path)
    assert wait_for_checkpoint(process, tmp_path)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "run the same command again" in said and "Traceback" not in said
    assert finish(tmp_path) == undisturbed


def test_flipped_bit_in_checkpoint_falls_back_to_the_one_before(undisturbed, tmp_path):
    process = start(tmp_path)
    assert wait_for_checkpoint(process, tmp_path, 2)
    process.kill()
    process.wait()
    data = max((checkpoints(tmp_path)[-1] / "state").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    assert finish(tmp_path) == undisturbed


@pytest.mark.parametrize("cut", [True, False])
def test_tampered_final_episodes_are_played_again(undisturbed, tmp_path, cut):
    """Delete the result, as if the run was killed before writing it, and damage the episodes of a lane."""
    assert finish(tmp_path, resumed=False) == undisturbed
    folder = tmp_path / "hopper" / "vfo-disc-random-n5"
    (folder / "result-random-n5.json").unlink()
    file = folder / "random-n5-seed-0" / "final.json"
    content = file.read_bytes()
    assert b'"returns"' in content
    file.write_bytes(content[:40] if cut else content.replace(b'"num_nonfinite": 0', b'"num_nonfinite": 1'))
    assert finish(tmp_path) == undisturbed


def kill_and_resume(undisturbed, tmp_path, kills):
    """Kill a run several times: at any moment, start-up and compilation included, and around checkpoints."""
    rng = random.Random(0)
    for kill in range(kills):
        process = start(tmp_path)
        if kill % 2 == 0:
            wait_for_checkpoint(process, tmp_path)
        time.sleep(rng.uniform(0, 8 if kill % 2 else 0.5))
        process.kill()
        process.wait()
    assert finish(tmp_path) == undisturbed
    assert not list(tmp_path.rglob("*.tmp"))


def test_resume_after_sigkill_is_bit_identical(undisturbed, tmp_path):
    kill_and_resume(undisturbed, tmp_path, 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_resume_after_20_sigkills_is_bit_identical(undisturbed, tmp_path):
    for trial in range(5):
        kill_and_resume(undisturbed, tmp_path / str(trial), 4)
        shutil.rmtree(tmp_path / str(trial))
