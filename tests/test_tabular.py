"""Learners against exact solutions on a small MDP, and mutated losses that must fail these tests."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from learners import module
from tabular import (
    ACTIONS,
    ALPHA,
    BACKGROUND,
    BEHAVIOUR,
    DEMONSTRATED,
    END,
    GAMMA,
    ONE_HOT,
    REWARD,
    SLOW,
    P,
    S,
    action_shares,
    advantages,
    as_dataset,
    learn,
    mixture_value,
    regressed_policy,
    rows,
    value_of,
)

from sibench.data import Dataset
from sibench.learning.sampling import Batch

# --- VfO and AWR ------------------------------------------------------------------------------------------------------

UPDATES = 6000
VFO = {"mixture": ALPHA, "target_every": 10, "temperature": 2.0}


@pytest.mark.parametrize("terminals", [False, True])
def test_vfo_bin_reaches_the_exact_value_and_policy(terminals):
    algorithm, state = learn("vfo", UPDATES, terminals, reward="bin", **VFO)
    exact = mixture_value(np.ones(S), np.zeros(S), terminals)
    np.testing.assert_allclose(value_of("vfo", state.value), exact, atol=0.03 * np.ptp(exact))
    policy = regressed_policy(np.exp(advantages(exact, np.zeros(len(BACKGROUND)), terminals) / 2.0))
    np.testing.assert_allclose(action_shares(algorithm.policy(state)), policy, atol=0.02)


@pytest.mark.parametrize("terminals", [pytest.param(False, marks=SLOW), True])
def test_vfo_disc_reaches_the_exact_value_and_policy(terminals):
    algorithm, state = learn("vfo", UPDATES, terminals, reward="disc", disc_steps=4000, **VFO)
    logit = value_of("vfo", state.disc)
    in_expert, in_background = (np.bincount(t[:, 0], minlength=S) / len(t) for t in (DEMONSTRATED, BACKGROUND))
    np.testing.assert_allclose(logit, np.log(in_expert / in_background), atol=0.05)
    reward = 1 / (1 + np.exp(-logit))
    exact = mixture_value(reward, reward, terminals)
    np.testing.assert_allclose(value_of("vfo", state.value), exact, atol=0.03 * np.ptp(exact))
    policy = regressed_policy(np.exp(advantages(exact, reward[BACKGROUND[:, 2]], terminals) / 2.0))
    np.testing.assert_allclose(action_shares(algorithm.policy(state)), policy, atol=0.02)


@pytest.mark.parametrize(("terminals", "rule"), [(False, False), (True, True), (True, False)])
def test_awr_reaches_the_exact_value_and_policy(terminals, rule):
    algorithm, state = learn("awr", UPDATES, terminals, terminal_rule=rule, target_every=10, temperature=0.5)
    s, a, following = BACKGROUND.T
    reward = REWARD[s, a, following] / REWARD[s, a, following].max()
    matrix, constant = np.eye(S), np.zeros(S)
    for state_index in range(S):
        own = s == state_index
        over = terminals & (following[own] == END)
        constant[state_index] = np.where(over & rule, reward[own] / (1 - GAMMA), reward[own]).mean()
        np.add.at(matrix[state_index], following[own][~over], -GAMMA / own.sum())
    exact = np.linalg.solve(matrix, constant)
    np.testing.assert_allclose(value_of("awr", state.value), exact, atol=0.02 * max(np.ptp(exact), 1.0))
    policy = regressed_policy(np.minimum(np.exp(advantages(exact, reward, terminals, rule) / 0.5), 100))
    np.testing.assert_allclose(action_shares(algorithm.policy(state)), policy, atol=0.02)


@pytest.mark.parametrize("terminals", [pytest.param(False, marks=SLOW), True])
def test_sqil_reaches_the_exact_value_and_policy(terminals):
    """Its value is that of VfO's binary reward; its policy is regressed on the expert's actions, too."""
    algorithm, state = learn("sqil", UPDATES, terminals, **VFO)
    exact = mixture_value(np.ones(S), np.zeros(S), terminals)
    np.testing.assert_allclose(value_of("sqil", state.value), exact, atol=0.03 * np.ptp(exact))
    shares = np.zeros((S, len(ACTIONS)))
    for transitions, share, reward in ((DEMONSTRATED, 1 - ALPHA, 1.0), (BACKGROUND, ALPHA, 0.0)):
        s, a, following = transitions.T
        over = terminals & (following == END)
        advantage = np.where(over, reward / (1 - GAMMA), reward + GAMMA * exact[following]) - exact[s]
        np.add.at(shares, (s, a), share / len(transitions) * np.exp(advantage / 2.0))
    policy = shares / shares.sum(1, keepdims=True)
    np.testing.assert_allclose(action_shares(algorithm.policy(state)), policy, atol=0.02)


# --- BCO --------------------------------------------------------------------------------------------------------------


def test_inverse_model_of_bco_is_the_posterior():
    _, state = learn("bco", 10, hidden=(64,), learning_rate=3e-3, inverse_steps=8000)
    from sibench.policies import Policy
    from sibench.policies.networks import BinsPolicy

    joint = BEHAVIOUR[:, :, None] * P  # up to a constant of each (s, s')
    s, following = np.argwhere(joint.sum(1) > 0).T
    exact = joint[s, :, following] / joint[s, :, following].sum(1, keepdims=True)
    inverse = Policy(BinsPolicy(1, (64,)), state.inverse.params, S)
    shares = action_shares(inverse, ONE_HOT[s], ONE_HOT[following])
    np.testing.assert_allclose(shares, exact, atol=0.12)  # the worst of 231 entries, of a rare pair
    assert np.abs(shares - exact).mean() < 0.015


# --- SMODICE and DILO: convex programs, solved by scipy ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "terminals"),
    [("kl", True), ("chi2", False), *(pytest.param(*case, marks=SLOW) for case in (("kl", False), ("chi2", True)))],
)
def test_smodice_reaches_the_dual_optimum(f, terminals):
    settings = {"batch_size": 1024, "disc_steps": 4000, "learning_rate": 0.02}
    _, state = learn("smodice", 6000, terminals, f=f, **settings)
    reward = value_of("smodice", state.disc)
    s, _, following = BACKGROUND.T
    over = terminals & (following == END)

    def error(v):
        return np.where(over, reward[s] / (1 - GAMMA), reward[s] + GAMMA * v[following]) - v[s]

    def objective(v):
        e = error(v)
        penalty = np.log(np.exp(e - e.max()).mean()) + e.max() if f == "kl" else (e**2 / 2 + e).mean()
        return (1 - GAMMA) * v[s].mean() + penalty

    exact = scipy.optimize.minimize(objective, np.zeros(S), method="BFGS", options={"gtol": 1e-9}).x
    got = value_of("smodice", state.value)
    assert objective(got) - objective(exact) < 3e-3

    def weights(v):
        return np.exp(error(v)) / np.exp(error(v)).mean() if f == "kl" else np.maximum(0, error(v) + 1)

    np.testing.assert_allclose(weights(got), weights(exact), atol=0.03 * weights(exact).max())


def test_dilo_reaches_the_dual_optimum():
    """On a ring of ten states with steps of one or two, each pair is both first and second of some triple."""
    gamma, kappa, beta = 0.5, 0.8, 0.5

    def paths(counts):
        found = []
        for s in range(S):
            for one in (1, 2):
                for two in (1, 2):
                    found += [(s, (s + one) % S, (s + one + two) % S)] * counts[s % 2][one - 1][two - 1]
        return np.array(found)

    def ring(triples):
        num = len(triples)
        ends = np.tile([False, True], num)
        return Dataset(
            observations=np.eye(S, dtype=np.float32)[triples.ravel()],
            actions=np.zeros((2 * num, 1), np.float32),
            rewards=np.zeros(2 * num, np.float32),
            terminal=np.zeros(2 * num, bool),
            truncated=ends,
            offsets=2 * np.arange(num + 1),
            seeds=np.zeros(num, np.uint64),
            initial_states=np.zeros((num, 0), np.float32),
            card={},
        )

    background, expert = paths([[[1, 2], [2, 1]], [[1, 1], [3, 1]]]), paths([[[4, 1], [1, 1]], [[2, 1], [1, 1]]])
    settings = {"conservatism": kappa, "mixture": beta, "hidden": (128,), "learning_rate": 1e-3}
    _, state = learn("dilo", 8000, background=ring(background), expert=ring(expert), discount=gamma, **settings)
    pairs = [(s, (s + step) % S) for s in range(S) for step in (1, 2)]
    number = {pair: i for i, pair in enumerate(pairs)}

    def index(triples):
        return (np.array([number[tuple(t[i : i + 2])] for t in triples]) for i in (0, 1))

    (first_b, second_b), (first_e, second_e) = index(background), index(expert)

    def conjugate(y):
        return np.where(y >= -2, y + y**2 / 4, -1.0)

    def objective(v):
        y_b, y_e = gamma * v[second_b] - v[first_b], gamma * v[second_e] - v[first_e]
        dual = beta * conjugate(y_e).mean() + (1 - beta) * (conjugate(y_b) - y_b).mean()
        return (1 - kappa) * v[first_b].mean() + kappa * dual

    exact = scipy.optimize.minimize(objective, np.zeros(len(pairs)), method="BFGS", options={"gtol": 1e-9}).x
    got = value_of("dilo", state.value, *(ONE_HOT[np.array(pairs)[:, i]] for i in (0, 1)))
    np.testing.assert_allclose(got, exact, atol=0.03 * np.ptp(exact))


# --- NCE --------------------------------------------------------------------------------------------------------------


@SLOW
@pytest.mark.parametrize("terminals", [False, True])
def test_nce_learns_the_dynamics_and_the_value_of_vfo(terminals):
    """phi'mu is the density of the dynamics, and phi'omega the expectation of VfO's value."""
    settings = {"repr_steps": 6000, "log_weight": 0.0, "features": 32, "hidden": (64,), "learning_rate": 3e-3}
    settings |= {"mixture": ALPHA, "target_every": 10, "nu_learning_rate": 0.1}
    _, state = learn("nce", UPDATES, terminals, variant="value", **settings)
    from sibench.policies.networks import Features

    net = Features((64,), 32)
    s, a = (grid.ravel() for grid in np.meshgrid(range(S), range(len(ACTIONS)), indexing="ij"))
    params = state.representation.params
    phi = np.asarray(net.apply(params["phi"], ONE_HOT[s], action=jnp.asarray(ACTIONS[a][:, None], jnp.float32)))
    phi, mu = phi / np.sqrt(32), np.asarray(net.apply(params["mu"], ONE_HOT)) / np.sqrt(32)
    marginal = np.bincount(BACKGROUND[:, 2], minlength=S) / len(BACKGROUND)
    exact = P[s, a] / marginal
    assert np.abs(phi @ mu.T - exact).mean() < 0.03 * exact.max()

    v = mixture_value(np.ones(S), np.zeros(S), terminals)
    expected = GAMMA * P[s, a] @ np.where(terminals & (np.arange(S) == END), 0.0, v)  # the background's reward is 0
    np.testing.assert_allclose(phi @ np.asarray(state.nu.params["omega"]), expected, atol=0.1 * np.ptp(v))


@SLOW
def test_inverse_model_of_nce_is_the_posterior():
    """Expert actions are drawn from p(a | s, s') of behaviour and dynamics, which differs from the behaviour's."""
    settings = {"repr_steps": 6000, "log_weight": 0.0, "features": 32, "hidden": (64,), "learning_rate": 3e-3}
    algorithm, state = learn("nce", 2, variant="inverse", candidates=64, **settings)
    draw = inspect.getclosurevars(algorithm.update).nonlocals["inverse"]
    s, following = np.argwhere(P.max(1) > 0).T
    steps = Batch(ONE_HOT[s], None, None, ONE_HOT[following], jnp.zeros(len(s)))
    drawn = jax.jit(jax.vmap(lambda key: draw(state, steps, key)))(jax.random.split(jax.random.key(0), 512))
    shares = (np.abs(np.asarray(drawn) - ACTIONS).argmin(-1)[..., None] == range(len(ACTIONS))).mean(0)
    prior = (BEHAVIOUR / BEHAVIOUR.sum(1, keepdims=True))[s]
    posterior = prior * P[s, :, following]
    posterior /= posterior.sum(1, keepdims=True)
    assert np.abs(shares - posterior).mean() < 0.05 < 0.15 < np.abs(prior - posterior).mean()


@SLOW
def test_nce_policy_is_that_of_the_expert():
    """In the published form, the saddle point of the dual is the expert's policy, state by state."""
    rng = np.random.default_rng(0)
    centre = rng.integers(0, len(ACTIONS), S)

    def varied(counts, copies):
        data = as_dataset(np.tile(rows(counts), (copies, 1)), False)
        noise = rng.normal(0, 0.1, data.actions.shape)
        return data._replace(actions=np.clip(data.actions + noise, -0.99, 0.99).astype(np.float32))

    settings = {"repr_steps": 2000, "log_weight": 0.0, "features": 32, "hidden": (64,), "learning_rate": 3e-3}
    settings |= {"nu_learning_rate": 3e-3, "policy_learning_rate": 3e-3, "batch_size": 256}
    data = {"background": varied(BEHAVIOUR, 40), "expert": varied(2 * np.eye(len(ACTIONS), dtype=int)[centre], 200)}
    algorithm, state = learn("nce", 6000, variant="privileged", **data, **settings)
    policy = algorithm.policy(state)
    drawn = jax.vmap(lambda key: policy.act(ONE_HOT, key, "sample"))(jax.random.split(jax.random.key(0), 256))
    error = np.abs(np.asarray(drawn).mean(0)[:, 0] - ACTIONS[centre])
    assert error.mean() < 0.12 and error.max() < 0.3


# --- mutants: what each of these tests is there to catch --------------------------------------------------------------


def wrong_sign(original):
    return lambda reward, *rest: original(-reward, *rest)


def no_gamma(original):
    """Leave out the discount of the next value."""

    def target(reward, terminal, value, discount, rule):
        return original(reward, terminal, value, discount, rule) + (1 - discount) * (1 - terminal) * value

    return target


def undiscounted(original):
    return lambda reward, terminal, value, next_value, discount, rule: original(
        reward, terminal, value, next_value / discount, discount, rule
    )


def no_terminals(original):
    return lambda reward, terminal, *rest: original(reward, 0 * terminal, *rest)


def swapped(original):
    """Exchange s and s'."""

    def draw(*args):
        batch = original(*args)
        return batch._replace(obs=batch.next_obs, next_obs=batch.obs)

    return draw


def mirrored(original):
    return lambda y: original(-y)


def no_negatives(original):
    return lambda positive, negative, log_weight: original(positive, 0.5 * negative, log_weight)


def negated(original):
    return lambda *args: -original(*args)


MUTANTS = [
    ("vfo", "td_target", wrong_sign, lambda: test_vfo_bin_reaches_the_exact_value_and_policy(True)),
    ("vfo", "td_target", no_gamma, lambda: test_vfo_bin_reaches_the_exact_value_and_policy(True)),
    ("vfo", "td_target", no_terminals, lambda: test_vfo_bin_reaches_the_exact_value_and_policy(True)),
    ("vfo", "sample", swapped, lambda: test_vfo_bin_reaches_the_exact_value_and_policy(True)),
    ("sqil", "td_target", wrong_sign, lambda: test_sqil_reaches_the_exact_value_and_policy(True)),
    ("sqil", "td_target", no_gamma, lambda: test_sqil_reaches_the_exact_value_and_policy(False)),
    ("sqil", "sample", swapped, lambda: test_sqil_reaches_the_exact_value_and_policy(True)),
    ("awr", "td_target", wrong_sign, lambda: test_awr_reaches_the_exact_value_and_policy(True, True)),
    ("awr", "td_target", no_gamma, lambda: test_awr_reaches_the_exact_value_and_policy(False, False)),
    ("awr", "td_target", no_terminals, lambda: test_awr_reaches_the_exact_value_and_policy(True, False)),
    ("awr", "sample", swapped, lambda: test_awr_reaches_the_exact_value_and_policy(False, False)),
    ("smodice", "residual", wrong_sign, lambda: test_smodice_reaches_the_dual_optimum("chi2", False)),
    ("smodice", "residual", undiscounted, lambda: test_smodice_reaches_the_dual_optimum("chi2", False)),
    ("smodice", "sample", swapped, lambda: test_smodice_reaches_the_dual_optimum("kl", True)),
    ("dilo", "conjugate", mirrored, lambda: test_dilo_reaches_the_dual_optimum()),
    ("bco", "sample", swapped, lambda: test_inverse_model_of_bco_is_the_posterior()),
    ("nce", "repr_loss", no_negatives, lambda: test_nce_learns_the_dynamics_and_the_value_of_vfo(False)),
    ("nce", "sample", swapped, lambda: test_nce_learns_the_dynamics_and_the_value_of_vfo(False)),
    ("nce", "sample", swapped, lambda: test_nce_policy_is_that_of_the_expert()),
    ("nce", "dual", negated, lambda: test_nce_policy_is_that_of_the_expert()),
]


@pytest.mark.parametrize(
    ("name", "function", "mutate", "test"),
    [pytest.param(*mutant, marks=() if mutant[0] == "vfo" and mutant[2] is swapped else SLOW) for mutant in MUTANTS],
    ids=[f"{name}-{mutate.__name__}" for name, _, mutate, _ in MUTANTS],
)
def test_mutated_loss_fails_its_test(name, function, mutate, test, monkeypatch):
    monkeypatch.setattr(module(name), function, mutate(getattr(module(name), function)))
    with pytest.raises(AssertionError):
        test()
