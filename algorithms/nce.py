"""Offline imitation in a dynamics representation learned by noise-contrastive estimation.

Ma et al., 2025, arXiv 2508.14383 (ReprValueDICE), after the first author's development code, since no release exists.
The dynamics are factorised, P(s' | s, a) = <phi(s, a), mu(s')> p_n(s') with p_n the background's states, and trained
first, then frozen:

    (1) L_repr = - 2 E_B phi'mu(s') + E_{B, s~ from p_n} (phi'mu(s~))^2 + c E_B (log max(phi'mu(s'), 1e-6))^2

--variant privileged     the published method; it needs the expert's actions a
    nu(s, a) = phi(s, a)'omega + zeta(s, a),     Delta = nu(s, a) - gamma (1 - d) nu(s', a'),     a' from pi(s')
    (2) J    = log E_E exp Delta - (1 - gamma) E_E nu(s, a~),     a~ from pi(s)
    (3) L_nu = J + 10 E (|grad nu| - 1)^2 + 0.1 E_E zeta^2,     L_pi = - J

--variant inverse        our action-free form: the same on actions drawn from the inverse of the model,
    (4) p(a | s, s') ~ pi_B(a | s) phi(s, a)'mu(s'),     pi_B a clone of the background's behaviour

--variant value          our action-free form: VfO with a bootstrap that is linear in phi,
    (5) L_v   = E_{(1 - alpha) D_E + alpha D_B} (v(s) - 1[E] - gamma b(s'))^2,     b = (1 - d) v- + d 1[E] / (1 - gamma)
    (6) L_om  = E_B (phi'omega - gamma b(s'))^2,     L_pi = - E_B exp((phi'omega - v(s)) / lambda) log pi(a | s)

Deviations from the development code: no online replay (kappa = 0), absorbing-state flag or orthogonal regulariser;
VfO's networks, with a tanh-Gaussian pi in (3); all pairs of a batch as negatives; the gradient of pi also flows through
phi; slopes in (3) are taken between expert and background. nu, and pi in (3), have learning rates of their own.

    python algorithms/nce.py --task hopper --dataset bc-10 --variant value
"""

from dataclasses import dataclass
from typing import Literal

import flax
import jax
import jax.numpy as jnp
import optax

from sibench.method import (
    Algorithm,
    BinsPolicy,
    Features,
    GaussianPolicy,
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
    with_stats,
)


@dataclass(frozen=True)
class Config(RunConfig):
    """Offline imitation in a representation of the dynamics (NCE)."""

    variant: Literal["privileged", "inverse", "value"] = "inverse"
    """privileged: as published, with expert actions; inverse and value: our action-free forms."""
    features: int = setting(1024, at_least=1)
    """Dimension of phi and mu (development code)."""
    repr_steps: int = setting(10_000, at_least=1, phase=True)
    """Updates of the representation (development code), and of pi_B."""
    log_weight: float = setting(10.0, sweep=True)
    """c of (1) (development code)."""
    discount: float = setting(0.99, above=0, below=1, sweep=True)
    """gamma."""
    nu_learning_rate: float = setting(1e-3, above=0, sweep=True)
    """Adam learning rate of nu (development code)."""
    policy_learning_rate: float = setting(1e-5, above=0, sweep=True)
    """Adam learning rate of the policy trained against nu (development code)."""
    candidates: int = setting(16, at_least=1)
    """Draws from pi_B among which (4) chooses (inverse)."""
    mixture: float = setting(0.5, above=0, below=1, sweep=True)
    """alpha, the share of background steps in (5) (value)."""
    temperature: float = setting(1.0, above=0, sweep=True)
    """lambda of (6) (value)."""
    max_weight: float = setting(100.0, above=0, sweep=True)
    """Upper clip of the weights of (6) (value)."""
    target_every: int = setting(200, at_least=1)
    """Updates between copies of v into v- (value)."""
    terminal_rule: bool = True
    """Whether a terminal step earns its last reward for ever, the last term of b (value)."""


class State(flax.struct.PyTreeNode):
    representation: Model
    clone: Model | None
    nu: Model | None
    value: Model | None
    target: dict | None
    policy: Model
    num_updates: jax.Array


def repr_loss(positive: jax.Array, negative: jax.Array, log_weight: float) -> jax.Array:
    """Equation (1). positive [B]: phi'mu of successors; negative [B, B]: of all pairs of a step and another state."""
    log = jnp.log(jnp.maximum(positive, 1e-6))
    return -2 * positive.mean() + (negative**2).mean() + log_weight * (log**2).mean()


def dual(delta: jax.Array, own_nu: jax.Array, discount: float) -> jax.Array:
    """Equation (2)."""
    return jax.nn.logsumexp(delta) - jnp.log(len(delta)) - (1 - discount) * own_nu.mean()


def value_loss(value, target, is_expert, mixture: float) -> jax.Array:
    """Equation (5)."""
    error = (value - target) ** 2
    expert, background = (error * is_expert).sum() / is_expert.sum(), (error * ~is_expert).sum() / (~is_expert).sum()
    return (1 - mixture) * expert + mixture * background


def make(config: Config, spec: Spec) -> Algorithm:
    phi_net, mu_net = Features(config.hidden, config.features), Features(config.hidden, config.features)
    zeta, value = Value(config.hidden), Value(config.hidden)
    clone = BinsPolicy(spec.action_dim, config.hidden)
    against_nu = config.variant != "value"
    policy = GaussianPolicy(spec.action_dim, config.hidden) if against_nu else clone
    optimiser, repr_adam = adam(config), adam(config, config.repr_steps)
    nu_adam = adam(config, rate=config.nu_learning_rate)
    policy_adam = adam(config, rate=config.policy_learning_rate) if against_nu else optimiser
    half, forever = config.batch_size // 2, config.terminal_rule / (1 - config.discount)

    def phi(model_params, obs, action):
        return phi_net.apply(model_params["phi"], obs, action=action) / config.features**0.5

    def mu(model_params, obs):
        return mu_net.apply(model_params["mu"], obs) / config.features**0.5

    def init(data, key):
        phi_key, mu_key, clone_key, zeta_key, omega_key, value_key, policy_key = jax.random.split(key, 7)
        obs, action, stats = data.background.observations[:1], data.background.action[:1], data.background.stats
        pair = with_stats({"phi": phi_net.init(phi_key, obs, action=action), "mu": mu_net.init(mu_key, obs)}, stats)
        zeta_params = {"zeta": zeta.init(zeta_key, obs, action=action)} if against_nu else {}
        nu_params = with_stats({"omega": jax.random.normal(omega_key, (config.features,))} | zeta_params, stats)
        value_model = None if against_nu else init_model(value, optimiser, value_key, stats, obs)
        return State(
            representation=Model(pair, repr_adam.init(pair)),
            clone=init_model(clone, repr_adam, clone_key, stats, obs) if config.variant == "inverse" else None,
            nu=Model(nu_params, nu_adam.init(nu_params)),
            value=value_model,
            target=None if against_nu else jax.tree.map(jnp.copy, value_model.params),
            policy=init_model(policy, policy_adam, policy_key, stats, obs),
            num_updates=jnp.zeros((), jnp.int32),
        )

    def pretrain(state, data, key):
        step_key, negative_key = jax.random.split(key)
        batch = sample(data.background, config.batch_size, step_key)
        noise = sample(data.background, config.batch_size, negative_key).next_obs

        def loss_repr(params):
            steps, successors = phi(params, batch.obs, batch.action), mu(params, batch.next_obs)
            return repr_loss((steps * successors).sum(-1), steps @ mu(params, noise).T, config.log_weight)

        model, error = descend(state.representation, repr_adam, loss_repr)
        state, metrics = state.replace(representation=model), {"repr_loss": error}
        if config.variant == "inverse":
            cloned, metrics["clone_loss"] = descend(
                state.clone, repr_adam, lambda params: -clone.apply(params, batch.obs).log_prob(batch.action).mean()
            )
            state = state.replace(clone=cloned)
        return state, metrics

    def inverse(state, expert, key):
        """Draw an action from (4) for each expert step: candidates from pi_B, then one of them by phi'mu."""
        draw_key, choice_key = jax.random.split(key)
        actions = clone.apply(state.clone.params, expert.obs)
        drawn = jax.vmap(actions.sample)(jax.random.split(draw_key, config.candidates))  # [M, B, A]
        obs = jnp.broadcast_to(expert.obs, (config.candidates, *expert.obs.shape))
        steps = phi(state.representation.params, obs, drawn)
        density = (steps * mu(state.representation.params, expert.next_obs)).sum(-1)
        chosen = jax.random.categorical(choice_key, jnp.log(jnp.maximum(density, 1e-6)), axis=0)
        return jnp.take_along_axis(drawn, chosen[None, :, None], axis=0)[0]

    def update_against_nu(state, data, key):
        expert_key, background_key, label_key, nu_key, policy_key, mix_key = jax.random.split(key, 6)
        expert = sample(data.expert, config.batch_size, expert_key)
        background = sample(data.background, config.batch_size, background_key)
        action = expert.action if config.variant == "privileged" else inverse(state, expert, label_key)

        def nu(params, obs, action):
            features = phi(state.representation.params, obs, action)
            residual = zeta.apply(params["zeta"], obs, action=action)
            return features @ params["omega"] + residual, residual

        def objective(nu_params, policy_params, key):
            obs = jnp.concatenate([expert.obs, expert.next_obs, expert.obs])
            drawn = policy.apply(policy_params, obs[config.batch_size :]).sample(key)
            values, residual = nu(nu_params, obs, jnp.concatenate([action, drawn]))
            at_expert, at_next, at_own = jnp.split(values, 3)
            delta = at_expert - config.discount * (1 - expert.terminal) * at_next
            return dual(delta, at_own, config.discount), residual[: config.batch_size]

        share = jax.random.uniform(mix_key, (config.batch_size, 1))
        between = (share * expert.obs + (1 - share) * background.obs, share * action + (1 - share) * background.action)

        def loss_nu(params):
            j, residual = objective(params, state.policy.params, nu_key)
            slopes = jax.grad(lambda obs, action: nu(params, obs, action)[0].sum(), argnums=(0, 1))(*between)
            slope = jnp.sqrt((jnp.concatenate(slopes, -1) ** 2).sum(-1) + 1e-12)
            return j + 10 * ((slope - 1) ** 2).mean() + 0.1 * (residual**2).mean(), j

        nu_model, (nu_error, j) = descend(state.nu, nu_adam, loss_nu, has_aux=True)
        policy_model, _ = descend(state.policy, policy_adam, lambda p: -objective(state.nu.params, p, policy_key)[0])
        state = state.replace(nu=nu_model, policy=policy_model, num_updates=state.num_updates + 1)
        return state, {"nu_loss": nu_error, "dual": j}

    def update_value(state, data, key):
        expert_key, background_key = jax.random.split(key)
        expert, background = sample(data.expert, half, expert_key), sample(data.background, half, background_key)
        is_expert = jnp.arange(2 * half) < half
        terminal = jnp.concatenate([expert.terminal, background.terminal])
        next_value = value.apply(state.target, jnp.concatenate([expert.next_obs, background.next_obs]))
        bootstrap = config.discount * ((1 - terminal) * next_value + terminal * is_expert * forever)

        def loss_v(params):
            v = value.apply(params, jnp.concatenate([expert.obs, background.obs]))
            return value_loss(v, is_expert + bootstrap, is_expert, config.mixture), v[half:]

        value_model, (value_error, v) = descend(state.value, optimiser, loss_v, has_aux=True)
        features = phi(state.representation.params, background.obs, background.action)

        def loss_omega(params):
            predicted = features @ params["omega"]
            return ((predicted - bootstrap[half:]) ** 2).mean(), predicted

        nu_model, (omega_error, predicted) = descend(state.nu, nu_adam, loss_omega, has_aux=True)
        weight = jnp.exp(jnp.minimum((predicted - v) / config.temperature, jnp.log(config.max_weight)))

        def loss_pi(params):
            return -(weight * policy.apply(params, background.obs).log_prob(background.action)).mean()

        policy_model, policy_error = descend(state.policy, policy_adam, loss_pi)
        num = state.num_updates + 1
        target = optax.periodic_update(value_model.params, state.target, num, config.target_every)
        losses = {"value_loss": value_error, "omega_loss": omega_error, "policy_loss": policy_error}
        state = state.replace(value=value_model, target=target, nu=nu_model, policy=policy_model, num_updates=num)
        return state, losses | {"value": v.mean(), "weight": weight.mean()}

    return Algorithm(
        init=init,
        update=update_against_nu if against_nu else update_value,
        policy=lambda state: Policy(policy, state.policy.params, spec.obs_dim),
        pretrain=pretrain,
        num_pretrain=config.repr_steps,
    )


METHOD = Method(
    Config,
    make,
    privileges=lambda config: ("expert actions",) if config.variant == "privileged" else (),
    variants={
        "nce-inverse": {"variant": "inverse"},
        "nce-value": {"variant": "value"},
        "nce-privileged": {"variant": "privileged"},
    },
    takes_pixels=False,  # it interpolates between observations
)

if __name__ == "__main__":
    main(METHOD)
