"""How good is a policy? Raw returns of many episodes, from a fixed block of seeds."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from sibench import cameras
from sibench.errors import UserError, unknown
from sibench.ids import has_frames
from sibench.policies import Policy
from sibench.rollout import Act, rollout, seeds
from sibench.tasks import make


class Evaluation(NamedTuple):
    """One entry an episode, never aggregated and never masked."""

    returns: np.ndarray  # float64, undiscounted
    lengths: np.ndarray  # steps
    num_nonfinite: int  # episodes that the policy ended by an action that was not finite
    engine: str
    progress: np.ndarray | None = None  # in [0, 1], how far each came (`Task.progress`), where returns are only success


@functools.cache
def policy_act(network, mode: Literal["sample", "mode"]) -> Act:
    """`Policy.act` for a batch with a key for each row; one function object per network, so compiled once."""

    def act(params, obs, keys):
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
    """Play `episodes` episodes of a task.

    Args:
        policy: a `Policy`, or any callable from a batch of observations [N, O] (NumPy) to a batch of actions [N, A]
            (NumPy, JAX or torch).
        block: whose episode seeds: `eval` to report, `select` to tune on.
        mode: whether a `Policy` samples its actions (the benchmark's protocol) or takes the most likely one.
    """
    if mode not in ("sample", "mode"):
        raise unknown("mode", mode, ("sample", "mode"))
    if episodes < 1:
        raise UserError(f"episodes={episodes}; at least 1 is needed")
    environment = make(task, engine)
    if has_frames(environment.name):
        cameras.backend()  # says what is missing, which a compiled program would say among much else
    seed = seeds(block, environment.id, episodes)
    if isinstance(policy, Policy):
        if policy.obs_dim != environment.observation_size:
            raise UserError(
                f"the policy takes {policy.obs_dim} observations; {task} has {environment.observation_size}"
            )
        if policy.network.action_dim != environment.action_size:
            raise UserError(
                f"the policy has actions of {policy.network.action_dim} numbers; {task} needs {environment.action_size}"
            )
        played = rollout(environment, policy_act(policy.network, mode), policy.params, seed)
    else:
        played = rollout(environment, policy, None, seed, on_host=True)
    return Evaluation(
        played.reward_sum, played.length, int(played.nonfinite.sum()), environment.backend, played.progress
    )
