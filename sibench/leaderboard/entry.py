"""Making submissions: the one door, for the results of our own runner and for methods from anywhere."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sibench import files, provenance, tasks
from sibench.data import Dataset, storage
from sibench.data import Demonstrations as Episodes
from sibench.errors import UserError, unknown
from sibench.evaluation import Evaluation
from sibench.leaderboard import submission as sub
from sibench.leaderboard.schema import at_most
from sibench.leaderboard.submission import (
    Background,
    Cell,
    Claims,
    Demonstrations,
    Interval,
    Lane,
    Submission,
    diverged,
)
from sibench.policies import read_description
from sibench.results import Result

ELSEWHERE = ("task", "dataset", "sweep", "seed", "seeds", "paired", "final_episodes", "demos", "expert")
"""Settings of a run that a submission has in other places."""
FACTS = [field.name for field in dataclasses.fields(Background) if field.name != "recipe_sha256"]


@dataclass
class Entry:
    """A submission in the making: `add` every seed on every dataset of a suite, then `write`."""

    suite: str
    name: str
    """Of the method."""
    commits: Sequence[str]
    """Of the code that made the numbers."""
    hardware: str
    about: str = ""
    paper: str | None = None
    """Its https address, as that of the code."""
    code: str | None = None
    privileges: Sequence[str] = ()
    """What the method sees beyond expert observations and background steps: background rewards, expert actions."""
    config: dict[str, Any] = field(default_factory=dict)
    """All its settings, save those of single datasets."""
    versions: dict[str, str] = field(default_factory=provenance.versions)
    hours: dict[str, float] = field(default_factory=dict)
    """What it cost, such as {"train": 3.5}."""
    cells: dict[str, Cell] = field(default_factory=dict, init=False)
    policies: dict[tuple[str, int], Path] = field(default_factory=dict, init=False)

    def __post_init__(self):
        sub.suite(self.suite)

    @property
    def datasets(self) -> list[str]:
        """Ids of the datasets that the suite asks for; each with `num_seeds` seeds, judged by `num_episodes`."""
        return list(sub.datasets(self.suite))

    @property
    def num_seeds(self) -> int:
        return sub.num_seeds(self.suite)

    @property
    def num_episodes(self) -> int:
        return sub.num_episodes(self.suite)

    def add(
        self,
        background: Dataset,
        seed: int,
        played: Evaluation | None,
        *,
        expert: Dataset | Episodes | None = None,
        policy: Path | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        """What one seed, having learned from one dataset, earned.

        Args:
            played: what `sibench.evaluate` returned; None if the seed diverged.
            expert: the demonstrations that it learned from.
            policy: a file that `sibench.policies.save` wrote, so that others can play it again.
            config: settings of this dataset.
        """
        id, lane = background.card["id"], diverged(seed)
        if played is not None:
            digest = read_description(policy)["weights_sha256"] if policy else None
            lane = finished(seed, np.round(played.returns, 3), played.lengths, played.num_nonfinite, digest)
        if id not in self.cells:
            mean, std = float(background.returns.mean()), float(background.returns.std())
            facts = {"id": id, "engine": background.card["engine"], "num_episodes": background.num_episodes}
            facts |= {"return_mean": mean, "return_std": std, "quality": tasks.quality(id.split("/")[0], mean)}
            facts |= {"teacher_nll": None, "content_sha256": storage.content_sha256(background)}
            seen = expert and Demonstrations(expert.card["id"], expert.num_episodes, expert.card["content_sha256"])
            self.add_cell(facts, seen, played.engine if played else background.card["engine"], config or {})
        self.add_lane(id, lane, policy)

    def add_cell(
        self, facts: dict[str, Any], expert: Demonstrations | None, engine: str, config: dict[str, Any]
    ) -> None:
        if facts["id"] not in self.datasets:
            raise unknown(f"{self.suite} dataset", facts["id"], self.datasets)
        background = Background(**facts, recipe_sha256=sub.recipe_sha256(facts["id"]))
        self.cells[background.id] = Cell(background, expert, engine, config, ())

    def add_lane(self, id: str, lane: Lane, policy: Path | None) -> None:
        self.cells[id] = dataclasses.replace(self.cells[id], lanes=(*self.cells[id].lanes, lane))
        if policy:
            self.policies[id, lane.seed] = policy

    def submission(self) -> Submission:
        """With its claims; refused if anything is wrong with it."""
        draft = Submission(
            format=sub.FORMAT,
            id=sub.id_of(self.suite, self.name),
            suite=self.suite,
            suite_sha256=sub.suite_sha256(self.suite),
            method=sub.Method(self.name, self.about, self.paper, self.code, tuple(self.commits)),
            privileges=tuple(self.privileges),
            config=self.config,
            versions=self.versions,
            hardware=self.hardware,
            hours=self.hours,
            claims=Claims(Interval(0, 0, 0), {}),
            cells=tuple(self.cells.values()),
        )
        checked, problems = sub.check(files.from_json(sub.as_json(draft)))
        if problems:
            raise UserError(f"{draft.id} is not a submission yet:\n  {at_most(problems)}")
        return dataclasses.replace(checked, claims=sub.claims(checked))

    def write(self, folder: Path | str = "submissions") -> Path:
        """The folder `<folder>/<suite>-<name>`, whole or not at all."""
        made = self.submission()
        with files.atomic_folder(Path(folder) / made.id) as temporary:
            files.write_atomic(temporary / sub.FILE, sub.as_json(made))
            for (id, seed), source in self.policies.items():
                place = temporary / sub.policy_file(made.suite, id, seed)
                for suffix in (".safetensors", ".json"):
                    files.write_atomic(place.with_suffix(suffix), source.with_suffix(suffix).read_bytes())
            if problems := list(sub.wrong_files(temporary, made)):
                raise UserError(f"{made.id} is not a submission yet:\n  {at_most(problems)}")
        return Path(folder) / made.id


def finished(
    seed: int, returns: Iterable[float], lengths: Iterable[int], num_nonfinite: int, policy: str | None, nll=None
) -> Lane:
    """With the aggregate and the hash of its returns."""
    returns, lengths = tuple(map(float, returns)), tuple(map(int, lengths))
    mean = float(np.mean(returns)) if returns else None
    return Lane(seed, "finished", mean, num_nonfinite, nll, policy, sub.returns_sha256(returns), returns, lengths)


def of_results(results: Sequence[Result], policies: Path | None = None) -> Entry:
    """The entry of one method of our own, from the results of a suite.

    Args:
        policies: folder with `<task>/<cell>-seed-<seed>.safetensors` and `.json`, as the runner leaves them.
    """
    configs = [_config(result.raw) for result in results]
    shared = dict(item for item in configs[0].items() if all(item in config.items() for config in configs))
    entry = Entry(
        suite=results[0].suite,
        name=results[0].method,
        commits=sorted({result.raw["code"] for result in results}),
        hardware=", ".join(sorted({result.raw["device"] for result in results})),
        privileges=results[0].raw["privileges"],
        config=shared,
        versions=_merged([result.raw["versions"] for result in results]),
        hours=_hours(results),
    )
    for result, config in zip(results, configs, strict=True):
        raw = result.raw
        facts = {name: raw["dataset"][name] for name in FACTS}
        expert = Demonstrations(*(raw["expert"][name] for name in ("id", "num_episodes", "content_sha256")))
        own = {name: value for name, value in config.items() if name not in shared}
        entry.add_cell(facts, expert, raw["engine"], own)
        for row in raw["lanes"]:
            lane, file = diverged(row["seed"]), None
            if row["status"] != "diverged":
                names = ("seed", "returns", "lengths", "num_nonfinite", "policy_sha256")
                lane = finished(*(row[name] for name in names), row["nll"])
                name = f"{result.method}-{result.dataset}-seed-{row['seed']}.safetensors"
                file = policies and policies / result.task / name
            entry.add_lane(facts["id"], lane, file)
    return entry


def _config(raw: dict[str, Any]) -> dict[str, Any]:
    from sibench.train import FREE

    return {name: value for name, value in raw["config"].items() if name not in (*FREE, *ELSEWHERE)}


def _merged(versions: list[dict[str, str]]) -> dict[str, str]:
    """All values of a name, if runs differ in it."""
    names = sorted({name for each in versions for name in each})
    return {name: ", ".join(sorted({each.get(name, "-") for each in versions})) for name in names}


def _hours(results: Sequence[Result]) -> dict[str, float]:
    """Its share of what the programs took that trained it."""
    shares = [(len(r.raw["lanes"]) / r.raw["lanes_together"], r.raw["seconds"]) for r in results]
    names = sorted({name for _, seconds in shares for name in seconds})
    return {name: round(sum(share * s.get(name, 0) for share, s in shares) / 3600, 4) for name in names}
