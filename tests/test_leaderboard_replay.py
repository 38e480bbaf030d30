"""A replay confirms honest claims and finds false ones, and a forged verification is refused."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from submissions import run, run_to_fail

import sibench
from sibench import policies
from sibench.core.errors import UserError
from sibench.leaderboard import Entry, replay, validation
from sibench.leaderboard import submission as sub
from sibench.leaderboard.render import render
from sibench.policies.evaluation import Evaluation
from sibench.policies.networks import BinsPolicy

pytest_plugins = ["submissions"]
pytestmark = pytest.mark.usefixtures("small_suites")


@pytest.fixture(scope="module")
def honest(real_data, small_suites, tmp_path_factory) -> Path:
    """A submission with policies: untrained networks, which fall within a second."""
    root, network = tmp_path_factory.mktemp("honest"), BinsPolicy(3, (8, 8))
    entry = Entry("real", "fresh networks", commits=["0.1.0"], hardware="cpu")
    for number, dataset in enumerate(entry.datasets):
        background = sibench.load(dataset, build=True)
        for seed in range(entry.num_seeds):
            params = network.init(jax.random.key(10 * number + seed), jnp.zeros((1, 11)))
            policy = policies.Policy(network, params, 11)
            policies.save(root / f"{number}-{seed}", policy, {})
            played = sibench.evaluate(policy, "hopper", entry.num_episodes)
            entry.add(background, seed, played, policy=root / f"{number}-{seed}")
    return entry.write(root / "submissions")


KEY = "5" * 64
"""Draws first a policy of random-n100, then one of bc-1-n5, which takes longer."""


def rewrite(folder: Path, out: Path, change) -> Path:
    """Copy a submission with the returns of every seed changed and consistent arithmetic."""
    submission, _ = validation.read(folder)
    board = sub.board("real")
    entry = Entry("real", submission.method.name, commits=["0.1.0"], hardware="cpu")
    for result in submission.results:
        id = result.background.id
        background = sibench.load(id)
        for seed in result.seeds:
            played = Evaluation(change(np.array(seed.returns)), np.array(seed.lengths), 0, "c")
            entry.add(background, seed.seed, played, policy=folder / board.policy_file(id, seed.seed))
    return entry.write(out)


def test_honest_submission_passes_and_gets_a_badge(honest, monkeypatch, capsys):
    run("validate", honest)
    monkeypatch.setattr(replay, "MIN_POLICIES", 2)
    run("verify", honest, "--key", KEY, "--num", 2, "--episodes", 40)
    assert f"re-evaluated; to repeat it: --key {KEY} --episodes 40" in capsys.readouterr().out
    submission, digest = validation.read(honest)
    verification = replay.read(honest, submission, digest)
    assert verification is not None and verification.passed
    assert len({check.subject for check in verification.checks}) == len(verification.checks) == 5
    assert not replay.is_enough(dataclasses.replace(verification, episodes=39), submission)
    run("validate", honest)
    assert "re-evaluated" in capsys.readouterr().out
    assert replay.read(honest, submission, "0" * 64) is None  # the badge of another submission does not count
    monkeypatch.setattr(replay, "MIN_POLICIES", 3)
    assert replay.read(honest, submission, digest) is None  # nor does one of too few policies
    (honest / sub.VERIFICATION_FILE).unlink()


@pytest.mark.parametrize(
    "change",
    [
        lambda returns: 1.3 * returns + 20,
        lambda returns: np.where(np.arange(len(returns)) % 2, 9 * returns.mean() + returns, returns / 9),
    ],
    ids=["raised", "raised under cover of a large spread"],
)
def test_inflated_returns_are_found_by_replay(change, honest, tmp_path, capsys):
    forged = rewrite(honest, tmp_path, change)
    run("validate", forged)  # the arithmetic is right
    assert "checks failed" in run_to_fail(capsys, "verify", forged, "--key", KEY, "--num", 1, "--episodes", 40)
    run("validate", forged)
    assert "verified, and failed" in capsys.readouterr().out
    (warning,) = render(tmp_path, (), tmp_path / "index.html")
    assert "verified, and failed" in warning


def test_data_reported_as_poorer_is_found_by_replay(honest, tmp_path, capsys, monkeypatch):
    """Improvement counts from the data, so poorer data would raise the score."""
    load = sibench.load

    def load_worse(id):
        data = load(id)
        return data._replace(rewards=data.rewards / 10)

    monkeypatch.setattr(sibench, "load", load_worse)
    forged = rewrite(honest, tmp_path, lambda returns: returns)
    output = run_to_fail(capsys, "verify", forged, "--key", KEY, "--num", 1, "--episodes", 40)
    assert "1 of 3 checks failed" in output


def test_every_key_draws_other_episode_seeds():
    seeds, other_seeds = (replay.episode_seeds(key, "a", 1000) for key in (KEY, "6" * 64))
    assert seeds.dtype == np.uint64 and len(set(seeds) | set(other_seeds)) == 2000


def test_honest_claims_fail_in_at_most_one_percent_of_replays():
    """For skewed returns, whose means differ only by chance."""
    rng = np.random.default_rng(0)
    failed = 0
    for _ in range(200):
        samples = [rng.exponential(100, 200) for _ in range(16)]
        pairs = list(zip(samples[::2], samples[1::2], strict=True))
        checks = [replay.compare("x", *pair, 0.01 / 17) for pair in pairs]
        checks.append(replay.compare_means(replay.ALL_POLICIES, pairs, 0.01 / 17))
        failed += not all(check.passed for check in checks)
    assert failed <= 6


def test_small_inflations_of_all_policies_are_found_together():
    """Each policy is within its own tolerance."""
    rng = np.random.default_rng(0)
    samples = [rng.normal(0.5, 0.3, 50) for _ in range(16)]
    pairs = [(claimed + 0.12, replayed) for claimed, replayed in zip(samples[::2], samples[1::2], strict=True)]
    assert all(replay.compare("x", *pair, 0.01 / 17).passed for pair in pairs)
    assert not replay.compare_means(replay.ALL_POLICIES, pairs, 0.01 / 17).passed


def test_forged_verification_is_refused(honest, tmp_path, capsys):
    """Without policies, with other claims, with policies that its key does not draw, and without policy files."""
    place = rewrite(honest, tmp_path, lambda returns: returns)
    file = place / sub.VERIFICATION_FILE
    run("verify", place, "--key", KEY, "--num", 1, "--episodes", 40)
    assert "passed, on too little for a badge" in capsys.readouterr().out
    run("validate", place)
    genuine, (submission, _) = json.loads(file.read_text()), validation.read(place)
    keys = (f"{i:064x}" for i in range(100))
    other_key = next(key for key in keys if replay.draw(submission, key)[0] != replay.draw(submission, KEY)[0])
    for forged in (
        genuine | {"checks": genuine["checks"][1:]},
        genuine | {"checks": [genuine["checks"][0] | {"claimed": 5.0}]},
        genuine | {"key": other_key},
    ):
        file.write_text(json.dumps(forged))
        assert "does not verify this submission" in run_to_fail(capsys, "validate", place)
    file.write_text(json.dumps(genuine | {"format": "sibench-verification-1"}))
    assert "not a verification" in run_to_fail(capsys, "validate", place)
    file.write_text(json.dumps(genuine))
    shutil.rmtree(place / "policies")
    assert "does not verify this submission" in run_to_fail(capsys, "validate", place)


def test_changed_missing_linked_and_strange_policy_files_are_refused(honest, tmp_path, capsys):
    place = rewrite(honest, tmp_path, lambda returns: returns)
    weights = place / "policies/hopper/bc-1-n5-seed-0.safetensors"
    content = weights.read_bytes()

    weights.write_bytes(content[:-1] + b"\x01")
    assert "its sha256 is not the policy_sha256 of its seed" in run_to_fail(capsys, "validate", place)
    weights.unlink()
    weights.symlink_to("/etc/passwd")
    assert "a link; only regular files are read" in run_to_fail(capsys, "validate", place)
    weights.unlink()
    assert "missing; policies are given for all seeds or for none" in run_to_fail(capsys, "validate", place)
    weights.write_bytes(content)
    run("validate", place)

    description = weights.with_suffix(".json")
    text = description.read_text()
    description.write_text("[" * 100_000)
    assert "bc-1-n5-seed-0.json: not strict JSON" in run_to_fail(capsys, "validate", place)
    description.write_text(text)

    (place / "policies/hopper/policy.py").write_text("print()")
    assert "does not belong to a submission" in run_to_fail(capsys, "validate", place)
    (place / "policies/hopper/policy.py").unlink()
    (place / "policies").rename(tmp_path / "policies")
    (place / "policies").symlink_to(tmp_path / "policies")
    assert "a link; only regular files are read" in run_to_fail(capsys, "validate", place)


def dataset_result(id: str, return_mean: float, num_episodes: int) -> Any:
    data = SimpleNamespace(id=id, return_mean=return_mean, num_episodes=num_episodes)
    return SimpleNamespace(background=data, engine="c")


def test_behaviour_policies_of_image_data_replay_on_states_but_submitted_ones_may_not():
    result = dataset_result("lift-image/bc-200-v1", 0.9, 100)
    assert replay.check_background(result, np.arange(20, dtype=np.uint64), 0.01).passed
    ((policy, _),) = replay.teachers({"id": result.background.id})
    assert policy is not None
    with pytest.raises(UserError, match=r"takes and gives \(19, 7\)"):
        replay.play(policy, result, np.arange(2, dtype=np.uint64))


def test_rare_successes_in_the_data_may_be_missed_by_a_replay(monkeypatch):
    monkeypatch.setattr(replay, "teachers", lambda card: [(None, 20)])
    monkeypatch.setattr(replay, "play_behaviour_policy", lambda policy, result, seeds: np.zeros(len(seeds)))
    for claimed, passes in ((0.003, True), (0.1, False)):
        result = dataset_result("can/bc-2-v1", claimed, 1000)
        assert replay.check_background(result, np.arange(500, dtype=np.uint64), 0.01).passed == passes
