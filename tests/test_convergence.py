"""Convergence: the held-out likelihood of the behaviour policies' own actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sibench import tasks
from sibench.data import load_privileged
from sibench.learning.convergence import held_out, teachers, uniform_nll
from sibench.policies import shipped


def test_teacher_nll_of_random_data_is_that_of_uniform_actions(data_root):
    """There are 101 bins, the outermost half as wide: nearly log 100 nats a dimension."""
    task = tasks.make("hopper", "c")
    other = held_out(task, {"id": "hopper/random-v1"})
    assert other.teacher_nll == pytest.approx(3 * (0.99 * np.log(100) + 0.01 * np.log(200)), abs=0.02)
    ends = jnp.array([[1.0, -1.0, 0.0]])
    assert uniform_nll(ends) == pytest.approx(2 * np.log(200) + np.log(100), rel=1e-6)


def test_nll_of_the_teacher_is_lower_than_that_of_another_policy(data_root):
    task = tasks.make("hopper", "c")
    other = held_out(task, {"id": "hopper/bc-1-n7-v1"})
    teacher = shipped.load_policy("hopper", "bc-1")
    assert other.nll(teacher) == pytest.approx(other.teacher_nll, abs=1e-4)
    assert other.nll(shipped.load_policy("hopper", "bc-1000")) > other.teacher_nll + 1
    assert other.nll(teacher._replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, teacher.params))) is None
    background = load_privileged("hopper/bc-1-n7", build=True)
    assert not {tuple(row) for row in background.observations} & {tuple(row) for row in np.asarray(other.obs)}


def test_mix_has_two_teachers_in_its_proportion():
    shares = [(policy is None, num) for policy, num in teachers({"id": "hopper/mix-100-v1"})]
    assert shares == [(False, 2), (True, 18)]
    assert teachers({"id": "hopper/d4rl-medium-v1"}) == []
