"""Soft actor-critic, whole in one pytree: brax's networks, losses and observation statistics, our loop.

Ours because brax's trainer keeps its replay buffer and optimisers to itself, so that a killed run cannot go on, and
because it does not tell a fall from a time-out. Here an episode's true last observation reaches the replay buffer, a
time-out bootstraps, a fall does not, and every episode starts from a fresh draw.
"""

import functools
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import optax
from brax.training.acme import running_statistics, specs
from brax.training.agents.sac import losses, networks
from brax.training.types import Transition

from sibench.networks import GaussianPolicy
from sibench.policies import Policy
from sibench.tasks import Task


class State(flax.struct.PyTreeNode):
    actor: dict
    critic: dict
    target: dict
    log_alpha: jax.Array
    actor_opt: optax.OptState
    critic_opt: optax.OptState
    alpha_opt: optax.OptState
    stats: running_statistics.RunningStatisticsState
    replay: dict
    env: Any
    step_in_episode: jax.Array  # [num_envs]
    num_steps: jax.Array  # environment steps so far
    num_updates: jax.Array
    key: jax.Array
    best: tuple  # (return, actor, stats) of the best evaluation so far


class Sac(NamedTuple):
    init: Any  # key -> State, with the warm-up steps taken
    chunk: Any  # State -> State, `eval_every` updates later
    policy: Any  # (actor, stats) -> Policy


def make(config: Any, task: Task) -> Sac:
    """`config` is that of data_gen/experts.py."""
    obs_dim, action_dim, num_envs = task.observation_size, task.action_size, config.num_envs
    hidden = (config.width, config.width)
    net = networks.make_sac_networks(
        obs_dim,
        action_dim,
        preprocess_observations_fn=running_statistics.normalize,
        hidden_layer_sizes=hidden,
        q_network_layer_norm=True,
    )
    # brax uses the number of actions A for one thing: it aims at an entropy of -A / 2
    entropy_actions = 2 * config.target_entropy * action_dim
    alpha_loss, critic_loss, actor_loss = losses.make_losses(net, 1.0, config.discount, entropy_actions)
    adam = optax.adam(config.learning_rate)

    def init(key: jax.Array) -> State:
        actor_key, critic_key, env_key, key = jax.random.split(key, 4)
        actor, critic, log_alpha = net.policy_network.init(actor_key), net.q_network.init(critic_key), jnp.zeros(())
        stats = running_statistics.init_state(specs.Array((obs_dim,), jnp.dtype("float32")))
        rows = config.replay_size
        replay = {
            "obs": jnp.zeros((rows, obs_dim)),
            "action": jnp.zeros((rows, action_dim)),
            "reward": jnp.zeros(rows),
            "terminal": jnp.zeros(rows),
            "next_obs": jnp.zeros((rows, obs_dim)),
        }
        state = State(
            actor=actor,
            critic=critic,
            target=jax.tree.map(jnp.copy, critic),
            log_alpha=log_alpha,
            actor_opt=adam.init(actor),
            critic_opt=adam.init(critic),
            alpha_opt=adam.init(log_alpha),
            stats=stats,
            replay=replay,
            env=jax.vmap(task.reset)(jax.random.split(env_key, num_envs)),
            step_in_episode=jnp.zeros(num_envs, jnp.int32),
            num_steps=jnp.zeros((), jnp.int32),
            num_updates=jnp.zeros((), jnp.int32),
            key=key,
            best=(jnp.array(-jnp.inf), jax.tree.map(jnp.copy, actor), jax.tree.map(jnp.copy, stats)),
        )
        return warm_up(state)

    def interact(state: State, uniform: bool) -> State:
        """One step of every simulation into the replay buffer; a finished one starts its next episode."""
        action_key, reset_key, key = jax.random.split(state.key, 3)
        if uniform:
            action = jax.random.uniform(action_key, (num_envs, action_dim), minval=-1, maxval=1)
        else:
            logits = net.policy_network.apply(state.stats, state.actor, state.env.obs)
            action = net.parametric_action_distribution.sample(logits, action_key)
        after = jax.vmap(task.step)(state.env, action)
        row = {
            "obs": state.env.obs,
            "action": action,
            "reward": after.reward,
            "terminal": after.done,
            "next_obs": after.obs,
        }
        slots = (state.num_steps + jnp.arange(num_envs)) % config.replay_size
        over = (after.done > 0) | (state.step_in_episode + 1 >= task.horizon)
        fresh = jax.vmap(task.reset)(jax.random.split(reset_key, num_envs))

        def renew(new, old):
            return jnp.where(over.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return state.replace(
            stats=running_statistics.update(state.stats, state.env.obs),
            replay={name: state.replay[name].at[slots].set(row[name]) for name in row},
            env=jax.tree.map(renew, fresh, after),
            step_in_episode=jnp.where(over, 0, state.step_in_episode + 1),
            num_steps=state.num_steps + num_envs,
            key=key,
        )

    def descend(loss, params, opt_state, *args):
        updates, opt_state = adam.update(jax.grad(loss)(params, *args), opt_state)
        return optax.apply_updates(params, updates), opt_state

    def update(state: State) -> State:
        batch_key, critic_key, alpha_key, actor_key, key = jax.random.split(state.key, 5)
        size = jnp.minimum(state.num_steps, config.replay_size)
        index = jax.random.randint(batch_key, (config.batch_size,), 0, size)
        row = {name: column[index] for name, column in state.replay.items()}
        batch = Transition(
            observation=row["obs"],
            action=row["action"],
            reward=row["reward"],
            discount=1 - row["terminal"],
            next_observation=row["next_obs"],
            extras={"state_extras": {"truncation": jnp.zeros(config.batch_size)}},
        )
        alpha = jnp.exp(state.log_alpha)
        critic, critic_opt = descend(
            *(critic_loss, state.critic, state.critic_opt),
            *(state.actor, state.stats, state.target, alpha, batch, critic_key),
        )

        def improve(actor, actor_opt, log_alpha, alpha_opt):
            log_alpha, alpha_opt = descend(alpha_loss, log_alpha, alpha_opt, actor, state.stats, batch, alpha_key)
            actor, actor_opt = descend(actor_loss, actor, actor_opt, state.stats, critic, alpha, batch, actor_key)
            return actor, actor_opt, log_alpha, alpha_opt

        actor, actor_opt, log_alpha, alpha_opt = jax.lax.cond(
            state.num_updates % config.actor_every == 0,
            improve,
            lambda *same: same,
            *(state.actor, state.actor_opt, state.log_alpha, state.alpha_opt),
        )
        return state.replace(
            actor=actor,
            critic=critic,
            target=optax.incremental_update(critic, state.target, config.target_rate),
            log_alpha=log_alpha,
            actor_opt=actor_opt,
            critic_opt=critic_opt,
            alpha_opt=alpha_opt,
            num_updates=state.num_updates + 1,
            key=key,
        )

    @functools.partial(jax.jit, donate_argnums=0)
    def warm_up(state: State) -> State:
        num = -(-config.warmup_steps // num_envs)
        return jax.lax.scan(lambda s, _: (interact(s, uniform=True), None), state, length=num)[0]

    updates_per_step = num_envs // config.env_steps_per_update

    @functools.partial(jax.jit, donate_argnums=0)
    def chunk(state: State) -> State:
        def body(state, _):
            state = interact(state, uniform=False)
            return jax.lax.scan(lambda s, _: (update(s), None), state, length=updates_per_step)[0], None

        return jax.lax.scan(body, state, length=config.eval_every // updates_per_step)[0]

    def policy(actor: dict, stats: running_statistics.RunningStatisticsState) -> Policy:
        """brax's network as an artefact of ours."""
        layers = {f"Dense_{i}": actor["params"][f"hidden_{i}"] for i in range(len(hidden) + 1)}
        params = {"obs_mean": stats.mean, "obs_std": stats.std, "MLP_0": layers}
        return Policy(GaussianPolicy(action_dim, hidden), {"params": params}, obs_dim)

    return Sac(init, chunk, policy)
