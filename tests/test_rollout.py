"""Episodes depend on their seed alone, keep their final observation, and end correctly."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TASKS, WELL

import sibench
from sibench import tasks
from sibench.core.errors import UserError
from sibench.data.collect import uniform_act
from sibench.policies import Policy
from sibench.policies.evaluation import evaluate
from sibench.policies.networks import BinsPolicy
from sibench.tasks.rollout import BLOCKS, _compiled, episode_keys, rollout, seeds, side_by_side


def play(name, num, seed_name="test", first=0, **kwargs):
    task = tasks.make(name, "c")
    chosen = seeds("select", seed_name, first + num)[first:]
    return rollout(task, uniform_act(task.action_size), None, chosen, record=True, **kwargs)


@pytest.mark.parametrize("name", TASKS)
def test_episodes_match_gymnasium(name):
    """Every observation, every reward, and whether an episode terminates or is truncated."""
    task = tasks.make(name, "c")
    played = play(name, 6)
    env = gymnasium.make(task.gymnasium_id, **task.gymnasium_options)
    env.reset(seed=0)
    for i in range(6):
        qpos, qvel = np.split(played.initial_state[i].astype(np.float64), [task.model.nq])
        env.reset(seed=0)
        env.unwrapped.data.qacc_warmstart[:] = 0
        env.unwrapped.set_state(qpos, qvel)
        length = played.length[i]
        for t in range(length):
            obs, reward, terminated, truncated, _ = env.step(played.action[i, t])
            np.testing.assert_array_equal(played.obs[i, t + 1], obs.astype(np.float32))
            assert abs(played.reward[i, t] - reward) < 1e-4
            assert (terminated or truncated) == (t + 1 == length)
        assert terminated == played.terminal[i]
        assert truncated == (not played.terminal[i])


def test_episode_is_bit_identical_among_other_episodes():
    """Among 300, more than there are lanes, so that lanes are refilled, and among 2."""
    many, few = play("hopper", 300), play("hopper", 2, first=298)
    for field in ("seed", "length", "reward_sum", "terminal", "obs", "action", "reward"):
        np.testing.assert_array_equal(getattr(many, field)[298:], getattr(few, field))
    assert many.length.min() > 0 and len(np.unique(many.obs[:, 0], axis=0)) == 300


def test_policies_side_by_side_play_as_they_play_alone():
    """Three policies play 50 episodes each, in 17 lanes each, which are refilled."""
    task, seed = tasks.make("hopper", "c"), seeds("select", "test", 50)

    def act(scale, obs, keys):
        return jnp.tanh(obs[:, :3] * scale) + 0.1 * jax.vmap(lambda key: jax.random.uniform(key, 3))(keys)

    scales = jnp.array([-1.0, 0.1, 2.0])
    together = rollout(task, side_by_side(act), scales, np.tile(seed, (3, 1)))
    assert len(np.unique(together.reward_sum)) > 100
    for i, scale in enumerate(scales):
        alone = rollout(task, act, scale, seed)
        for field in ("seed", "length", "reward_sum", "terminal", "initial_state"):
            np.testing.assert_allclose(getattr(together, field)[50 * i : 50 * i + 50], getattr(alone, field), rtol=1e-5)


def test_initial_states_have_the_bits_of_an_optimised_program():
    task = tasks.make("halfcheetah", "c")  # its initial velocities are normal
    keys = episode_keys(seeds("select", "test", 200))
    physics = _compiled(task, None)[0](keys).state.pipeline_state
    initial = jax.vmap(lambda key: task.initial(jax.random.fold_in(key, 0)))
    qpos, qvel = jax.jit(initial, compiler_options=WELL)(keys)
    np.testing.assert_array_equal(physics.fields["qpos"], qpos)
    np.testing.assert_array_equal(physics.fields["qvel"], qvel)


def test_falls_are_terminal_and_timeouts_are_not():
    hopper, cheetah = play("hopper", 8), play("halfcheetah", 4)
    assert hopper.terminal.all() and (hopper.length < 1000).all()
    assert not cheetah.terminal.any() and (cheetah.length == 1000).all()
    for episode in range(8):
        z, angle = hopper.obs[episode, hopper.length[episode], :2]  # the final observation, after the fall
        assert z <= 0.7 or abs(angle) >= 0.2
        z, angle = hopper.obs[episode, hopper.length[episode] - 1, :2]  # the one before
        assert z > 0.7 and abs(angle) < 0.2


def test_final_observation_is_not_that_of_the_next_reset():
    """Auto-resetting environments lose it; a fallen hopper is far from its upright start."""
    played = play("hopper", 300)
    last = played.obs[np.arange(300), played.length]
    start = played.obs[:, 0]
    assert (np.abs(last - start.mean(0)).max(1) > 100 * start.std(0).max()).all()


def test_every_step_draws_its_own_action():
    played = play("halfcheetah", 2)
    assert len(np.unique(played.action.reshape(-1, 6), axis=0)) == 2000


def test_seed_blocks_are_disjoint():
    drawn = np.concatenate(
        [seeds(block, name, 1000) for block in BLOCKS for name in ("hopper-v1/bc-1", "hopper-v1/bc-10")]
    )
    assert len(np.unique(drawn)) == len(drawn)
    np.testing.assert_array_equal(seeds("eval", "x", 5), seeds("eval", "x", 9)[:5])
    with pytest.raises(UserError, match="did you mean 'eval'"):
        seeds("evil", "x", 1)


def test_nonfinite_action_ends_its_episode_and_is_counted():
    """The episode keeps the return earned before."""

    def policy(obs):
        action = np.zeros((len(obs), 6), np.float32)
        policy.calls += 1
        if policy.calls == 3:
            action[1, 2] = np.nan
            action[3, 0] = np.inf
        return action

    policy.calls = 0
    result = evaluate(policy, "halfcheetah", 4, engine="c")
    assert result.num_nonfinite == 2
    assert result.lengths.tolist() == [1000, 2, 1000, 2]
    assert np.isfinite(result.returns).all()


@pytest.mark.parametrize("mode", ["sample", "mode"])
@pytest.mark.parametrize("source", ["bc-10", "expert"])
def test_nonfinite_or_overflowing_weights_play_no_actions(source, mode):
    policy = sibench.load_policy("hopper", source)
    for bad in (np.nan, 1e30):
        params = jax.tree.map(lambda leaf, bad=bad: leaf * bad, policy.params)
        result = evaluate(policy._replace(params=params), "hopper", 3, mode=mode, engine="c")
        assert result.num_nonfinite == 3 and np.isfinite(result.returns).all()


def test_evaluate_takes_numpy_jax_and_torch_callables():
    """The same actions give the same returns. Torch tensors are recognised by `detach`."""

    class Tensor:
        def __init__(self, array):
            self.array = array

        def detach(self):
            return self

        def cpu(self):
            return self

        def __array__(self, dtype=None, copy=None):
            return np.asarray(self.array, dtype)

    def numpy_policy(obs):
        return np.tanh(obs[:, :3])

    results = [
        evaluate(policy, "hopper", 5, engine="c")
        for policy in (numpy_policy, lambda o: jnp.asarray(numpy_policy(o)), lambda o: Tensor(numpy_policy(o)))
    ]
    assert len(results[0].returns) == len(results[0].lengths) == 5
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].returns, other.returns)
    with pytest.raises(UserError, match=r"shape \(5, 2\); hopper needs \(5, 3\)"):
        evaluate(lambda obs: obs[:, :2], "hopper", 5, engine="c")


def test_evaluate_is_reproducible_and_refuses_policies_of_other_sizes():
    policy = sibench.load_policy("hopper", "expert")
    first, again = (sibench.evaluate(policy, "hopper", 3, engine="c") for _ in range(2))
    np.testing.assert_array_equal(first.returns, again.returns)
    other_block = sibench.evaluate(policy, "hopper", 3, block="select", engine="c")
    assert (other_block.returns != first.returns).any()
    with pytest.raises(UserError, match="takes 11 observations; halfcheetah has 17"):
        evaluate(policy, "halfcheetah", 3, engine="c")
    narrow = BinsPolicy(1, (4,))
    policy = Policy(narrow, narrow.init(jax.random.key(0), jnp.zeros((1, 11))), 11)
    with pytest.raises(UserError, match="actions of 1 numbers; hopper needs 3"):
        evaluate(policy, "hopper", 3, engine="c")


def test_callable_may_change_its_observations():
    def policy(obs):
        obs -= 0.1
        return np.tanh(obs[:, :3])

    changed = evaluate(policy, "hopper", 3, engine="c")
    same = evaluate(lambda obs: np.tanh(obs[:, :3] - np.float32(0.1)), "hopper", 3, engine="c")
    np.testing.assert_array_equal(changed.returns, same.returns)
