"""Models, and one step of gradient descent."""

from collections.abc import Callable
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from sibench.learning.method import RunConfig
from sibench.policies.networks import Stats, is_statistic, with_stats


class Model(flax.struct.PyTreeNode):
    """Parameters and optimiser state: arrays only, so that all runs of a method share one tree structure."""

    params: Any
    opt_state: optax.OptState


def init_model(
    network: nn.Module, optimiser: optax.GradientTransformation, key: jax.Array, stats: Stats, *inputs: jax.Array
) -> Model:
    """Return a network with fresh weights whose encoder standardises by `stats`."""
    params = with_stats(network.init(key, *inputs), stats)
    return Model(params, optimiser.init(params))


def descend(
    model: Model, optimiser: optax.GradientTransformation, loss: Callable[[Any], Any], has_aux: bool = False
) -> tuple[Model, Any]:
    """Take one optimiser step down `loss(params)`; return the loss (and its auxiliary output) before the step."""
    value, grads = jax.value_and_grad(loss, has_aux=has_aux)(model.params)
    updates, opt_state = optimiser.update(grads, model.opt_state, model.params)
    return Model(optax.apply_updates(model.params, updates), opt_state), value


def adam(config: RunConfig, steps: int | None = None, rate: float | None = None) -> optax.GradientTransformation:
    """Return the optimiser of a network. `steps` is the length of its phase, by default that of the main one."""
    rate = config.learning_rate if rate is None else rate
    schedule = optax.cosine_decay_schedule(rate, steps or config.steps) if config.schedule == "cosine" else rate
    if isinstance(config.weight_decay, float) and config.weight_decay == 0:  # a swept one is traced
        return optax.adam(schedule)
    return optax.adamw(
        schedule,
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree.map_with_path(lambda path, _: not is_statistic(path), params),
    )


def effective_share(weight: jax.Array) -> jax.Array:
    """Return the effective sample size of weights as a share of the batch: 1 if all are equal, 1 / B if one has all."""
    weight = weight / jnp.maximum(weight.max(), jnp.finfo(weight.dtype).tiny)
    return weight.sum() ** 2 / jnp.maximum((weight**2).sum(), 1e-6) / len(weight)
