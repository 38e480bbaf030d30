"""Self-improvement: each seed learns from its own last policy; a killed chain ends as if it had not been killed."""

import itertools
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
from sibench.heldout import held_out

SMALL = "--seeds 2 --steps 40 --batch-size 8 --hidden 8 8 --evals 1 --eval-episodes 1 --final-episodes 2 --demos 3"
START = ["--start", "bc-1-n3", "--episodes", "4", "--iterations", "3", "--task", "hopper", "--expert", "expert-n3"]


def command(out, *more: str) -> list[str]:
    words = ["--algorithm", "vfo", *START, *SMALL.split(), "--build", "--out", str(out), *more]
    return [sys.executable, "-m", "data_gen.self_improve", *words]


def run(out, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(out, *more), capture_output=True, text=True, cwd=REPO, timeout=500)


@pytest.fixture
def chain(tmp_path, data_root):
    done = run(tmp_path / "out")
    assert done.returncode == 0, done.stderr
    return tmp_path / "out/hopper/self-vfo-bin-bc-1-n3"


def test_a_chain_feeds_each_seed_its_own_output(chain):
    rows = json.loads((chain / "chain.json").read_text())["chain"]
    assert [row["iteration"] for row in rows] == [0, 1, 2]
    assert rows[0]["data"] == ["bc-1-n3"] * 2
    for before, row in itertools.pairwise(rows):
        assert row["data"] == before["next_data"] and len(set(row["data"])) == 2
        for seed, name in enumerate(row["data"]):
            data = load_privileged(f"hopper/{name}")
            assert data.num_episodes == 4
            assert row["data_quality"][seed] == pytest.approx(tasks.quality("hopper", data.returns.mean()))
            policy = json.loads(
                next((chain / f"iteration-{row['iteration'] - 1}").glob(f"**/*-seed-*{seed}/policy.json")).read_text()
            )
            assert data.card["policy"] == policy["weights_sha256"]
    whole = json.loads((chain / "chain.json").read_text())
    scores = [tasks.quality("hopper", np.mean(lane["returns"])) for lane in whole["lanes"]]
    assert scores == pytest.approx(rows[-1]["score"])
    assert whole["config"]["dataset"] == ["bc-1-n3"] and whole["config"]["seed"] == 0 and not whole["config"]["paired"]
    assert whole["dataset"]["id"] == "hopper/bc-1-n3-v1" and whole["dataset"]["teacher_nll"] is None
    kept = [json.loads((chain / f"iteration-{number}.json").read_text())["result"] for number in range(3)]
    assert whole["seconds"]["evaluate"] == pytest.approx(sum(one["seconds"]["evaluate"] for one in kept), abs=0.2)

    # how far a policy is from its teacher does not depend on the folder, of which ids have a hash
    task, card = tasks.make("hopper", "c"), load_privileged(f"hopper/{rows[1]['data'][0]}").card
    known, moved = held_out(task, card), held_out(task, card | {"id": "hopper/self-elsewhere-n4-v1"})
    assert np.array_equal(known.action, moved.action)
    assert known.teacher_nll == pytest.approx(rows[1]["teacher_nll"][0])

    other = run(chain.parents[1], "--temperature", "3")
    assert other.returncode == 2 and "temperature=1.0 (here 3.0)" in other.stderr
    content = {name: load_privileged(f"hopper/{name}").card["content_sha256"] for name in rows[-1]["next_data"]}
    for name in content:  # somebody has cleaned up: the policies that made it are there
        shutil.rmtree(root() / "hopper" / f"{name}-v1")
    longer = run(chain.parents[1], "--iterations", "4")
    assert longer.returncode == 0, longer.stderr
    again = json.loads((chain / "chain.json").read_text())["chain"]
    assert again[:3] == rows and len(again) == 4
    assert {name: load_privileged(f"hopper/{name}").card["content_sha256"] for name in content} == content

    shutil.rmtree(chain / "iteration-3")  # the other way round: the policies are gone, the data is there
    longer = run(chain.parents[1], "--iterations", "5")
    assert longer.returncode == 0, longer.stderr
    shutil.rmtree(chain / "iteration-4")
    shutil.rmtree(root() / "hopper" / f"{json.loads((chain / 'iteration-4.json').read_text())['next_data'][1]}-v1")
    lost = run(chain.parents[1], "--iterations", "6")
    assert lost.returncode == 2 and "is gone, and so is the policy that made it" in lost.stderr
    assert len(lost.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_chain_survives_a_kill(chain, tmp_path):
    """The same chain elsewhere, killed while its second iteration learns, ends in the same numbers."""
    rows = json.loads((chain / "chain.json").read_text())["chain"]
    other = tmp_path / "other"
    killed = subprocess.Popen(command(other), cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(other.glob("hopper/*/iteration-1/**/run.json")):
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert run(other).returncode == 0
    again = json.loads((other / "hopper/self-vfo-bin-bc-1-n3/chain.json").read_text())["chain"]
    assert [row["score"] for row in again] == [row["score"] for row in rows]


@pytest.mark.slow
def test_data_that_was_learned_from_may_be_dropped(tmp_path, data_root):
    """Its card stays."""
    dropped = run(tmp_path / "dropped", "--drop-data")
    assert dropped.returncode == 0, dropped.stderr
    cards = sorted(file.stem for file in (tmp_path / "dropped").glob("hopper/*/cards/*.json"))
    assert len(cards) == 4
    assert not [name for name in os.listdir(root() / "hopper") if name in cards]


@pytest.mark.parametrize(
    "more, message",
    [
        (["--sweep", "temperature", "1", "2"], "nothing swept"),
        (["--iterations", "0"], "iterations=0"),
        (["--temperature", "-1"], "temperature=-1"),
    ],
)
def test_mistakes_are_explained(more, message, tmp_path, data_root):
    done = run(tmp_path, *more)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
