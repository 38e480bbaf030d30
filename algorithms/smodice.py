"""SMODICE: match the expert's state distribution, by the dual of an f-divergence over the background data.

Ma et al., ICML 2022, arXiv 2202.02433. c is the logit of a discriminator of expert against background observations, d a
step's terminal flag, s0 a first observation of the background data.

    (1) L_c  = - E_E log sigma(c(s)) - E_B log (1 - sigma(c(s))),     trained first, then frozen;     R(s) = c(s)
    (2) e    = R(s) + gamma (1 - d) V(s') + gamma d R(s) / (1 - gamma) - V(s)
    (3) L_V  = (1 - gamma) E V(s0) + log E_B exp(e),      w = exp(e) / E_B exp(e)          --f kl
        L_V  = (1 - gamma) E V(s0) + E_B (e^2 / 2 + e),   w = max(0, e + 1)                --f chi2
    (4) L_pi = - E_B w log pi(a | s)

Gradients of (3) flow through both V(s) and V(s'), without a target network, as in the authors' code
(JasonMa2016/SMODICE). Deviations from it, as in VfO's appendix B: no gradient penalty on c, no entropy term, and 10 000
updates of c. Ours: w of kl is normalised within the batch, because (3) leaves its scale free to drift. VfO's paper does
not name the f of its locomotion experiments; kl is the authors' default there.

    python algorithms/smodice.py --task hopper --dataset bc-10 --f chi2
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
    sample,
    sample_openings,
    setting,
)


@dataclass(frozen=True)
class Config(RunConfig):
    """State matching offline distribution correction (SMODICE)."""

    f: Literal["kl", "chi2"] = "kl"
    """Divergence: kl is the authors' choice for locomotion, chi2 theirs elsewhere."""
    discount: float = setting(0.99, above=0, below=1, sweep=True)
    """gamma."""
    terminal_rule: bool = True
    """Whether a terminal step earns its last reward for ever, as in VfO (its appendix A)."""
    disc_steps: int = setting(10_000, at_least=1, phase=True)
    """Updates of the discriminator (VfO, appendix B)."""


class State(flax.struct.PyTreeNode):
    disc: Model
    value: Model
    policy: Model


def disc_loss(expert_logit: jax.Array, background_logit: jax.Array) -> jax.Array:
    """Equation (1): -log sigma(c) = softplus(-c), -log (1 - sigma(c)) = softplus(c)."""
    return jax.nn.softplus(-expert_logit).mean() + jax.nn.softplus(background_logit).mean()


def residual(reward, terminal, value, next_value, discount: float, terminal_rule: bool) -> jax.Array:
    """Equation (2)."""
    chex.assert_equal_shape([reward, terminal, value, next_value])
    absorbed = reward / (1 - discount) if terminal_rule else 0.0
    return reward + discount * ((1 - terminal) * next_value + terminal * absorbed) - value


def value_loss(opening_value, error, discount: float, f: str) -> jax.Array:
    """Equation (3)."""
    opening = (1 - discount) * opening_value.mean()
    if f == "kl":
        return opening + jax.nn.logsumexp(error) - jnp.log(len(error))
    return opening + (error**2 / 2 + error).mean()


def weights(error, f: str) -> jax.Array:
    """w of (3)."""
    error = jax.lax.stop_gradient(error)
    return len(error) * jax.nn.softmax(error) if f == "kl" else jnp.maximum(0.0, error + 1)


def policy_loss(log_prob, weight) -> jax.Array:
    """Equation (4)."""
    chex.assert_equal_shape([log_prob, weight])
    return -(weight * log_prob).mean()


def make(config: Config, spec: Spec) -> Algorithm:
    policy = BinsPolicy(spec.action_dim, config.hidden)
    disc, value = Value(config.hidden), Value(config.hidden)
    optimiser, disc_adam = adam(config), adam(config, config.disc_steps)

    def init(data, key):
        disc_key, value_key, policy_key = jax.random.split(key, 3)
        obs, stats = data.background.observations[:1], data.background.stats
        return State(
            disc=init_model(disc, disc_adam, disc_key, stats, obs),
            value=init_model(value, optimiser, value_key, stats, obs),
            policy=init_model(policy, optimiser, policy_key, stats, obs),
        )

    def pretrain(state, data, key):
        expert_key, background_key = jax.random.split(key)
        expert = sample(data.expert, config.batch_size, expert_key)
        background = sample(data.background, config.batch_size, background_key)

        def loss(params):
            return disc_loss(disc.apply(params, expert.obs), disc.apply(params, background.obs))

        model, error = descend(state.disc, disc_adam, loss)
        return state.replace(disc=model), {"disc_loss": error}

    def update(state, data, key):
        step_key, opening_key = jax.random.split(key)
        batch = sample(data.background, config.batch_size, step_key)
        opening = sample_openings(data.background, config.batch_size, opening_key)
        reward = disc.apply(state.disc.params, batch.obs)

        def loss_v(params):
            v, next_v, opening_v = jnp.split(
                value.apply(params, jnp.concatenate([batch.obs, batch.next_obs, opening])), 3
            )
            error = residual(reward, batch.terminal, v, next_v, config.discount, config.terminal_rule)
            return value_loss(opening_v, error, config.discount, config.f), (error, v)

        value_model, (value_error, (error, v)) = descend(state.value, optimiser, loss_v, has_aux=True)
        weight = weights(error, config.f)

        def loss_pi(params):
            return policy_loss(policy.apply(params, batch.obs).log_prob(batch.action), weight)

        policy_model, policy_error = descend(state.policy, optimiser, loss_pi)
        return state.replace(value=value_model, policy=policy_model), {
            "value_loss": value_error,
            "policy_loss": policy_error,
            "value": v.mean(),
            "reward": reward.mean(),
            "weight": weight.mean(),
            "effective_share": effective_share(weight),
        }

    return Algorithm(
        init=init,
        update=update,
        policy=lambda state: Policy(policy, state.policy.params, spec.obs_dim),
        pretrain=pretrain,
        num_pretrain=config.disc_steps,
    )


METHOD = Method(
    Config,
    make,
    variants={"smodice-kl": {"f": "kl"}, "smodice-chi2": {"f": "chi2"}},
    task_defaults={"manipulation": {"f": "chi2"}},  # of SMODICE's code for tasks that end with success
)

if __name__ == "__main__":
    main(METHOD)
