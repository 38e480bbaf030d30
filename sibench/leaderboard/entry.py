"""Make submissions: from the results of this repository's methods, and for methods from anywhere."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sibench.core import files, provenance
from sibench.core.errors import UserError, unknown
from sibench.core.schema import at_most
from sibench.data import Dataset
from sibench.data import Demonstrations as ExpertObservations
from sibench.leaderboard import submission as sub
from sibench.leaderboard import validation
from sibench.leaderboard.submission import DatasetResult, MethodCard, Score, Submission
from sibench.learning.judge import describe_background
from sibench.learning.results import Demonstrations, Identity, Origin, Result, SeedResult
from sibench.policies import read_description
from sibench.policies.evaluation import Evaluation

STATED_ELSEWHERE = ("seed", "seeds", "final_episodes", "demos", "expert", "engine")
"""Settings of a run that have a place of their own in a submission."""


@dataclass
class Entry:
    """A submission in the making: `add` every seed on every dataset of a suite, then `write`."""

    suite: str
    name: str
    """Name of the method."""
    commits: Sequence[str]
    """Commits of the code that made the numbers."""
    hardware: str
    about: str = ""
    paper: str | None = None
    """Its https address; the same for `code`."""
    code: str | None = None
    privileges: Sequence[str] = ()
    """What the method sees beyond expert observations and background steps: background rewards, expert actions."""
    config: dict[str, Any] = field(default_factory=dict)
    """All its settings, except those of single datasets."""
    versions: dict[str, str] = field(default_factory=provenance.versions)
    hours: dict[str, float] = field(default_factory=dict)
    """What it cost, such as {"train": 3.5}."""
    results: dict[str, DatasetResult] = field(default_factory=dict, init=False)
    policies: dict[tuple[str, int], Path] = field(default_factory=dict, init=False)

    def __post_init__(self):
        self.board = sub.board(self.suite)
        self.datasets = list(self.board.datasets)
        """Ids of the datasets that the suite asks for."""
        self.num_seeds = self.board.num_seeds
        """Number of seeds that each dataset needs at least."""
        self.num_episodes = self.board.num_episodes
        """Number of final episodes that each seed needs at least; all seeds need the same number."""

    def add(
        self,
        background: Dataset,
        seed: int,
        played: Evaluation | None,
        *,
        expert: Dataset | ExpertObservations | None = None,
        policy: Path | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        """Add what `sibench.evaluate` returned after one seed learned from one dataset; None if the seed diverged.

        `policy` is a file that `sibench.policies.save` wrote, so that others can replay it. `config` holds settings of
        this dataset alone.
        """
        id = background.card["id"]
        if id not in self.results:
            self.require_dataset(id)
            engine: Any = played.engine if played else background.card["engine"]
            shown = expert and Demonstrations(expert.card["id"], expert.num_episodes, expert.card["content_sha256"])
            data = describe_background(id.split("/")[0], background, None)
            self.results[id] = DatasetResult(data, shown, engine, config or {}, seeds=())
        result = SeedResult(seed, "diverged")
        if played is not None:
            result = SeedResult(
                seed=seed,
                status="finished",
                returns=tuple(np.round(played.returns, 3).tolist()),
                lengths=tuple(map(int, played.lengths)),
                progress=() if played.progress is None else tuple(np.round(played.progress, 3).tolist()),
                num_nonfinite=played.num_nonfinite,
                policy_sha256=read_description(policy)["weights_sha256"] if policy else None,
            )
        self.results[id] = dataclasses.replace(self.results[id], seeds=(*self.results[id].seeds, result))
        if policy:
            self.policies[id, seed] = policy

    def require_dataset(self, id: str) -> None:
        """Raise `UserError` if the suite does not ask for a dataset."""
        if id not in self.datasets:
            raise unknown(f"{self.suite} dataset", id, self.datasets)

    def submission(self) -> Submission:
        """Return the submission with its scores; raise `UserError` with all that is missing or wrong."""
        draft = Submission(
            format=sub.FORMAT,
            id=sub.id_of(self.suite, self.name),
            suite=self.suite,
            suite_sha256=self.board.sha256,
            method=MethodCard(self.name, self.about, self.paper, self.code, tuple(self.commits)),
            privileges=tuple(self.privileges),  # pyright: ignore[reportArgumentType]  (checked below)
            config=self.config,
            versions=self.versions,
            hardware=self.hardware,
            hours=self.hours,
            score=Score(0, 0, 0),
            task_scores={},
            results=tuple(self.results.values()),
        )
        checked, problems = validation.check(files.from_json(sub.to_json(draft)))
        if checked is None or problems:
            raise UserError(f"{draft.id} is not a submission yet:\n  {at_most(problems)}")
        score, task_scores = sub.scores(checked)
        return dataclasses.replace(checked, score=score, task_scores=task_scores)

    def write(self, folder: Path | str = "submissions") -> Path:
        """Write the folder `<folder>/<suite>-<name>`, whole or not at all, and return it."""
        submission = self.submission()
        with files.atomic_folder(Path(folder) / submission.id) as temporary:
            files.write_atomic(temporary / sub.FILE, sub.to_json(submission))
            for (id, seed), source in self.policies.items():
                place = temporary / self.board.policy_file(id, seed)
                for suffix in (".safetensors", ".json"):
                    files.write_atomic(place.with_suffix(suffix), source.with_suffix(suffix).read_bytes())
            if problems := list(validation.file_problems(temporary, submission)):
                raise UserError(f"{submission.id} is not a submission yet:\n  {at_most(problems)}")
        return Path(folder) / submission.id


def from_results(results: Sequence[Result], policies: Path | None = None) -> Entry:
    """Return the entry of one method, made from its results on a suite.

    `policies` is a folder with `<task>/<cell>-seed-<seed>.safetensors` and `.json`, as the runner leaves them. Where
    results differ in a version, the entry names all. Its hours are the share of each program that its seeds took.
    """
    identities: list[Identity] = []
    origins: list[Origin] = []
    for result in results:
        if result.identity is None or result.origin is None:
            raise UserError(
                f"the result of {result.method} on {result.background.id} does not say how it was made: its identity "
                "or its origin is null; run its cell again"
            )
        identities.append(result.identity)
        origins.append(result.origin)
    configs = [{n: value for n, value in one.settings.items() if n not in STATED_ELSEWHERE} for one in identities]
    shared = dict(item for item in configs[0].items() if all(item in config.items() for config in configs))
    versions = [
        {"python": origin.python, "machine": origin.machine} | identity.packages
        for identity, origin in zip(identities, origins, strict=True)
    ]
    shares = [(len(result.seeds) / one.lanes, one.seconds) for result, one in zip(results, origins, strict=True)]
    entry = Entry(
        suite=results[0].suite,
        name=results[0].method,
        commits=sorted({origin.code for origin in origins}),
        hardware=", ".join(sorted({origin.device for origin in origins})),
        privileges=sorted({privilege for result in results for privilege in result.privileges}),
        config=shared,
        versions={
            name: ", ".join(sorted({version.get(name, "-") for version in versions}))
            for name in sorted(set().union(*versions))
        },
        hours={
            stage: round(sum(share * seconds.get(stage, 0) for share, seconds in shares) / 3600, 4)
            for stage in sorted(set().union(*(origin.seconds for origin in origins)))
        },
    )
    for result, config in zip(results, configs, strict=True):
        entry.require_dataset(id := result.background.id)
        varied = {name: value for name, value in config.items() if name not in shared}
        entry.results[id] = DatasetResult(result.background, result.expert, result.engine, varied, result.seeds)
        for seed in result.seeds:
            if policies and seed.status == "finished":
                name = f"{result.method}-{result.dataset}-seed-{seed.seed}.safetensors"
                entry.policies[id, seed.seed] = policies / result.task / name
    return entry
