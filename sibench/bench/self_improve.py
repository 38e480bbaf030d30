"""Self-improvement: apply a method to its own output, again and again (*Value from Observations*, section 4.6).

All seeds learn at once: first from the same data, then each from the episodes of its own last policy. Finished rounds
are kept, so a stopped command goes on where it was.

    <out>/<task>/self-<method>-<start>/
        round-0/          a run like any other: metrics, policies, results
        round-0.json      what came of it, and the datasets that its policies made
        result.json       all rounds as one result, at the end
"""

import dataclasses
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sibench import policies, tasks
from sibench.core import files, provenance
from sibench.core.errors import UserError
from sibench.core.ids import EPISODES, parse_id
from sibench.core.schema import parse
from sibench.core.settings import check_bounds, setting
from sibench.data import storage
from sibench.data.collect import is_built, play
from sibench.learning import results
from sibench.learning.method import Method, RunConfig, settings_that_move_results
from sibench.learning.methods import command_line, name_of
from sibench.learning.results import Background, Result, Round, SeedResult
from sibench.learning.run import identity, run_folder
from sibench.learning.train import train
from sibench.policies.evaluation import policy_act

SEEDS_PER_ROUND = 1000
"""Distance between the first seeds of two rounds, so that no two rounds draw alike."""


@dataclass(frozen=True)
class Chain:
    """A sequence of rounds, and the folder that it keeps them in."""

    method: Method
    config: RunConfig
    rounds: int = setting(at_least=1)
    episodes: int = setting(EPISODES, at_least=1)
    """Episodes that each policy plays for the next round."""
    drop_data: bool = False
    """Delete a dataset once it has been learned from; its card is kept."""

    def __post_init__(self):
        check_bounds(self)
        if self.config.sweep or len(self.config.dataset) > 1:
            raise UserError("self-improvement takes one --dataset to start from, and no --sweep")

    @property
    def start(self) -> str:
        """The dataset that the first round learns from."""
        return self.config.dataset[0]

    @property
    def name(self) -> str:
        return name_of(self.method, self.config)

    @property
    def folder(self) -> Path:
        return self.config.out / self.config.task / f"self-{self.name}-{self.start}"

    @property
    def task(self) -> tasks.Task:
        return tasks.make(self.config.task, self.config.engine)


@dataclass(frozen=True)
class Finished:
    """A finished round, and what the next one starts from."""

    round: Round
    next_data: tuple[str, ...]
    """The dataset that each seed learns from next: its own, or that of before if it diverged."""
    result: Result
    """The result of the round, with the seeds of all its datasets."""


def improve(chain: Chain) -> Path:
    """Run every round that is not finished; return the file of the result."""
    digest, settings = _identity_of(chain)
    data, finished = (chain.start,) * chain.config.seeds, []
    made_by: dict[str, tuple[int, int, str]] = {}  # dataset -> round, seed and data of the policy that played it
    with files.sole_user(chain.folder):
        provenance.start_run(chain.folder, settings)
        for number in range(chain.rounds):
            kept = chain.folder / f"round-{number}.json"
            if not kept.exists():
                for name in sorted(set(data) - {chain.start}):
                    if not is_built(parse_id(f"{chain.config.task}/{name}")):  # somebody deleted it
                        collect(chain, name, *made_by[name])
                names = [f"self-{chain.name}-{chain.start}-{digest}-i{number + 1}-s{i}" for i in range(len(data))]
                done = run_round(chain, number, data, names)
                files.write_atomic(kept, files.to_json(dataclasses.asdict(done)))
            done = _read_round(kept)
            pairs = zip(done.round.data_quality, done.round.score, strict=True)
            told = " ".join(f"{before:.2f} > {after:.2f}" for before, after in pairs)
            print(f"{chain.folder.name} round {number}: quality of data > score, by seed: {told}", flush=True)
            finished.append(done)
            if chain.drop_data:
                drop(chain, set(data) - {chain.start, *done.next_data})
            made_by |= {new: (number, i, data[i]) for i, new in enumerate(done.next_data) if new != data[i]}
            data = done.next_data
        file = chain.folder / "result.json"
        results.write(file, summarise(chain, finished))
        print(file)
        return file


def run_round(chain: Chain, number: int, data: tuple[str, ...], names: list[str]) -> Finished:
    """Train all seeds, each on its own data, and let every policy play the dataset of the next round."""
    found = [results.read(file) for file in train(round_config(chain, number, data), chain.method)]
    pairs = [(seed, result) for result in found for seed in result.seeds]
    pairs.sort(key=lambda pair: pair[0].seed)
    seeds: list[SeedResult] = [seed for seed, _ in pairs]
    backgrounds: list[Background] = [result.background for _, result in pairs]
    next_data, scores = [], []
    for index, seed in enumerate(seeds):
        if seed.status == "diverged":  # it has no policy: the next round tries again on the same data
            next_data.append(data[index])
            scores.append(0.0)
            continue
        size = "" if chain.episodes == EPISODES else f"-n{chain.episodes}"
        next_data.append(names[index] + size)
        scores.append(float(tasks.quality(chain.config.task, sum(seed.returns) / len(seed.returns))))
        collect(chain, next_data[-1], number, index, data[index])
    outcome = Round(
        data=data,
        data_quality=tuple(one.quality for one in backgrounds),
        score=tuple(scores),
        nll=tuple(seed.nll for seed in seeds),
        teacher_nll=tuple(one.teacher_nll for one in backgrounds),
    )
    return Finished(outcome, tuple(next_data), dataclasses.replace(found[0], seeds=tuple(seeds)))


def round_config(chain: Chain, number: int, data: tuple[str, ...]) -> RunConfig:
    """Return the config of a round: the first learns from one dataset, later ones from one a seed."""
    return dataclasses.replace(
        chain.config,
        dataset=data if number else (chain.start,),
        paired=number > 0,
        seed=chain.config.seed + SEEDS_PER_ROUND * number,
        out=chain.folder / f"round-{number}",
    )


def collect(chain: Chain, name: str, number: int, index: int, data: str) -> None:
    """Build the dataset `name`: episodes of the policy that seed `index` learned from `data` in a round."""
    task, id = chain.task, parse_id(f"{chain.config.task}/{name}")
    config = round_config(chain, number, (data,))
    path = (run_folder(config, chain.name) / f"{data}-seed-{config.seed + index}" / "policy").resolve()
    if not path.with_suffix(".json").exists():
        raise UserError(
            f"the dataset {name} is gone, and so is the policy that made it, {path}.json; put one of them back, or "
            f"delete {chain.folder} to start anew"
        )
    digest = policies.read_description(path)["weights_sha256"]
    if is_built(id) and storage.read_card(id)["policy"] == digest:
        return
    policy = policies.load(path)
    card = {
        "id": str(id),
        "task": task.id,
        "policy": digest,
        "policy_file": str(path),
        "mode": "sample",
        "seeds": f"collect/{task.id}/iteration-{number + 1}-seed-{index}",
        "num_episodes": chain.episodes,
        "command": provenance.command(),
    }
    with files.sole_user(storage.folder(id), wait=True):
        storage.write(id, play(task, policy_act(policy.network, "sample"), policy.params, card))


def drop(chain: Chain, names: set[str]) -> None:
    """Delete datasets, but keep their cards."""
    for name in names:
        id = parse_id(f"{chain.config.task}/{name}")
        if (path := storage.folder(id)).exists():
            files.write_atomic(chain.folder / "cards" / f"{path.name}.json", files.to_json(storage.read_card(id)))
            shutil.rmtree(path)


def summarise(chain: Chain, finished: list[Finished]) -> Result:
    """Return one result of all rounds: the data that the first learned from, and the policies of the last."""
    first, last = finished[0].result, finished[-1].result
    assert last.origin is not None
    origins = [one.result.origin for one in finished if one.result.origin is not None]
    seconds = {name: round(sum(origin.seconds[name] for origin in origins), 1) for name in last.origin.seconds}
    rounds = f"--rounds {chain.rounds} --episodes {chain.episodes}"
    command = command_line(chain.method, chain.config).removeprefix(f"python algorithms/{chain.method.file}.py")
    command = f"python -m data_gen.self_improve --method {chain.method.file} {rounds}{command}"
    return dataclasses.replace(
        last,
        dataset=chain.start,
        background=dataclasses.replace(first.background, teacher_nll=None),  # every round has its own
        identity=identity(chain.method, chain.config, chain.start, _round_settings(chain)),
        origin=dataclasses.replace(last.origin, command=command, seconds=seconds),
        rounds=tuple(one.round for one in finished),
    )


def _round_settings(chain: Chain) -> dict[str, Any]:
    return {"rounds": chain.rounds, "episodes": chain.episodes}


def _identity_of(chain: Chain) -> tuple[str, dict[str, Any]]:
    """Return a digest that names the chain's datasets, and the settings that must not change on a restart."""
    settings = settings_that_move_results(chain.config)
    settings |= {"method": chain.name, "episodes": chain.episodes, "start": chain.start, "engine": chain.task.backend}
    settings |= {"method_version": chain.method.version}
    text = json.dumps([str(chain.folder.resolve()), settings], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8], settings


def _read_round(file: Path) -> Finished:
    problems: list[str] = []
    try:
        done = parse(Finished, files.from_json(file.read_bytes()), "", problems)
    except ValueError as error:
        problems = [str(error)]
    if problems:
        raise UserError(f"{file} is damaged: {problems[0]}; delete it, and the same command runs its round again")
    return done
