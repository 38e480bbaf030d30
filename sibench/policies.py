"""Policies: networks, what they say about actions, and the files they are stored in.

A stored policy is declarative: weights (`NAME.safetensors`) and a description (`NAME.json`) that names one of the two
architectures below. Loading one runs nobody's code.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from sibench import files
from sibench.errors import UserError


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


NETWORKS = {"bins": BinsPolicy, "tanh-gaussian": GaussianPolicy}


class Policy(NamedTuple):
    """A network and its weights. `act` is pure and takes one observation or a batch."""

    network: BinsPolicy | GaussianPolicy
    params: dict
    obs_dim: int

    def act(self, obs: jax.Array, key: jax.Array, mode: Literal["sample", "mode"] = "sample") -> jax.Array:
        distribution = self.network.apply(self.params, obs)
        return {"sample": lambda: distribution.sample(key), "mode": distribution.mode}[mode]()


def save(path: Path, policy: Policy, card: dict[str, Any], dtype: type = np.float32) -> None:
    """Write `path`.safetensors and `path`.json. The JSON, written last, holds the sha256 of the weights."""
    flat = flax.traverse_util.flatten_dict(policy.params, sep="/")
    weights = safetensors.numpy.save({name: np.asarray(value, dtype) for name, value in flat.items()})
    files.write_atomic(path.with_suffix(".safetensors"), weights)
    kind = next(kind for kind, network in NETWORKS.items() if isinstance(policy.network, network))
    sizes = {name: value for name, value in vars(policy.network).items() if name in _fields(kind)}
    description = {
        "architecture": {"kind": kind, "obs_dim": policy.obs_dim, **sizes},
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "card": card,
    }
    files.write_atomic(path.with_suffix(".json"), files.to_json(description))


def load(path: Path) -> Policy:
    """Read a policy and check it: hash, architecture, names, shapes, finite values."""
    weights_file, description_file = path.with_suffix(".safetensors"), path.with_suffix(".json")
    weights, description = weights_file.read_bytes(), read_description(path)
    if not isinstance(description, dict) or "architecture" not in description:
        raise UserError(f"{description_file}: does not describe a policy")
    if hashlib.sha256(weights).hexdigest() != description.get("weights_sha256"):
        raise UserError(f"{weights_file} differs from its sha256 in {description_file.name}: get both anew")
    try:
        sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in description["architecture"].items()}
        _check_sizes(sizes)
        kind, obs_dim = sizes.pop("kind"), sizes.pop("obs_dim")
        if kind not in NETWORKS or not sizes.keys() <= _fields(kind):
            raise ValueError(
                f"{kind} with {', '.join(sizes)}; known: " + str({k: sorted(_fields(k)) for k in NETWORKS})
            )
        network = NETWORKS[kind](**sizes)
        shapes = jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, obs_dim), jnp.float32))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{description_file}: not an architecture this version knows: {error}") from None
    try:
        flat = safetensors.numpy.load(weights)
    except safetensors.SafetensorError as error:
        raise UserError(f"{weights_file}: not a safetensors file: {error}") from None
    expected = {name: leaf.shape for name, leaf in flax.traverse_util.flatten_dict(shapes, sep="/").items()}
    if {name: value.shape for name, value in flat.items()} != expected:
        raise UserError(f"{weights_file}: its weights are not those of the architecture in {description_file.name}")
    for name, value in flat.items():
        if value.dtype not in (np.float16, np.float32) or not np.isfinite(value).all():
            raise UserError(f"{weights_file}: {name} must be finite float16 or float32")
    params = {name: jnp.asarray(value, jnp.float32) for name, value in flat.items()}
    return Policy(network, flax.traverse_util.unflatten_dict(params, sep="/"), obs_dim)


def _check_sizes(sizes: dict[str, Any]) -> None:
    """Whole numbers up to 4096, and tuples of at most 64 numbers: nothing that could fill a memory."""
    for name, value in sizes.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if name == "kind":
            continue
        if len(numbers) > 64 or not all(type(n) in (int, float) and 0 < n <= 4096 for n in numbers):
            raise ValueError(f"{name} = {value}")


def _fields(kind: str) -> set[str]:
    return set(NETWORKS[kind].__dataclass_fields__) - {"parent", "name"}


def read_description(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.with_suffix(".json").read_bytes())
    except ValueError as error:
        raise UserError(f"{path.with_suffix('.json')}: not JSON: {error}") from None
