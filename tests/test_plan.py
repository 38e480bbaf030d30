"""Suites and plans: which cells there are, which are stale, and how they are packed."""

import dataclasses

import pytest
import synthetic
from conftest import REPO
from tiny_suite import TINY

from sibench.bench import plan, suites
from sibench.bench.config import Config
from sibench.bench.suites import SUITES, Cell, Suite, grid, read_suite
from sibench.core.errors import UserError
from sibench.data import load_privileged
from sibench.learning import results, run
from sibench.tasks.physics import pick_engine


def test_every_suite_resolves_to_configs_with_names_of_their_own():
    for suite in SUITES.values():
        assert len({(cell.task, cell.name) for cell in suite.cells}) == len(suite.cells)
        for cell in suite.cells:
            config = suite.config(cell)
            assert all(getattr(config, name) == value for name, value in cell.settings)


def test_main_suite_has_the_settings_of_the_paper():
    config = SUITES["sibench"].config(SUITES["sibench"].cells[0])
    assert (config.steps, config.batch_size, config.hidden, config.seeds) == (1_000_000, 256, (512, 512), 5)
    assert (config.final_episodes, config.demos, config.schedule) == (1000, 10, "constant")
    assert len(SUITES["sibench"].cells) == 4 * 10 * 7
    assert len(SUITES["bimodal"].cells) == 4 * 11 * 7


def test_dead_setting_of_a_suite_is_an_error():
    suite = Suite("dead", "", grid(("hopper",), ("bc",), ("bc-1",)), {"inverse_steps": 3})
    with pytest.raises(UserError, match=r"'inverse_steps' is not a setting of any method of the suite \(bc\)"):
        suite.config(suite.cells[0])
    suite = dataclasses.replace(suite, settings={})
    with pytest.raises(UserError, match=r"'temperature' is not a setting of algorithms/bc\.py"):
        suite.config(Cell("hopper", "bc", "bc-1", (("temperature", 1.0),)))


def test_method_from_outside_a_suite_runs_on_all_its_datasets(algorithms_copy):
    (algorithms_copy / "mine.py").write_text((algorithms_copy / "bc.py").read_text())
    cells = suites.suite("quick").with_methods(["mine"])
    assert {cell.method for cell in cells} == {"mine"} and {cell.dataset for cell in cells} == {
        "bc-1-n400",
        "bc-5-n400",
    }
    assert Config("quick", methods=("mine", "bc")).methods == ("mine", "bc")
    with pytest.raises(UserError, match="unknown method 'mime'; did you mean 'mine'"):
        Config("quick", methods=("mime",))


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
def test_wrong_flags_are_explained(wrong, message):
    with pytest.raises(UserError, match=message):
        Config(**wrong)


def test_shards_are_a_partition(tiny):
    whole = [cell for pack in plan.plan(dataclasses.replace(tiny, lanes=2))[0] for cell in pack.cells]
    parts = [plan.plan(dataclasses.replace(tiny, lanes=2, shard=f"{i}/3"))[0] for i in (1, 2, 3)]
    assert sorted(cell for part in parts for pack in part for cell in pack.cells) == sorted(whole)
    assert len(whole) == 4 and all(parts)


def test_lanes_limit_the_size_of_packs(tiny):
    assert [len(pack.cells) for pack in plan.plan(dataclasses.replace(tiny, lanes=2))[0]] == [1] * 4
    assert [len(pack.cells) for pack in plan.plan(dataclasses.replace(tiny, lanes=5))[0]] == [2] * 2


def test_scale_shortens_every_phase_and_has_results_of_its_own(tiny):
    config = plan.cell_config(SUITES["sibench"], Cell("hopper", "vfo-disc", "bc-1"), 0.01)
    assert (config.steps, config.disc_steps) == (10_000, 100)
    assert dataclasses.replace(tiny, scale=0.5).suite_name == "tiny-x0.5"


def test_evaluations_settings_engine_and_versions_are_part_of_the_identity(tiny, monkeypatch):
    load_privileged("hopper/random-n5", build=True), load_privileged("hopper/expert-n3", build=True)
    cell = Cell("hopper", "bc", "random-n5")

    def identity(**settings):
        suite = dataclasses.replace(SUITES["tiny"], settings=TINY | settings)
        return plan.cell_identity(suite, cell, 1.0)

    before = identity()
    assert before.settings["engine"] == pick_engine("auto") == "c" and before == identity()
    for changed in ({"evals": 2}, {"eval_episodes": 2}, {"engine": "mjx"}, {"steps": 61}):
        assert plan.differences(before, identity(**changed)) == ["settings"]
    with monkeypatch.context() as patch:
        patch.setattr(run.provenance, "packages", lambda: {"jax": "0"})
        assert plan.differences(before, identity()) == ["packages"]
    monkeypatch.setattr(run, "LEARNING_VERSION", 99)
    assert plan.differences(before, identity()) == ["learning_version"]


@pytest.mark.parametrize("name", sorted(file.name for file in (REPO / "results").iterdir() if file.name in SUITES))
def test_committed_results_are_those_of_their_suite(name, monkeypatch):
    """All cells and no others, with the suite's settings, the methods' versions, and one recording of each dataset."""
    monkeypatch.setattr(run, "content_key", lambda id: "")
    suite, recordings = SUITES[name], {}
    found = {
        (result.task, result.method, result.dataset, *result.settings.items()): result for result in read_suite(name)
    }
    assert len(found) == len(suite.cells) == len(list((REPO / "results" / name).glob("*/*.json")))
    for cell in suite.cells:
        before = found[(cell.task, cell.method, cell.dataset, *cell.settings)].identity
        now = plan.cell_identity(suite, cell, 1.0)
        assert set(plan.differences(before, now)) <= {"data", "packages"}, cell
        for dataset, content in before.data.items():
            assert recordings.setdefault((cell.task, dataset), content) == content, (cell, dataset)


def test_file_that_is_no_cell_is_reported_and_left_out(tmp_path, capsys):
    synthetic.write(tmp_path, "small", seeds=2)
    whole = read_suite("small", tmp_path)
    (tmp_path / "small" / "hopper" / "bc-bc-50.json").write_bytes((tmp_path / "small/hopper/bc-bc-5.json").read_bytes())
    assert len(read_suite("small", tmp_path)) == len(whole) == len(suites.suite("small").cells)
    assert "bc-bc-50.json is no cell of suite small: left out" in capsys.readouterr().err


def test_result_of_a_method_from_outside_the_suite_is_read(tmp_path):
    synthetic.write(tmp_path, "small", seeds=2)
    result = dataclasses.replace(results.read(tmp_path / "small/hopper/bc-bc-5.json"), method="mine")
    results.write(tmp_path / "small/hopper/mine-bc-5.json", result)
    assert "mine" in {result.method for result in read_suite("small", tmp_path)}


def test_progress_of_a_chain_does_not_go_back_when_a_round_begins(tmp_path, monkeypatch):
    """The log of a new round is empty, and the updates of the last one are counted with it."""
    suite = dataclasses.replace(SUITES["small-self-improve"], settings={"steps": 10, "evals": 1})
    cell = Cell("hopper", "bc", "bc-2")
    config = dataclasses.replace(suite.config(cell), out=tmp_path)
    pack, seen = plan.Pack([cell], config, [], [], tmp_path, 0, rounds=3), []
    for number in range(2):
        log = pack.run_folder / f"round-{number}/hopper/bc-bc-2/bc-2-seed-0/metrics.jsonl"
        log.parent.mkdir(parents=True)
        for content in ("", '{"updates": 4}\n', '{"updates": 10}\n'):
            log.write_text(content)
            seen.append(pack.done())
        (pack.run_folder / f"round-{number}.json").touch()
        seen.append(pack.done())
    assert seen == [0, 4, 10, 10, 10, 14, 20, 20]
