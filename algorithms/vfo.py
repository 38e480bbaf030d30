"""Value from Observations: a state value learned from expert and background data, and regression weighted by it.

Bloesch, Wulfmeier et al., 2025, arXiv 2507.06701, algorithm 1. z says where a step is from, E (expert, no actions) or
B (background); d is its terminal flag; v- is the target network.

    (1) r(s', z) = 1[z = E]                     --reward bin
        r(s', z) = D(s')                        --reward disc: the output, in [0, 1], of a discriminator
        L_D  = - E_E log D(s) - E_B log (1 - D(s)),     trained first, then frozen
    (2) y    = r + gamma (1 - d) v-(s') + gamma d r / (1 - gamma)
    (3) L_v  = E_{(1 - alpha) D_E + alpha D_B} (v(s) - y)^2
    (4) L_pi = - E_B exp(A / lambda) log pi(a | s),
        A    = r + gamma (1 - d) v(s') + gamma d r / (1 - gamma) - v(s)

Choices that the paper leaves open: v(s') in the advantage is the online network's, as v(s) is (--advantage); the
weight is clipped (--max-weight); the discriminator is trained for 10 000 updates (--disc-steps) on s alone, so it never
sees the last observation of an episode, which it is asked about as a terminal step's s'.

    python algorithms/vfo.py --task hopper --dataset bc-10 --reward disc
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
    """Value from Observations (VfO)."""

    reward: Literal["bin", "disc"] = "bin"
    """Reward: 1 on expert steps and 0 on background steps, or the output of a discriminator."""
    discount: float = setting(0.99, above=0, below=1, sweep=True)
    """gamma."""
    mixture: float = setting(0.5, above=0, below=1, sweep=True)
    """alpha, the share of background steps in the value loss."""
    temperature: float = setting(1.0, above=0, sweep=True)
    """lambda of the advantage weights."""
    terminal_rule: bool = True
    """Whether a terminal step earns its last reward for ever, v = r / (1 - gamma), as in the paper."""
    advantage: Literal["online", "target"] = "online"
    """Network behind v(s') in the advantage; online, so that both terms agree. The paper's box names one network."""
    max_weight: float = setting(100.0, above=0, sweep=True)
    """Upper clip of the weights. The paper names none; 100 as in IQL's and DILO's code."""
    target_every: int = setting(200, at_least=1)
    """Updates between copies of the value into its target network."""
    disc_steps: int = setting(10_000, at_least=1, phase=True)
    """Updates of the discriminator (disc). The paper stops that of SMODICE here."""


class State(flax.struct.PyTreeNode):
    disc: Model | None
    value: Model
    target: dict
    policy: Model
    num_updates: jax.Array


def disc_loss(expert_logit: jax.Array, background_logit: jax.Array) -> jax.Array:
    """L_D of (1): -log D = softplus(-logit), -log (1 - D) = softplus(logit)."""
    return jax.nn.softplus(-expert_logit).mean() + jax.nn.softplus(background_logit).mean()


def td_target(reward, terminal, next_value, discount: float, terminal_rule: bool) -> jax.Array:
    """Equation (2)."""
    chex.assert_equal_shape([reward, terminal, next_value])
    absorbed = reward / (1 - discount) if terminal_rule else 0.0
    return reward + discount * ((1 - terminal) * next_value + terminal * absorbed)


def value_loss(value, target, is_expert, mixture: float) -> jax.Array:
    """Equation (3)."""
    chex.assert_equal_shape([value, target, is_expert])
    error = (value - target) ** 2
    expert, background = (error * is_expert).sum() / is_expert.sum(), (error * ~is_expert).sum() / (~is_expert).sum()
    return (1 - mixture) * expert + mixture * background


def policy_loss(log_prob, advantage, temperature: float, max_weight: float) -> tuple[jax.Array, jax.Array]:
    """Equation (4), and its weights."""
    chex.assert_equal_shape([log_prob, advantage])
    weight = jax.lax.stop_gradient(jnp.exp(jnp.minimum(advantage / temperature, jnp.log(max_weight))))
    return -(weight * log_prob).mean(), weight


def make(config: Config, spec: Spec) -> Algorithm:
    policy = BinsPolicy(spec.action_dim, config.hidden)
    value, disc = Value(config.hidden), Value(config.hidden)
    optimiser, disc_adam = adam(config), adam(config, config.disc_steps)
    half = config.batch_size // 2  # the value learns from as many expert as background steps; alpha weighs them

    def init(data, key):
        disc_key, value_key, policy_key = jax.random.split(key, 3)
        obs, stats = data.background.observations[:1], data.background.stats
        value_model = init_model(value, optimiser, value_key, stats, obs)
        return State(
            disc=init_model(disc, disc_adam, disc_key, stats, obs) if config.reward == "disc" else None,
            value=value_model,
            target=jax.tree.map(jnp.copy, value_model.params),
            policy=init_model(policy, optimiser, policy_key, stats, obs),
            num_updates=jnp.zeros((), jnp.int32),
        )

    def pretrain(state, data, key):
        expert_key, background_key = jax.random.split(key)
        expert = sample(data.expert, config.batch_size, expert_key)
        background = sample(data.background, config.batch_size, background_key)

        def loss(params):
            return disc_loss(disc.apply(params, expert.obs), disc.apply(params, background.obs))

        model, error = descend(state.disc, disc_adam, loss)
        return state.replace(disc=model), {"disc_loss": error}

    def rewards(state, batch, from_expert: float):
        if config.reward == "bin":
            return jnp.full_like(batch.terminal, from_expert)
        return jax.nn.sigmoid(disc.apply(state.disc.params, batch.next_obs))

    def backup(state, params, batch, reward):
        next_value = value.apply(params, batch.next_obs)
        return td_target(reward, batch.terminal, next_value, config.discount, config.terminal_rule)

    def update(state, data, key):
        expert_key, background_key = jax.random.split(key)
        expert = sample(data.expert, half, expert_key)
        background = sample(data.background, config.batch_size, background_key)
        first = jax.tree.map(lambda column: column[:half], background)  # the value learns from these
        expert_reward, reward = rewards(state, expert, 1.0), rewards(state, background, 0.0)

        # the value
        target = backup(state, state.target, expert, expert_reward), backup(state, state.target, first, reward[:half])
        is_expert = jnp.arange(2 * half) < half

        def loss_v(params):
            v = value.apply(params, jnp.concatenate([expert.obs, background.obs]))
            return value_loss(v[: 2 * half], jnp.concatenate(target), is_expert, config.mixture), v[half:]

        value_model, (value_error, v) = descend(state.value, optimiser, loss_v, has_aux=True)

        # the policy
        bootstrap = state.value.params if config.advantage == "online" else state.target
        advantage = backup(state, bootstrap, background, reward) - v

        def loss_pi(params):
            log_prob = policy.apply(params, background.obs).log_prob(background.action)
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
        pretrain=pretrain if config.reward == "disc" else None,
        num_pretrain=config.disc_steps if config.reward == "disc" else 0,
    )


METHOD = Method(
    Config,
    make,
    variants={
        "vfo-bin": {"reward": "bin"},
        "vfo-disc": {"reward": "disc"},
        "vfo-disc-ending": {"reward": "disc", "terminal_rule": False},
    },
    task_defaults={"manipulation": {"temperature": 0.1}},
)

if __name__ == "__main__":
    main(METHOD)
