"""A method from elsewhere, from data to a submission: least squares, weighted towards where the expert was. NumPy only.

python tests/least_squares.py quick submissions
"""

import sys
import time

import numpy as np

import sibench
from sibench.core.provenance import code_version
from sibench.leaderboard import Entry

STEPS, FEATURES, RIDGE = 30_000, 500, 1e-4


def squared_distances(a, b):  # [N, O], [M, O] -> [N, M]
    return (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)


def learn(background, expert, seed):
    """A policy: clone the steps, those most that led near to a state of the expert's."""
    step = background.transitions()  # obs, action, reward, next_obs, terminal
    rng = np.random.default_rng(seed)
    mean, std = step["obs"].mean(0), step["obs"].std(0) + 1e-3
    obs, action, reached = (step[name][:: 1 + len(step["obs"]) // STEPS] for name in ("obs", "action", "next_obs"))
    shown = (rng.permutation(expert.observations)[:1000] - mean) / std
    distance = squared_distances((reached - mean) / std, shown).min(1)
    weight = np.exp(-distance / np.median(distance))[:, None]
    projection, shift = 0.5 * rng.normal(size=(len(mean), FEATURES)), rng.normal(size=FEATURES)

    def features(query):
        return np.tanh((query - mean) / std @ projection + shift)

    x = features(obs)
    solution = np.linalg.solve((weight * x).T @ x + RIDGE * len(x) * np.eye(FEATURES), (weight * x).T @ action)
    return lambda query: features(query) @ solution


def main(suite, folder):
    start = time.monotonic()
    entry = Entry(suite, "least squares", commits=[code_version()], hardware="two processors")
    entry.about = "Weighted least squares on random features: clones the steps that led where the expert was."
    entry.config = {"steps": STEPS, "features": FEATURES, "ridge": RIDGE}
    for dataset in entry.datasets:
        task = dataset.split("/")[0]
        background = sibench.load(dataset, build=True)
        expert = sibench.load(f"{task}/expert-n10", build=True)  # observations only
        for seed in range(entry.num_seeds):
            played = sibench.evaluate(learn(background, expert, seed), task, entry.num_episodes)
            entry.add(background, seed, played, expert=expert)
            print(f"{dataset}, seed {seed}: {played.returns.mean():.0f}", flush=True)
    entry.hours = {"in all": (time.monotonic() - start) / 3600}
    return entry.write(folder)  # refused, with all the reasons, if it is not a valid submission


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
