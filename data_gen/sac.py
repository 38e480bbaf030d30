"""Soft actor-critic whose whole state is one pytree: brax's networks, losses and observation statistics, our loop.

brax's trainer keeps its replay buffer and optimisers to itself, so a killed run could not resume, and it does not tell
a fall from a time-out. Here the replay buffer holds the true last observation of an episode, a time-out bootstraps, a
fall does not, and every episode starts from a fresh draw.
"""

from typing import Any

from sibench.tasks import Task  # isort: skip  # imports MuJoCo first, without its warnings

import flax
import jax
import jax.numpy as jnp
import optax
from brax.training.acme import running_statistics, specs
from brax.training.agents.sac import losses, networks
from brax.training.types import Transition

from sibench.policies import Policy
from sibench.policies.networks import STATS, GaussianPolicy

Statistics = running_statistics.RunningStatisticsState


class State(flax.struct.PyTreeNode):
    """Everything that learning changes."""

    actor: dict
    critic: dict
    target: dict
    log_alpha: jax.Array
    actor_opt: optax.OptState
    critic_opt: optax.OptState
    alpha_opt: optax.OptState
    stats: Statistics
    replay: dict
    env: Any
    step_in_episode: jax.Array  # [num_envs]
    num_steps: jax.Array  # environment steps so far
    num_updates: jax.Array
    key: jax.Array
    best: tuple  # (return, actor, stats) of the best evaluation so far


class Sac:
    """The learner of a task.

    `init(key)` returns a state after the warm-up steps, and `chunk(state)` the state `eval_every` updates later.
    """

    def __init__(self, config: Any, task: Task):
        self.config, self.task = config, task
        self.obs_dim, self.action_dim = task.observation_size, task.action_size
        self.hidden = (config.width, config.width)
        self.net = networks.make_sac_networks(
            self.obs_dim,
            self.action_dim,
            preprocess_observations_fn=running_statistics.normalize,
            hidden_layer_sizes=self.hidden,
            q_network_layer_norm=True,
        )
        # brax uses the number of actions A for one thing: it aims at an entropy of -A / 2
        entropy_actions = 2 * config.target_entropy * self.action_dim
        self.alpha_loss, self.critic_loss, self.actor_loss = losses.make_losses(
            self.net, 1.0, config.discount, entropy_actions
        )
        self.adam = optax.adam(config.learning_rate)
        self.warm_up = jax.jit(self._warm_up, donate_argnums=0)
        self.chunk = jax.jit(self._chunk, donate_argnums=0)

    def init(self, key: jax.Array) -> State:
        """Return a fresh state after the warm-up steps."""
        actor_key, critic_key, env_key, key = jax.random.split(key, 4)
        actor, critic = self.net.policy_network.init(actor_key), self.net.q_network.init(critic_key)
        log_alpha = jnp.zeros(())
        stats = running_statistics.init_state(specs.Array((self.obs_dim,), jnp.dtype("float32")))
        rows = self.config.replay_size
        replay = {
            "obs": jnp.zeros((rows, self.obs_dim)),
            "action": jnp.zeros((rows, self.action_dim)),
            "reward": jnp.zeros(rows),
            "terminal": jnp.zeros(rows),
            "next_obs": jnp.zeros((rows, self.obs_dim)),
        }
        state = State(
            actor=actor,
            critic=critic,
            target=jax.tree.map(jnp.copy, critic),
            log_alpha=log_alpha,
            actor_opt=self.adam.init(actor),
            critic_opt=self.adam.init(critic),
            alpha_opt=self.adam.init(log_alpha),
            stats=stats,
            replay=replay,
            env=jax.vmap(self.task.reset)(jax.random.split(env_key, self.config.num_envs)),
            step_in_episode=jnp.zeros(self.config.num_envs, jnp.int32),
            num_steps=jnp.zeros((), jnp.int32),
            num_updates=jnp.zeros((), jnp.int32),
            key=key,
            best=(jnp.array(-jnp.inf), jax.tree.map(jnp.copy, actor), jax.tree.map(jnp.copy, stats)),
        )
        return self.warm_up(state)

    def policy(self, actor: dict, stats: Statistics) -> Policy:
        """Return brax's network as a policy of ours."""
        layers = {f"Dense_{i}": actor["params"][f"hidden_{i}"] for i in range(len(self.hidden) + 1)}
        variables = {"params": {"MLP_0": layers}, STATS: {"mean": stats.mean, "std": stats.std}}
        return Policy(GaussianPolicy(self.action_dim, self.hidden), variables, self.obs_dim)

    def _warm_up(self, state: State) -> State:
        num = -(-self.config.warmup_steps // self.config.num_envs)
        return jax.lax.scan(lambda s, _: (self._interact(s, uniform=True), None), state, length=num)[0]

    def _chunk(self, state: State) -> State:
        updates_per_step = self.config.num_envs // self.config.env_steps_per_update

        def body(state: State, _: None) -> tuple[State, None]:
            state = self._interact(state, uniform=False)
            return jax.lax.scan(lambda s, _: (self._update(s), None), state, length=updates_per_step)[0], None

        return jax.lax.scan(body, state, length=self.config.eval_every // updates_per_step)[0]

    def _interact(self, state: State, uniform: bool) -> State:
        """Step every simulation into the replay buffer; one whose episode is over starts the next."""
        task, num_envs = self.task, self.config.num_envs
        action_key, reset_key, key = jax.random.split(state.key, 3)
        if uniform:
            action = jax.random.uniform(action_key, (num_envs, self.action_dim), minval=-1, maxval=1)
        else:
            logits = self.net.policy_network.apply(state.stats, state.actor, state.env.obs)
            action = self.net.parametric_action_distribution.sample(logits, action_key)
        after = jax.vmap(task.step)(state.env, action)
        row = {
            "obs": state.env.obs,
            "action": action,
            "reward": after.reward,
            "terminal": after.done,
            "next_obs": after.obs,
        }
        slots = (state.num_steps + jnp.arange(num_envs)) % self.config.replay_size
        over = (after.done > 0) | (state.step_in_episode + 1 >= task.horizon)
        fresh = jax.vmap(task.reset)(jax.random.split(reset_key, num_envs))

        def renew(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(over.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        return state.replace(
            stats=running_statistics.update(state.stats, state.env.obs),
            replay={name: state.replay[name].at[slots].set(row[name]) for name in row},
            env=jax.tree.map(renew, fresh, after),
            step_in_episode=jnp.where(over, 0, state.step_in_episode + 1),
            num_steps=state.num_steps + num_envs,
            key=key,
        )

    def _update(self, state: State) -> State:
        """Take one step of critic and targets and, every `actor_every` updates, of policy and temperature."""
        batch_key, critic_key, alpha_key, actor_key, key = jax.random.split(state.key, 5)
        batch = self._sample(state, batch_key)
        alpha = jnp.exp(state.log_alpha)
        critic, critic_opt = self._descend(
            *(self.critic_loss, state.critic, state.critic_opt),
            *(state.actor, state.stats, state.target, alpha, batch, critic_key),
        )

        def improve(actor, actor_opt, log_alpha, alpha_opt):
            log_alpha, alpha_opt = self._descend(
                self.alpha_loss, log_alpha, alpha_opt, actor, state.stats, batch, alpha_key
            )
            actor, actor_opt = self._descend(
                self.actor_loss, actor, actor_opt, state.stats, critic, alpha, batch, actor_key
            )
            return actor, actor_opt, log_alpha, alpha_opt

        actor, actor_opt, log_alpha, alpha_opt = jax.lax.cond(
            state.num_updates % self.config.actor_every == 0,
            improve,
            lambda *same: same,
            *(state.actor, state.actor_opt, state.log_alpha, state.alpha_opt),
        )
        return state.replace(
            actor=actor,
            critic=critic,
            target=optax.incremental_update(critic, state.target, self.config.target_rate),
            log_alpha=log_alpha,
            actor_opt=actor_opt,
            critic_opt=critic_opt,
            alpha_opt=alpha_opt,
            num_updates=state.num_updates + 1,
            key=key,
        )

    def _sample(self, state: State, key: jax.Array) -> Transition:
        """Draw a batch from the replay buffer."""
        size = jnp.minimum(state.num_steps, self.config.replay_size)
        index = jax.random.randint(key, (self.config.batch_size,), 0, size)
        row = {name: column[index] for name, column in state.replay.items()}
        return Transition(
            observation=row["obs"],
            action=row["action"],
            reward=row["reward"],
            discount=1 - row["terminal"],
            next_observation=row["next_obs"],
            extras={"state_extras": {"truncation": jnp.zeros(self.config.batch_size)}},
        )

    def _descend(self, loss: Any, params: Any, opt_state: optax.OptState, *args: Any) -> tuple[Any, optax.OptState]:
        updates, opt_state = self.adam.update(jax.grad(loss)(params, *args), opt_state)
        return optax.apply_updates(params, updates), opt_state
