"""Train the expert of a task with soft actor-critic (data_gen/sac.py), and measure the task's reference returns.

Of a task whose expert is a script (sibench/scripted.py), only these returns are measured.
A killed run goes on, bit for bit on a CPU, where its last checkpoint stood.

    python -m data_gen.experts --task hopper
"""

import math
from dataclasses import dataclass
from pathlib import Path

from sibench import cli
from sibench.errors import (
    UserError,
    require_above_zero,
    require_no_frames,
    require_positive,
    require_seed,
    require_share,
)


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
    reference_episodes: int = 1000
    """Episodes by which the finished expert and the random policy are measured."""
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
    target_entropy: float = 1.0
    """Minus the policy's entropy that the temperature aims at, per action dimension (1: the SAC paper's)."""
    discount: float = 0.99
    """Discount factor."""
    target_rate: float = 0.005
    """Rate at which the target critics follow the critics."""
    out: Path = Path("runs/experts")
    """Folder of checkpoints, curve and policy, `<out>/<task>`."""
    ship: bool = False
    """Replace the policy and the reference returns that ship with the package."""

    def __post_init__(self):
        require_positive(self, "num_updates", "eval_every", "checkpoint_every", "eval_episodes", "num_envs")
        require_positive(self, "reference_episodes")
        require_positive(self, "env_steps_per_update", "replay_size", "batch_size", "width", "actor_every")
        require_seed(self)
        require_positive(self, "warmup_steps")
        require_above_zero(self, "learning_rate")
        require_share(self, "discount", "target_rate")
        if not math.isfinite(self.target_entropy):
            raise UserError(f"target_entropy={self.target_entropy}; it must be finite")
        if self.replay_size < max(self.batch_size, self.num_envs):
            raise UserError(f"replay_size={self.replay_size}; it must hold batch_size={self.batch_size} at least")
        updates_per_step = self.num_envs / self.env_steps_per_update
        if updates_per_step != int(updates_per_step) or self.eval_every % updates_per_step:
            raise UserError(
                f"num_envs={self.num_envs} / env_steps_per_update={self.env_steps_per_update} is {updates_per_step:g} "
                f"updates a step; it must be whole and divide eval_every={self.eval_every}"
            )
        for name in ("num_updates", "checkpoint_every"):
            if getattr(self, name) % self.eval_every:
                raise UserError(f"{name}={getattr(self, name)} must be a multiple of eval_every={self.eval_every}")


def main(config: Config) -> None:
    from dataclasses import asdict

    from sibench import assets, files, policies, provenance, tasks
    from sibench.data.collect import player, uniform_act

    require_no_frames(config.task, "its expert is its twin's")
    task = tasks.make(config.task, config.engine)
    folder = config.out / task.name
    with files.sole_user(folder):
        free = ("num_updates", "checkpoint_every", "reference_episodes", "out", "ship")  # a run may be made longer
        settings = {name: value for name, value in asdict(config).items() if name not in free}
        run = provenance.start_run(folder, settings | {"engine": task.backend})
        if task.script:
            act, params, _ = player(task, "expert")
            found, names = {"stochastic": judge(config, task, act, params)}, []
        else:
            policy, curve = train(config, task, folder)
            store(config, task, folder, run, policy, curve)
            found, names = policies.read_description(folder / "expert")["card"], ["expert.safetensors", "expert.json"]
        random = judge(config, task, uniform_act(task.action_size), None)
        references = {"random": random, "expert": found["stochastic"]}
        files.write_atomic(folder / "references.json", files.to_json(references))
        for name in ("stochastic", "deterministic"):
            if judged := found.get(name):
                print(f"{task.name} expert, {name}: {judged['mean']:.4g} +- {judged['std']:.3g} of {judged['n']}")
        if config.ship:
            assets.ship(task.name, *(folder / name for name in ("references.json", *names)))
            print(f"shipped to {assets.ASSETS / task.name}")


def train(config: Config, task, folder: Path):
    """Returns the policy of the best evaluation and the learning curve."""
    import time

    import jax
    import jax.numpy as jnp
    import numpy as np

    from data_gen import sac
    from sibench import checkpoint, files
    from sibench.evaluation import policy_act
    from sibench.rollout import rollout, seeds

    learner = sac.make(config, task)
    curve_file = folder / "curve.json"
    like = jax.eval_shape(learner.init, jax.random.key(config.seed))
    curve = []
    if found := checkpoint.restore(folder / "checkpoints", like):
        step, state, curve = found
        print(f"{task.name}: resumed at update {step}", flush=True)
    else:
        state = learner.init(jax.random.key(config.seed))

    start, first = time.monotonic(), int(state.num_updates)
    while int(state.num_updates) < config.num_updates:
        state = learner.chunk(state)
        done = int(state.num_updates)
        policy = learner.policy(state.actor, state.stats)
        episode_seeds = seeds("select", f"{task.id}/experts/{config.seed}/{done}", config.eval_episodes)
        played = {
            mode: rollout(task, policy_act(policy.network, mode), policy.params, episode_seeds)
            for mode in ("sample", "mode")
        }
        returns = {mode: episodes.reward_sum for mode, episodes in played.items()}
        if played["sample"].nonfinite.any():
            raise UserError(f"{task.name}: the policy diverged before update {done}; try a lower --learning-rate")
        mean = returns["sample"].mean()
        if mean > state.best[0]:
            state = state.replace(best=jax.tree.map(jnp.copy, (jnp.float32(mean), state.actor, state.stats)))
        curve.append(
            {
                "updates": done,
                "env_steps": int(state.num_steps),
                "stochastic": np.round(returns["sample"], 1).tolist(),
                "deterministic": np.round(returns["mode"], 1).tolist(),
            }
        )
        files.write_atomic(curve_file, files.to_json(curve))
        if done % config.checkpoint_every == 0 or done >= config.num_updates:
            checkpoint.save(folder / "checkpoints", done, state, curve)
        rate = (done - first) / (time.monotonic() - start)
        minutes = (config.num_updates - done) / rate / 60
        print(
            f"{task.name} {done:>8} updates  return {mean:6.0f} +- {returns['sample'].std():4.0f} sampled, "
            f"{returns['mode'].mean():6.0f} +- {returns['mode'].std():4.0f} mode  best {state.best[0]:6.0f}  "
            f"alpha {jnp.exp(state.log_alpha):.3f}  {rate:.0f}/s  {minutes:.0f} min left",
            flush=True,
        )
    return learner.policy(*state.best[1:]), curve


def store(config: Config, task, folder: Path, run: dict, policy, curve: list) -> None:
    """Judge the policy on fresh episodes, and keep it with its card."""
    from sibench import policies, provenance
    from sibench.evaluation import policy_act

    sample, mode = (policy_act(policy.network, mode) for mode in ("sample", "mode"))
    card = {
        "task": task.id,
        "algorithm": "SAC",
        "command": provenance.command(),
        "num_updates": curve[-1]["updates"],
        "env_steps": curve[-1]["env_steps"],
        "seed": config.seed,
        "stochastic": judge(config, task, sample, policy.params),
        "deterministic": judge(config, task, mode, policy.params),
        "curve": curve,
        **run,
    }
    policies.save(folder / "expert", policy, card)


def judge(config: Config, task, act, params) -> dict:
    """What is to be known of the episodes of an `Act`."""
    from sibench.rollout import rollout, seeds

    played = rollout(task, act, params, seeds("eval", task.id, config.reference_episodes))
    return {
        "mean": float(played.reward_sum.mean()),
        "std": float(played.reward_sum.std()),
        "min": float(played.reward_sum.min()),
        "length_mean": float(played.length.mean()),
        "num_nonfinite": int(played.nonfinite.sum()),
        "n": len(played.reward_sum),
        "engine": task.backend,
        "seeds": f"eval/{task.id}",
    }


if __name__ == "__main__":
    cli.run(main, Config, "python -m data_gen.experts")
