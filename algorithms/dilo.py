"""DILO: dual imitation from observations, by a value of observation pairs.

Sikchi et al., CoRL 2024, arXiv 2406.08805, with the true gradient, as VfO's authors use it (appendix B).

    (1) y    = gamma V(s', s'') - V(s, s')
    (2) f*(y) = y + y^2 / 4 for y >= -2, else -1                                        (f(x) = (x - 1)^2)
    (3) L_V  = (1 - kappa) E_B V(s, s') + kappa [beta E_E f*(y) + (1 - beta) E_B (f*(y) - y)]
    (4) L_pi = - E_B exp(V(s, s') / lambda) log pi(a | s)                                --weight value
        L_pi = - E_B exp(y / lambda) log pi(a | s)                                       --weight advantage

lambda is the inverse of the authors' tau. The paper's first term is beta (1 - gamma) E V over first pairs, so kappa =
1 / (1 + beta (1 - gamma)); their code (hari-sikchi/DILO) takes background pairs for it, as here, but kappa = 0.8, which
pulls V of background without a way to the expert down to - 2 (1 - kappa) / (kappa (1 - beta) (1 - gamma)^2) = -10 000
and its weights to 0 (--conservatism 0.8). Triples (s, s', s'') lie within an episode, so that no terminal flag is seen,
as in that code. Against it, as in VfO: gradients through both terms of (1), one V, no target network, lambda = 10.

    python algorithms/dilo.py --task hopper --dataset bc-10
"""

from dataclasses import dataclass
from typing import Literal

import chex
import flax
import jax
import jax.numpy as jnp

from sibench.algorithm import Algorithm, RunConfig, Spec, adam, effective_share, run
from sibench.batches import sample_pairs
from sibench.errors import require_above_zero, require_share
from sibench.networks import BinsPolicy, Model, Value, descend, init_model
from sibench.policies import Policy


@dataclass(frozen=True)
class Config(RunConfig):
    """Dual imitation learning from observations (DILO)."""

    discount: float = 0.99
    """gamma."""
    conservatism: float = 0.995
    """kappa, the share of the dual's terms against that of V on background pairs: the paper's, at this beta and gamma.

    The authors' code has 0.8, under which V of background goes to -10 000 and no weight is left (above).
    """
    mixture: float = 0.5
    """beta, the share of expert pairs."""
    temperature: float = 10.0
    """lambda of the weights (VfO, appendix B)."""
    weight: Literal["value", "advantage"] = "value"
    """What is exponentiated: V(s, s'), as in the authors' code, or y, which the word advantage would mean."""
    max_weight: float = 100.0
    """Upper clip of the weights (authors' code)."""

    def __post_init__(self):
        super().__post_init__()
        require_share(self, "discount", "conservatism", "mixture")
        require_above_zero(self, "temperature", "max_weight")


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

    return Algorithm("dilo", init, update, lambda state: Policy(policy, state.policy.params, spec.obs_dim))


if __name__ == "__main__":
    run(Config, make)
