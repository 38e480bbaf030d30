"""Golden numbers: a short run of every method. They move only together with a version."""

import dataclasses

import jax
import numpy as np
import pytest
from learners import FILES, method, small

import sibench
from sibench.learning import results
from sibench.learning.train import train

TINY = {"seeds": 2, "steps": 20, "evals": 2, "eval_episodes": 3, "final_episodes": 3, "log_every": 7, "demos": 2}
TINY |= {"checkpoint_every": 5, "expert": "expert-n2", "build": True, "engine": "c", "learning_rate": 0.01}
"""Settings of the golden runs."""
DECAYED = {name: {"schedule": "cosine", "weight_decay": 0.1} for name in ("bc", "vfo")}
"""Settings as suites have them; the other methods keep a constant rate without decay."""

LEARNING_VERSION, JAX_VERSION = 1, "0.10.1"
"""Versions of shared code and of jax that the numbers were made with. Other versions of jax round otherwise."""
GOLDEN = {
    "awr": (1, [14.0002, 13.9217], [31.45, 32.93]),
    "bc": (1, [13.9122, 13.8727], [30.74, 49.36]),
    "bco": (1, [14.0998, 14.2412], [19.16, 30.09]),
    "dilo": (1, [14.09, 14.0764], [57.93, 20.01]),
    "nce": (1, [15.7417, 22.2824], [12.46, 26.68]),
    "smodice": (1, [13.934, 14.0073], [37.84, 28.99]),
    "sqil": (1, [13.923, 13.9077], [60.38, 75.54]),
    "vfo": (1, [13.924, 13.9526], [38.22, 26.99]),
}
"""File -> version of the method, held-out NLL and mean return of each seed. A file of your own needs no row."""


@pytest.fixture(scope="module", autouse=True)
def datasets(tmp_path_factory):
    """One folder of datasets for this file."""
    root = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIBENCH_DATA", str(root))
        yield root


def golden_run(name, folder, changed=None):
    """Return the held-out NLL and the mean return of each seed of a short run."""
    config = small(name, out=folder, **TINY | DECAYED.get(name, {}))
    (file,) = train(config, changed or method(name))
    result = results.read(file)
    return result.nll, result.returns


@pytest.mark.parametrize("name", [file.stem for file in FILES if file.stem in GOLDEN])
def test_golden_numbers_move_only_with_a_version(name, tmp_path):
    version, nll, returns = GOLDEN[name]
    raise_it = (
        f"the numbers of {name} moved: raise `version` in METHOD of algorithms/{name}.py, or LEARNING_VERSION in "
        "sibench/__init__.py if shared code moved them; then record the new numbers here"
    )
    record = f"the version of {name} or of shared code changed: record its new numbers here"
    assert (method(name).version, sibench.LEARNING_VERSION) == (version, LEARNING_VERSION), record
    found_nll, found_returns = golden_run(name, tmp_path)
    same_jax = jax.__version__ == JAX_VERSION
    np.testing.assert_allclose(found_nll, nll, rtol=0, atol=1e-3 if same_jax else 0.05, err_msg=raise_it)
    if same_jax:
        np.testing.assert_allclose(found_returns, returns, rtol=0, atol=0.02, err_msg=raise_it)


def test_swapped_sign_moves_the_golden_numbers(tmp_path, algorithms_copy):
    """The golden test would fail, and its message names the version to raise."""
    from sibench.learning import methods

    source = (algorithms_copy / "bc.py").read_text()
    assert source.count("return -log_prob.mean()") == 1
    (algorithms_copy / "bc.py").write_text(source.replace("return -log_prob.mean()", "return log_prob.mean()"))
    found_nll, _ = golden_run("bc", tmp_path, methods.load("bc"))
    assert np.abs(found_nll - GOLDEN["bc"][1]).min() > 0.1


def test_renamed_variable_and_moved_import_leave_results_fresh(tmp_path, algorithms_copy):
    """Identity goes by versions, settings, data and packages, not by how the code is spelled."""
    from sibench.learning import methods
    from sibench.learning.run import identity

    config = small("vfo", out=tmp_path, **TINY)
    golden_run("bc", tmp_path)  # builds the data
    before = identity(methods.load("vfo"), config, "random-n5")
    source = (algorithms_copy / "vfo.py").read_text()
    changed = source.replace("is_expert", "from_expert").replace(
        "import chex\nimport flax\n", "import flax\nimport chex\n"
    )
    assert changed != source and changed.count("from_expert") > 3
    (algorithms_copy / "vfo.py").write_text(changed)
    methods.load.cache_clear()
    assert identity(methods.load("vfo"), config, "random-n5") == before
    newer = dataclasses.replace(methods.load("vfo"), version=2)
    assert identity(newer, config, "random-n5") != before
