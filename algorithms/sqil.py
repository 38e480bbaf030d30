"""Offline SQIL with privileged expert actions: what VfO could do if the expert's actions were known.

Reddy et al., 2019, arXiv 1905.11108, in the offline form of VfO's appendix G: VfO with the binary reward, whose policy
is regressed on the mixture too. z says where a step is from, E (expert, with actions) or B (background).

    (1) y    = r + gamma (1 - d) v-(s') + gamma d r / (1 - gamma),     r = 1[z = E]
    (2) L_v  = E_{(1 - alpha) D_E + alpha D_B} (v(s) - y)^2
    (3) L_pi = - E_{(1 - alpha) D_E + alpha D_B} exp(A / lambda) log pi(a | s),     A = y - v(s) with v for v-

alpha is 0.9 because a larger share of the few expert steps would be overfitted (appendix G). The original is online and
has a soft Q-function.

    python algorithms/sqil.py --task hopper --dataset bc-10
"""

from dataclasses import dataclass

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
    init_model,
    main,
    sample,
    setting,
)


@dataclass(frozen=True)
class Config(RunConfig):
    """Offline SQIL with privileged expert actions."""

    discount: float = setting(0.99, above=0, below=1, sweep=True)
    """gamma."""
    mixture: float = setting(0.9, above=0, below=1, sweep=True)
    """alpha, the share of background steps in both losses."""
    temperature: float = setting(1.0, above=0, sweep=True)
    """lambda of the advantage weights."""
    terminal_rule: bool = True
    """Whether a terminal step earns its last reward for ever, v = r / (1 - gamma), as in the paper."""
    max_weight: float = setting(100.0, above=0, sweep=True)
    """Upper clip of the weights. The paper names none; 100 as in IQL's and DILO's code."""
    target_every: int = setting(200, at_least=1)
    """Updates between copies of the value into its target network."""


class State(flax.struct.PyTreeNode):
    value: Model
    target: dict
    policy: Model
    num_updates: jax.Array


def td_target(reward, terminal, next_value, discount: float, terminal_rule: bool) -> jax.Array:
    """Equation (1)."""
    chex.assert_equal_shape([reward, terminal, next_value])
    absorbed = reward / (1 - discount) if terminal_rule else 0.0
    return reward + discount * ((1 - terminal) * next_value + terminal * absorbed)


def mixed(per_step, is_expert, mixture: float) -> jax.Array:
    """E_{(1 - alpha) D_E + alpha D_B}, from a batch with steps of both."""
    chex.assert_equal_shape([per_step, is_expert])
    expert = (per_step * is_expert).sum() / is_expert.sum()
    background = (per_step * (1 - is_expert)).sum() / (1 - is_expert).sum()
    return (1 - mixture) * expert + mixture * background


def value_loss(value, target, is_expert, mixture: float) -> jax.Array:
    """Equation (2)."""
    chex.assert_equal_shape([value, target])
    return mixed((value - target) ** 2, is_expert, mixture)


def policy_loss(log_prob, advantage, is_expert, mixture: float, temperature: float, max_weight: float):
    """Equation (3), and its weights."""
    chex.assert_equal_shape([log_prob, advantage])
    weight = jax.lax.stop_gradient(jnp.exp(jnp.minimum(advantage / temperature, jnp.log(max_weight))))
    return -mixed(weight * log_prob, is_expert, mixture), weight


def make(config: Config, spec: Spec) -> Algorithm:
    policy, value = BinsPolicy(spec.action_dim, config.hidden), Value(config.hidden)
    optimiser = adam(config)
    half = config.batch_size // 2  # as many expert as background steps; alpha weighs them

    def init(data, key):
        value_key, policy_key = jax.random.split(key)
        obs, stats = data.background.observations[:1], data.background.stats
        value_model = init_model(value, optimiser, value_key, stats, obs)
        return State(
            value=value_model,
            target=jax.tree.map(jnp.copy, value_model.params),
            policy=init_model(policy, optimiser, policy_key, stats, obs),
            num_updates=jnp.zeros((), jnp.int32),
        )

    def update(state, data, key):
        expert_key, background_key = jax.random.split(key)
        expert, background = sample(data.expert, half, expert_key), sample(data.background, half, background_key)
        batch = jax.tree.map(lambda e, b: jnp.concatenate([e, b]), expert, background)
        is_expert = (jnp.arange(2 * half) < half).astype(jnp.float32)

        def backup(params):
            next_value = value.apply(params, batch.next_obs)
            return td_target(is_expert, batch.terminal, next_value, config.discount, config.terminal_rule)

        target = backup(state.target)

        def loss_v(params):
            v = value.apply(params, batch.obs)
            return value_loss(v, target, is_expert, config.mixture), v

        value_model, (value_error, v) = descend(state.value, optimiser, loss_v, has_aux=True)
        advantage = backup(state.value.params) - v

        def loss_pi(params):
            log_prob = policy.apply(params, batch.obs).log_prob(batch.action)
            return policy_loss(log_prob, advantage, is_expert, config.mixture, config.temperature, config.max_weight)

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
            "clipped_share": (weight >= 0.999 * config.max_weight).mean(),
        }

    return Algorithm(
        init=init,
        update=update,
        policy=lambda state: Policy(policy, state.policy.params, spec.obs_dim),
    )


METHOD = Method(Config, make, privileges=("expert actions",))

if __name__ == "__main__":
    main(METHOD)
