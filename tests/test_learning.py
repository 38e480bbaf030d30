"""Do learners learn? On real tasks, and so for many minutes: `make test-slow`."""

import numpy as np
import pytest
from learners import module

from sibench import tasks
from sibench.bench import suites
from sibench.bench.__main__ import main
from sibench.bench.config import Config
from sibench.bench.suites import SUITES, Suite, grid
from sibench.core import files
from sibench.learning.train import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]


def test_a_clone_of_100_demonstrations_is_half_as_good_as_the_expert(tmp_path):
    config = module("bc").Config(
        task="halfcheetah",
        dataset=("expert-n100",),
        build=True,
        expert="expert-n10",
        seeds=1,
        steps=40_000,
        learning_rate=1e-3,
        schedule="cosine",
        evals=4,
        eval_episodes=5,
        final_episodes=100,
        engine="c",
        out=tmp_path,
    )
    (file,) = train(config, module("bc").make)
    returns = files.from_json(file.read_bytes())["lanes"][0]["returns"]
    assert np.mean(returns) > 0.5 * tasks.references("halfcheetah")["expert"]["mean"]


def test_vfo_is_better_than_cloning_and_than_its_data(tmp_path, monkeypatch):
    """On the middle of the quick suite: hopper, data of two demonstrations."""
    cells = grid(("hopper",), ("bc", "vfo-bin"), ("bc-2-n400",))
    monkeypatch.setitem(SUITES, "learning", Suite("learning", "", cells, suites.QUICK | {"final_episodes": 100}))
    main(Config("learning", results=tmp_path / "results", runs=tmp_path / "runs"))
    bc, vfo = suites.read_suite("learning", tmp_path / "results")
    assert (bc.method, vfo.method) == ("bc", "vfo-bin")
    assert vfo.score.min() > bc.score.max()
    assert vfo.improvement.mean() > 0
