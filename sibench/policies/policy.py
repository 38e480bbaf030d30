"""Policies and the files they are stored in.

A stored policy is declarative: weights (`NAME.safetensors`) and a description (`NAME.json`) that names one of the
architectures in `NETWORKS`. Loading one runs no code of its author.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from sibench.core import files
from sibench.core.errors import UserError
from sibench.policies.networks import STATS, BinsPolicy, GaussianPolicy
from sibench.tasks.cameras import NUM_BYTES

NETWORKS = {"bins": BinsPolicy, "tanh-gaussian": GaussianPolicy}
LIMITS = {
    "obs_dim": (int, 1, NUM_BYTES + 4096),
    "action_dim": (int, 1, 4096),
    "hidden": (int, 1, 4096),
    "gains": (float, 1e-6, 4096),
    "bins": (int, 2, 4096),
    "basis": (int, 1, 4096),
    "kernel_width": (float, 1e-3, 10),
}
"""Type, minimum and maximum of an architecture's numbers: they keep memory small and logits finite."""
MAX_NUMBERS = 64
"""Largest length of an architecture's lists."""


class Policy(NamedTuple):
    """A network and its weights. `act` is pure and takes one observation or a batch."""

    network: BinsPolicy | GaussianPolicy
    params: dict
    obs_dim: int

    def act(self, obs: jax.Array, key: jax.Array, mode: Literal["sample", "mode"] = "sample") -> jax.Array:
        distribution: Any = self.network.apply(self.params, obs)
        return {"sample": lambda: distribution.sample(key), "mode": distribution.mode}[mode]()


def save(path: Path, policy: Policy, card: dict[str, Any], dtype: type = np.float32) -> None:
    """Write `path`.safetensors and `path`.json. The JSON, written last, contains the sha256 of the weights."""
    arrays = traverse_util.flatten_dict(policy.params)
    weights = safetensors.numpy.save({_name_in_file(name): np.asarray(value, dtype) for name, value in arrays.items()})
    files.write_atomic(path.with_suffix(".safetensors"), weights)
    kind = next(kind for kind, network in NETWORKS.items() if isinstance(policy.network, network))
    sizes = {name: value for name, value in vars(policy.network).items() if name in _fields(kind)}
    architecture = {"kind": kind, "obs_dim": policy.obs_dim, **sizes}
    weights_sha256 = hashlib.sha256(weights).hexdigest()
    description = {"architecture": architecture, "weights_sha256": weights_sha256, "card": card}
    files.write_atomic(path.with_suffix(".json"), files.to_json(description))


def load(path: Path) -> Policy:
    """Read a policy and check it: hash, architecture, names, shapes, finite values."""
    weights_file, description_file = path.with_suffix(".safetensors"), path.with_suffix(".json")
    weights, description = weights_file.read_bytes(), read_description(path)
    if not isinstance(description, dict) or "architecture" not in description:
        raise UserError(f"{description_file}: does not describe a policy")
    if hashlib.sha256(weights).hexdigest() != description.get("weights_sha256"):
        raise UserError(f"{weights_file} differs from its sha256 in {description_file.name}; download both again")
    try:
        network, obs_dim = _build(description["architecture"])
        inputs = jax.ShapeDtypeStruct((1, obs_dim), jnp.uint8 if obs_dim > NUM_BYTES else jnp.float32)
        shapes = jax.eval_shape(network.init, jax.random.key(0), inputs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{description_file}: not an architecture that this version supports: {error}") from None
    leaves: dict[Any, Any] = traverse_util.flatten_dict(shapes)
    arrays = _read_weights(weights_file, weights)
    expected = {_name_in_file(name): leaf.shape for name, leaf in leaves.items()}
    if {name: value.shape for name, value in arrays.items()} != expected:
        raise UserError(f"{weights_file}: its weights do not fit the architecture in {description_file.name}")
    params = {name: jnp.asarray(arrays[_name_in_file(name)], jnp.float32) for name in leaves}
    return Policy(network, traverse_util.unflatten_dict(params), obs_dim)


def read_description(path: Path) -> dict[str, Any]:
    """Read `path`.json."""
    try:
        return files.from_json(path.with_suffix(".json").read_bytes())
    except ValueError as error:
        raise UserError(f"{path.with_suffix('.json')}: not JSON: {error}") from None


def _build(architecture: Mapping[str, Any]) -> tuple[Any, int]:
    """Return the network and the observation size of a description; raise `ValueError` for one outside the limits."""
    sizes: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in architecture.items()}
    kind, obs_dim = sizes.pop("kind"), sizes.pop("obs_dim")
    if kind not in NETWORKS or not sizes.keys() <= _fields(kind):
        known = {kind: sorted(_fields(kind)) for kind in NETWORKS}
        raise ValueError(f"{kind} with {', '.join(sizes)}; known: {known}")
    for name, value in (sizes | {"obs_dim": obs_dim}).items():
        numbers = value if isinstance(value, tuple) else (value,)
        number_type, low, high = LIMITS[name]
        types = (int,) if number_type is int else (int, float)
        if len(numbers) > MAX_NUMBERS or not all(type(n) in types and low <= n <= high for n in numbers):
            raise ValueError(f"{name} = {value}; allowed: {number_type.__name__} from {low} to {high}")
    return NETWORKS[kind](**sizes), obs_dim


def _read_weights(file: Path, content: bytes) -> dict[str, np.ndarray]:
    """Parse and check a safetensors file. Of number types that NumPy lacks (F8, BF16), safetensors raises KeyError."""
    try:
        arrays = safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise UserError(f"{file}: not a safetensors file: {error}") from None
    except KeyError as error:
        raise UserError(f"{file}: weights of type {error}; allowed: F16, F32") from None
    for name, value in arrays.items():
        if value.dtype not in (np.float16, np.float32) or not np.isfinite(value).all():
            raise UserError(f"{file}: {name} must be finite float16 or float32, not {value.dtype}")
    return arrays


def _name_in_file(path: tuple[str, ...]) -> str:
    """Return a weight's name in a file. There, input statistics stand among the parameters: `obs_mean` at the root."""
    collection, *names = path
    if collection == STATS:
        path = ("params", *names) if len(names) > 1 else ("params", f"obs_{names[0]}")
    return "/".join(path)


def _fields(kind: str) -> set[str]:
    return set(NETWORKS[kind].__dataclass_fields__) - {"parent", "name"}
