"""Advantage-weighted regression with the true reward: the oracle of the paper (section 4.2), no expert data.

Peng et al., 2019, arXiv 1910.00177, as VfO's authors use it: their algorithm 1 on the background data alone, with the
environment's reward for r. d is the terminal flag, v- the target network.

    (1) y    = c r + gamma (1 - d) v-(s') + gamma d c r / (1 - gamma)
    (2) L_v  = E_B (v(s) - y)^2
    (3) L_pi = - E_B exp(A / lambda) log pi(a | s),     A = y - v(s) with v for v-

Deviations from the authors' code (xbpeng/awr): TD(0) instead of TD(lambda), and no standardised advantages. lambda = 1
needs rewards of about 1 a step, so c divides by the largest absolute reward of the data (--reward-scale). The last term
of (1), VfO's rule for terminal steps, is off by default: with it a fall would pay r for ever, which an oracle should
know to be wrong. The paper does not say whether its AWR has the rule (--terminal-rule; the variant awr-absorbing).

    python algorithms/awr.py --task hopper --dataset bc-10
"""

from dataclasses import dataclass
from typing import Literal

import chex
import flax
import jax
import jax.numpy as jnp
import optax

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
    setting,
)


@dataclass(frozen=True)
class Config(RunConfig):
    """Advantage-weighted regression (AWR) on the true reward: an oracle."""

    discount: float = setting(0.99, above=0, below=1, sweep=True)
    """gamma."""
    temperature: float = setting(1.0, above=0, sweep=True)
    """lambda of the advantage weights."""
    reward_scale: Literal["largest", "raw"] = "largest"
    """c: 1 / the largest absolute reward of the data, or 1. The paper names none."""
    terminal_rule: bool = False
    """Whether a terminal step earns its last reward for ever, v = r / (1 - gamma), as in VfO."""
    max_weight: float = setting(100.0, above=0, sweep=True)
    """Upper clip of the weights. The paper names none; 100 as in IQL's and DILO's code."""
    target_every: int = setting(200, at_least=1)
    """Updates between copies of the value into its target network."""


class State(flax.struct.PyTreeNode):
    value: Model
    target: dict
    policy: Model
    scale: jax.Array
    num_updates: jax.Array


def td_target(reward, terminal, next_value, discount: float, terminal_rule: bool) -> jax.Array:
    """Equation (1)."""
    chex.assert_equal_shape([reward, terminal, next_value])
    absorbed = reward / (1 - discount) if terminal_rule else 0.0
    return reward + discount * ((1 - terminal) * next_value + terminal * absorbed)


def value_loss(value, target) -> jax.Array:
    """Equation (2)."""
    chex.assert_equal_shape([value, target])
    return ((value - target) ** 2).mean()


def policy_loss(log_prob, advantage, temperature: float, max_weight: float) -> tuple[jax.Array, jax.Array]:
    """Equation (3), and its weights."""
    chex.assert_equal_shape([log_prob, advantage])
    weight = jax.lax.stop_gradient(jnp.exp(jnp.minimum(advantage / temperature, jnp.log(max_weight))))
    return -(weight * log_prob).mean(), weight


def make(config: Config, spec: Spec) -> Algorithm:
    policy, value = BinsPolicy(spec.action_dim, config.hidden), Value(config.hidden)
    optimiser = adam(config)

    def init(data, key):
        value_key, policy_key = jax.random.split(key)
        obs, stats = data.background.observations[:1], data.background.stats
        value_model = init_model(value, optimiser, value_key, stats, obs)
        step = jnp.arange(len(data.background.reward)) - data.background.stretch.first_step
        own = (step >= 0) & (step < data.background.stretch.num_steps)
        largest = jnp.abs(jnp.where(own, data.background.reward, 0.0)).max()
        return State(
            value=value_model,
            target=jax.tree.map(jnp.copy, value_model.params),
            policy=init_model(policy, optimiser, policy_key, stats, obs),
            scale=jnp.where(largest > 0, 1 / largest, 1.0) if config.reward_scale == "largest" else jnp.ones(()),
            num_updates=jnp.zeros((), jnp.int32),
        )

    def update(state, data, key):
        batch = sample(data.background, config.batch_size, key)
        reward = state.scale * batch.reward

        def backup(params):
            next_value = value.apply(params, batch.next_obs)
            return td_target(reward, batch.terminal, next_value, config.discount, config.terminal_rule)

        target = backup(state.target)

        def loss_v(params):
            v = value.apply(params, batch.obs)
            return value_loss(v, target), v

        value_model, (value_error, v) = descend(state.value, optimiser, loss_v, has_aux=True)
        advantage = backup(state.value.params) - v

        def loss_pi(params):
            log_prob = policy.apply(params, batch.obs).log_prob(batch.action)
            return policy_loss(log_prob, advantage, config.temperature, config.max_weight)

        policy_model, (policy_error, weight) = descend(state.policy, optimiser, loss_pi, has_aux=True)

        num_updates = state.num_updates + 1
        state = state.replace(
            value=value_model,
            target=optax.periodic_update(value_model.params, state.target, num_updates, config.target_every),
            policy=policy_model,
            num_updates=num_updates,
        )
        return state, {
            "value_loss": value_error,
            "policy_loss": policy_error,
            "value": v.mean(),
            "weight": weight.mean(),
            "effective_share": effective_share(weight),
            "clipped_share": (weight >= 0.999 * config.max_weight).mean(),
        }

    return Algorithm(
        init=init,
        update=update,
        policy=lambda state: Policy(policy, state.policy.params, spec.obs_dim),
    )


METHOD = Method(
    Config,
    make,
    privileges=("background rewards",),
    uses_expert=False,
    variants={"awr": {}, "awr-absorbing": {"terminal_rule": True}},
)

if __name__ == "__main__":
    main(METHOD)
