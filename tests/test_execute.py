"""Running suites: nothing is run twice, nothing is lost, and mistakes do not stop the rest."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import REPO
from tiny_suite import BC_ONLY, TINY

from sibench import tasks
from sibench.bench import execute, plan
from sibench.bench.__main__ import main
from sibench.bench.suites import SUITES, Suite, grid, read_suite
from sibench.core.errors import UserError
from sibench.learning import results
from sibench.policies import read_description
from sibench.tasks.physics import pick_engine


def test_suite_runs_once_and_again_only_for_stale_cells(tiny, capsys, data_root):
    main(tiny)
    files = sorted(tiny.results.glob("tiny/hopper/*.json"))
    assert [file.stem for file in files] == ["bc-bc-1-n3", "bc-random-n5", "vfo-disc-bc-1-n3", "vfo-disc-random-n5"]
    for result in read_suite("tiny", tiny.results):
        assert result.identity.settings["steps"] == 60 and len(result.score) == 2
        assert result.quality == pytest.approx(tasks.quality("hopper", result.background.return_mean))
        means = [np.mean(seed.returns) for seed in result.seeds]
        np.testing.assert_allclose(result.score, [tasks.quality("hopper", mean) for mean in means])
        assert np.isfinite(result.nll).all() and np.isfinite(result.teacher_nll)
        if result.method == "bc":  # uniform actions are learned in 60 updates, others are not
            assert result.converged == (result.dataset == "random-n5")
    assert len(list(tiny.runs.glob("tiny/policies/hopper/*.safetensors"))) == 8

    capsys.readouterr()
    main(tiny)
    assert "0 cells to run in 0 packs, 4 there already" in capsys.readouterr().out

    # nor if its data has to be built again, to the same bits
    shutil.rmtree(data_root / "hopper")
    main(tiny)
    said = capsys.readouterr().out
    assert "building" in said and "0 cells to run in 0 packs, 4 there already" in said

    # a result of another identity is reported, and run again
    raw = json.loads(files[0].read_text())
    raw["identity"]["data"]["bc-1-n3"] = "0" * 64
    raw["identity"]["settings"]["steps"] = 59
    files[0].write_text(json.dumps(raw))
    todo, fresh = plan.plan(tiny)
    assert [cell.name for pack in todo for cell in pack.cells] == ["bc-bc-1-n3"] and fresh == 3
    assert "stale: data and settings changed" in capsys.readouterr().out

    # a damaged one too
    files[0].write_text(files[0].read_text()[:100])
    todo, fresh = plan.plan(tiny)
    assert [cell.name for pack in todo for cell in pack.cells] == ["bc-bc-1-n3"] and fresh == 3
    assert f"{files[0]}: stale: {files[0]} is not a result" in capsys.readouterr().out

    # an estimate goes by what was measured
    assert todo[0].seconds > 0
    execute.show(dataclasses.replace(tiny, dry_run=True), todo, fresh)
    assert "about" in capsys.readouterr().out


def test_one_program_sweeps_the_setting_that_cells_differ_in(tiny, monkeypatch):
    """The results are what they would be in programs of their own."""
    cells = grid(("hopper",), ("vfo-bin",), ("random-n5", "bc-1-n3"), temperature=(0.3, 3.0))
    monkeypatch.setitem(SUITES, "tiny", Suite("tiny", "", cells, TINY))
    assert [len(pack.cells) for pack in plan.plan(tiny)[0]] == [2, 2]  # on a CPU
    wide = dataclasses.replace(tiny, lanes=8)
    (pack,), _ = plan.plan(wide)
    assert pack.name == "hopper vfo-bin temperature=0.3,3.0" and pack.config.sweep == ("temperature", "0.3", "3.0")
    main(wide)
    assert plan.plan(tiny) == plan.plan(wide) == ([], 4)
    for cell in cells:
        result = results.read(results.path(tiny.results, "tiny", "hopper", cell.name))
        temperature = dict(cell.settings)["temperature"]
        assert result.identity.settings["temperature"] == temperature == result.settings["temperature"]
        assert result.background.id == f"hopper/{cell.dataset}-v1" and len(result.score) == 2
        for seed in result.seeds:
            policy = tiny.runs / f"tiny/policies/hopper/{cell.name}-seed-{seed.seed}.json"
            assert read_description(policy)["weights_sha256"] == seed.policy_sha256
    swept = {cell.name: results.read(results.path(tiny.results, "tiny", "hopper", cell.name)) for cell in cells}
    for cell in cells[:3]:
        results.path(tiny.results, "tiny", "hopper", cell.name).unlink()
    todo, fresh = plan.plan(wide)  # not every dataset lacks all values
    assert fresh == 1 and sorted(len(pack.cells) for pack in todo) == [1, 2]
    main(tiny)
    for cell in cells:
        again = results.read(results.path(tiny.results, "tiny", "hopper", cell.name))
        np.testing.assert_allclose(again.nll, swept[cell.name].nll, rtol=1e-5)


def test_pack_names_the_engine_of_its_plan(tiny):
    (pack, *_), _ = plan.plan(tiny)
    assert pack.command[pack.command.index("--engine") + 1] == pick_engine("auto") == "c"


def test_result_of_other_packages_than_planned_is_not_published(tiny):
    tiny = dataclasses.replace(tiny, methods=("bc",), datasets=("random-n5",))
    execute.build_data(plan.plan(tiny)[0])
    (pack,), _ = plan.plan(tiny)
    assert execute.run_command(pack, set(), set()) == 0
    planned = pack.identities[0]
    pack.identities = [dataclasses.replace(planned, packages=planned.packages | {"jax": "0"})]
    with pytest.raises(UserError, match="packages changed while the suite ran; start it again"):
        execute.publish(tiny, pack)
    assert not list(tiny.results.glob("**/*.json"))
    pack.identities = [planned]
    execute.publish(tiny, pack)
    assert len(list(tiny.results.glob("**/*.json"))) == 1


def test_failing_pack_does_not_stop_the_others(tiny, monkeypatch, capsys):
    tiny = dataclasses.replace(tiny, methods=("bc",))
    real = plan.make_pack

    def broken(config, suite, cells, rates):
        pack = real(config, suite, cells, rates)
        if cells[0].dataset == "random-n5":
            pack.command += ["--demos", "1001"]
        return pack

    monkeypatch.setattr(plan, "make_pack", broken)
    with pytest.raises(UserError, match="1 of 2 packs failed"):
        main(dataclasses.replace(tiny, lanes=2))
    assert "failed with exit code 2: error: demos=1001" in capsys.readouterr().out
    assert [file.stem for file in tiny.results.glob("tiny/hopper/*.json")] == ["bc-bc-1-n3"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_suite_resumes(number, tiny, tmp_path):
    """Ctrl-C and SIGTERM reach the learners, which save; the same command resumes."""
    script = tmp_path / "bench.py"
    cells = "grid(('hopper',), ('bc',), ('random-n5',))"
    settings = BC_ONLY | {"steps": 4000, "checkpoint_every": 200, "log_every": 100}
    script.write_text(
        "from pathlib import Path\nfrom sibench.core import cli\nfrom sibench.bench.__main__ import main\n"
        "from sibench.bench.config import Config\nfrom sibench.bench.suites import SUITES, Suite, grid\n"
        f"SUITES['tiny'] = Suite('tiny', '', {cells}, {settings})\n"
        f"cli.run(main, Config, 'bench')\n"
    )
    out = ["--results", str(tiny.results), "--runs", str(tiny.runs)]
    command = [sys.executable, str(script), "--suite", "tiny", *out]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPO, env=os.environ.copy())
    deadline = time.monotonic() + 240
    while not list(tiny.runs.glob("**/checkpoints/*/MANIFEST.json")):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(number)
    first.communicate(timeout=120)
    if first.returncode == 0:
        pytest.skip("it was done before the signal")
    assert first.returncode == 130
    assert not list(tiny.results.glob("**/*.json"))
    again = subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=300)
    assert again.returncode == 0, again.stderr
    (log,) = tiny.runs.glob("**/log.txt")
    assert "resumed at update" in log.read_text()
    assert len(read_suite("tiny", tiny.results)) == 1


def test_learners_end_when_their_suite_is_killed(tiny, tmp_path):
    """Otherwise the next suite would find their folders in use."""
    started = tmp_path / "learner.txt"
    code = (
        f"import os, pathlib; pathlib.Path({str(started)!r}).write_text(str(os.getpid())); import time; time.sleep(300)"
    )
    inner = f"from sibench.core import cli; cli.run(lambda _: exec({code!r}), int, 'x')"
    outer = (
        "from pathlib import Path; from sibench.bench import plan, execute\n"
        f"command, folder = [{sys.executable!r}, '-c', {inner!r}, '1'], Path({str(tmp_path / 'pack')!r})\n"
        "pack = plan.Pack([], None, command, [], folder, 0)\n"
        "execute.run_command(pack, set(), set())"
    )
    suite = subprocess.Popen([sys.executable, "-c", outer], cwd=REPO)
    deadline = time.monotonic() + 120
    while not (started.exists() and started.read_text()):
        assert suite.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    learner = int(started.read_text())
    suite.kill()
    suite.wait()
    for _ in range(100):
        status = Path(f"/proc/{learner}/stat")
        if not status.exists() or status.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    os.kill(learner, signal.SIGKILL)
    raise AssertionError("the learner outlived its suite")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ray_retries_the_packs_of_a_killed_worker(tiny, monkeypatch):
    """Kill one of two workers in the middle of its pack."""
    ray = pytest.importorskip("ray", reason="make setup EXTRAS=cluster")
    from ray.cluster_utils import Cluster

    settings = BC_ONLY | {"steps": 6000, "checkpoint_every": 200, "log_every": 100}
    cells = grid(("hopper",), ("bc",), ("random-n5", "bc-1-n3"))
    monkeypatch.setitem(SUITES, "tiny", Suite("tiny", "", cells, settings))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)

    def kill_one():
        while len(list(tiny.runs.glob("**/checkpoints/*/MANIFEST.json"))) < 2:
            time.sleep(0.1)
        cluster.remove_node(workers[0], allow_graceful=False)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    try:
        main(dataclasses.replace(tiny, ray=True, lanes=2))
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert not killer.is_alive()
    assert len(read_suite("tiny", tiny.results)) == 2
    assert any("resumed at update" in log.read_text() for log in tiny.runs.glob("**/log.txt"))
