"""Train the expert of a task with soft actor-critic: brax's networks, losses and observation statistics.

The loop is ours because brax's trainer can neither resume nor record a fall apart from a time-out: it keeps the
whole state (networks, optimisers, replay buffer, simulations, keys) in one pytree, so that a killed run goes on bit
for bit where its last checkpoint stood.

    python -m data_gen.experts --task hopper
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Config:
    """Train the expert of one task and store it as a policy with its card."""

    task: str
    """Task to train on."""
    engine: str = "auto"
    """Physics engine: c, mjx, or auto (mjx on a GPU, c on a CPU)."""
    seed: int = 0
    """Seed of everything drawn."""
    num_updates: int = 600_000
    """Gradient updates of the critics."""
    eval_every: int = 20_000
    """Updates between evaluations."""
    checkpoint_every: int = 40_000
    """Updates between checkpoints of the whole state."""
    eval_episodes: int = 16
    """Stochastic episodes per evaluation; the best policy by them is the one kept."""
    num_envs: int = 32
    """Simulations stepped together."""
    env_steps_per_update: int = 4
    """Environment steps collected for each update."""
    warmup_steps: int = 10_000
    """Environment steps of uniform actions before the first update."""
    replay_size: int = 1_000_000
    """Transitions the replay buffer holds."""
    batch_size: int = 128
    """Transitions per update."""
    width: int = 256
    """Units in each of the two hidden layers of policy and critics."""
    learning_rate: float = 3e-4
    """Adam learning rate of policy, critics and temperature."""
    actor_every: int = 2
    """Critic updates per policy and temperature update."""
    discount: float = 0.99
    """Discount factor."""
    target_rate: float = 0.005
    """Rate at which the target critics follow the critics."""
    out: Path = Path(".cache/experts")
    """Folder of checkpoints and curve, `<out>/<task>`."""


def main(config: Config) -> None:
    import functools
    import json
    import time

    import flax
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from brax.training.acme import running_statistics, specs
    from brax.training.agents.sac import losses, networks
    from brax.training.types import Transition

    from sibench import checkpoint, files
    from sibench.tasks import make

    task = make(config.task, config.engine)
    obs_dim, action_dim, num_envs = task.observation_size, task.action_size, config.num_envs
    net = networks.make_sac_networks(
        obs_dim,
        action_dim,
        preprocess_observations_fn=running_statistics.normalize,
        hidden_layer_sizes=(config.width, config.width),
        q_network_layer_norm=True,
    )
    alpha_loss, critic_loss, actor_loss = losses.make_losses(net, 1.0, config.discount, action_dim)
    adam = optax.adam(config.learning_rate)
    distribution = net.parametric_action_distribution

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
        env: object
        step_in_episode: jax.Array  # [num_envs]
        num_steps: jax.Array  # environment steps so far
        num_updates: jax.Array
        key: jax.Array
        best: tuple  # (return, actor, stats) of the best evaluation so far

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
        return State(
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

    def act(actor, stats, obs, key):
        return distribution.sample(net.policy_network.apply(stats, actor, obs), key)

    def interact(state: State, uniform: bool) -> State:
        """One step of every simulation into the replay buffer; a finished one starts its next episode afresh."""
        action_key, reset_key, key = jax.random.split(state.key, 3)
        if uniform:
            action = jax.random.uniform(action_key, (num_envs, action_dim), minval=-1, maxval=1)
        else:
            action = act(state.actor, state.stats, state.env.obs, action_key)
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
        return state.replace(
            stats=running_statistics.update(state.stats, state.env.obs),
            replay={name: state.replay[name].at[slots].set(row[name]) for name in row},
            env=jax.tree.map(lambda new, old: jnp.where(over.reshape(-1, *[1] * (new.ndim - 1)), new, old), fresh, after),
            step_in_episode=jnp.where(over, 0, state.step_in_episode + 1),
            num_steps=state.num_steps + num_envs,
            key=key,
        )

    def descend(loss, params, opt_state, *args):
        updates, opt_state = adam.update(jax.grad(loss)(params, *args), opt_state)
        return optax.apply_updates(params, updates), opt_state

    def update(state: State, _) -> tuple[State, None]:
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
            critic_loss, state.critic, state.critic_opt, state.actor, state.stats, state.target, alpha, batch, critic_key
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
        state = state.replace(
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
        return state, None

    updates_per_step = num_envs // config.env_steps_per_update

    @functools.partial(jax.jit, donate_argnums=0, static_argnums=1)
    def warm_up(state: State, num: int) -> State:
        return jax.lax.scan(lambda s, _: (interact(s, uniform=True), None), state, length=num)[0]

    @functools.partial(jax.jit, donate_argnums=0)
    def chunk(state: State) -> State:
        def body(state, _):
            state = interact(state, uniform=False)
            return jax.lax.scan(update, state, length=updates_per_step)[0], None

        return jax.lax.scan(body, state, length=config.eval_every // updates_per_step)[0]

    @functools.partial(jax.jit, static_argnums=2)
    def evaluate(actor, stats, deterministic: bool, key):
        """Returns of `eval_episodes` episodes, and their lengths."""
        reset_key, key = jax.random.split(key)

        def step(carry, key):
            env, alive = carry
            logits = net.policy_network.apply(stats, actor, env.obs)
            action = distribution.mode(logits) if deterministic else distribution.sample(logits, key)
            after = jax.vmap(task.step)(env, action)
            return (after, alive * (1 - after.done)), (after.reward * alive, alive)

        env = jax.vmap(task.reset)(jax.random.split(reset_key, config.eval_episodes))
        alive = jnp.ones(config.eval_episodes)
        _, (rewards, lived) = jax.lax.scan(step, (env, alive), jax.random.split(key, task.horizon))
        return rewards.sum(0), lived.sum(0)

    folder = config.out / task.name
    curve_file = folder / "curve.json"
    state = init(jax.random.key(config.seed))
    found = checkpoint.restore(folder / "checkpoints", state)
    curve = []
    if found:
        state = found[1]
        done = int(state.num_updates)
        curve = [row for row in json.loads(curve_file.read_text()) if row["updates"] <= done]
        print(f"{task.name}: resumed at update {done}", flush=True)
    else:
        state = warm_up(state, -(-config.warmup_steps // num_envs))
    start, first = time.monotonic(), int(state.num_updates)
    while (done := int(state.num_updates)) < config.num_updates:
        state = chunk(state)
        done = int(state.num_updates)
        eval_key = jax.random.fold_in(jax.random.key(config.seed + 1), done)
        sampled, lengths = evaluate(state.actor, state.stats, False, eval_key)
        mode, _ = evaluate(state.actor, state.stats, True, eval_key)
        if sampled.mean() > state.best[0]:
            state = state.replace(best=jax.tree.map(jnp.copy, (sampled.mean(), state.actor, state.stats)))
        curve.append(
            {
                "updates": done,
                "env_steps": int(state.num_steps),
                "stochastic": np.round(np.asarray(sampled), 1).tolist(),
                "deterministic": np.round(np.asarray(mode), 1).tolist(),
            }
        )
        rate = (done - first) / (time.monotonic() - start)
        print(
            f"{task.name} {done:>8} updates  stochastic {sampled.mean():7.0f} +- {sampled.std():5.0f}"
            f"  length {lengths.mean():5.0f}  deterministic {mode.mean():7.0f}  best {state.best[0]:7.0f}"
            f"  alpha {jnp.exp(state.log_alpha):.3f}  {rate:.0f}/s  {(config.num_updates - done) / rate / 60:.0f} min left",
            flush=True,
        )
        files.write_atomic(curve_file, files.to_json(curve))
        if done % config.checkpoint_every == 0 or done >= config.num_updates:
            checkpoint.save(folder / "checkpoints", done, state)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
