"""The trainers of experts and ladder."""

import sys
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.training.acme import running_statistics
from brax.training.agents.sac import networks
from conftest import MANIPULATION, TASKS

from data_gen import experts, ladder, per_task, sac
from sibench import policies, tasks
from sibench.core.errors import UserError
from sibench.policies import shipped


def config(**changes):
    small = {"num_updates": 16, "eval_every": 8, "checkpoint_every": 8, "num_envs": 8, "warmup_steps": 640}
    return experts.Config(**small | {"replay_size": 2048, "width": 16, "batch_size": 8} | changes)


@pytest.fixture(scope="module")
def learner():
    return sac.Sac(config(), tasks.make("hopper", "c"))


def test_exported_expert_acts_as_brax_does(learner):
    state = learner.init(jax.random.key(0))
    state = learner.chunk(state)
    net = networks.make_sac_networks(
        11,
        3,
        preprocess_observations_fn=running_statistics.normalize,
        hidden_layer_sizes=(16, 16),
        q_network_layer_norm=True,
    )
    theirs = networks.make_inference_fn(net)((state.stats, state.actor), deterministic=True)
    obs = state.replay["obs"][:50]
    policy = learner.policy(state.actor, state.stats)
    np.testing.assert_allclose(policy.act(obs, jax.random.key(0), "mode"), theirs(obs, jax.random.key(0))[0], atol=1e-6)
    logits = net.policy_network.apply(state.stats, state.actor, obs)
    dist = net.parametric_action_distribution.create_dist(logits)
    ours = policy.network.apply(policy.params, obs)
    np.testing.assert_allclose(ours.mean, dist.loc, atol=1e-5)
    np.testing.assert_allclose(ours.std, dist.scale, rtol=1e-5)


def test_every_part_of_sac_learns_and_depends_on_the_seed_alone(learner):
    before = jax.tree.map(jnp.copy, learner.init(jax.random.key(0)))
    after = learner.chunk(learner.init(jax.random.key(0)))
    for part in ("actor", "critic", "target", "log_alpha", "stats"):
        pairs = zip(jax.tree.leaves(getattr(before, part)), jax.tree.leaves(getattr(after, part)), strict=True)
        moved = [bool(jnp.any(a != b)) for a, b in pairs]
        assert all(moved) or (part == "stats" and sum(moved) >= 3), part
    same = learner.chunk(learner.init(jax.random.key(0)))
    other = learner.chunk(learner.init(jax.random.key(1)))
    assert jnp.array_equal(after.replay["action"], same.replay["action"])
    assert not jnp.array_equal(after.replay["action"], other.replay["action"])


def test_replay_buffer_holds_true_successors(learner):
    """The next observation of a row is the observation of the simulation's next row, unless its episode ended."""
    state = learner.chunk(learner.init(jax.random.key(0)))
    num = int(state.num_steps)
    rows = {name: np.asarray(column[:num]).reshape(num // 8, 8, -1) for name, column in state.replay.items()}
    terminal = rows["terminal"][:-1, :, 0].astype(bool)
    follows = (rows["next_obs"][:-1] == rows["obs"][1:]).all(-1)
    assert (follows | terminal).all()
    assert terminal.any() and not (follows & terminal).any()
    height, angle = rows["next_obs"][..., 0], rows["next_obs"][..., 1]
    fallen = (height <= 0.7) | (np.abs(angle) >= 0.2)
    np.testing.assert_array_equal(fallen, rows["terminal"][..., 0].astype(bool))


@pytest.mark.parametrize(
    "changes", [{"eval_every": 7}, {"num_updates": 20}, {"env_steps_per_update": 3}, {"replay_size": 4}]
)
def test_settings_that_do_not_fit_together_are_refused(changes):
    with pytest.raises(UserError):
        config(**changes).check_schedule()


@pytest.mark.parametrize("task", TASKS)
def test_default_settings_are_those_of_the_shipped_expert(task):
    card = policies.read_description(shipped.path(task, "expert"))["card"]
    defaults = asdict(experts.Config(**experts.TASK_DEFAULTS.get(task, {})))
    assert card["num_updates"] == defaults["num_updates"]
    free = ("task", "engine")
    assert all(defaults[name] == value for name, value in card["settings"].items() if name not in free)


@pytest.mark.parametrize("task", [*TASKS, *MANIPULATION])
def test_default_settings_are_those_of_the_shipped_ladder(task, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ladder"])
    config = per_task.configs(ladder.Config, (task,), ladder.TASK_DEFAULTS, "ladder")[task]
    free = ("task", "engine", "demonstrations_from")
    for level in tasks.task_type(task).ladder:
        card = policies.read_description(shipped.path(task, f"bc-{level}"))["card"]
        assert card["num_updates"] == config.updates(level)
        assert all(asdict(config)[name] == value for name, value in card["settings"].items() if name not in free)


def test_flags_override_the_defaults_of_a_task(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experts", "--learning-rate", "0.1", "--num-updates", "600000"])
    configs = per_task.configs(experts.Config, (), experts.TASK_DEFAULTS, "experts")
    assert list(configs) == sorted([*TASKS, *MANIPULATION])
    assert configs["ant"].eval_every == 40_000 and configs["hopper"].eval_every == 20_000
    assert {config.learning_rate for config in configs.values()} == {0.1}
    assert {config.num_updates for config in configs.values()} == {600_000}
