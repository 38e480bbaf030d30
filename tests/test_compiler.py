"""The installed compiler computes right sums: a wrong release of jaxlib is caught here, at installation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import WELL

from sibench.policies.networks import GAINS, BinsPolicy, Value, bin_of, gaussian_kernel


@pytest.mark.parametrize("rows", [1, 32_769])
def test_vmapped_product_followed_by_a_sum_is_right(rows):
    """The reproducer of jax issue 39103, which jaxlib 0.10.2 gets wrong on a CPU."""
    x = np.stack([np.arange(rows), np.zeros(rows), np.zeros(rows)], axis=1).astype(np.float32)
    matrix = jnp.eye(3, dtype=jnp.float32)
    squares = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)), compiler_options=WELL)
    np.testing.assert_array_equal(squares(x), (x[:, 0]) ** 2)


@pytest.mark.parametrize("rows", [1, 7, 256, 4099])
def test_networks_agree_with_numpy(rows):
    """The patterns of every learner: encoder, hidden layers, the head with its kernel, log-probabilities, values."""
    rng = np.random.default_rng(rows)
    obs = rng.normal(size=(rows, 11)).astype(np.float32)
    action = rng.uniform(-1, 1, size=(rows, 3)).astype(np.float32)
    policy, value = BinsPolicy(3, (64, 32)), Value((64, 32))
    policy_params, value_params = (net.init(jax.random.key(0), obs) for net in (policy, value))
    log_prob = jax.jit(lambda p, o, a: policy.apply(p, o).log_prob(a), compiler_options=WELL)
    error = jax.jit(lambda p, o: ((value.apply(p, o) - 1.0) ** 2).mean(), compiler_options=WELL)

    u = _mlp(policy_params["params"]["MLP_0"], _encode(obs)).reshape(rows, 3, -1)
    logits = u @ np.asarray(gaussian_kernel(policy.bins, policy.basis, policy.kernel_width), np.float64)
    log_probs = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True))
    log_probs -= logits.max(-1, keepdims=True)
    index = np.asarray(bin_of(jnp.asarray(action), policy.bins))
    expected = np.take_along_axis(log_probs, index[..., None], axis=-1)[..., 0].sum(-1)
    np.testing.assert_allclose(log_prob(policy_params, obs, action), expected, rtol=2e-4, atol=2e-4)

    v = _mlp(value_params["params"]["Features_0"]["MLP_0"], _encode(obs))[:, 0]
    np.testing.assert_allclose(error(value_params, obs), ((v - 1) ** 2).mean(), rtol=1e-4)


def _encode(obs: np.ndarray) -> np.ndarray:
    obs = obs.astype(np.float64)
    return np.concatenate([np.clip(obs, -10, 10), *(np.tanh(gain * obs) for gain in GAINS)], axis=-1)


def _mlp(params: dict, x: np.ndarray) -> np.ndarray:
    layers = [params[f"Dense_{i}"] for i in range(len(params))]
    for i, layer in enumerate(layers):
        x = x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)
        x = np.maximum(x, 0) if i + 1 < len(layers) else x
    return x
