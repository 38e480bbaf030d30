"""Networks, and what they say about actions. Which of them a method uses, and on what, stands in the method's file."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from sibench.cameras import FRAMES, NUM_BYTES, VIEWS

GAINS = (1 / 16, 1 / 4, 1.0, 4.0)
"""Gains of the multi-scale encoder. data_gen/encoders.json has the comparison that they come from."""


class Stats(NamedTuple):
    """Mean and standard deviation of the observations that a learner has."""

    mean: jax.Array  # [O]
    std: jax.Array  # [O]


class Model(flax.struct.PyTreeNode):
    """Parameters and optimiser state: arrays only, so that any two runs have the same tree."""

    params: Any
    opt_state: optax.OptState


def init_model(
    network: nn.Module, adam: optax.GradientTransformation, key: jax.Array, stats: Stats, *inputs: jax.Array
) -> Model:
    """A network with fresh weights, whose encoder knows the statistics of what it will see."""
    params = with_stats(network.init(key, *inputs), stats)
    return Model(params, adam.init(params))


def with_stats(params: Any, stats: Stats) -> Any:
    """Give every encoder in `params` these statistics."""

    def replace(path, leaf):
        return stats._asdict()[path[-1].key.removeprefix("obs_")] if is_statistic(path) else leaf

    return jax.tree.map_with_path(replace, params)


def is_statistic(path: Sequence[Any]) -> bool:
    """Whether a parameter's path is that of an encoder's statistics, which nothing trains or decays."""
    names = [key.key for key in path]
    return names[-2:] in (["encoder", "mean"], ["encoder", "std"]) or names[-1:] in (["obs_mean"], ["obs_std"])


def descend(
    model: Model, adam: optax.GradientTransformation, loss: Callable[[Any], Any], has_aux: bool = False
) -> tuple[Model, Any]:
    """One optimiser step down `loss(params)`; returns the loss (and what comes with it) before the step."""
    value, grads = jax.value_and_grad(loss, has_aux=has_aux)(model.params)
    updates, opt_state = adam.update(grads, model.opt_state, model.params)
    return Model(optax.apply_updates(model.params, updates), opt_state), value


class MLP(nn.Module):
    hidden: Sequence[int]
    out: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.out)(x)


class Encoder(nn.Module):
    """Raw observations standardised, and squashed at several gains; several observations, (s, s'), side by side.

    The small gains never saturate, the large ones resolve small signals, whatever the statistics are like. VfO,
    appendix A, names such an encoder and what it is for, not its formula: this is our reading of it. The statistics are
    parameters, so that they travel with the weights, but are not trained. Observations with frames (sibench/cameras.py)
    are rows of bytes: their numbers are treated so, and what an `Eye` says of their frames comes beside them.
    """

    gains: Sequence[float] = GAINS

    @nn.compact
    def __call__(self, *observations: jax.Array) -> jax.Array:
        eyes = [Eye(name=f"eye_{view}") for view in VIEWS] if observations[0].dtype == jnp.uint8 else []
        taken = [unpack(x) if eyes else (x, None) for x in observations]
        shape = taken[0][0].shape[-1:]
        mean = jax.lax.stop_gradient(self.param("mean", nn.initializers.zeros, shape))
        std = jax.lax.stop_gradient(self.param("std", nn.initializers.ones, shape))
        features = []
        for x, frames in taken:
            features += [jnp.clip((x - mean) / std, -10, 10), *(jnp.tanh(gain * x) for gain in self.gains)]
            features += [eye(frames[..., i, :, :, :]) for i, eye in enumerate(eyes)]
        return jnp.concatenate(features, axis=-1)


class Eye(nn.Module):
    """A small convolutional network: 64 numbers of a frame.

    Its strides are its kernels, so that it is nothing but matrix products of patches: XLA's convolutions take ten times
    as long in a loop on a CPU.
    """

    out: int = 64

    @nn.compact
    def __call__(self, frame: jax.Array) -> jax.Array:
        x = frame / 255 - 0.5
        for width, patch in ((16, 6), (32, 2)):  # 84 -> 14 -> 7
            *lead, side, _, channels = x.shape
            x = x.reshape(*lead, side // patch, patch, side // patch, patch, channels)
            x = jnp.moveaxis(x, -4, -3).reshape(*lead, side // patch, side // patch, patch * patch * channels)
            x = nn.relu(nn.Dense(width)(x))
        x = nn.Dense(self.out)(x.reshape(*x.shape[:-3], -1))
        return jnp.tanh(nn.LayerNorm()(x))


def unpack(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`cameras.unpack`, in JAX."""
    lead = rows.shape[:-1]
    numbers = jax.lax.bitcast_convert_type(rows[..., :-NUM_BYTES].reshape(*lead, -1, 4), jnp.float32)
    return numbers, rows[..., -NUM_BYTES:].reshape(*lead, *FRAMES)


class Features(nn.Module):
    """`out` numbers for one or several observations, and an action if there is one."""

    hidden: Sequence[int]
    out: int

    @nn.compact
    def __call__(self, *observations: jax.Array, action: jax.Array | None = None) -> jax.Array:
        x = Encoder(name="encoder")(*observations)
        return MLP(self.hidden, self.out)(x if action is None else jnp.concatenate([x, action], axis=-1))


class Value(nn.Module):
    """One number for the same: v(s), V(s, s'), nu(s, a)."""

    hidden: Sequence[int] = (512, 512)

    @nn.compact
    def __call__(self, *observations: jax.Array, action: jax.Array | None = None) -> jax.Array:
        return Features(self.hidden, 1)(*observations, action=action)[..., 0]


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
        """Of these bins; NaN where the network is not finite, so that no such action passes for a true one."""
        centre = 2 * index / (self.logits.shape[-1] - 1) - 1.0
        return jnp.where(jnp.isfinite(self.logits).all(-1), centre, jnp.nan)


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
    gains: Sequence[float] = GAINS
    bins: int = 101
    basis: int = 25
    kernel_width: float = 0.1

    @nn.compact
    def __call__(self, *observations: jax.Array) -> Categorical:
        u = MLP(self.hidden, self.action_dim * self.basis)(Encoder(self.gains, name="encoder")(*observations))
        u = u.reshape(*u.shape[:-1], self.action_dim, self.basis)
        return Categorical(u @ gaussian_kernel(self.bins, self.basis, self.kernel_width))


def gaussian_kernel(bins: int, basis: int, width: float) -> jax.Array:
    """[basis, bins]; the basis reaches one width beyond the outermost bins."""
    bin_centres, centres = np.linspace(-1, 1, bins), np.linspace(-1 - width, 1 + width, basis)
    return jnp.asarray(np.exp(-((centres[:, None] - bin_centres) ** 2) / (2 * width**2)), jnp.float32)


class GaussianPolicy(nn.Module):
    """A tanh-Gaussian policy of standardised observations: the experts', as brax's SAC trains it."""

    action_dim: int
    hidden: Sequence[int] = (256, 256)

    @nn.compact
    def __call__(self, obs: jax.Array) -> TanhGaussian:
        mean = jax.lax.stop_gradient(self.param("obs_mean", nn.initializers.zeros, (obs.shape[-1],)))
        std = jax.lax.stop_gradient(self.param("obs_std", nn.initializers.ones, (obs.shape[-1],)))
        loc, scale = jnp.split(MLP(self.hidden, 2 * self.action_dim)((obs - mean) / std), 2, axis=-1)
        return TanhGaussian(loc, jax.nn.softplus(scale) + 0.001)
