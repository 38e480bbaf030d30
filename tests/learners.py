"""Shared by tests of learners: every method file, all its variants, and data small enough to see."""

import dataclasses
import functools
import importlib.util
import typing
from pathlib import Path

import jax
import numpy as np

from sibench.data import Dataset
from sibench.learning.method import Method, RunConfig

REPO = Path(__file__).parents[1]  # not conftest's, which sets how XLA compiles: this is used by perf_learners.py too
FILES = sorted((REPO / "algorithms").glob("[!_]*.py"))


@functools.cache
def module(name: str):
    """Import a file of algorithms/."""
    spec = importlib.util.spec_from_file_location(name, REPO / "algorithms" / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def method(name: str) -> Method:
    return module(name).METHOD


def own_fields(name: str) -> list[dataclasses.Field]:
    """List the fields that a method's Config adds to RunConfig."""
    shared = {field.name for field in dataclasses.fields(RunConfig)}
    return [field for field in dataclasses.fields(module(name).Config) if field.name not in shared]


def variants() -> list[tuple[str, dict]]:
    """List every method with its defaults, and once with each other value of a setting that has choices."""
    found: list[tuple[str, dict]] = []
    for file in FILES:
        found.append((file.stem, {}))
        for field in own_fields(file.stem):
            if typing.get_origin(field.type) is typing.Literal:
                others = set(typing.get_args(field.type)) - {field.default}
                found += [(file.stem, {field.name: value}) for value in sorted(others)]
            elif field.type is bool:
                found.append((file.stem, {field.name: not field.default}))
    return found


def small(name: str, **changes):
    """Return a config of a method with everything small."""
    sizes = {"task": "hopper", "dataset": ("random-n5",), "hidden": (8, 8), "batch_size": 8}
    little = {"features": 8, "candidates": 3, "target_every": 2}
    for field in own_fields(name):
        if field.metadata.get("phase"):
            sizes[field.name] = 3
        sizes |= {key: value for key, value in little.items() if key == field.name}
    return module(name).Config(**sizes | changes)


def dataset(lengths=(5, 1, 7, 3), obs_dim=3, action_dim=2, seed=0, **columns) -> Dataset:
    """Return a dataset of random numbers; every second episode ends in a terminal state."""
    rng, lengths = np.random.default_rng(seed), np.array(lengths)
    num, episodes = lengths.sum(), len(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    terminal, truncated = np.zeros((2, num), bool)
    terminal[offsets[1::2] - 1], truncated[offsets[2::2] - 1] = True, True
    made = Dataset(
        observations=rng.normal(size=(num + episodes, obs_dim)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(num, action_dim)).astype(np.float32),
        rewards=rng.normal(size=num).astype(np.float32),
        terminal=terminal,
        truncated=truncated,
        offsets=offsets,
        seeds=np.zeros(episodes, np.uint64),
        initial_states=np.zeros((episodes, 0), np.float32),
        card={"id": "toy", "engine": "c"},
    )
    return made._replace(**columns)


def of_lane(data, lane: int = 0):
    """Return the data of one lane, as its update function gets it."""
    return type(data)(*(s._replace(stats=take(s.stats, lane), stretch=take(s.stretch, lane)) for s in data))


def take(tree, lane: int):
    return jax.tree.map(lambda leaf: leaf[lane], tree)


def equal(a, b) -> bool:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in leaves)
