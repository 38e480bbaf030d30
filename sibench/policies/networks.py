"""Networks, and the action distributions that policies return. Each method's file says which of them it uses."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from sibench.tasks.cameras import FRAMES, NUM_BYTES, VIEWS

GAINS = (1 / 16, 1 / 4, 1.0, 4.0)
"""Gains of the multi-scale encoder, chosen by the held-out likelihood of cloned behaviour."""
STATS = "stats"
"""Name of the variable collection that holds input statistics, beside `params`."""


class Stats(NamedTuple):
    """Mean and standard deviation [O] of a learner's observations."""

    mean: jax.Array
    std: jax.Array


def with_stats(params: Any, stats: Stats) -> Any:
    """Return `params` with these statistics in every encoder."""
    return jax.tree.map_with_path(
        lambda path, leaf: getattr(stats, path[-1].key) if is_statistic(path) else leaf, params
    )


def is_statistic(path: Sequence[Any]) -> bool:
    """Return whether a leaf belongs to the collection of input statistics, which is neither trained nor decayed."""
    return any(getattr(key, "key", None) == STATS for key in path)


def _input_stats(module: nn.Module, size: int) -> Stats:
    """Return a module's input statistics, which travel with its weights but are not trained."""
    mean = module.variable(STATS, "mean", jnp.zeros, (size,)).value
    std = module.variable(STATS, "std", jnp.ones, (size,)).value
    return Stats(jax.lax.stop_gradient(mean), jax.lax.stop_gradient(std))


class MLP(nn.Module):
    """Fully connected layers with ReLU between them."""

    hidden: Sequence[int]
    out: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.out)(x)


class Encoder(nn.Module):
    """Raw observations standardised, and squashed at several gains; several observations (s, s') are concatenated.

    Small gains never saturate and large ones resolve small signals, whatever the statistics. VfO, appendix A, describes
    such an encoder without its formula; this is our reading. Of observations with frames (sibench/tasks/cameras.py),
    the numbers are encoded like this and each frame by a `FrameEncoder`.
    """

    gains: Sequence[float] = GAINS

    @nn.compact
    def __call__(self, *observations: jax.Array) -> jax.Array:
        has_frames = observations[0].dtype == jnp.uint8
        encoders = [FrameEncoder(name=f"eye_{view}") for view in VIEWS] if has_frames else []
        unpacked = [unpack(x) if has_frames else (x, None) for x in observations]
        mean, std = _input_stats(self, unpacked[0][0].shape[-1])
        features = []
        for x, frames in unpacked:
            features += [jnp.clip((x - mean) / std, -10, 10), *(jnp.tanh(gain * x) for gain in self.gains)]
            features += [encoder(frames[..., i, :, :, :]) for i, encoder in enumerate(encoders)]
        return jnp.concatenate(features, axis=-1)


class FrameEncoder(nn.Module):
    """A small convolutional network that maps a frame to 64 features.

    Strides equal kernel sizes, so that every convolution is a matrix product of patches: XLA's own convolutions take
    ten times as long in a loop on a CPU.
    """

    @nn.compact
    def __call__(self, frame: jax.Array) -> jax.Array:
        x = frame / 255 - 0.5
        for width, patch in ((16, 6), (32, 2)):  # 84 -> 14 -> 7
            *lead, side, _, channels = x.shape
            x = x.reshape(*lead, side // patch, patch, side // patch, patch, channels)
            x = jnp.moveaxis(x, -4, -3).reshape(*lead, side // patch, side // patch, patch * patch * channels)
            x = nn.relu(nn.Dense(width)(x))
        return jnp.tanh(nn.LayerNorm()(nn.Dense(64)(x.reshape(*x.shape[:-3], -1))))


def unpack(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Do what `cameras.unpack` does, in JAX."""
    lead = rows.shape[:-1]
    numbers = jax.lax.bitcast_convert_type(rows[..., :-NUM_BYTES].reshape(*lead, -1, 4), jnp.float32)
    return numbers, rows[..., -NUM_BYTES:].reshape(*lead, *FRAMES)


class Features(nn.Module):
    """A vector of `out` features of one or several observations, and of an action if there is one."""

    hidden: Sequence[int]
    out: int

    @nn.compact
    def __call__(self, *observations: jax.Array, action: jax.Array | None = None) -> jax.Array:
        x = Encoder(name="encoder")(*observations)
        return MLP(self.hidden, self.out)(x if action is None else jnp.concatenate([x, action], axis=-1))


class Value(nn.Module):
    """A scalar of the same inputs: v(s), V(s, s') or nu(s, a)."""

    hidden: Sequence[int] = (512, 512)

    @nn.compact
    def __call__(self, *observations: jax.Array, action: jax.Array | None = None) -> jax.Array:
        return Features(self.hidden, 1)(*observations, action=action)[..., 0]


class Categorical(NamedTuple):
    """Independent distributions over the bins of each action dimension."""

    logits: jax.Array  # [..., A, bins]

    def sample(self, key: jax.Array) -> jax.Array:
        """Invert the cumulative distribution, which takes one random number per dimension, not one per bin."""
        cumulative = jnp.cumsum(jax.nn.softmax(self.logits), axis=-1)
        threshold = jax.random.uniform(key, (*self.logits.shape[:-1], 1)) * cumulative[..., -1:]
        return self._centre((cumulative <= threshold).sum(-1))

    def mode(self) -> jax.Array:
        return self._centre(self.logits.argmax(-1))

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Return the log-probability of the bins that contain the action, summed over its dimensions."""
        index = bin_of(action, self.logits.shape[-1])
        log_probs = jax.nn.log_softmax(self.logits)
        return jnp.take_along_axis(log_probs, index[..., None], axis=-1)[..., 0].sum(-1)

    def _centre(self, index: jax.Array) -> jax.Array:
        """Return the centres of bins; NaN where the logits are not finite, so that the rollout notices."""
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
        """Return the log-probability of the action's bins, comparable with `Categorical.log_prob`."""
        centre, half = 2 * bin_of(action, bins) / (bins - 1) - 1.0, 1 / (bins - 1)
        low, high = (jnp.arctanh(jnp.clip(centre + side * half, -1, 1)) for side in (-1, 1))
        low, high = (low - self.mean) / self.std, (high - self.mean) / self.std
        low, high = jnp.where(low > 0, -high, low), jnp.where(low > 0, -low, high)  # the lower tail is exact
        log_low, log_high = jax.scipy.special.log_ndtr(low), jax.scipy.special.log_ndtr(high)
        return (log_high + jnp.log1p(-jnp.exp(log_low - log_high))).sum(-1)


def bin_of(action: jax.Array, bins: int) -> jax.Array:
    """Return the index of the bin that contains an action: uniform bins, whose outermost centres are -1 and 1."""
    return jnp.clip(jnp.round((action + 1) / 2 * (bins - 1)), 0, bins - 1).astype(jnp.int32)


class BinsPolicy(nn.Module):
    """The paper's policy: 101 bins per action dimension, with a Gaussian kernel on the last layer.

    logits = G u, with the kernel G[i, j] = exp(-(b_i - c_j)^2 / 2 width^2) over bin centres b and `basis` centres c.
    A kernel several bins wide has numerical rank of about 25, so that as many coefficients u span the same functions.
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
    """Return the kernel [basis, bins]; the basis reaches one width beyond the outermost bins."""
    bin_centres, centres = np.linspace(-1, 1, bins), np.linspace(-1 - width, 1 + width, basis)
    return jnp.asarray(np.exp(-((centres[:, None] - bin_centres) ** 2) / (2 * width**2)), jnp.float32)


class GaussianPolicy(nn.Module):
    """A tanh-Gaussian policy of standardised observations: that of the experts, as brax's SAC trains it."""

    action_dim: int
    hidden: Sequence[int] = (256, 256)

    @nn.compact
    def __call__(self, obs: jax.Array) -> TanhGaussian:
        mean, std = _input_stats(self, obs.shape[-1])
        loc, scale = jnp.split(MLP(self.hidden, 2 * self.action_dim)((obs - mean) / std), 2, axis=-1)
        return TanhGaussian(loc, jax.nn.softplus(scale) + 0.001)
