"""The runner: what is to run, what is fresh, and that nothing is lost."""

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
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import synthetic
from conftest import REPO

from sibench import packs, provenance, results, running, suites, tasks
from sibench.bench import Config, main
from sibench.data import load_privileged
from sibench.errors import UserError
from sibench.heldout import held_out, teachers, uniform_nll
from sibench.physics import pick_engine
from sibench.policies import read_description
from sibench.suites import SUITES, Suite, grid

TINY = {
    "hidden": (8, 8),
    "batch_size": 8,
    "steps": 60,
    "disc_steps": 20,
    "inverse_steps": 20,
    "seeds": 2,
    "evals": 1,
    "eval_episodes": 1,
    "final_episodes": 3,
    "demos": 3,
    "expert": "expert-n3",
}


@pytest.fixture
def tiny(monkeypatch, tmp_path, data_root):
    """A suite of seconds, under the name `tiny`."""
    cells = grid(("hopper",), ("bc", "vfo-disc"), ("random-n5", "bc-1-n3"))
    monkeypatch.setitem(SUITES, "tiny", Suite("tiny", "", cells, TINY))
    return Config("tiny", results=tmp_path / "results", runs=tmp_path / "runs", workers=2)


def test_every_suite_can_be_planned():
    """Each cell's settings are settings of its method, and no two cells have one name."""
    for suite in SUITES.values():
        assert len({(cell.task, cell.name) for cell in suite.cells}) == len(suite.cells)
        for cell in suite.cells:
            config = packs.learner(suite, cell, 1.0)
            assert all(getattr(config, name) == value for name, value in cell.settings)
            assert set(dict(cell.settings)) <= {field.name for field in dataclasses.fields(config)}


def test_the_main_suite_is_the_papers():
    config = packs.learner(SUITES["sibench"], SUITES["sibench"].cells[0], 1.0)
    assert (config.steps, config.batch_size, config.hidden, config.seeds) == (1_000_000, 256, (512, 512), 5)
    assert (config.final_episodes, config.demos, config.schedule) == (1000, 10, "constant")
    assert len(SUITES["sibench"].cells) == 4 * 10 * 7
    assert len(SUITES["bimodal"].cells) == 4 * 11 * 7


def test_shards_are_a_partition(tiny):
    whole = [cell for pack in packs.plan(dataclasses.replace(tiny, lanes=2))[0] for cell in pack.cells]
    parts = [packs.plan(dataclasses.replace(tiny, lanes=2, shard=f"{i}/3"))[0] for i in (1, 2, 3)]
    assert sorted(cell for part in parts for pack in part for cell in pack.cells) == sorted(whole)
    assert len(whole) == 4 and all(parts)


def test_lanes_limit_packs(tiny):
    assert [len(pack.cells) for pack in packs.plan(dataclasses.replace(tiny, lanes=2))[0]] == [1] * 4
    assert [len(pack.cells) for pack in packs.plan(dataclasses.replace(tiny, lanes=5))[0]] == [2] * 2


def test_scale_shortens_every_phase_and_goes_elsewhere(tiny):
    cell = suites.Cell("hopper", "vfo-disc", "bc-1")
    config = packs.learner(SUITES["sibench"], cell, 0.01)
    assert (config.steps, config.disc_steps) == (10_000, 100)
    assert dataclasses.replace(tiny, scale=0.5).suite_name == "tiny-x0.5"


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"suite": "qick"}, "did you mean 'quick'"),
        ({"suite": "sibench", "tasks": ("hoper",)}, "did you mean 'hopper'"),
        ({"suite": "sibench", "methods": ("vfo",)}, "vfo-bin"),
        ({"suite": "sibench", "scale": 0.0}, "scale=0.0"),
        ({"suite": "sibench", "shard": "0/8"}, "2/8"),
        ({"suite": "sibench", "shard": "9/8"}, "2/8"),
        ({"suite": "sibench", "lanes": -1}, "lanes=-1"),
    ],
)
def test_mistakes_are_explained(wrong, message):
    with pytest.raises(UserError, match=message):
        Config(**wrong)


def test_flags_say_every_setting(tiny):
    """The command line of a pack, parsed, is the config of the pack: nothing is lost on the way."""
    import tyro

    for method in ("vfo-disc", "bco", "smodice-chi2", "nce-value"):
        cell = suites.Cell("hopper", method, "bc-1-n3", (("terminal_rule", False),) if "vfo" in method else ())
        config = packs.learner(SUITES["tiny"], cell, 1.0)
        config = dataclasses.replace(config, build=True)
        words = packs.flags(config, type(config)(task="hopper", dataset=config.dataset))
        assert tyro.cli(type(config), args=["--dataset", *config.dataset, *words]) == config


def test_a_suite_runs_resumes_and_is_not_run_twice(tiny, capsys, data_root):
    main(tiny)
    files = sorted(tiny.results.glob("tiny/hopper/*.json"))
    assert [file.stem for file in files] == ["bc-bc-1-n3", "bc-random-n5", "vfo-disc-bc-1-n3", "vfo-disc-random-n5"]
    for result in results.read_suite("tiny", tiny.results):
        assert result.raw["config"]["steps"] == 60 and len(result.score) == 2
        assert result.quality == pytest.approx(tasks.quality("hopper", result.raw["dataset"]["return_mean"]))
        means = [np.mean(lane["returns"]) for lane in result.raw["lanes"]]
        np.testing.assert_allclose(result.score, [tasks.quality("hopper", mean) for mean in means])
        assert np.isfinite(result.nll).all() and np.isfinite(result.teacher_nll)
        if result.method == "bc":  # uniform actions are learned in 60 updates, others are not
            assert result.converged == (result.dataset == "random-n5")
    kept = list(tiny.runs.glob("tiny/policies/hopper/*.safetensors"))
    assert len(kept) == 8

    capsys.readouterr()
    main(tiny)
    assert "0 cells to run in 0 packs, 4 there already" in capsys.readouterr().out

    # nor if its data has to be made again, to the same bits
    shutil.rmtree(data_root / "hopper")
    main(tiny)
    assert "being made" in (told := capsys.readouterr().out) and "0 cells to run in 0 packs, 4 there already" in told

    # what a result is made of has changed: it is told, and run again
    raw = json.loads(files[0].read_text())
    raw["made_of"]["data"]["bc-1-n3"] = "0" * 64
    raw["made_of"]["settings"]["steps"] = 59
    files[0].write_text(json.dumps(raw))
    todo, fresh = packs.plan(tiny)
    assert [cell.name for pack in todo for cell in pack.cells] == ["bc-bc-1-n3"] and fresh == 3
    assert "stale: its data and settings changed" in capsys.readouterr().out

    # a damaged one too
    files[0].write_text(files[0].read_text()[:100])
    todo, fresh = packs.plan(tiny)
    assert [cell.name for pack in todo for cell in pack.cells] == ["bc-bc-1-n3"] and fresh == 3
    assert f"{files[0]}: stale: {files[0]} is not a result file" in capsys.readouterr().out

    # an estimate goes by what was measured
    assert todo[0].seconds > 0
    running.show(dataclasses.replace(tiny, dry_run=True), todo, fresh)
    assert "about" in capsys.readouterr().out


def test_one_program_sweeps_what_cells_differ_in(tiny, monkeypatch):
    """And their results are what they would be alone."""
    cells = grid(("hopper",), ("vfo-bin",), ("random-n5", "bc-1-n3"), temperature=(0.3, 3.0))
    monkeypatch.setitem(SUITES, "tiny", Suite("tiny", "", cells, TINY))
    assert [len(pack.cells) for pack in packs.plan(tiny)[0]] == [2, 2]  # on a CPU
    wide = dataclasses.replace(tiny, lanes=8)
    (pack,), _ = packs.plan(wide)
    assert pack.name == "hopper vfo-bin temperature=0.3,3.0" and pack.config.sweep == ("temperature", "0.3", "3.0")
    main(wide)
    assert packs.plan(tiny) == packs.plan(wide) == ([], 4)
    for cell in cells:
        found = results.read(results.path(tiny.results, "tiny", "hopper", cell.name))
        assert found.raw["config"]["temperature"] == dict(cell.settings)["temperature"] == found.settings["temperature"]
        assert found.raw["dataset"]["id"] == f"hopper/{cell.dataset}-v1" and len(found.score) == 2
        for lane in found.raw["lanes"]:
            kept = tiny.runs / f"tiny/policies/hopper/{cell.name}-seed-{lane['seed']}.json"
            assert read_description(kept)["weights_sha256"] == lane["policy_sha256"]
    swept = {cell.name: results.path(tiny.results, "tiny", "hopper", cell.name).read_bytes() for cell in cells}
    for cell in cells[:3]:
        results.path(tiny.results, "tiny", "hopper", cell.name).unlink()
    todo, fresh = packs.plan(wide)  # not every dataset lacks all values
    assert fresh == 1 and sorted(len(pack.cells) for pack in todo) == [1, 2]
    main(tiny)
    for cell in cells:
        again = json.loads(results.path(tiny.results, "tiny", "hopper", cell.name).read_bytes())
        learned = [[lane["nll"] for lane in one["lanes"]] for one in (again, json.loads(swept[cell.name]))]
        np.testing.assert_allclose(*learned, rtol=1e-5)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (lambda raw: raw.pop("config"), "lacks 'config'"),
        (lambda raw: raw["config"].pop("hidden"), "its config lacks hidden"),
        (lambda raw: raw["dataset"].update(quality=None), "not 'NoneType'"),
        (lambda raw: raw["dataset"].update(quality="good"), "'good'"),
        (lambda raw: raw["cell"].update(settings=[]), "its settings are no table"),
        (lambda raw: raw["lanes"][0].update(nll="much"), "'much'"),
        (lambda raw: raw["lanes"][0].update(returns=["much"]), ""),  # in words of NumPy's
        (lambda raw: raw.update(lanes=3), "not iterable"),
    ],
)
def test_a_damaged_result_is_told(broken, why, tmp_path):
    raw = json.loads((REPO / "results/quick/hopper/bc-bc-1-n400.json").read_text())
    broken(raw)
    (file := tmp_path / "bc.json").write_text(json.dumps(raw))
    with pytest.raises(UserError, match=f"is not a result file: .*{why}.*; run its cell again"):
        results.read(file)


@pytest.mark.parametrize("name", sorted(file.name for file in (REPO / "results").iterdir() if file.name in SUITES))
def test_committed_results_are_what_their_suite_says(name, monkeypatch):
    """All of its cells and no others, its settings, the methods as they are, one recording of each dataset."""
    monkeypatch.setattr(packs, "data_sha256", lambda dataset: "")
    suite, folder, data = SUITES[name], REPO / "results" / name, {}
    assert len(list(folder.glob("*/*.json"))) == len(suite.cells)
    for cell in suite.cells:
        before = results.read(folder / cell.task / f"{cell.name}.json").raw["made_of"]
        now = packs.recipe(cell, packs.learner(suite, cell, 1.0), suite)
        assert before["settings"] == now["settings"] | {"engine": "c"} and before["method"] == now["method"], cell
        for dataset, content in before["data"].items():
            assert data.setdefault((cell.task, dataset), content) == content, (cell, dataset)


def test_evaluations_are_part_of_what_a_result_is(tiny):
    """Claims and figures read them."""
    load_privileged("hopper/random-n5", build=True), load_privileged("hopper/expert-n3", build=True)
    cell = suites.Cell("hopper", "bc", "random-n5")
    config = packs.learner(SUITES["tiny"], cell, 1.0)
    before = packs.recipe(cell, config, SUITES["tiny"])
    for name in ("evals", "eval_episodes"):
        more = dataclasses.replace(config, **{name: getattr(config, name) + 1})
        assert packs.recipe(cell, more, SUITES["tiny"]) != before


def test_another_program_or_engine_makes_results_stale(tiny, monkeypatch, tmp_path):
    cell = suites.Cell("hopper", "bc", "random-n5")
    load_privileged("hopper/random-n5", build=True), load_privileged("hopper/expert-n3", build=True)
    config = packs.learner(SUITES["tiny"], cell, 1.0)
    before = packs.recipe(cell, config, SUITES["tiny"])
    shutil.copytree(REPO / "algorithms", tmp_path / "algorithms")
    monkeypatch.setattr(packs, "CHECKOUT", tmp_path)
    assert packs.recipe(cell, config, SUITES["tiny"]) == before
    file = tmp_path / "algorithms/bc.py"
    source = file.read_text()
    file.write_text(source.replace('"""Behavioural cloning', '"""Better told: behavioural cloning') + "\n# edited\n")
    assert file.read_text().count("Better told") and packs.recipe(cell, config, SUITES["tiny"]) == before
    file.write_text(source.replace("-log_prob.mean()", "log_prob.mean()"))
    after = packs.recipe(cell, config, SUITES["tiny"])
    assert after["method"] != before["method"] and after["data"] == before["data"]
    assert before["settings"]["engine"] == pick_engine("auto") == "c"
    assert packs.recipe(cell, dataclasses.replace(config, engine="mjx"), SUITES["tiny"]) != before


def test_frames_are_part_of_what_made_a_result(tiny, monkeypatch):
    monkeypatch.setattr(packs, "data_sha256", lambda id: "0")
    suite = SUITES["tiny"]
    for task, seen in (("lift", False), ("lift-image", True)):
        cell = suites.Cell(task, "bc", "bc-5")
        assert ("frames" in packs.recipe(cell, packs.learner(suite, cell, 1.0), suite)) == seen


def test_a_pack_has_the_engine_the_programs_and_the_versions_of_its_plan(tiny, monkeypatch):
    """Wherever it is run, and in a folder of its own."""
    monkeypatch.setitem(SUITES, "tiny", dataclasses.replace(SUITES["tiny"], cells=SUITES["tiny"].cells[:1]))
    (pack,) = packs.plan(tiny)[0]
    assert pack.command[pack.command.index("--engine") + 1] == pick_engine("auto") == "c"
    pack.made_by = "other"
    assert running.run_command(pack, set(), set()) == 2
    assert "not those that the suite was started with; start it again" in pack.log.read_text()
    monkeypatch.setattr(provenance, "versions", lambda: {"python": "4"})
    assert packs.plan(tiny)[0][0].folder != pack.folder


def test_a_pack_that_fails_does_not_stop_the_others(tiny, monkeypatch, capsys):
    monkeypatch.setitem(SUITES, "tiny", dataclasses.replace(SUITES["tiny"], cells=SUITES["tiny"].cells[:2]))
    real = packs.make_pack

    def broken(config, suite, cells, known):
        pack = real(config, suite, cells, known)
        if cells[0].dataset == "random-n5":
            pack.command += ["--demos", "1001"]
        return pack

    monkeypatch.setattr(packs, "make_pack", broken)
    with pytest.raises(UserError, match="1 of 2 packs failed"):
        main(dataclasses.replace(tiny, lanes=2))
    assert "failed with exit code 2: error: demos=1001" in capsys.readouterr().out
    assert [file.stem for file in tiny.results.glob("tiny/hopper/*.json")] == ["bc-bc-1-n3"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_repeated(number, tiny, tmp_path):
    """Ctrl-C and SIGTERM reach the learners, which keep what they have; the same command goes on from there."""
    script = tmp_path / "bench.py"
    cells = "grid(('hopper',), ('bc',), ('random-n5',))"
    settings = TINY | {"steps": 4000, "checkpoint_every": 200, "log_every": 100}
    script.write_text(
        "from pathlib import Path\nfrom sibench import cli\nfrom sibench.bench import Config, main\n"
        "from sibench.suites import SUITES, Suite, grid\n"
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
    assert len(results.read_suite("tiny", tiny.results)) == 1


# --- the likelihood of held-out actions -------------------------------------------------------------------------------


def test_the_teacher_of_random_data_is_uniform(data_root):
    """101 bins of which the outermost are half as wide: log 100 nats a dimension, nearly."""
    task = tasks.make("hopper", "c")
    other = held_out(task, {"id": "hopper/random-v1"})
    assert other.teacher_nll == pytest.approx(3 * (0.99 * np.log(100) + 0.01 * np.log(200)), abs=0.02)
    ends = jnp.array([[1.0, -1.0, 0.0]])
    assert uniform_nll(ends) == pytest.approx(2 * np.log(200) + np.log(100), rel=1e-6)


def test_a_teacher_is_as_likely_as_itself_and_another_is_not(data_root):
    from sibench import assets

    task = tasks.make("hopper", "c")
    other = held_out(task, {"id": "hopper/bc-1-n7-v1"})
    teacher = assets.load_policy("hopper", "bc-1")
    assert other.nll(teacher) == pytest.approx(other.teacher_nll, abs=1e-4)
    assert other.nll(assets.load_policy("hopper", "bc-1000")) > other.teacher_nll + 1
    assert other.nll(teacher._replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, teacher.params))) is None
    background = load_privileged("hopper/bc-1-n7", build=True)
    assert not {tuple(row) for row in background.observations} & {tuple(row) for row in np.asarray(other.obs)}


def test_a_mix_has_two_teachers_in_its_proportion():
    shares = [(policy is None, num) for policy, num in teachers({"id": "hopper/mix-100-v1"})]
    assert shares == [(False, 2), (True, 18)]
    assert teachers({"id": "hopper/d4rl-medium-v1"}) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ray_goes_on_when_a_worker_is_killed(tiny, monkeypatch):
    """A cluster of two workers, of which one is killed in the middle of its pack."""
    ray = pytest.importorskip("ray", reason="make setup EXTRAS=cluster")
    from ray.cluster_utils import Cluster

    settings = TINY | {"steps": 6000, "checkpoint_every": 200, "log_every": 100}
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
    assert len(results.read_suite("tiny", tiny.results)) == 2
    assert any("resumed at update" in log.read_text() for log in tiny.runs.glob("**/log.txt"))


def test_a_chain_does_not_go_back_when_a_round_begins(tmp_path):
    """Its log is empty then, and the last round's is counted with that round."""
    pack, told = SimpleNamespace(folder=tmp_path, updates=30, iterations=3), []
    for number in range(2):
        chain = tmp_path / "hopper/self-bc-bc-1"
        log = chain / f"iteration-{number}/hopper/bc-bc-1/bc-1-seed-0/metrics.jsonl"
        log.parent.mkdir(parents=True)
        for content in ("", '{"updates": 4}\n', '{"updates": 10}\n'):
            log.write_text(content)
            told.append(packs.Pack.done(pack))
        (chain / f"iteration-{number}.json").touch()
        told.append(packs.Pack.done(pack))
    assert told == [0, 4, 10, 10, 10, 14, 20, 20]


def test_learners_die_with_a_suite_that_is_killed(tiny, tmp_path):
    """Else the next one would find their folders in use."""
    started = tmp_path / "learner.txt"
    code = (
        f"import os, pathlib; pathlib.Path({str(started)!r}).write_text(str(os.getpid())); import time; time.sleep(300)"
    )
    inner = f"from sibench import cli; cli.run(lambda _: exec({code!r}), int, 'x')"
    outer = (
        "from pathlib import Path; from sibench import packs, running\n"
        f"command, folder = [{sys.executable!r}, '-c', {inner!r}, '1'], Path({str(tmp_path / 'pack')!r})\n"
        "pack = packs.Pack([], None, command, [], folder, 0, '')\n"
        "running.run_command(pack, set(), set())"
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


def test_a_file_of_no_cell_is_told_and_no_result(tmp_path, capsys):
    synthetic.write(tmp_path, "small", seeds=2)
    whole = results.read_suite("small", tmp_path)
    (tmp_path / "small" / "hopper" / "bc-bc-50.json").write_bytes((tmp_path / "small/hopper/bc-bc-5.json").read_bytes())
    assert len(results.read_suite("small", tmp_path)) == len(whole) == len(suites.suite("small").cells)
    assert "bc-bc-50.json is of no cell of suite small: left out" in capsys.readouterr().err
