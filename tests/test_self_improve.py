"""Self-improvement: each seed learns from its own last policy, and a killed chain resumes."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import REPO

from sibench import tasks
from sibench.data import load_privileged, root
from sibench.learning import results
from sibench.learning.convergence import held_out

SMALL = "--seeds 2 --steps 40 --batch-size 8 --hidden 8 8 --evals 1 --eval-episodes 1 --final-episodes 2 --demos 3"
START = ["--dataset", "bc-1-n3", "--episodes", "4", "--rounds", "3", "--task", "hopper", "--expert", "expert-n3"]


def command(out, *more: str) -> list[str]:
    words = ["--method", "vfo", *START, *SMALL.split(), "--build", "--out", str(out), *more]
    return [sys.executable, "-m", "data_gen.self_improve", *words]


def run(out, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(out, *more), capture_output=True, text=True, cwd=REPO, timeout=500)


@pytest.fixture
def chain(tmp_path, data_root):
    done = run(tmp_path / "out")
    assert done.returncode == 0, done.stderr
    return tmp_path / "out/hopper/self-vfo-bin-bc-1-n3"


def test_each_seed_learns_from_its_own_output_and_lost_data_is_built_again(chain):
    result = results.read(chain / "result.json")
    finished = [json.loads((chain / f"round-{number}.json").read_text()) for number in range(3)]
    assert len(result.rounds) == 3 and result.rounds[0].data == ("bc-1-n3", "bc-1-n3")
    for number in (1, 2):
        row = result.rounds[number]
        assert list(row.data) == finished[number - 1]["next_data"] and len(set(row.data)) == 2
        for seed, name in enumerate(row.data):
            data = load_privileged(f"hopper/{name}")
            assert data.num_episodes == 4
            assert row.data_quality[seed] == pytest.approx(tasks.quality("hopper", data.returns.mean()))
            (policy,) = (chain / f"round-{number - 1}").glob(f"**/*-seed-*{seed}/policy.json")
            assert data.card["policy"] == json.loads(policy.read_text())["weights_sha256"]
    assert result.score == pytest.approx(result.rounds[-1].score)
    assert (result.dataset, result.background.id) == ("bc-1-n3", "hopper/bc-1-n3-v1")
    assert result.background.teacher_nll is None and result.identity.settings["rounds"] == 3
    seconds = [row["result"]["origin"]["seconds"]["evaluate"] for row in finished]
    assert result.origin.seconds["evaluate"] == pytest.approx(sum(seconds), abs=0.2)
    assert "--method vfo --rounds 3" in result.origin.command

    # the held-out NLL of a policy does not depend on the folder, whose hash is part of dataset ids
    task, card = tasks.make("hopper", "c"), load_privileged(f"hopper/{result.rounds[1].data[0]}").card
    here, elsewhere = held_out(task, card), held_out(task, card | {"id": "hopper/self-elsewhere-n4-v1"})
    assert np.array_equal(here.action, elsewhere.action)
    assert here.teacher_nll == pytest.approx(result.rounds[1].teacher_nll[0])

    other = run(chain.parents[1], "--temperature", "3")
    assert other.returncode == 2 and "temperature=1.0 (here 3.0)" in other.stderr

    # data that was deleted is played again by its policies, to the same bits
    content = {name: load_privileged(f"hopper/{name}").card["content_sha256"] for name in finished[-1]["next_data"]}
    for name in content:
        shutil.rmtree(root() / "hopper" / f"{name}-v1")
    longer = run(chain.parents[1], "--rounds", "4")
    assert longer.returncode == 0, longer.stderr
    again = results.read(chain / "result.json").rounds
    assert again[:3] == result.rounds and len(again) == 4
    assert {name: load_privileged(f"hopper/{name}").card["content_sha256"] for name in content} == content

    # policies that were deleted are not needed while their data is there
    shutil.rmtree(chain / "round-3")
    longer = run(chain.parents[1], "--rounds", "5")
    assert longer.returncode == 0, longer.stderr
    shutil.rmtree(chain / "round-4")
    lost = json.loads((chain / "round-4.json").read_text())["next_data"][1]
    shutil.rmtree(root() / "hopper" / f"{lost}-v1")
    refused = run(chain.parents[1], "--rounds", "6")
    assert refused.returncode == 2 and "is gone, and so is the policy that made it" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.slow
def test_resume_of_a_killed_chain_is_bit_identical(chain, tmp_path):
    """A chain that is killed in its second round ends in the same numbers."""
    rounds = results.read(chain / "result.json").rounds
    other = tmp_path / "other"
    killed = subprocess.Popen(command(other), cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(other.glob("hopper/*/round-1/**/run.json")):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert run(other).returncode == 0
    again = results.read(other / "hopper/self-vfo-bin-bc-1-n3/result.json").rounds
    assert [round.score for round in again] == [round.score for round in rounds]


@pytest.mark.slow
def test_dropped_data_leaves_its_cards(tmp_path, data_root):
    dropped = run(tmp_path / "dropped", "--drop-data")
    assert dropped.returncode == 0, dropped.stderr
    cards = sorted(file.stem for file in (tmp_path / "dropped").glob("hopper/*/cards/*.json"))
    assert len(cards) == 4
    assert not [name for name in os.listdir(root() / "hopper") if name in cards]


@pytest.mark.parametrize(
    "more, message",
    [
        (["--sweep", "temperature", "1", "2"], "no --sweep"),
        (["--rounds", "0"], "rounds=0"),
        (["--temperature", "-1"], "temperature=-1"),
    ],
)
def test_wrong_flags_are_explained(more, message, tmp_path, data_root):
    done = run(tmp_path, *more)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
