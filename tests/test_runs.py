"""Runs: what they leave behind, how they are judged, and what they say."""

import dataclasses
import json
import re
import sys

import jax
import numpy as np
import pytest
from learners import dataset, method, small, take

from sibench import policies
from sibench.core.errors import UserError
from sibench.learning import judge, methods, results
from sibench.learning.method import Spec
from sibench.learning.run import Run
from sibench.learning.sampling import make_data
from sibench.learning.train import Trainer, train
from sibench.policies.networks import STATS

TINY = {"seeds": 2, "steps": 20, "evals": 2, "eval_episodes": 3, "final_episodes": 3, "log_every": 7, "demos": 2}
TINY |= {"checkpoint_every": 5, "expert": "expert-n2", "build": True, "engine": "c"}
"""Settings of a run of a second."""


@pytest.fixture(scope="module", autouse=True)
def datasets(tmp_path_factory):
    """One folder of datasets for this file."""
    root = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIBENCH_DATA", str(root))
        yield root


def test_run_leaves_a_result_policies_and_metrics(tmp_path):
    config = small("vfo", out=tmp_path, **TINY)
    (file,) = train(config, method("vfo"))
    result = results.read(file)
    assert (result.method, result.task, result.dataset, result.engine) == ("vfo-bin", "hopper", "random-n5", "c")
    assert result.background.id == "hopper/random-n5-v1" and result.expert.num_episodes == 2
    assert [seed.seed for seed in result.seeds] == [0, 1]
    for seed in result.seeds:
        assert seed.status == "finished" and len(seed.returns) == 3 and len(seed.evaluations) == 2
        folder = file.parent / f"random-n5-seed-{seed.seed}"
        assert policies.read_description(folder / "policy")["weights_sha256"] == seed.policy_sha256
        assert policies.load(folder / "policy").obs_dim == 11
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        updates = [row["updates"] for row in rows]
        assert updates == sorted(updates) and {5, 7, 10, 14, 15, 20} <= set(updates)
        assert all(np.isfinite(value) for row in rows for value in row.values())
        assert sum("return" in row for row in rows) == 2
    assert result.seeds[0].returns != result.seeds[1].returns
    assert str(tmp_path) not in file.read_text() and "algorithms/vfo.py --task hopper" in result.origin.command


def test_finished_run_is_not_run_again(tmp_path, capsys):
    config = small("bc", out=tmp_path, **TINY)
    (file,) = train(config, method("bc"))
    before = file.read_bytes()
    assert train(config, method("bc")) == [file] and file.read_bytes() == before
    assert "there already" in capsys.readouterr().out


def test_changed_method_file_is_reported(tmp_path, capsys, algorithms_copy):
    """Nothing is stale, as the version is the same; but nobody edits a loss and wonders why nothing moved."""
    config = small("bc", out=tmp_path, **TINY)
    train(config, methods.load("bc"))
    assert "note:" not in capsys.readouterr().out
    (algorithms_copy / "bc.py").write_text((algorithms_copy / "bc.py").read_text() + "# edited\n")
    train(config, methods.load("bc"))
    said = capsys.readouterr().out
    assert "note: bc.py changed since" in said and "raise its METHOD.version" in said


def test_sweeps_and_datasets_make_one_result_a_cell(tmp_path):
    config = small("vfo", out=tmp_path, **TINY | {"dataset": ("random-n5", "expert-n2"), "seeds": 1})
    files = train(dataclasses.replace(config, sweep=("temperature", "0.5", "2")), method("vfo"))
    assert [file.name for file in files] == [
        f"result-{data}-temperature-{value}.json" for data in ("random-n5", "expert-n2") for value in ("0.5", "2")
    ]
    found = [results.read(file) for file in files]
    assert [result.identity.settings["temperature"] for result in found] == [0.5, 2.0, 0.5, 2.0]
    assert len({result.background.content_sha256 for result in found}) == 2


def test_held_out_steps_are_freed_before_the_next_dataset(tmp_path, monkeypatch):
    """Frames are large. Each lane is judged by the held-out steps of its own dataset."""
    events, held_out, judge_seed = [], judge.held_out, judge.judge_seed

    def play(task, card):
        events.append((card["id"], played := held_out(task, card)))
        return played

    def watch(run, index, policy, diverged, teacher, watch):
        events.append((run.datasets[run.lanes[index].dataset].card["id"], teacher))
        return judge_seed(run, index, policy, diverged, teacher, watch)

    monkeypatch.setattr(judge, "held_out", play)
    monkeypatch.setattr(judge, "judge_seed", watch)
    names = ("random-n5", "random-n6")
    train(small("bc", out=tmp_path, **TINY | {"dataset": names, "seeds": 2}), method("bc"))
    (id_a, teacher_a), (id_b, teacher_b) = events[0], events[3]
    assert id_a != id_b and teacher_a.teacher_nll and teacher_b.teacher_nll and teacher_a is not teacher_b
    assert [(id, teacher is teacher_a, teacher is teacher_b) for id, teacher in events] == [
        *[(id_a, True, False)] * 3,
        *[(id_b, False, True)] * 3,
    ]

    paired = small("bc", out=tmp_path / "paired", **TINY | {"dataset": names[:1] * 2, "seeds": 2})
    (file,) = train(dataclasses.replace(paired, paired=True), method("bc"))
    assert [seed.seed for seed in results.read(file).seeds] == [0, 1]


def test_diverged_seed_is_a_row_of_the_result(tmp_path, capsys):
    config = small("bc", out=tmp_path, **TINY | {"seeds": 1})
    config = dataclasses.replace(config, sweep=("learning_rate", "0.001", "1e30"))
    good, bad = (results.read(file).seeds[0] for file in train(config, method("bc")))
    assert good.status == "finished"
    assert bad.status == "diverged" and bad.diverged_at < 20 and bad.returns == ()
    assert "random-n5-learning_rate-1e+30-seed-0: diverged at update" in capsys.readouterr().out


def test_accelerator_evaluates_all_lanes_together(tmp_path, monkeypatch):
    """It agrees with a CPU, which plays one lane after the other, except where rounding draws another action."""
    config = small("bc", out=tmp_path, **TINY | {"dataset": ("random-n5", "expert-n2"), "eval_episodes": 9})
    trainer = Trainer(Run(config, method("bc")))
    trainer.diverged[1], trainer.done = 3, 7
    in_turn = trainer.play()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    together = trainer.play()
    assert in_turn.shape == together.shape == (4, 9)
    alive = [0, 2, 3]
    assert (np.abs(in_turn - together)[alive] < 0.02).mean() > 0.6 and len(np.unique(in_turn)) > 20


def test_folder_of_another_run_is_refused(tmp_path, monkeypatch):
    config = small("bc", out=tmp_path, **TINY)
    train(config, method("bc"))
    with pytest.raises(UserError, match=r"holds a run with seed=0 \(here 3\); choose another --out"):
        train(dataclasses.replace(config, seed=3), method("bc"))
    with pytest.raises(UserError, match=r"holds a run with method_version=1 \(here 2\)"):
        train(config, dataclasses.replace(method("bc"), version=2))
    monkeypatch.setattr("sibench.LEARNING_VERSION", 99)
    with pytest.raises(UserError, match=r"holds a run with learning_version=1 \(here 99\)"):
        train(config, method("bc"))


def test_progress_says_how_fast_and_how_long(tmp_path, capsys):
    train(small("bc", out=tmp_path, **TINY | {"steps": 40, "evals": 4}), method("bc"))
    said = capsys.readouterr().out
    assert re.search(r"2 lanes on 1 of 1 devices; compiled in [\d.]+ s", said)
    assert len(re.findall(r"policy_loss .* return .* updates/s .* min left", said)) == 4


def test_weight_decay_leaves_input_statistics_alone():
    config = small("bc", weight_decay=0.1, learning_rate=0.1)
    data = make_data([dataset()], dataset(seed=1), [0])
    background = data.background._replace(
        stats=take(data.background.stats, 0), stretch=take(data.background.stretch, 0)
    )
    own, learner = data._replace(background=background), method("bc").make(config, Spec(3, 2))
    before = learner.init(own, jax.random.key(0))
    after, _ = learner.update(before, own, jax.random.key(1))
    for name in ("mean", "std"):
        pair = [state.policy.params[STATS]["encoder"][name] for state in (before, after)]
        np.testing.assert_array_equal(*pair)
        assert np.any(pair[0] != {"mean": 0, "std": 1}[name])


def test_more_demonstrations_than_there_are_is_refused(tmp_path):
    with pytest.raises(UserError, match="demos=3"):
        train(small("vfo", out=tmp_path, **TINY | {"demos": 3}), method("vfo"))


def test_missing_logger_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="EXTRAS=log"):
        train(small("bc", out=tmp_path, wandb="project", **TINY), method("bc"))


def test_tensorboard_gets_every_lane(tmp_path):
    pytest.importorskip("tensorboardX")
    train(small("bc", out=tmp_path, tensorboard=True, **TINY), method("bc"))
    assert len(list(tmp_path.rglob("random-n5-seed-*/events.*"))) == 2


def test_wandb_gets_settings_and_every_lane(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="make setup EXTRAS=log")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    logged, log = {}, wandb.Run.log
    monkeypatch.setattr(wandb.Run, "log", lambda run, row: (logged.update(run.config, **row), log(run, row)))
    train(small("bc", out=tmp_path / "out", wandb="project", **TINY), method("bc"))
    assert logged["settings"]["steps"] == logged["updates"] == 20
    assert {f"random-n5-seed-{seed}/policy_loss" for seed in (0, 1)} <= logged.keys()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
