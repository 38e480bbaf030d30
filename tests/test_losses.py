"""Every loss against numbers worked out by hand, jitted and not; one update against NumPy."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from learners import dataset, module, of_lane, small

from sibench.learning.method import Spec
from sibench.learning.sampling import make_data, sample

A = jnp.array


def logistic(x):
    return 1 / (1 + np.exp(-x))


class Losses(chex.TestCase, parameterized.TestCase):
    def check(self, function, expected, *args, **kwargs):
        got = self.variant(lambda *arrays: function(*arrays, **kwargs))(*args)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), got, expected)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters("vfo", "awr", "sqil")
    def test_td_target(self, name):
        """gamma 0.9: a step that goes on, a terminal one that pays 1, a terminal one that pays nothing."""
        args = A([0.5, 1.0, 0.0]), A([0.0, 1.0, 1.0]), A([2.0, 7.0, 7.0])
        target = module(name).td_target
        self.check(target, A([2.3, 10.0, 0.0]), *args, discount=0.9, terminal_rule=True)
        self.check(target, A([2.3, 1.0, 0.0]), *args, discount=0.9, terminal_rule=False)

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters("vfo", "smodice")
    def test_disc_loss(self, name):
        expected = -np.log([logistic(2.0), logistic(-1.0)]).mean() - np.log([1 - logistic(3.0)]).mean()
        self.check(module(name).disc_loss, expected, A([2.0, -1.0]), A([3.0]))

    @chex.variants(with_jit=True, without_jit=True)
    def test_value_losses(self):
        """Squared errors 1 and 4 of expert steps, 9 of a background step; alpha 0.25."""
        args = A([1.0, 2.0, 3.0]), A([0.0, 4.0, 0.0])
        expected = 0.75 * 2.5 + 0.25 * 9.0
        self.check(module("vfo").value_loss, expected, *args, A([True, True, False]), mixture=0.25)
        self.check(module("nce").value_loss, expected, *args, A([True, True, False]), mixture=0.25)
        self.check(module("sqil").value_loss, expected, *args, A([1.0, 1.0, 0.0]), mixture=0.25)
        self.check(module("awr").value_loss, (1 + 4 + 9) / 3, *args)

    @chex.variants(with_jit=True, without_jit=True)
    def test_weighted_policy_losses(self):
        """Advantages 0, 1, 1000 at lambda 0.5 and clip 10."""
        log_prob, advantage = A([-1.0, -2.0, -3.0]), A([0.0, 1.0, 1000.0])
        weight = np.array([1.0, np.exp(2.0), 10.0])
        expected = (weight * [1, 2, 3]).mean(), weight
        settings = {"temperature": 0.5, "max_weight": 10.0}
        for name in ("vfo", "awr", "dilo"):
            self.check(module(name).policy_loss, expected, log_prob, advantage, **settings)
        mixed = 0.1 * (1 + 2 * weight[1]) / 2 + 0.9 * 3 * 10, weight
        is_expert = A([1.0, 1.0, 0.0])
        self.check(module("sqil").policy_loss, mixed, log_prob, advantage, is_expert, mixture=0.9, **settings)

    @chex.variants(with_jit=True, without_jit=True)
    def test_smodice(self):
        smodice = module("smodice")
        args = A([0.5, 0.5]), A([0.0, 1.0]), A([1.0, 1.0]), A([2.0, 2.0])
        self.check(smodice.residual, A([1.3, 4.0]), *args, discount=0.9, terminal_rule=True)
        self.check(smodice.residual, A([1.3, -0.5]), *args, discount=0.9, terminal_rule=False)
        error, opening = A([0.0, np.log(3.0), -2.0]), A([2.0, 4.0])
        kl = 0.1 * 3 + np.log((1 + 3 + np.exp(-2)) / 3)
        self.check(smodice.value_loss, kl, opening, error, discount=0.9, f="kl")
        chi2 = 0.1 * 3 + np.mean([0.0, np.log(3.0) ** 2 / 2 + np.log(3.0), 2 - 2])
        self.check(smodice.value_loss, chi2, opening, error, discount=0.9, f="chi2")
        weight = np.array([1, 3, np.exp(-2)])
        self.check(smodice.weights, 3 * weight / weight.sum(), error, f="kl")
        self.check(smodice.weights, A([1.0, 1 + np.log(3.0), 0.0]), error, f="chi2")
        self.check(smodice.policy_loss, (2 * 1 + 0 + 0.5 * 3) / 3, A([-1.0, -2.0, -3.0]), A([2.0, 0.0, 0.5]))

    @chex.variants(with_jit=True, without_jit=True)
    def test_dilo(self):
        dilo = module("dilo")
        self.check(dilo.conjugate, A([-1.0, -1.0, -0.75, 0.0, 3.0]), A([-5.0, -2.0, -1.0, 0.0, 2.0]))
        expert, background = (3 - 0.75) / 2, ((0 - 0) + (-1 + 5)) / 2
        expected = 0.2 * 1.5 + 0.8 * (0.3 * expert + 0.7 * background)
        args = A([1.0, 2.0]), A([0.0, -5.0]), A([2.0, -1.0])
        self.check(dilo.value_loss, expected, *args, conservatism=0.8, mixture=0.3)

    def test_dilo_value_of_background_without_a_way_to_the_expert(self):
        """V comes to rest at the number that the docstring of dilo.py names."""
        dilo = module("dilo")

        def loss(c, kappa):
            return dilo.value_loss(A([c]), A([0.99 * c - c]), A([0.0]), conservatism=kappa, mixture=0.5)

        slope = jax.grad(lambda c, kappa: loss(jnp.full((), c), kappa))
        for kappa, floor in ((0.8, -10_000.0), (0.995, -201.0)):
            assert abs(slope(floor, kappa)) < 1e-5 < abs(slope(0.9 * floor, kappa))

    @chex.variants(with_jit=True, without_jit=True)
    def test_cloning(self):
        self.check(module("bc").policy_loss, 1.5, A([-1.0, -2.0]))
        self.check(module("bco").inverse_loss, 1.5, A([-1.0, -2.0]))
        self.check(module("bco").policy_loss, 0.5 * 1.5 + 0.5 * 4.0, A([-1.0, -2.0]), A([-4.0]))

    @chex.variants(with_jit=True, without_jit=True)
    def test_nce(self):
        nce = module("nce")
        positive, negative = A([1.0, 0.5]), A([[1.0, 2.0], [0.0, 1.0]])
        expected = -2 * 0.75 + 1.5 + 10 * np.log(0.5) ** 2 / 2
        self.check(nce.repr_loss, expected, positive, negative, log_weight=10.0)
        self.check(nce.dual, np.log((1 + np.e) / 2) - 0.1 * 2.0, A([0.0, 1.0]), A([1.0, 3.0]), discount=0.9)


@pytest.mark.parametrize("shapes", [((3,), (3, 1), (3,)), ((3,), (3,), (1,))])
def test_targets_do_not_broadcast(shapes):
    """Subtracting [B, 1] from [B] is the classic bug of this field."""
    with pytest.raises(AssertionError):
        module("vfo").td_target(*(jnp.ones(shape) for shape in shapes), 0.9, True)


# --- one update of VfO, and the loss of nu of NCE, written again in NumPy ---------------------------------------------


def inside(variables, *path):
    """Return the parameters of a module with its input statistics beside them."""
    params, stats = (functools.reduce(lambda tree, name: tree[name], path, variables[c]) for c in ("params", "stats"))
    return params | stats


def encode(params, x):
    mean, std = (np.asarray(params["encoder"][name], np.float64) for name in ("mean", "std"))
    gains = (1 / 16, 1 / 4, 1.0, 4.0)
    return np.concatenate([np.clip((x - mean) / std, -10, 10), *(np.tanh(gain * x) for gain in gains)], axis=-1)


def forward(params, x):
    """Return the value of each row, in NumPy alone."""
    return features(inside(params, "Features_0"), x)[:, 0]


def features(params, x, *action):
    h = np.concatenate([encode(params, np.asarray(x, np.float64)), *action], axis=-1)
    layers = params["MLP_0"]
    for name in sorted(layers):
        h = h @ np.asarray(layers[name]["kernel"], np.float64) + np.asarray(layers[name]["bias"], np.float64)
        h = np.maximum(h, 0) if name != f"Dense_{len(layers) - 1}" else h
    return h


def test_one_update_of_vfo_agrees_with_numpy():
    """Compare losses, target and weights, and check that Adam's first step goes down the value loss."""
    config = small("vfo", batch_size=8, discount=0.9, mixture=0.3, temperature=0.5, learning_rate=1e-3)
    vfo = module("vfo").make(config, Spec(3, 2))
    data = of_lane(make_data([dataset()], dataset(seed=1), [0]))
    state = vfo.init(data, jax.random.key(0))
    other = vfo.init(data, jax.random.key(7))
    state = state.replace(target=other.value.params)  # so that target and online network differ
    after, metrics = jax.jit(vfo.update)(state, data, jax.random.key(1))

    expert_key, background_key = jax.random.split(jax.random.key(1))
    expert, background = sample(data.expert, 4, expert_key), sample(data.background, 8, background_key)
    online, target = state.value.params, state.target

    def backup(params, batch, reward):
        d, bootstrap = np.asarray(batch.terminal, np.float64), forward(params, batch.next_obs)
        return reward + 0.9 * ((1 - d) * bootstrap + d * reward / 0.1)

    v_expert, v_background = forward(online, expert.obs), forward(online, background.obs)
    error_expert = (v_expert - backup(target, expert, 1.0)) ** 2
    error_background = (v_background[:4] - backup(target, background, 0.0)[:4]) ** 2
    value_loss = 0.7 * error_expert.mean() + 0.3 * error_background.mean()
    advantage = backup(online, background, 0.0) - v_background
    weight = np.minimum(np.exp(advantage / 0.5), 100)
    policy = vfo.policy(state)
    log_prob = np.asarray(policy.network.apply(policy.params, background.obs).log_prob(background.action), np.float64)

    np.testing.assert_allclose(metrics["value_loss"], value_loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["policy_loss"], -(weight * log_prob).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["value"], v_background.mean(), rtol=1e-5)

    # Adam's first step is one learning rate against the sign of each slope of the value loss: all of the last layer's
    # and of the first layer's, by finite differences of the NumPy loss
    targets = backup(target, expert, 1.0), backup(target, background, 0.0)[:4]

    def loss(params):
        errors = [
            (forward(params, batch) - y) ** 2
            for batch, y in zip((expert.obs, background.obs[:4]), targets, strict=True)
        ]
        return 0.7 * errors[0].mean() + 0.3 * errors[1].mean()

    for layer in ("Dense_0", "Dense_2"):
        steps, slopes = [], []
        kernels = [np.array(s.value.params["params"]["Features_0"]["MLP_0"][layer]["kernel"]) for s in (state, after)]
        for index in np.ndindex(kernels[0].shape):
            sides = []
            for side in (1e-4, -1e-4):
                params = jax.tree.map(lambda leaf: np.array(leaf, np.float64), online)
                params["params"]["Features_0"]["MLP_0"][layer]["kernel"][index] += side
                sides.append(loss(params))
            slopes.append((sides[0] - sides[1]) / 2e-4)
            steps.append(kernels[1][index] - kernels[0][index])
        slopes, steps = np.array(slopes), np.array(steps)
        steep = np.abs(slopes) > 1e-4
        assert steep.sum() > 5
        np.testing.assert_allclose(steps[steep], -1e-3 * np.sign(slopes[steep]), rtol=2e-2)


def test_loss_of_nu_agrees_with_numpy():
    """Compare equation (3) of nce.py with both penalties; the slopes of nu come from finite differences."""
    config = small("nce", variant="privileged", batch_size=8, discount=0.9)
    nce = module("nce").make(config, Spec(3, 2))
    data = of_lane(make_data([dataset()], dataset(seed=1), [0], ("expert actions",)))
    state = nce.init(data, jax.random.key(0))
    bias = state.nu.params["zeta"]["params"]["Features_0"]["MLP_0"]["Dense_2"]["bias"]
    state = state.replace(
        nu=state.nu.replace(params=jax.tree.map(lambda x: x + 5 if x is bias else x, state.nu.params))
    )
    _, metrics = jax.jit(nce.update)(state, data, jax.random.key(1))

    expert_key, background_key, _, nu_key, _, mix_key = jax.random.split(jax.random.key(1), 6)
    expert, background = sample(data.expert, 8, expert_key), sample(data.background, 8, background_key)
    phi, omega = inside(state.representation.params["phi"]), np.asarray(state.nu.params["omega"], np.float64)

    def zeta(x, action):
        return features(inside(state.nu.params["zeta"], "Features_0"), x, action)[:, 0]

    def nu(x, action):
        return features(phi, x, action) @ omega / np.sqrt(8) + zeta(x, action)

    policy = nce.policy(state)
    drawn = policy.network.apply(policy.params, jnp.concatenate([expert.next_obs, expert.obs])).sample(nu_key)
    at_next, at_own = nu(expert.next_obs, drawn[:8]), nu(expert.obs, drawn[8:])
    delta = nu(expert.obs, expert.action) - 0.9 * (1 - np.asarray(expert.terminal, np.float64)) * at_next
    dual = np.log(np.exp(delta).mean()) - 0.1 * at_own.mean()

    share = np.asarray(jax.random.uniform(mix_key, (8, 1)), np.float64)
    pairs = [np.concatenate([batch.obs, batch.action], axis=1) for batch in (expert, background)]
    between = share * pairs[0] + (1 - share) * pairs[1]
    ends = [[between + sign * 1e-5 * axis for sign in (1, -1)] for axis in np.eye(5)]
    slopes = np.array([nu(up[:, :3], up[:, 3:]) - nu(down[:, :3], down[:, 3:]) for up, down in ends]) / 2e-5
    steepness = 10 * ((np.sqrt((slopes**2).sum(0)) - 1) ** 2).mean()
    size = 0.1 * (zeta(expert.obs, expert.action) ** 2).mean()

    assert expert.terminal.any() and min(steepness, size) > 1
    np.testing.assert_allclose(metrics["dual"], dual, rtol=1e-4)
    np.testing.assert_allclose(metrics["nu_loss"], dual + steepness + size, rtol=1e-4)
