"""Playing submitted policies again, on seeds that nobody could know.

The key is drawn after the submission is fixed: a keyed hash of the submission's sha256. It decides which lanes are
played again and on which episode seeds, and is written down, so that anyone can repeat the verification. A claimed mean
must lie within the 99 % interval of the difference of two samples of one policy's episodes, and the two samples must
look like one distribution (Kolmogorov-Smirnov): else a claim of great spread could hide a shifted mean. The return of
the background data, from which improvement is counted, is held to the same.

A badge is as good as who may write verification.json: only the maintainers of a collection of submissions.
"""

import hashlib
import hmac
import itertools
import math
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import stats

from sibench import files, policies, provenance, tasks
from sibench.data.collect import uniform_act
from sibench.errors import UserError
from sibench.evaluation import policy_act
from sibench.heldout import played_on, teachers
from sibench.leaderboard import submission as sub
from sibench.leaderboard.schema import Count, Hash, Line, at_most, parse
from sibench.rollout import rollout

FILE = "verification.json"
CONFIDENCE = 0.99
"""That an honest submission passes all of its checks."""
ROUNDING = 0.001
"""Of returns in submissions."""
LEVELS = ("self-reported", "re-evaluated")
ALL = "the score over all of these"
LEAST = 8
"""Lanes that a badge rests on; all, where fewer finished."""


@dataclass(frozen=True)
class Check:
    """A mean that was claimed, and the same on other seeds."""

    what: Line
    claimed: float
    found: float
    reach: float
    """How far the two may lie apart."""
    p: float
    """That so unlike samples are of one distribution."""
    least_p: float

    @property
    def passed(self) -> bool:
        return abs(self.claimed - self.found) <= self.reach and self.p >= self.least_p


@dataclass(frozen=True)
class Verification:
    format: Literal["sibench-verification-1"]
    submission_sha256: Hash
    key: Hash
    episodes: Count
    engine: Line
    code: Line
    versions: dict[Line, Line]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)


def new_key(secret: bytes, submission_sha256: str) -> str:
    return hmac.new(secret, submission_sha256.encode(), hashlib.sha256).hexdigest()


def verify(folder: Path, key: str = "", secret: bytes = b"", num: int = LEAST, episodes: int = 0) -> Verification:
    """Check `num` lanes of a submission that was read without complaint, and write down what came of it.

    Args:
        key: of an earlier verification, to repeat it; else one is made of `secret`, or of a fresh random one.
        episodes: of each lane; 0 are as many as its suite asks for.
    """
    submission, digest = sub.read(folder)
    if not sub.has_policies(folder):
        raise UserError(f"{folder} has no policies: it stays {LEVELS[0]}")
    key = key or new_key(secret or secrets.token_bytes(32), digest)
    episodes = episodes or sub.num_episodes(submission.suite)
    lanes = drawn(submission, key)[:num]
    backgrounds = {cell.background.id: cell for cell, _ in lanes}
    if not lanes:
        raise UserError(f"{folder} has no lane that finished: there is nothing to play")
    level = (1 - CONFIDENCE) / (2 * len(lanes) + len(backgrounds) + 1)
    checks, pairs = [], []
    for cell, lane in lanes:
        policy = policies.load(folder / sub.policy_file(submission.suite, cell.background.id, lane.seed))
        found = play(policy, cell, held_back(key, f"{cell.background.id}/{lane.seed}", episodes))
        checks.append(compare(name_of(cell, lane), lane.returns, found, level))
        task = cell.background.id.split("/")[0]
        pairs.append(tuple(tasks.quality(task, np.array(of)) for of in (lane.returns, found)))
        _say(checks[-1])
    checks.append(compare_means(ALL, pairs, level))  # each may lie within its own reach, and all of them too high
    _say(checks[-1])
    for id, cell in backgrounds.items():
        checks.append(_check_background(cell, held_back(key, id, episodes), level))
        _say(checks[-1])
    result = Verification(
        format="sibench-verification-1",
        submission_sha256=digest,
        key=key,
        episodes=episodes,
        engine=", ".join(sorted({cell.engine for cell, _ in lanes})),
        code=provenance.code_version(),
        versions=provenance.versions(),
        checks=tuple(checks),
    )
    files.write_atomic(folder / FILE, files.to_json(asdict(result)))
    return result


def drawn(submission: sub.Submission, key: str) -> list[tuple[sub.Cell, sub.Lane]]:
    """Lanes in the order in which a key has them played."""
    lanes = [(cell, lane) for cell in submission.cells for lane in cell.lanes if lane.status == "finished"]
    return sorted(lanes, key=lambda pair: _digest(key, pair[0].background.id, pair[1].seed))


def name_of(cell: sub.Cell, lane: sub.Lane) -> str:
    return f"{cell.background.id}, seed {lane.seed}"


def held_back(key: str, name: str, num: int) -> np.ndarray:
    """[num] uint64 episode seeds."""
    return np.array([_digest(key, name, i) for i in range(num)], np.uint64)


def _digest(key: str, name: str, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{key}/{name}/{number}".encode()).digest()[:8], "big")


def play(policy: policies.Policy | None, cell: sub.Cell, seeds: np.ndarray, of_data: bool = False) -> np.ndarray:
    """Returns of a policy, or of uniform actions; one behind the data may see the state where learners see frames."""
    task = tasks.make(cell.background.id.split("/")[0], cell.engine)
    task = played_on(task, policy) if of_data else task
    if policy is None:
        return rollout(task, uniform_act(task.action_size), None, seeds).reward_sum
    sizes, needed = (policy.obs_dim, policy.network.action_dim), (task.observation_size, task.action_size)
    if sizes != needed:
        raise UserError(f"a policy of {cell.background.id} takes and gives {sizes}; {task.id} has {needed}")
    return rollout(task, policy_act(policy.network, "sample"), policy.params, seeds).reward_sum


def compare(what: str, claimed: Sequence[float], found: np.ndarray, level: float) -> Check:
    """Of two samples of returns, at this level of each of two tests."""
    alike = float(stats.ks_2samp(np.round(claimed, 2), np.round(found, 2)).pvalue)
    return replace(compare_means(what, [(claimed, found)], level), p=alike, least_p=level)


def compare_means(what: str, pairs: Sequence[tuple[Sequence[float], np.ndarray]], level: float) -> Check:
    """Of what is claimed and what is found of one lane or several, at this level."""
    claimed, found = (float(np.mean([np.mean(pair[side]) for pair in pairs])) for side in (0, 1))
    error = math.sqrt(sum(np.var(of, ddof=1) / len(of) for pair in pairs for of in pair)) / len(pairs)
    freedom = sum(min(map(len, pair)) - 1 for pair in pairs)
    reach = float(stats.t.ppf(1 - level / 2, freedom)) * error + ROUNDING
    return Check(what, claimed, found, reach, 1.0, 0.0)


def _check_background(cell: sub.Cell, seeds: np.ndarray, level: float) -> Check:
    """Its spread is the one that is found: the one that is claimed could be anything."""
    data, behind = cell.background, teachers({"id": cell.background.id})
    ends = np.cumsum([round(len(seeds) * num / sum(num for _, num in behind)) for _, num in behind])
    shares = np.split(seeds, ends[:-1])
    found = np.concatenate(
        [play(one, cell, share, of_data=True) for (one, _), share in zip(behind, shares, strict=True)]
    )
    # of successes and failures (Agresti and Coull): if all fail here, some may have succeeded there
    seen = [*found, 0, 1, 0, 1] if set(found) <= {0, 1} else found
    error = float(np.std(seen, ddof=1)) * math.sqrt(1 / data.num_episodes + 1 / len(found))
    reach = float(stats.t.ppf(1 - level / 2, len(found) - 1)) * error + ROUNDING
    return Check(f"{data.id}, the data", data.return_mean, float(np.mean(found)), reach, 1.0, 0.0)


def level(verification: Verification | None) -> str:
    if verification and not verification.passed:
        return "verified, and failed"
    return LEVELS[verification is not None]


def is_enough(verification: Verification, submission: sub.Submission) -> bool:
    """For a badge. A check that fails is enough whatever it rests on."""
    played = {check.what for check in verification.checks}
    lanes = [name_of(cell, lane) for cell, lane in drawn(submission, verification.key)]
    enough = len(played.intersection(lanes)) >= min(LEAST, len(lanes))
    return enough and verification.episodes >= sub.num_episodes(submission.suite)


def _say(check: Check) -> None:
    print(
        f"{check.what}: claimed {check.claimed:.4g}, found {check.found:.4g}, may differ by {check.reach:.3g}; "
        f"one distribution: p = {check.p:.2g} {'good' if check.passed else 'FAILED'}",
        flush=True,
    )


def read(folder: Path, submission: sub.Submission, submission_sha256: str) -> Verification | None:
    """The verification of a submission; None if there is none that counts, or it is of another submission.

    That its policies were played cannot be read off a file; that they are there, and that the lanes are those of its
    key with the returns that are claimed, can.
    """
    if not (folder / FILE).exists():
        return None
    problems: list[str] = []
    try:
        found = parse(Verification, files.from_json(sub.read_bytes(folder / FILE).decode()), "", problems)
    except (ValueError, RecursionError) as error:
        problems = [str(error)]
    if problems:
        raise UserError(f"{folder / FILE}: not a verification:\n  {at_most(problems)}")
    if found.submission_sha256 != submission_sha256:
        return None
    lanes = {name_of(cell, lane): float(np.mean(lane.returns)) for cell, lane in drawn(submission, found.key)}
    claimed = {check.what: check.claimed for check in found.checks if check.what in lanes}
    if not claimed or claimed != dict(itertools.islice(lanes.items(), len(claimed))) or not sub.has_policies(folder):
        raise UserError(f"{folder / FILE}: does not verify this submission: policies, lanes or claims are not its own")
    return found if is_enough(found, submission) or not found.passed else None
