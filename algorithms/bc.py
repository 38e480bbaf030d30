"""Behavioural cloning of the background data: what every method must beat.

    (1) L_pi = - E_{D_B} log pi(a | s)

No expert data is used.

    python algorithms/bc.py --task hopper --dataset bc-10
"""

from dataclasses import dataclass

import flax
import jax

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
)


@dataclass(frozen=True)
class Config(RunConfig):
    """Behavioural cloning."""


class State(flax.struct.PyTreeNode):
    policy: Model


def policy_loss(log_prob: jax.Array) -> jax.Array:
    """Equation (1)."""
    return -log_prob.mean()


def make(config: Config, spec: Spec) -> Algorithm:
    policy, optimiser = BinsPolicy(spec.action_dim, config.hidden), adam(config)

    def init(data, key):
        obs, stats = data.background.observations[:1], data.background.stats
        return State(init_model(policy, optimiser, key, stats, obs))

    def update(state, data, key):
        batch = sample(data.background, config.batch_size, key)
        model, loss = descend(
            state.policy,
            optimiser,
            lambda params: policy_loss(policy.apply(params, batch.obs).log_prob(batch.action)),
        )
        return State(model), {"policy_loss": loss}

    return Algorithm(init, update, lambda state: Policy(policy, state.policy.params, spec.obs_dim))


METHOD = Method(Config, make, uses_expert=False)

if __name__ == "__main__":
    main(METHOD)
