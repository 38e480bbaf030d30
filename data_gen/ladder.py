"""Train the ladder: behavioural cloning of 1, 2, 5, ... 1000 expert demonstrations, with the paper's network.

These policies are the benchmark's behaviour policies; their rollouts are its background datasets.

    python -m data_gen.ladder --task hopper
"""

from dataclasses import dataclass
from pathlib import Path

from sibench import cli
from sibench.ids import LADDER


@dataclass(frozen=True)
class Config:
    """Train the behaviour policies of one task and store them as policies with their cards."""

    task: str
    """Task whose expert is cloned."""
    levels: tuple[int, ...] = LADDER
    """Numbers of demonstrations to train on."""
    engine: str = "auto"
    """Physics engine: c, mjx, or auto (mjx on a GPU, c on a CPU)."""
    seed: int = 0
    """Seed of initialisation and batches."""
    num_updates: int = 100_000
    """Gradient updates of each policy."""
    batch_size: int = 256
    """Steps per update."""
    learning_rate: float = 1e-3
    """Adam learning rate at the start; it decays to zero along a cosine."""
    width: int = 512
    """Units in each of the two hidden layers."""
    gains: tuple[float, ...] = (1 / 16, 1 / 4, 1.0, 4.0, 16.0)
    """Gains of the multi-scale encoder."""
    kernel_width: float = 0.1
    """Width of the Gaussian kernel on the last layer, in units of the action range [-1, 1]."""
    checkpoint_every: int = 10_000
    """Updates between checkpoints and lines of progress."""
    eval_episodes: int = 100
    """Episodes by which each policy's quality is told."""
    out: Path = Path(".cache/ladder")
    """Folder of checkpoints and policies, `<out>/<task>`."""
    ship: bool = False
    """Replace the policies that ship with the package."""


HELD_OUT = 50
"""Expert episodes that no policy is trained on, to measure likelihood."""


def main(config: Config) -> None:
    import functools
    import shutil
    import time
    from typing import NamedTuple

    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from sibench import assets, checkpoint, policies, provenance, tasks
    from sibench.data import load_privileged, observation_index
    from sibench.errors import unknown
    from sibench.evaluation import evaluate, policy_act
    from sibench.rollout import rollout, seeds

    task = tasks.make(config.task, config.engine)
    for level in config.levels:
        if level not in LADDER:
            raise unknown("level", str(level), map(str, LADDER))
    folder = config.out / task.name
    network = policies.BinsPolicy(
        task.action_size, (config.width, config.width), config.gains, kernel_width=config.kernel_width
    )

    demos = load_privileged(f"{task.name}/expert-v1", build=True)
    obs = jnp.asarray(demos.observations[observation_index(demos.offsets)])
    action = jnp.asarray(demos.actions)
    steps_of = {level: int(demos.offsets[level]) for level in config.levels}

    expert = assets.load_policy(task.name, "expert")
    held_out = rollout(
        task,
        policy_act(expert.network, "sample"),
        expert.params,
        seeds("select", f"{task.id}/expert", HELD_OUT),
        record=True,
    )
    in_step = np.arange(task.horizon) < held_out.length[:, None]
    test_obs, test_action = jnp.asarray(held_out.obs[:, :-1][in_step]), jnp.asarray(held_out.action[in_step])

    adam = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.num_updates))

    class State(NamedTuple):
        params: dict
        opt_state: optax.OptState
        num_updates: jax.Array
        key: jax.Array

    def init(key: jax.Array) -> State:
        params_key, key = jax.random.split(key)
        params = network.init(params_key, obs[:1])
        return State(params, adam.init(params), jnp.zeros((), jnp.int32), key)

    def loss(params: dict, obs: jax.Array, action: jax.Array) -> jax.Array:
        """BC: the mean negative log-likelihood of the action's bins."""
        return -network.apply(params, obs).log_prob(action).mean()

    def update(state: State, num_steps: jax.Array, obs: jax.Array, action: jax.Array) -> tuple[State, jax.Array]:
        batch_key, key = jax.random.split(state.key)
        index = jax.random.randint(batch_key, (config.batch_size,), 0, num_steps)
        value, grads = jax.value_and_grad(loss)(state.params, obs[index], action[index])
        updates, opt_state = adam.update(grads, state.opt_state)
        return State(optax.apply_updates(state.params, updates), opt_state, state.num_updates + 1, key), value

    @functools.partial(jax.jit, donate_argnums=0)
    def chunk(states: State, num_steps: jax.Array, obs: jax.Array, action: jax.Array) -> tuple[State, jax.Array]:
        lanes = jax.vmap(update, in_axes=(0, 0, None, None))
        states, losses = jax.lax.scan(
            lambda s, _: lanes(s, num_steps, obs, action), states, length=config.checkpoint_every
        )
        return states, losses[-1000:].mean(0)

    @jax.jit
    def held_out_loss(states: State) -> jax.Array:
        return jax.vmap(loss, in_axes=(0, None, None))(states.params, test_obs, test_action)

    def train(levels: tuple[int, ...]) -> None:
        """Train the policies of these levels as lanes of one program. A lane's draws do not depend on the others."""
        name = "-".join(map(str, levels))
        key = jax.random.key(config.seed)
        states = jax.vmap(init)(jnp.stack([jax.random.fold_in(key, level) for level in levels]))
        num_steps = jnp.array([steps_of[level] for level in levels])
        found = checkpoint.restore(folder / "checkpoints" / name, states)
        if found:
            states = found[1]
            print(f"{task.name} bc-{name}: resumed at update {found[0]}", flush=True)
        start, first = time.monotonic(), int(states.num_updates[0])
        train_loss = jnp.full(len(levels), jnp.nan)
        while (done := int(states.num_updates[0])) < config.num_updates:
            states, train_loss = chunk(states, num_steps, obs, action)
            done = int(states.num_updates[0])
            checkpoint.save(folder / "checkpoints" / name, done, states)
            rate = (done - first) / (time.monotonic() - start)
            shown = "  ".join(
                f"bc-{d}: {a:.2f} / {b:.2f}" for d, a, b in zip(levels, train_loss, held_out_loss(states), strict=True)
            )
            left = (config.num_updates - done) / rate / 60
            print(f"{task.name} {done:>7} updates  nll {shown}  {rate:.0f}/s  {left:.0f} min left", flush=True)
        test_loss = held_out_loss(states)
        for lane, level in enumerate(levels):
            params = jax.tree.map(lambda leaf, lane=lane: np.asarray(leaf[lane], np.float16), states.params)
            policy = policies.Policy(network, params, task.observation_size)
            card = {
                "task": task.id,
                "demonstrations": level,
                "demonstrations_from": demos.card["content_sha256"],
                "num_updates": config.num_updates,
                "seed": config.seed,
                "nll_train": float(train_loss[lane]),
                "nll_held_out": float(test_loss[lane]),
                "command": provenance.command(),
                "code": provenance.code_version(),
                "versions": provenance.versions(),
            }
            policies.save(folder / f"bc-{level}", policy, card, np.float16)

    for levels in [config.levels] if jax.default_backend() == "gpu" else [(level,) for level in config.levels]:
        if not all((folder / f"bc-{level}.json").exists() for level in levels):
            train(levels)

    print(f"{'policy':<10}{'return':>8}{'std':>8}{'quality':>9}{'nll held out':>14}")
    for level in config.levels:
        policy = policies.load(folder / f"bc-{level}")
        returns = evaluate(policy, task.name, config.eval_episodes, block="select", engine=task.backend).returns
        quality = tasks.quality(task.name, returns.mean())
        nll = policies.read_description(folder / f"bc-{level}")["card"]["nll_held_out"]
        print(f"bc-{level:<7}{returns.mean():>8.0f}{returns.std():>8.0f}{quality:>9.2f}{nll:>14.2f}", flush=True)
        if config.ship:
            for suffix in (".safetensors", ".json"):  # the JSON last: it vouches for the weights
                shutil.copy(folder / f"bc-{level}{suffix}", assets.ASSETS / task.name)


if __name__ == "__main__":
    cli.run(main, Config, "python -m data_gen.ladder")
