"""DILO: dual imitation from observations, by a value of observation pairs.

Sikchi et al., CoRL 2024, arXiv 2406.08805, with the true gradient, as VfO's authors use it (appendix B).

    (1) y    = gamma V(s', s'') - V(s, s')
    (2) f*(y) = y + y^2 / 4 for y >= -2, else -1                                        (f(x) = (x - 1)^2)
    (3) L_V  = (1 - kappa) E_B V(s, s') + kappa [beta E_E f*(y) + (1 - beta) E_B (f*(y) - y)]
    (4) L_pi = - E_B exp(V(s, s') / lambda) log pi(a | s)                                --weight value
        L_pi = - E_B exp(y / lambda) log pi(a | s)                                       --weight advantage

lambda is the inverse of the authors' tau. Triples (s, s', s'') lie within an episode, so no terminal flag is used.

Deviations from the authors' code (hari-sikchi/DILO), as in VfO: gradients flow through both terms of (1), there is one
V and no target network, and lambda = 10. kappa follows the paper, whose first term beta (1 - gamma) E V gives
1 / (1 + beta (1 - gamma)); over background pairs, as in the code. The code's kappa = 0.8 (--conservatism) pulls V of
background without a way to the expert to - 2 (1 - kappa) / (kappa (1 - beta) (1 - gamma)^2) = -10 000.

    python algorithms/dilo.py --task hopper --dataset bc-10
"""

from dataclasses import dataclass
from typing import Literal

import chex
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
    Value,
    adam,
    descend,
    effective_share,
    init_model,
    main,
    sample_pairs,
    setting,
)


@dataclass(frozen=True)
class Config(RunConfig):
    """Dual imitation learning from observations (DILO)."""

    discount: float = setting(0.99, above=0, below=1, sweep=True)
    """gamma."""
    conservatism: float = setting(0.995, above=0, below=1, sweep=True)
    """kappa, the weight of the dual's terms against V on background pairs: the paper's, at this beta and gamma."""
    mixture: float = setting(0.5, above=0, below=1, sweep=True)
    """beta, the share of expert pairs."""
    temperature: float = setting(10.0, above=0, sweep=True)
    """lambda of the weights (VfO, appendix B)."""
    weight: Literal["value", "advantage"] = "value"
    """What is exponentiated: V(s, s'), as in the authors' code, or y, the advantage."""
    max_weight: float = setting(100.0, above=0, sweep=True)
    """Upper clip of the weights (authors' code)."""


class State(flax.struct.PyTreeNode):
    value: Model
    policy: Model


def conjugate(y: jax.Array) -> jax.Array:
    """Equation (2)."""
    return jnp.where(y >= -2, y + y**2 / 4, -1.0)


def value_loss(background_value, background_y, expert_y, conservatism: float, mixture: float) -> jax.Array:
    """Equation (3)."""
    chex.assert_equal_shape([background_value, background_y])
    expert, background = conjugate(expert_y).mean(), (conjugate(background_y) - background_y).mean()
    dual = mixture * expert + (1 - mixture) * background
    return (1 - conservatism) * background_value.mean() + conservatism * dual


def policy_loss(log_prob, exponent, temperature: float, max_weight: float) -> tuple[jax.Array, jax.Array]:
    """Equation (4), and its weights."""
    chex.assert_equal_shape([log_prob, exponent])
    weight = jax.lax.stop_gradient(jnp.exp(jnp.minimum(exponent / temperature, jnp.log(max_weight))))
    return -(weight * log_prob).mean(), weight


def make(config: Config, spec: Spec) -> Algorithm:
    policy, value = BinsPolicy(spec.action_dim, config.hidden), Value(config.hidden)
    optimiser = adam(config)

    def init(data, key):
        value_key, policy_key = jax.random.split(key)
        obs, stats = data.background.observations[:1], data.background.stats
        return State(
            value=init_model(value, optimiser, value_key, stats, obs, obs),
            policy=init_model(policy, optimiser, policy_key, stats, obs),
        )

    def update(state, data, key):
        expert_key, background_key = jax.random.split(key)
        background, background_later = sample_pairs(data.background, config.batch_size, background_key)
        expert, expert_later = sample_pairs(data.expert, config.batch_size, expert_key)

        def loss_v(params):
            first = [background.obs, expert.obs, background.next_obs, expert.next_obs]
            second = [background.next_obs, expert.next_obs, background_later, expert_later]
            v_b, v_e, next_b, next_e = jnp.split(
                value.apply(params, jnp.concatenate(first), jnp.concatenate(second)), 4
            )
            y_b, y_e = config.discount * next_b - v_b, config.discount * next_e - v_e
            return value_loss(v_b, y_b, y_e, config.conservatism, config.mixture), (v_b, y_b)

        value_model, (value_error, (v, y)) = descend(state.value, optimiser, loss_v, has_aux=True)

        def loss_pi(params):
            log_prob = policy.apply(params, background.obs).log_prob(background.action)
            exponent = v if config.weight == "value" else y
            return policy_loss(log_prob, exponent, config.temperature, config.max_weight)

        policy_model, (policy_error, weight) = descend(state.policy, optimiser, loss_pi, has_aux=True)
        return State(value_model, policy_model), {
            "value_loss": value_error,
            "policy_loss": policy_error,
            "value": v.mean(),
            "weight": weight.mean(),
            "effective_share": effective_share(weight),
            "clipped_share": (weight >= 0.999 * config.max_weight).mean(),
        }

    return Algorithm(init, update, lambda state: Policy(policy, state.policy.params, spec.obs_dim))


METHOD = Method(Config, make)

if __name__ == "__main__":
    main(METHOD)
