"""Convergence: the held-out negative log-likelihood (NLL) of the behaviour policy's actions under a learner.

The behaviour policies are known, and so is the NLL of their own actions. A clone whose NLL is far above it has not
converged, and comparisons on that dataset are not interpreted.
"""

import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sibench import tasks
from sibench.core.ids import EPISODES, parse_id
from sibench.data.collect import uniform_act
from sibench.policies import Policy, load, read_description, shipped
from sibench.policies.evaluation import policy_act
from sibench.policies.networks import BinsPolicy, bin_of
from sibench.tasks import Task
from sibench.tasks.rollout import rollout, seeds

NUM = 20
"""Held-out episodes."""
FRAMES_AT_A_TIME = 500
"""Observations with frames that a policy is evaluated on at once."""


class HeldOut(NamedTuple):
    """Steps of the policies behind a dataset, from episodes that are in no dataset."""

    obs: np.ndarray  # [N, O]
    action: np.ndarray  # [N, A]
    teacher_nll: float  # of these actions under the policies that took them

    def nll(self, policy: Policy) -> float | None:
        """Return the mean NLL of an action, summed over its dimensions, in nats; None if it is not finite."""
        value = nll(policy, self.obs, self.action)
        return value if math.isfinite(value) else None


def held_out(task: Task, card: dict[str, Any]) -> HeldOut | None:
    """Play the held-out steps of the dataset with this card; return None if its policies are unknown."""
    obs, action, sums = [], [], []
    name = card["seeds"] if "policy_file" in card else card["id"]  # an id of self-improvement knows its folder
    for policy, num in teachers(card):
        act = policy_act(policy.network, "sample") if policy else uniform_act(task.action_size)
        seed = seeds("select", f"{name}/{'policy' if policy else 'uniform'}", num)
        playing = played_on(task, policy)
        played = rollout(playing, act, policy.params if policy else None, seed, record=True)
        kept, own = played.obs[:, :-1][played.in_step], played.action[played.in_step]
        obs.append(task.full_observation(kept))
        action.append(own)
        seen = obs[-1] if playing is task else kept
        sums.append((nll(policy, seen, own) if policy else uniform_nll(own)) * len(own))
    if not obs:
        return None
    obs = np.concatenate(obs)
    return HeldOut(obs, np.concatenate(action), sum(sums) / len(obs))


def played_on(task: Task, policy: Policy | None) -> Task:
    """Return the task that a policy plays: a policy that observes the state plays the twin of a task with frames."""
    sees_frames = policy is not None and policy.obs_dim == task.observation_size
    return (
        task
        if sees_frames or not tasks.observes_pixels(task.name)
        else tasks.make(tasks.state_twin(task.name), task.backend)
    )


def teachers(card: dict[str, Any]) -> list[tuple[Policy | None, int]]:
    """Return the policies behind a dataset, each with its number of episodes; None is the uniform policy."""
    if "policy_file" in card:  # of self-improvement
        file = Path(card["policy_file"])
        is_there = file.with_suffix(".json").exists() and read_description(file)["weights_sha256"] == card["policy"]
        return [(load(file), NUM)] if is_there else []
    id = parse_id(card["id"])
    if id.kind == "other":
        return []
    if tasks.task_type(id.task).script and id.kind in ("expert", "mix"):  # of a script nothing is known
        return []
    if id.kind != "mix":
        return [(None if id.source == "random" else shipped.load_policy(id.task, id.source), NUM)]
    experts = round(NUM * id.number / EPISODES)
    shares = [(shipped.load_policy(id.task, "expert"), experts), (None, NUM - experts)]
    return [(policy, num) for policy, num in shares if num]


def nll(policy: Policy, obs: np.ndarray, action: np.ndarray) -> float:
    rows = len(obs) if obs.dtype != np.uint8 else FRAMES_AT_A_TIME
    parts = [slice(first, first + rows) for first in range(0, len(obs), rows)]
    sums = [float(_nll(policy.network, policy.params, obs[at], action[at])) * len(obs[at]) for at in parts]
    return sum(sums) / len(obs)


@functools.partial(jax.jit, static_argnums=0)
def _nll(network: nn.Module, params: Any, obs: jax.Array, action: jax.Array) -> jax.Array:
    return -network.apply(params, obs).log_prob(action).mean()


def uniform_nll(action: jax.Array) -> float:
    """Return the NLL of uniform actions, in bins of which the outermost are half as wide."""
    bins = BinsPolicy.bins
    index = bin_of(action, bins)
    half = (index == 0) | (index == bins - 1)
    return float(jnp.where(half, math.log(2 * (bins - 1)), math.log(bins - 1)).sum(-1).mean())
