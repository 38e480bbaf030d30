"""Small suites, made-up results and submissions for the tests of the leaderboard.

These tests load it as a plugin and import from it, so it says PYTEST_DONT_REWRITE.
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sibench import tasks
from sibench.bench import suites
from sibench.core import cli, files
from sibench.core.ids import parse_id
from sibench.data.collect import recipe_sha256
from sibench.leaderboard import submission as sub
from sibench.leaderboard.__main__ import Command, main
from sibench.learning import results
from sibench.learning.results import Background, Demonstrations, Identity, Origin, Result, SeedResult

QUALITY = {"bc-1-n5": 0.2, "bc-5-n5": 0.7}
"""Of the made-up data of the suite `tiny`."""
GAIN = {"bc": 0.0, "vfo-bin": 0.15, "awr": 0.1}
SETTINGS = {"steps": 10_000, "batch_size": 64, "hidden": [64, 64], "temperature": 1.0}
MARKUP = '<img src=x onerror="alert(1)"> & </script><script>alert(2)</script>'


@pytest.fixture(scope="module")
def small_suites():
    """`tiny` for made-up results; `real` and `one`, whose data is made in seconds."""
    tiny = suites.grid(("hopper", "walker2d"), ("bc", "vfo-bin", "awr"), QUALITY)
    real = suites.grid(("hopper",), ("bc",), ("random-n100", "bc-1-n5"))
    with pytest.MonkeyPatch.context() as patch:
        for name, cells, episodes in (("tiny", tiny, 8), ("real", real, 40), ("one", real[:1], 40)):
            settings = {"seeds": 3, "final_episodes": episodes, "expert": "expert-n10"}
            patch.setitem(suites.SUITES, name, suites.Suite(name, f"for tests, {name}", cells, settings))
        yield


@pytest.fixture(scope="module")
def real_data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIBENCH_DATA", str(tmp_path_factory.mktemp("datasets")))
        yield


def return_of(task: str, quality: float) -> float:
    references = tasks.references(task)
    assert references is not None
    random, expert = (references[kind]["mean"] for kind in ("random", "expert"))
    return random + quality * (expert - random)


def made_up_result(cell: suites.Cell, qualities: list[float | None], episodes: int = 8) -> Result:
    """A result of `tiny` with returns around these qualities; None is a seed that diverged."""
    task, id = cell.task, parse_id(f"{cell.task}/{cell.dataset}")
    rng = np.random.default_rng(list(f"tiny{task}{cell.name}".encode()))
    seeds = []
    for number, quality in enumerate(qualities):
        if quality is None:
            seeds.append(SeedResult(number, "diverged", diverged_at=7))
            continue
        returns = return_of(task, quality) + rng.normal(0, 0.03 * return_of(task, 1), episodes)
        seed = SeedResult(
            seed=number,
            status="finished",
            returns=tuple(np.round(returns, 3).tolist()),
            lengths=tuple(rng.integers(100, 1000, episodes).tolist()),
            nll=9.3,
            policy_sha256=hashlib.sha256(rng.bytes(8)).hexdigest(),
        )
        seeds.append(seed)
    quality = QUALITY[cell.dataset]
    return Result(
        format=results.FORMAT,
        suite="tiny",
        task=task,
        method=cell.method,
        dataset=cell.dataset,
        settings={},
        privileges=("background rewards",) if cell.method == "awr" else (),
        engine="c",
        action_size=tasks.make(task, "c").action_size,
        background=Background(
            id=str(id),
            engine="c",
            num_episodes=id.episodes,
            return_mean=return_of(task, quality),
            return_std=100.0,
            quality=quality,
            teacher_nll=9.1,
            recipe_sha256=recipe_sha256(id),
            content_sha256="a" * 64,
        ),
        expert=Demonstrations(f"{task}/expert-n10-v1", 10, "b" * 64),
        identity=Identity(1, 1, {}, SETTINGS | {"demos": 10, "final_episodes": 8}, {"jax": "0.10.1"}),
        origin=Origin(
            command="",
            code="c" * 40,
            python="3.12.7",
            machine="Linux x86_64",
            device="cpu",
            seconds={"compile": 1.0, "train": 60.0, "evaluate": 30.0},
            lanes=3,
            updates=10_000,
            pretrain_updates=0,
        ),
        seeds=tuple(seeds),
    )


def write_results(folder: Path) -> None:
    for number, cell in enumerate(suites.suite("tiny").cells):
        qualities: list = [QUALITY[cell.dataset] + GAIN[cell.method] + 0.01 * seed for seed in range(3)]
        if number == 5:
            qualities[1] = None
        results.write(results.path(folder, "tiny", cell.task, cell.name), made_up_result(cell, qualities))


def read_results(folder: Path, method: str) -> list[Result]:
    return [result for result in suites.read_suite("tiny", folder) if result.method == method]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_suites) -> Path:
    """A valid submission, made from results by the command."""
    root = tmp_path_factory.mktemp("leaderboard")
    write_results(root / "results")
    run("new", "--suite", "tiny", "--method", "vfo-bin", "--results", root / "results", "--out", root / "submissions")
    return root / "submissions" / "tiny-vfo-bin"


@pytest.fixture(scope="module")
def results_folder(folder) -> Path:
    return folder.parents[1] / "results"


@pytest.fixture
def valid(folder) -> dict:
    return json.loads((folder / sub.FILE).read_bytes())


@pytest.fixture
def changed(folder, tmp_path) -> Callable[[str], Path]:
    """Write another text as a stranger's submission, in a folder of its own."""

    def write(text: str) -> Path:
        place = tmp_path / folder.name
        files.write_atomic(place / sub.FILE, text.encode())
        return place

    return write


def run(*words: object) -> None:
    """Run the command line in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["leaderboard", *map(str, words)])
        cli.run(main, Command, "leaderboard")


def run_to_fail(capsys, *words: object) -> str:
    """Run the command line, which must end with exit code 2, and return its message."""
    with pytest.raises(SystemExit) as end:
        run(*words)
    assert end.value.code == 2
    return capsys.readouterr().err


def seed_of(value: dict, result: int = 0, seed: int = 0) -> dict:
    return value["results"][result]["seeds"][seed]


def all_seeds(value: dict) -> list[dict]:
    return [seed for result in value["results"] for seed in result["seeds"]]


def replace_seeds(result: Result, change: Callable[[SeedResult], SeedResult]) -> Result:
    return dataclasses.replace(result, seeds=tuple(map(change, result.seeds)))
