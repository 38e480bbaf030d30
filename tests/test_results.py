"""Result files: what is written is read back, and damage is one message."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import REPO

from sibench.core.errors import UserError
from sibench.learning import results

FILE = REPO / "results/quick/hopper/bc-bc-1-n400.json"


def test_written_result_is_read_back(tmp_path):
    result = results.read(FILE)
    results.write(tmp_path / "copy.json", result)
    assert results.read(tmp_path / "copy.json") == result
    assert (tmp_path / "copy.json").read_bytes() == FILE.read_bytes()


def test_committed_results_hold_no_path_of_a_machine():
    for file in (REPO / "results").rglob("*.json"):
        assert not {"/root", "/home", "/tmp", "/work", "/Users"} & set(
            file.read_text().replace("/", " /").split(" ")
        ), file


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (lambda raw: raw.pop("identity"), "identity: missing"),
        (lambda raw: raw.update(more=1), "more: unknown field"),
        (lambda raw: raw.update(task="hoper"), "task: 'hoper'; allowed: ant"),
        (lambda raw: raw["background"].update(quality=None), "background.quality: None; allowed: a number"),
        (lambda raw: raw["background"].update(quality=False), "background.quality: False"),
        (lambda raw: raw.update(settings=[]), "settings: a list of 0; allowed: an object"),
        (lambda raw: raw["seeds"][0].update(nll="much"), "nll: 'much'; allowed: a number or null"),
        (lambda raw: raw["seeds"][0].update(returns=["much"]), "returns"),
        (lambda raw: raw["seeds"][0].update(returns=raw["seeds"][0]["returns"][1:]), "final episodes"),
        (lambda raw: raw["seeds"][0].update(seed=1), "one occurs twice"),
        (lambda raw: raw.update(seeds=[]), "seeds: none"),
        (lambda raw: raw.update(seeds=3), "seeds: 3; allowed: a list"),
    ],
)
def test_damaged_result_is_one_message(broken, why, tmp_path):
    raw = json.loads(FILE.read_text())
    broken(raw)
    (file := tmp_path / "bc.json").write_text(json.dumps(raw))
    with pytest.raises(UserError) as refused:
        results.read(file)
    assert "is not a result: " in str(refused.value) and "; run its cell again" in str(refused.value)
    assert why in str(refused.value)


def test_scores_are_returns_between_random_and_expert():
    result = results.read(FILE)
    assert result.episodes.shape == (4, 50)
    np.testing.assert_allclose(result.returns, [np.mean(seed.returns) for seed in result.seeds])
    np.testing.assert_allclose(result.improvement, result.score - result.background.quality)
    seeds = (results.SeedResult(0, "diverged", diverged_at=3), *result.seeds[1:])
    diverged = dataclasses.replace(result, seeds=seeds)
    np.testing.assert_allclose(diverged.score[0], 0, atol=1e-12)
    np.testing.assert_allclose(diverged.score[1:], result.score[1:])


def test_bc_is_converged_only_if_likely_and_as_good_as_its_data():
    result = results.read(FILE)
    teacher = result.background.teacher_nll

    def changed(nll_gap, quality_change=0.0):
        seeds = tuple(dataclasses.replace(seed, nll=teacher + 3 * nll_gap) for seed in result.seeds)
        background = dataclasses.replace(result.background, quality=float(result.score.mean()) + quality_change)
        return dataclasses.replace(result, seeds=seeds, background=background).converged

    assert changed(0.49) and changed(0.49, 0.09)
    assert not changed(0.51) and not changed(0.49, 0.11)
    nameless = dataclasses.replace(result, background=dataclasses.replace(result.background, teacher_nll=None))
    assert not nameless.converged
