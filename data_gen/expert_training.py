"""Make the expert of a task: train it, keep the best policy, and measure it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_gen import sac
from sibench import policies
from sibench.core import assets, files, provenance
from sibench.core.errors import UserError
from sibench.data.collect import player, uniform_act
from sibench.learning import checkpoint
from sibench.learning.progress import Progress
from sibench.policies import Policy
from sibench.policies.evaluation import policy_act
from sibench.tasks import Task
from sibench.tasks.rollout import Act, Script, rollout, seeds

EXTENSIBLE = ("num_updates", "checkpoint_every", "reference_episodes", "out", "ship")
"""Settings that may change when a run is continued."""


def make_expert(task: Task, config: Any) -> None:
    """Train or resume the expert of a task, measure it and the random policy, and ship both if asked to."""
    folder = config.out / task.name
    with files.sole_user(folder):
        settings = {name: value for name, value in asdict(config).items() if name not in EXTENSIBLE}
        run = provenance.start_run(folder, settings | {"task": task.name, "engine": task.backend})
        if task.script:
            act, params, _ = player(task, "expert")
            returns, names = {"stochastic": measure(config, task, act, params)}, ["references.json"]
        else:
            policy, curve = train(config, task, folder)
            returns = store(config, task, folder, run, policy, curve)
            names = ["references.json", "expert.safetensors", "expert.json"]
        random = measure(config, task, uniform_act(task.action_size), None)
        references = {"random": random, "expert": returns["stochastic"]}
        files.write_atomic(folder / "references.json", files.to_json(references))
        for mode, measured in returns.items():
            print(f"{task.name} expert, {mode}: {measured['mean']:.4g} +- {measured['std']:.3g} of {measured['n']}")
        if config.ship:
            assets.ship(task.name, *(folder / name for name in names))
            print(f"shipped to {assets.ASSETS / task.name}")


def train(config: Any, task: Task, folder: Path) -> tuple[Policy, list[dict[str, Any]]]:
    """Return the policy of the best evaluation, and the learning curve."""
    learner = sac.Sac(config, task)
    like = jax.eval_shape(learner.init, jax.random.key(config.seed))
    if restored := checkpoint.restore(folder / "checkpoints", like):
        step, state, curve = restored
        print(f"{task.name}: resumed at update {step}", flush=True)
    else:
        state, curve = learner.init(jax.random.key(config.seed)), []
    progress = Progress(task.name, config.num_updates, int(state.num_updates))
    while int(state.num_updates) < config.num_updates:
        state = learner.chunk(state)
        done = int(state.num_updates)
        returns = evaluate(config, task, learner.policy(state.actor, state.stats), done)
        sampled, mode = returns["sample"], returns["mode"]
        if sampled.mean() > state.best[0]:
            best = (jnp.float32(sampled.mean()), state.actor, state.stats)
            state = state.replace(best=jax.tree.map(jnp.copy, best))
        curve.append(
            {
                "updates": done,
                "env_steps": int(state.num_steps),
                "stochastic": np.round(sampled, 1).tolist(),
                "deterministic": np.round(mode, 1).tolist(),
            }
        )
        files.write_atomic(folder / "curve.json", files.to_json(curve))
        if done % config.checkpoint_every == 0 or done >= config.num_updates:
            checkpoint.save(folder / "checkpoints", done, state, curve)
        words = [f"{returns[mode].mean():.0f} +- {returns[mode].std():.0f} {mode}" for mode in returns]
        words += [f"best {state.best[0]:.0f}", f"alpha {jnp.exp(state.log_alpha):.3f}"]
        progress.show(done, "return", *words)
    return learner.policy(*state.best[1:]), curve


def evaluate(config: Any, task: Task, policy: Policy, update: int) -> dict[str, np.ndarray]:
    """Return the returns of some episodes with sampled actions, and with the most likely ones."""
    seed = seeds("select", f"{task.id}/experts/{config.seed}/{update}", config.eval_episodes)
    played = {mode: rollout(task, policy_act(policy.network, mode), policy.params, seed) for mode in ("sample", "mode")}
    if played["sample"].nonfinite.any():
        raise UserError(f"{task.name}: the policy diverged before update {update}; try a lower --learning-rate")
    return {mode: episodes.reward_sum for mode, episodes in played.items()}


def store(
    config: Any, task: Task, folder: Path, run: dict[str, Any], policy: Policy, curve: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Measure the policy on fresh episodes, and write it with its card; return the measurements."""
    sampled, mode = (policy_act(policy.network, mode) for mode in ("sample", "mode"))
    returns = {
        "stochastic": measure(config, task, sampled, policy.params),
        "deterministic": measure(config, task, mode, policy.params),
    }
    card = {
        "task": task.id,
        "algorithm": "SAC",
        "command": provenance.command(),
        "num_updates": curve[-1]["updates"],
        "env_steps": curve[-1]["env_steps"],
        "seed": config.seed,
        **returns,
        "curve": curve,
        **run,
    }
    policies.save(folder / "expert", policy, card)
    return returns


def measure(config: Any, task: Task, act: Act | Script, params: Any) -> dict[str, Any]:
    """Play `reference_episodes` episodes; return statistics of their returns."""
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
