"""Apply a method to its own output, again and again: train, collect, repeat (*Value from Observations*, section 4.6).

    python -m data_gen.self_improve --algorithm vfo --task hopper --start bc-5 --iterations 20 --reward disc

Whatever this command does not know is a flag of the algorithm. All seeds learn at once: first from the same data, then
each from the episodes of its own last policy. What is done is kept; the same command goes on after it was stopped.

    <out>/<task>/self-<method>-<start>/
        iteration-0/         a run like any other: metrics, policies, results
        iteration-0.json     quality of the data and of the policies, ids of the datasets that these made
        chain.json           all iterations, at the end
"""

from dataclasses import dataclass

from sibench import cli
from sibench.errors import UserError, require_positive
from sibench.ids import EPISODES


@dataclass(frozen=True)
class Config:
    """Improve upon a dataset, then upon the improved policy's own data, and so on."""

    algorithm: str
    """A file of algorithms/."""
    start: str
    """Dataset that the first iteration learns from."""
    iterations: int = 20
    """Times to train."""
    episodes: int = EPISODES
    """Episodes that each policy plays for the next iteration."""
    drop_data: bool = False
    """Delete a dataset once it has been learned from; its card is kept."""

    def __post_init__(self):
        require_positive(self, "iterations", "episodes")


def main(config: Config, words: list[str]) -> None:
    import dataclasses
    import hashlib
    import json

    import tyro

    from sibench import files, packs, provenance, tasks
    from sibench.algorithm import Spec, defaults
    from sibench.data.collect import is_built
    from sibench.ids import parse_id
    from sibench.train import FREE

    module = packs.module(config.algorithm)
    words = ["--dataset", config.start, *words]
    default = defaults(module.Config, config.algorithm, words)
    prog = f"python -m data_gen.self_improve --algorithm {config.algorithm}"
    options = tyro.cli(module.Config, args=words, prog=prog, default=default)
    if options.sweep or len(options.dataset) > 1:
        raise UserError("self-improvement has one dataset to start from, --start, and nothing swept")
    task = tasks.make(options.task, options.engine)
    name = module.make(options, Spec(task.observation_size, task.action_size)).name
    folder = options.out / task.name / f"self-{name}-{config.start}"
    settings = {name: value for name, value in dataclasses.asdict(options).items() if name not in FREE}
    settings |= {"algorithm": name, "episodes": config.episodes, "start": config.start, "engine": task.backend}
    digest = hashlib.sha256(json.dumps([str(folder.resolve()), settings], default=str).encode()).hexdigest()[:8]
    data, rounds, chain, plays = [config.start] * options.seeds, [], [], {}
    with files.sole_user(folder):
        provenance.start_run(folder, settings)
        for iteration in range(config.iterations):
            kept = folder / f"iteration-{iteration}.json"
            if not kept.exists():
                for one in set(data) - {config.start}:
                    if not is_built(parse_id(f"{task.name}/{one}")):
                        collect(*play_of(config, options, task, folder, *plays[one]))
                prefix = f"self-{name}-{config.start}-{digest}-i{iteration + 1}"
                row = improve(config, options, module.make, task, folder, iteration, data, prefix)
                files.write_atomic(kept, files.to_json(row))
            row = files.from_json(kept.read_bytes())
            told = " ".join(f"{a:.2f} > {b:.2f}" for a, b in zip(row["data_quality"], row["score"], strict=True))
            print(f"{folder.name} iteration {iteration}: data > policy, by seed: {told}", flush=True)
            rounds.append(row.pop("result"))
            chain.append(row)
            if config.drop_data:
                drop(folder, [f"{task.name}/{one}" for one in set(data) - {config.start, *row["next_data"]}])
            for index, one in enumerate(row["next_data"]):
                if one != data[index]:
                    plays[one] = iteration, index, data[index], one
            data = row["next_data"]
        files.write_atomic(folder / "chain.json", files.to_json(whole(rounds, chain)))
        print(folder / "chain.json")


def whole(rounds: list[dict], chain: list[dict]) -> dict:
    """One result of the results of all iterations: what the first learned from, and what came of the last."""
    first, last = rounds[0], rounds[-1]
    seconds = {name: round(sum(one["seconds"][name] for one in rounds), 1) for name in last["seconds"]}
    dataset = first["dataset"] | {"teacher_nll": None}  # each iteration has its own, in its row of the chain
    return last | {"config": first["config"], "dataset": dataset, "seconds": seconds, "chain": chain}


def improve(config: Config, options, make, task, folder, iteration: int, data: list[str], prefix: str) -> dict:
    """One iteration of all seeds: learn from `data`, play, and say what came of it."""
    import dataclasses
    import json

    from sibench import tasks
    from sibench.train import train

    first = iteration == 0
    seed = options.seed + 1000 * iteration  # no two iterations draw alike
    out = folder / f"iteration-{iteration}"
    used = (config.start,) if first else tuple(data)
    settings = {"dataset": used, "paired": not first, "seed": seed, "out": out}
    results = [json.loads(file.read_bytes()) for file in train(dataclasses.replace(options, **settings), make)]
    pairs = [(lane, result["dataset"]) for result in results for lane in result["lanes"]]
    lanes, dataset = zip(*sorted(pairs, key=lambda pair: pair[0]["seed"]), strict=True)
    next_data, scores = [], []
    for index, lane in enumerate(lanes):
        if lane["status"] == "diverged":  # there is no policy to play: the next iteration tries again on the same data
            next_data.append(data[index])
            scores.append(0.0)
            continue
        next_data.append(f"{prefix}-s{index}" + (f"-n{config.episodes}" if config.episodes != EPISODES else ""))
        scores.append(tasks.quality(task.name, sum(lane["returns"]) / len(lane["returns"])))
        collect(*play_of(config, options, task, folder, iteration, index, data[index], next_data[-1]))
    return {
        "iteration": iteration,
        "data": data,
        "data_quality": [one["quality"] for one in dataset],
        "score": scores,
        "nll": [lane.get("nll") for lane in lanes],
        "teacher_nll": [one["teacher_nll"] for one in dataset],
        "next_data": next_data,
        "result": results[0] | {"lanes": list(lanes)},
    }


def play_of(config: Config, options, task, folder, iteration: int, index: int, data: str, name: str) -> tuple:
    """How the policy that a seed learned from `data` in an iteration makes the dataset `name`."""
    seed = options.seed + 1000 * iteration + index
    place = folder / f"iteration-{iteration}" / task.name
    policy = next(place.glob(f"*/{data}-seed-{seed}/policy.json"), None)
    if policy is None:
        raise UserError(
            f"the dataset {name} is gone, and so is the policy that made it, {place}/*/{data}-seed-{seed}; put one of "
            f"them back, or delete {folder} to start anew"
        )
    seeds = f"collect/{task.id}/iteration-{iteration + 1}-seed-{index}"
    return task, policy.with_suffix("").resolve(), name, seeds, config.episodes


def drop(folder, datasets: list[str]) -> None:
    """Delete datasets, save for their cards."""
    import shutil

    from sibench import files
    from sibench.data import storage
    from sibench.ids import parse_id

    for id in map(parse_id, datasets):
        if (path := storage.folder(id)).exists():
            files.write_atomic(folder / "cards" / f"{path.name}.json", files.to_json(storage.read_card(id)))
            shutil.rmtree(path)


def collect(task, policy_file, name: str, seeds: str, episodes: int) -> None:
    """Play a learned policy and store what it did as a dataset of that name."""
    from sibench import files, policies, provenance
    from sibench.data import storage
    from sibench.data.collect import is_built, play
    from sibench.evaluation import policy_act
    from sibench.ids import parse_id

    id = parse_id(f"{task.name}/{name}")
    digest = policies.read_description(policy_file)["weights_sha256"]
    if is_built(id) and storage.read_card(id)["policy"] == digest:
        return
    policy = policies.load(policy_file)
    card = {
        "id": str(id),
        "task": task.id,
        "policy": digest,
        "policy_file": str(policy_file),
        "mode": "sample",
        "seeds": seeds,
        "num_episodes": episodes,
        "command": provenance.command(),
    }
    with files.sole_user(storage.folder(id), wait=True):
        storage.write(id, play(task, policy_act(policy.network, "sample"), policy.params, card))


if __name__ == "__main__":
    cli.run(main, Config, "python -m data_gen.self_improve", rest=True)
