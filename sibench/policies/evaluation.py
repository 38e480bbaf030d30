"""Evaluate a policy: raw returns of many episodes, from a fixed block of seeds."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from sibench import tasks
from sibench.core.errors import UserError, unknown
from sibench.policies.policy import Policy
from sibench.tasks import cameras
from sibench.tasks.rollout import Act, rollout, seeds


class Evaluation(NamedTuple):
    """Played episodes, one entry each, neither aggregated nor masked."""

    returns: np.ndarray  # float64, undiscounted
    lengths: np.ndarray  # steps
    num_nonfinite: int  # episodes that the policy ended by an action that was not finite
    engine: str
    progress: np.ndarray | None = None  # in [0, 1], largest `Task.progress`; only for tasks that reward success alone


@functools.cache
def policy_act(network: Any, mode: Literal["sample", "mode"]) -> Act:
    """Return `Policy.act` for a batch with one key a row; one function for each network, so that it compiles once."""

    def act(params: Any, obs: jax.Array, keys: jax.Array) -> jax.Array:
        distribution = network.apply(params, obs)
        return distribution.mode() if mode == "mode" else jax.vmap(lambda d, key: d.sample(key))(distribution, keys)

    return act


def evaluate(
    policy: Policy | Callable[[np.ndarray], Any],
    task: str,
    episodes: int = 1000,
    *,
    block: str = "eval",
    mode: Literal["sample", "mode"] = "sample",
    engine: str = "auto",
) -> Evaluation:
    """Play episodes of a task.

    `policy` may be any callable from observations [N, O] (NumPy) to actions [N, A] (NumPy, JAX or torch). A `Policy`
    samples its actions (the benchmark's protocol), or with `mode="mode"` takes the most likely ones. `block` is the
    block of episode seeds: `eval` for reporting, `select` for tuning.
    """
    if mode not in ("sample", "mode"):
        raise unknown("mode", mode, ("sample", "mode"))
    if episodes < 1:
        raise UserError(f"episodes={episodes}; at least 1 is needed")
    env = tasks.make(task, engine)
    if env.observes_pixels:
        cameras.backend()  # fails here with a short message, in a compiled program with a long one
    seed = seeds(block, env.id, episodes)
    if isinstance(policy, Policy):
        if policy.obs_dim != env.observation_size:
            raise UserError(f"the policy takes {policy.obs_dim} observations; {env.name} has {env.observation_size}")
        if (size := policy.network.action_dim) != env.action_size:
            raise UserError(f"the policy has actions of {size} numbers; {env.name} needs {env.action_size}")
        played = rollout(env, policy_act(policy.network, mode), policy.params, seed)
    else:
        played = rollout(env, policy, None, seed, on_host=True)
    return Evaluation(played.reward_sum, played.length, int(played.nonfinite.sum()), env.backend, played.progress)
