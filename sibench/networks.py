"""Networks, and what they say about actions. Which of them a method uses, and on what, stands in the method's file."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class MLP(nn.Module):
    hidden: Sequence[int]
    out: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.out)(x)


def multi_scale(x: jax.Array, gains: Sequence[float]) -> jax.Array:
    """The raw vector squashed at several gains: small ones never saturate, large ones resolve small signals.

    VfO, appendix A, names the encoder and what it is for, not its formula; this is our reading of it.
    """
    return jnp.concatenate([jnp.tanh(gain * x) for gain in gains], axis=-1)


class Categorical(NamedTuple):
    """Independent distributions over the bins of each action dimension."""

    logits: jax.Array  # [..., A, bins]

    def sample(self, key: jax.Array) -> jax.Array:
        """By the inverse of the cumulative distribution: one random number per dimension, not one per bin."""
        cumulative = jnp.cumsum(jax.nn.softmax(self.logits), axis=-1)
        threshold = jax.random.uniform(key, (*self.logits.shape[:-1], 1)) * cumulative[..., -1:]
        return self._centre((cumulative <= threshold).sum(-1))

    def mode(self) -> jax.Array:
        return self._centre(self.logits.argmax(-1))

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log-probability of the bins that hold the action, summed over its dimensions."""
        index = bin_of(action, self.logits.shape[-1])
        log_probs = jax.nn.log_softmax(self.logits)
        return jnp.take_along_axis(log_probs, index[..., None], axis=-1)[..., 0].sum(-1)

    def _centre(self, index: jax.Array) -> jax.Array:
        return 2 * index / (self.logits.shape[-1] - 1) - 1.0


class TanhGaussian(NamedTuple):
    """A Gaussian squashed into [-1, 1]."""

    mean: jax.Array
    std: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        return jnp.tanh(self.mean + self.std * jax.random.normal(key, self.mean.shape))

    def mode(self) -> jax.Array:
        return jnp.tanh(self.mean)

    def log_prob(self, action: jax.Array, bins: int = 101) -> jax.Array:
        """What `Categorical.log_prob` says, of the same bins: so the likelihoods of both can be compared."""
        centre, half = 2 * bin_of(action, bins) / (bins - 1) - 1.0, 1 / (bins - 1)
        low, high = (jnp.arctanh(jnp.clip(centre + side * half, -1, 1)) for side in (-1, 1))
        low, high = (low - self.mean) / self.std, (high - self.mean) / self.std
        low, high = jnp.where(low > 0, -high, low), jnp.where(low > 0, -low, high)  # where the tails are exact
        log_low, log_high = jax.scipy.special.log_ndtr(low), jax.scipy.special.log_ndtr(high)
        return (log_high + jnp.log1p(-jnp.exp(log_low - log_high))).sum(-1)


def bin_of(action: jax.Array, bins: int) -> jax.Array:
    """Which of the uniform bins over [-1, 1], whose outermost centres are the ends, holds an action."""
    return jnp.clip(jnp.round((action + 1) / 2 * (bins - 1)), 0, bins - 1).astype(jnp.int32)


class BinsPolicy(nn.Module):
    """The paper's policy: 101 bins per action dimension, with a Gaussian kernel on the last layer.

    logits = G u, with the kernel G[i, j] = exp(-(b_i - c_j)^2 / 2 width^2) over bin centres b and `basis` centres c.
    A kernel several bins wide has numerical rank 25 or so of 101: that many coefficients u span the same functions.
    """

    action_dim: int
    hidden: Sequence[int] = (512, 512)
    gains: Sequence[float] = (1 / 16, 1 / 4, 1.0, 4.0, 16.0)
    bins: int = 101
    basis: int = 25
    kernel_width: float = 0.1

    @nn.compact
    def __call__(self, obs: jax.Array) -> Categorical:
        u = MLP(self.hidden, self.action_dim * self.basis)(multi_scale(obs, self.gains))
        u = u.reshape(*obs.shape[:-1], self.action_dim, self.basis)
        return Categorical(u @ gaussian_kernel(self.bins, self.basis, self.kernel_width))


def gaussian_kernel(bins: int, basis: int, width: float) -> jax.Array:
    """[basis, bins]; the basis reaches one width beyond the outermost bins."""
    bin_centres, centres = np.linspace(-1, 1, bins), np.linspace(-1 - width, 1 + width, basis)
    return jnp.asarray(np.exp(-((centres[:, None] - bin_centres) ** 2) / (2 * width**2)), jnp.float32)


class GaussianPolicy(nn.Module):
    """The experts' policy: what brax's SAC trains, with its observation statistics inside."""

    action_dim: int
    hidden: Sequence[int] = (256, 256)

    @nn.compact
    def __call__(self, obs: jax.Array) -> TanhGaussian:
        mean = self.param("obs_mean", nn.initializers.zeros, (obs.shape[-1],))
        std = self.param("obs_std", nn.initializers.ones, (obs.shape[-1],))
        loc, scale = jnp.split(MLP(self.hidden, 2 * self.action_dim)((obs - mean) / std), 2, axis=-1)
        return TanhGaussian(loc, jax.nn.softplus(scale) + 0.001)
