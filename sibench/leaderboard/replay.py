"""Replay submitted policies on seeds that nobody could know in advance.

A random key is drawn after the submission is fixed. It decides which policies are replayed and on which episode seeds,
and is recorded, so that anyone can repeat the verification.

Each claimed mean return must lie within a confidence interval around the replayed one, and the two samples of returns
must be compatible with one distribution (Kolmogorov-Smirnov): otherwise a claim of large spread could hide a shifted
mean. The mean return of the background data, from which improvement is counted, is tested in the same way. All tests
together keep an honest submission with probability CONFIDENCE.

A badge is only as trustworthy as the maintainers who issue it: who may write verification.json decides.
"""

import hashlib
import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats

from sibench import policies, tasks
from sibench.core import files, provenance
from sibench.core.errors import UserError
from sibench.core.schema import Count, Hash, Line, at_most, parse
from sibench.data.collect import uniform_act
from sibench.leaderboard import submission as sub
from sibench.leaderboard import validation
from sibench.leaderboard.submission import VERIFICATION_FILE, DatasetResult, Submission
from sibench.learning.convergence import played_on, teachers
from sibench.learning.results import SeedResult
from sibench.policies.evaluation import policy_act
from sibench.tasks.rollout import rollout

CONFIDENCE = 0.99
ROUNDING = 0.001
"""Precision of returns in submissions."""
LEVELS = ("self-reported", "re-evaluated")
ALL_POLICIES = "the mean score of these policies"
MIN_POLICIES = 8
"""Policies that a badge rests on; all of them where fewer finished."""


@dataclass(frozen=True)
class Check:
    """A mean return that was claimed, and the mean of a replay."""

    subject: Line
    claimed: float
    replayed: float
    tolerance: float
    """How far the two may lie apart."""
    p: float
    """Kolmogorov-Smirnov p-value that both samples have one distribution; 1 where only means are compared."""
    min_p: float

    @property
    def passed(self) -> bool:
        return abs(self.claimed - self.replayed) <= self.tolerance and self.p >= self.min_p


@dataclass(frozen=True)
class Verification:
    """The outcome of a replay."""

    format: Literal["sibench-verification-2"]
    submission_sha256: Hash
    key: Hash
    episodes: Count
    """Of each policy."""
    engine: Line
    code: Line
    versions: dict[Line, Line]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)


def verify(folder: Path, key: str, num: int, episodes: int | None) -> Verification:
    """Replay `num` policies of a valid submission, and write the outcome to verification.json."""
    submission, digest = validation.read(folder)
    if not (folder / "policies").is_dir():
        raise UserError(f"{folder} has no policies: it stays {LEVELS[0]}")
    key = key or secrets.token_hex(32)
    episodes = episodes or sub.board(submission.suite).num_episodes
    if not draw(submission, key):
        raise UserError(f"{folder} has no seed that finished: there is nothing to replay")
    checks = []
    for check in _replay(folder, submission, key, num, episodes):
        checks.append(check)
        distribution = f"; same distribution: p = {check.p:.2g}" if check.min_p else ""
        print(
            f"{check.subject}: claimed {check.claimed:.4g}, replayed {check.replayed:.4g}, "
            f"tolerance {check.tolerance:.3g}{distribution}; {'passed' if check.passed else 'FAILED'}",
            flush=True,
        )
    verification = Verification(
        format="sibench-verification-2",
        submission_sha256=digest,
        key=key,
        episodes=episodes,
        engine=", ".join(sorted({result.engine for result, _ in draw(submission, key)[:num]})),
        code=provenance.code_version(),
        versions=provenance.versions(),
        checks=tuple(checks),
    )
    files.write_atomic(folder / VERIFICATION_FILE, files.to_json(asdict(verification)))
    return verification


def _replay(folder: Path, submission: Submission, key: str, num: int, episodes: int) -> Iterator[Check]:
    board, chosen = sub.board(submission.suite), draw(submission, key)[:num]
    backgrounds = {result.background.id: result for result, _ in chosen}
    level = (1 - CONFIDENCE) / (2 * len(chosen) + len(backgrounds) + 1)
    pairs = []
    for result, seed in chosen:
        id = result.background.id
        policy = policies.load(folder / board.policy_file(id, seed.seed))
        replayed = play(policy, result, episode_seeds(key, f"{id}/{seed.seed}", episodes))
        pairs.append([tasks.quality(id.split("/")[0], np.array(sample)) for sample in (seed.returns, replayed)])
        yield compare(subject(result, seed), seed.returns, replayed, level)
    yield compare_means(ALL_POLICIES, pairs, level)  # each may be within its tolerance, yet all too high
    for id, result in backgrounds.items():
        yield check_background(result, episode_seeds(key, id, episodes), level)


def draw(submission: Submission, key: str) -> list[tuple[DatasetResult, SeedResult]]:
    """Return all seeds that finished, with their datasets, in the order in which a key has them replayed."""
    finished = [(result, seed) for result in submission.results for seed in result.seeds if seed.status == "finished"]
    return sorted(finished, key=lambda pair: _digest(key, pair[0].background.id, pair[1].seed))


def subject(result: DatasetResult, seed: SeedResult) -> str:
    return f"{result.background.id}, seed {seed.seed}"


def episode_seeds(key: str, name: str, num: int) -> np.ndarray:
    """Return [num] uint64 episode seeds."""
    return np.array([_digest(key, name, i) for i in range(num)], np.uint64)


def _digest(key: str, name: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{key}/{name}/{number}".encode()).digest()[:8], "big")


def play(policy: policies.Policy, result: DatasetResult, seeds: np.ndarray) -> np.ndarray:
    """Return the returns of a submitted policy on these episode seeds."""
    task = tasks.make(result.background.id.split("/")[0], result.engine)
    sizes, needed = (policy.obs_dim, policy.network.action_dim), (task.observation_size, task.action_size)
    if sizes != needed:
        raise UserError(f"a policy of {result.background.id} takes and gives {sizes}; {task.id} has {needed}")
    return play_behaviour_policy(policy, result, seeds)


def play_behaviour_policy(policy: policies.Policy | None, result: DatasetResult, seeds: np.ndarray) -> np.ndarray:
    """Return the returns of a policy behind a dataset; None plays uniform actions.

    It may observe the state where learners observe frames, as it did when the data was made.
    """
    task = played_on(tasks.make(result.background.id.split("/")[0], result.engine), policy)
    if policy is None:
        return rollout(task, uniform_act(task.action_size), None, seeds).reward_sum
    return rollout(task, policy_act(policy.network, "sample"), policy.params, seeds).reward_sum


def compare(subject: str, claimed: Sequence[float], replayed: np.ndarray, level: float) -> Check:
    """Compare two samples of returns: their means and their distributions, each at this level."""
    p = float(stats.ks_2samp(np.round(claimed, 2), np.round(replayed, 2)).pvalue)  # type: ignore[attr-defined]
    return replace(compare_means(subject, [(claimed, replayed)], level), p=p, min_p=level)


def compare_means(subject: str, pairs: Sequence[Sequence[Any]], level: float) -> Check:
    """Compare what is claimed and what is replayed, averaged over these policies, at this level."""
    claimed, replayed = (float(np.mean([np.mean(pair[side]) for pair in pairs])) for side in (0, 1))
    error = math.sqrt(sum(np.var(sample, ddof=1) / len(sample) for pair in pairs for sample in pair)) / len(pairs)
    freedom = sum(min(map(len, pair)) - 1 for pair in pairs)
    return Check(subject, claimed, replayed, _tolerance(level, freedom, error), p=1.0, min_p=0.0)


def check_background(result: DatasetResult, seeds: np.ndarray, level: float) -> Check:
    """Compare the mean return of a dataset with a replay of its behaviour policies.

    Only the replayed spread counts: the claimed one could be anything.
    """
    data, (behind, nums) = result.background, zip(*teachers({"id": result.background.id}), strict=True)
    ends = np.cumsum([round(len(seeds) * num / sum(nums)) for num in nums])
    shares = zip(behind, np.split(seeds, ends[:-1]), strict=True)
    replayed = np.concatenate([play_behaviour_policy(policy, result, share) for policy, share in shares])
    # Successes and failures (Agresti and Coull): if all fail in the replay, some may still have succeeded in the data.
    sample = [*replayed, 0, 1, 0, 1] if set(replayed) <= {0, 1} else replayed
    error = float(np.std(sample, ddof=1)) * math.sqrt(1 / data.num_episodes + 1 / len(replayed))
    tolerance = _tolerance(level, len(replayed) - 1, error)
    return Check(f"{data.id}, the data", data.return_mean, float(np.mean(replayed)), tolerance, p=1.0, min_p=0.0)


def _tolerance(level: float, freedom: int, error: float) -> float:
    return float(stats.t.ppf(1 - level / 2, freedom)) * error + ROUNDING


def level_of(verification: Verification | None) -> str:
    if verification and not verification.passed:
        return "verified, and failed"
    return LEVELS[verification is not None]


def is_enough(verification: Verification, submission: Submission) -> bool:
    """Whether a verification that passed covers enough policies and episodes for a badge."""
    subjects = {subject(*pair) for pair in draw(submission, verification.key)}
    covered = subjects & {check.subject for check in verification.checks}
    enough = len(covered) >= min(MIN_POLICIES, len(subjects))
    return enough and verification.episodes >= sub.board(submission.suite).num_episodes


def read(folder: Path, submission: Submission, submission_sha256: str) -> Verification | None:
    """Return the verification of a submission; None if there is none, or it covers too little or another submission.

    Whether the policies were really replayed cannot be read off a file. That the policies exist, and that the checks
    are about those that the key draws and about the returns that are claimed, can.
    """
    file = folder / VERIFICATION_FILE
    if not file.exists():
        return None
    problems: list[str] = []
    verification = parse(Verification, sub.read_json(file)[0], "", problems)
    if problems:
        raise UserError(f"{file}: not a verification:\n  {at_most(problems)}")
    if verification.submission_sha256 != submission_sha256:
        return None
    means = {subject(result, seed): float(np.mean(seed.returns)) for result, seed in draw(submission, verification.key)}
    claimed = {check.subject: check.claimed for check in verification.checks if check.subject in means}
    if not claimed or claimed != dict(list(means.items())[: len(claimed)]) or not (folder / "policies").is_dir():
        raise UserError(f"{file}: does not verify this submission: its policies, its seeds or its returns are others")
    return verification if is_enough(verification, submission) or not verification.passed else None
