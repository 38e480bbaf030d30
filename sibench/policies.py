"""Policies and the files they are stored in.

A stored policy is declarative: weights (`NAME.safetensors`) and a description (`NAME.json`) that names one of the
architectures below. Loading one runs nobody's code.
"""

import hashlib
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from sibench import files
from sibench.cameras import NUM_BYTES
from sibench.errors import UserError
from sibench.networks import BinsPolicy, GaussianPolicy

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
        seen = jax.ShapeDtypeStruct((1, obs_dim), jnp.uint8 if obs_dim > NUM_BYTES else jnp.float32)
        shapes = jax.eval_shape(network.init, jax.random.key(0), seen)
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
        most = NUM_BYTES + 4096 if name == "obs_dim" else 4096
        if len(numbers) > 64 or not all(type(n) in (int, float) and 0 < n <= most for n in numbers):
            raise ValueError(f"{name} = {value}")


def _fields(kind: str) -> set[str]:
    return set(NETWORKS[kind].__dataclass_fields__) - {"parent", "name"}


def read_description(path: Path) -> dict[str, Any]:
    try:
        return files.from_json(path.with_suffix(".json").read_bytes())
    except ValueError as error:
        raise UserError(f"{path.with_suffix('.json')}: not JSON: {error}") from None
