"""Shared by tabular tests: an MDP small enough to solve, learners trained on it, and exact solutions.

Ten states, three actions, one-hot observations. The datasets hold every transition in exact proportion, so that what is
learned from them has a closed form. Networks are linear where a state is all they see, so that they are tables.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import WELL
from learners import module, of_lane

from sibench.data import Dataset
from sibench.learning.method import Spec
from sibench.learning.sampling import make_data

S, ACTIONS, GAMMA, ALPHA = 10, np.array([-0.8, 0.0, 0.8]), 0.9, 0.4
END = S - 1
"""The state that ends an episode, in the MDP with terminal states; an ordinary state in the one without."""
RNG = np.random.default_rng(3)
DENOMINATOR = 4
P = np.stack([[RNG.multinomial(DENOMINATOR, np.ones(S) / S) for _ in ACTIONS] for _ in range(S)]) / DENOMINATOR
BEHAVIOUR = RNG.integers(1, 4, (S, len(ACTIONS)))  # how often each action is taken in each state
EXPERT = np.array([[5, 1, 0], [0, 1, 5]])[np.arange(S) % 2] * RNG.integers(1, 3, S)[:, None]
REWARD = RNG.uniform(0, 1, (S, len(ACTIONS), S))


def rows(counts) -> np.ndarray:
    """List (s, a, s') of every transition, as often as the counts and P say."""
    times = (counts[..., None] * P * DENOMINATOR).astype(int)
    return np.repeat(np.argwhere(times > 0), times[times > 0], axis=0)


def as_dataset(transitions: np.ndarray, terminals: bool) -> Dataset:
    """Return a dataset in which every transition is an episode."""
    s, a, following = transitions.T
    num = len(s)
    terminal = (following == END) & terminals
    return Dataset(
        observations=np.eye(S, dtype=np.float32)[np.stack([s, following], 1).ravel()],
        actions=ACTIONS[a][:, None].astype(np.float32),
        rewards=REWARD[s, a, following].astype(np.float32),
        terminal=terminal,
        truncated=~terminal,
        offsets=np.arange(num + 1),
        seeds=np.zeros(num, np.uint64),
        initial_states=np.zeros((num, 0), np.float32),
        card={},
    )


BACKGROUND, DEMONSTRATED = rows(BEHAVIOUR), rows(EXPERT)


def learn(name, num_updates, terminals=False, background=None, expert=None, **settings):
    """Return a trained learner. It learns slowly in the second half of its updates, whose tables are averaged."""
    defaults = {"hidden": (), "batch_size": 512, "learning_rate": 0.01}
    settings = defaults | ({} if name in ("bc", "bco") else {"discount": GAMMA}) | settings
    config = module(name).Config(task="hopper", dataset=("toy",), **settings)
    algorithm = module(name).make(config, Spec(S, 1))
    rates = {key: value / 20 for key, value in settings.items() if key.endswith("learning_rate")}
    slow = module(name).make(dataclasses.replace(config, **rates), Spec(S, 1))
    background = as_dataset(BACKGROUND, terminals) if background is None else background
    expert = as_dataset(DEMONSTRATED, terminals) if expert is None else expert
    data = of_lane(make_data([background], expert, [0], module(name).METHOD.sees(config)))

    @functools.partial(jax.jit, compiler_options=WELL)
    def run(data):
        init_key, pretrain_key, first_key, second_key = jax.random.split(jax.random.key(0), 4)
        state = algorithm.init(data, init_key)

        def updates(state, update, key, num):
            def body(carry, key):
                state, total = carry
                state, _ = update(state, data, key)
                return (state, jax.tree.map(jnp.add, total, state)), None

            zero = jax.tree.map(jnp.zeros_like, state)
            (state, total), _ = jax.lax.scan(body, (state, zero), jax.random.split(key, num))
            return state, jax.tree.map(lambda leaf: leaf / num, total)

        if algorithm.pretrain:
            half = algorithm.num_pretrain // 2
            keys = jax.random.split(pretrain_key)
            state, _ = updates(state, algorithm.pretrain, keys[0], half)
            state, average = updates(state, slow.pretrain, keys[1], half)
            for part in ("disc", "inverse"):
                if hasattr(state, part) and not settings["hidden"]:
                    state = state.replace(**{part: getattr(average, part)})
        state, _ = updates(state, algorithm.update, first_key, num_updates // 2)
        state, average = updates(state, slow.update, second_key, num_updates // 2)
        return state, average

    state, average = run(data)
    return algorithm, (state if settings["hidden"] else average)


ONE_HOT = jnp.eye(S)
SLOW = pytest.mark.slow


def value_of(name, model, *inputs):
    from sibench.policies.networks import Value

    hidden = tuple(
        layer["bias"].shape[0] for layer in list(model.params["params"]["Features_0"]["MLP_0"].values())[:-1]
    )
    return np.asarray(Value(hidden).apply(model.params, *(inputs or (ONE_HOT,))), np.float64)


def action_shares(policy, *inputs):
    """Return the probability near each action, [rows, actions]."""
    distribution = policy.network.apply(policy.params, *(inputs or (ONE_HOT,)))
    bins = np.linspace(-1, 1, 101)
    near = np.abs(bins[:, None] - ACTIONS).argmin(1)
    probability = np.asarray(jax.nn.softmax(distribution.logits))[:, 0]
    return np.stack([probability[:, near == action].sum(1) for action in range(len(ACTIONS))], axis=1)


# --- exact solutions --------------------------------------------------------------------------------------------------


def mixture_value(expert_reward, background_reward, terminals, alpha=ALPHA):
    """Solve the Bellman equation of VfO's mixture for v(s). Rewards are functions of s'."""
    matrix, constant, mass = np.zeros((S, S)), np.zeros(S), np.zeros(S)
    for transitions, share, reward in (
        (DEMONSTRATED, 1 - alpha, expert_reward),
        (BACKGROUND, alpha, background_reward),
    ):
        weight = share / len(transitions)
        for s, _, following in transitions:
            mass[s] += weight
            if terminals and following == END:
                constant[s] += weight * reward[following] / (1 - GAMMA)
            else:
                constant[s] += weight * reward[following]
                matrix[s, following] += weight * GAMMA
    return np.linalg.solve(np.diag(mass) - matrix, constant)


def regressed_policy(weight):
    """Return pi(a | s) of a regression on the background's transitions with these weights."""
    shares = np.zeros((S, len(ACTIONS)))
    np.add.at(shares, (BACKGROUND[:, 0], BACKGROUND[:, 1]), weight)
    return shares / shares.sum(1, keepdims=True)


def advantages(v, reward, terminals, rule=True):
    """Return the advantages of the background's transitions; `reward` has one entry for each."""
    s, _, following = BACKGROUND.T
    over = terminals & (following == END)
    return np.where(over, reward / (1 - GAMMA) if rule else reward, reward + GAMMA * v[following]) - v[s]
