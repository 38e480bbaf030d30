"""Lanes: what one draws and learns does not depend on its neighbours, nor on how lanes are spread over devices."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import REPO
from learners import FILES, dataset, equal, method, small, take

from sibench.learning.lanes import NEVER, Program, make_lanes
from sibench.learning.method import Spec
from sibench.learning.sampling import make_data, sample, sample_openings, sample_pairs

SPEC = Spec(3, 2)


def test_batches_come_from_the_dataset_of_the_lane():
    """With two datasets end to end, every draw is a step of the lane's own, and all of its steps are drawn."""
    datasets = [dataset(), dataset(lengths=(4, 2, 6), seed=5)]
    data = make_data(datasets, dataset(seed=1), [1, 0], ["background rewards"])
    for lane, own in enumerate([datasets[1], datasets[0]]):
        source = data.background._replace(stretch=take(data.background.stretch, lane))
        steps = own.transitions()
        whole = np.concatenate([steps[n].reshape(len(own.actions), -1) for n in ("obs", "action", "next_obs")], 1)
        batch = sample(source, 500, jax.random.key(lane))
        drawn = np.concatenate([batch.obs, batch.action, batch.next_obs], 1)
        match = (drawn[:, None] == whole[None]).all(-1)
        assert match.any(1).all() and match.any(0).all()
        index = match.argmax(1)
        np.testing.assert_array_equal(batch.reward, own.rewards[index])
        np.testing.assert_array_equal(batch.terminal, own.terminal[index])

        batch, later = sample_pairs(source, 500, jax.random.key(lane))
        index = (np.asarray(batch.obs)[:, None] == steps["obs"][None]).all(-1).argmax(1)
        ends = own.offsets[1:] - 1
        assert set(index) == set(range(len(own.actions))) - set(ends)
        np.testing.assert_array_equal(later, steps["next_obs"][index + 1])

        opening = np.asarray(sample_openings(source, 200, jax.random.key(lane)))
        first = own.observations[own.offsets[:-1] + np.arange(own.num_episodes)]
        match = (opening[:, None] == first[None]).all(-1)
        assert match.any(1).all() and match.any(0).all()


def toy_program(config, lanes, datasets=None, name="vfo", privileges=()):
    datasets = datasets or [dataset(), dataset(lengths=(4, 2, 6), seed=5)]
    backgrounds = [config.dataset.index(lane.dataset) for lane in lanes]
    data = make_data(datasets, dataset(seed=1), backgrounds, privileges)
    return Program(method(name).make, config, SPEC, lanes, data)


def chunks(config, lanes, num=100, dead=None, **toys):
    """Return the states after some updates, the mean metrics, and the first update that was not finite."""
    program = toy_program(config, lanes, **toys)
    return program.chunk("update", program.init(), 0, num, dead)


def test_lane_is_bit_identical_with_and_without_neighbours():
    """Run 100 updates next to lanes of other seeds, datasets and temperatures, and alone, compiled as a user's."""
    code = """
import sys; sys.path.insert(0, "tests")
from learners import equal, small, take
from sibench.learning.lanes import make_lanes
from test_lanes import chunks
config = small("vfo", dataset=("a", "b"), seeds=2, sweep=("temperature", "0.5", "2"))
lanes = make_lanes(config)
assert len(lanes) == 8 and len(set(lanes)) == 8
together, _, _ = chunks(config, lanes)
for index in (0, 3, 6):
    alone, _, _ = chunks(config, lanes[index : index + 1])
    assert equal(take(alone, 0), take(together, index)), index
assert not equal(take(together, 0).policy, take(together, 1).policy)
"""
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=3"}
    result = subprocess.run([sys.executable, "-c", code], cwd=REPO, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", [file.stem for file in FILES if file.stem != "vfo"])
def test_lanes_of_every_method_are_independent(name):
    config = small(name, dataset=("a", "b"), seeds=1)
    lanes = make_lanes(config)
    privileges = method(name).sees(config)
    together, _, _ = chunks(config, lanes, 3, name=name, privileges=privileges)
    alone, _, _ = chunks(config, lanes[1:], 3, name=name, privileges=privileges)
    for a, b in zip(jax.tree.leaves(take(alone, 0)), jax.tree.leaves(take(together, 1)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert not equal(take(together, 0).policy, take(together, 1).policy)


def test_swept_value_learns_as_the_plain_setting_does():
    swept = small("vfo", dataset=("a", "b"), seeds=1, sweep=("temperature", "0.5", "2"))
    plain = small("vfo", dataset=("a", "b"), seeds=1, temperature=2.0)
    many, _, _ = chunks(swept, make_lanes(swept)[:2])
    one, _, _ = chunks(plain, make_lanes(plain)[:1])
    for a, b in zip(jax.tree.leaves(take(many, 1)), jax.tree.leaves(take(one, 0)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_lanes_side_by_side_agree_with_lanes_in_turn(monkeypatch):
    """After 100 updates `vmap`, for accelerators, agrees with `map`, for CPUs, up to rounding."""
    config = small("vfo", dataset=("a", "b"), seeds=2, sweep=("temperature", "0.5", "2"))
    in_turn, _, _ = chunks(config, make_lanes(config))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    side_by_side, _, _ = chunks(config, make_lanes(config))
    assert not equal(in_turn, side_by_side)
    for a, b in zip(jax.tree.leaves(in_turn), jax.tree.leaves(side_by_side), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [4, 5])
def test_lanes_sharded_over_four_devices_agree_with_one_device(seeds):
    """Ten lanes are three on each device and one on the last."""
    code = f"""
        import sys
        sys.path.insert(0, "tests")
        import jax, numpy as np
        from learners import small
        from sibench.learning.lanes import make_lanes
        from test_lanes import chunks, toy_program
        config = small("vfo", dataset=("a", "b"), seeds={seeds})
        program = toy_program(config, make_lanes(config))
        within = jax.tree.leaves(program._init(program._lanes, program._data))[0]
        states, _, _ = chunks(config, make_lanes(config))
        leaf = states.policy.params["params"]["MLP_0"]["Dense_0"]["kernel"]
        print(jax.device_count(), len(within.sharding.device_set), *np.asarray(leaf, np.float64)[:, :3, :2].ravel())
    """
    flags = "--xla_force_host_platform_device_count=4"
    lines = []
    for environment in (os.environ, os.environ | {"XLA_FLAGS": flags}):
        code = "\n".join(line.strip() for line in code.splitlines())
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=REPO, env=environment, capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, result.stderr
        lines.append(result.stdout.split())
    assert lines[0][:2] == ["1", "1"] and lines[1][:2] == ["4", "4"]
    one, four = (np.array(line[2:], float).reshape(2 * seeds, 3, 2) for line in lines)
    np.testing.assert_allclose(four, one, rtol=1e-4, atol=1e-6)
    assert all(np.abs(one[i] - one[j]).max() > 1e-3 for i in range(2 * seeds) for j in range(i))


def test_diverging_lane_is_found():
    config = small("bc", dataset=("a", "b"), seeds=1, sweep=("learning_rate", "0.001", "1e30"))
    _, _, bad = chunks(config, make_lanes(config)[:2], name="bc")
    assert bad[0] == NEVER and bad[1] < 100


def test_diverged_lane_stands_still():
    config = small("vfo", dataset=("a", "b"), seeds=1)
    dead = np.array([False, True])
    before, _, _ = chunks(config, make_lanes(config), num=0)
    after, _, bad = chunks(config, make_lanes(config), num=3, dead=dead)
    assert equal(take(after, 1), take(before, 1)) and not equal(take(after, 0), take(before, 0))
    assert (bad == NEVER).all()
