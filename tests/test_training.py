"""The trainers of experts and ladder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.training.acme import running_statistics
from brax.training.agents.sac import networks
from conftest import command

from data_gen import experts, sac
from sibench import tasks
from sibench.errors import UserError


def config(**changes):
    small = {"num_updates": 16, "eval_every": 8, "checkpoint_every": 8, "num_envs": 8, "warmup_steps": 640}
    return experts.Config(task="hopper", **small | {"replay_size": 2048, "width": 16, "batch_size": 8} | changes)


@pytest.fixture(scope="module")
def learner():
    return sac.make(config(), tasks.make("hopper", "c"))


def test_an_expert_acts_as_braxs_network_does(learner):
    """The exported policy and brax's own inference function, with the statistics of the observations inside."""
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


def test_every_part_of_sac_learns(learner):
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


def test_replay_holds_true_successors(learner):
    """A row's next observation is the next row's observation of that simulation, unless its episode ended there."""
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


@pytest.mark.parametrize("changes", [{"eval_every": 7}, {"num_updates": 20}, {"env_steps_per_update": 3}])
def test_schedules_that_do_not_fit_are_refused(changes):
    with pytest.raises(UserError):
        config(**changes)


@pytest.mark.parametrize("program", ["experts", "ladder"])
def test_unknown_tasks_are_refused(program, tmp_path):
    result = command(f"data_gen.{program}", "--task", "hoper", "--out", str(tmp_path))
    assert result.returncode == 2
    assert "did you mean 'hopper'?" in result.stderr and "Traceback" not in result.stderr


def test_unknown_levels_are_refused(tmp_path):
    result = command("data_gen.ladder", "--task", "hopper", "--levels", "3", "--out", str(tmp_path))
    assert result.returncode == 2 and "unknown level '3'" in result.stderr
