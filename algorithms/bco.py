"""Behavioural cloning from observations: infer the expert's actions with an inverse model of the background data.

BCO(0) of Torabi et al., 2018, arXiv 1805.01954, as VfO's authors use it (appendix B):

    (1) L_psi = - E_B log p_psi(a | s, s')                  trained first, then frozen
    (2) a^    = p_psi's most likely action, or a draw, for every expert step (s, s')       (--label)
    (3) L_pi  = - 1/2 E_B log pi(a | s) - 1/2 E_E log pi(a^ | s)

The original clones the expert steps alone; the half of background steps is VfO's addition.

    python algorithms/bco.py --task hopper --dataset bc-10
"""

from dataclasses import dataclass
from typing import Literal

import flax
import jax
import jax.numpy as jnp

from sibench.method import (
    Algorithm,
    BinsPolicy,
    Method,
    Model,
    Policy,
    RunConfig,
    Spec,
    adam,
    descend,
    init_model,
    main,
    sample,
    setting,
)


@dataclass(frozen=True)
class Config(RunConfig):
    """Behavioural cloning from observations (BCO)."""

    inverse_steps: int = setting(200_000, at_least=1, phase=True)
    """Updates of the inverse model. The paper names no number."""
    label: Literal["mode", "sample"] = "mode"
    """Expert actions: the inverse model's most likely bin, or a sample. The paper does not say which."""


class State(flax.struct.PyTreeNode):
    inverse: Model
    policy: Model


def inverse_loss(log_prob: jax.Array) -> jax.Array:
    """Equation (1)."""
    return -log_prob.mean()


def policy_loss(background_log_prob: jax.Array, expert_log_prob: jax.Array) -> jax.Array:
    """Equation (3)."""
    return -0.5 * background_log_prob.mean() - 0.5 * expert_log_prob.mean()


def make(config: Config, spec: Spec) -> Algorithm:
    policy, inverse = BinsPolicy(spec.action_dim, config.hidden), BinsPolicy(spec.action_dim, config.hidden)
    optimiser, inverse_adam = adam(config), adam(config, config.inverse_steps)
    half = config.batch_size // 2

    def init(data, key):
        inverse_key, policy_key = jax.random.split(key)
        obs, stats = data.background.observations[:1], data.background.stats
        return State(
            inverse=init_model(inverse, inverse_adam, inverse_key, stats, obs, obs),
            policy=init_model(policy, optimiser, policy_key, stats, obs),
        )

    def pretrain(state, data, key):
        batch = sample(data.background, config.batch_size, key)

        def loss(params):
            return inverse_loss(inverse.apply(params, batch.obs, batch.next_obs).log_prob(batch.action))

        model, error = descend(state.inverse, inverse_adam, loss)
        return state.replace(inverse=model), {"inverse_loss": error}

    def update(state, data, key):
        expert_key, background_key, label_key = jax.random.split(key, 3)
        expert = sample(data.expert, half, expert_key)
        background = sample(data.background, half, background_key)
        named = inverse.apply(state.inverse.params, expert.obs, expert.next_obs)
        action = named.mode() if config.label == "mode" else named.sample(label_key)

        def loss(params):
            actions = policy.apply(params, jnp.concatenate([background.obs, expert.obs]))
            log_prob = actions.log_prob(jnp.concatenate([background.action, action]))
            return policy_loss(log_prob[:half], log_prob[half:])

        model, error = descend(state.policy, optimiser, loss)
        return state.replace(policy=model), {"policy_loss": error}

    return Algorithm(
        init=init,
        update=update,
        policy=lambda state: Policy(policy, state.policy.params, spec.obs_dim),
        pretrain=pretrain,
        num_pretrain=config.inverse_steps,
    )


METHOD = Method(Config, make)

if __name__ == "__main__":
    main(METHOD)
