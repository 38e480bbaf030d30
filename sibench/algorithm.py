"""What a method is: settings, and a handful of pure functions made from them."""

import dataclasses
import functools
import itertools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sibench.batches import Data
from sibench.errors import UserError, require_above_zero, require_positive, require_seed, unknown
from sibench.networks import is_statistic
from sibench.policies import Policy
from sibench.suites import IMAGES, MANIPULATION

PRIVILEGES = ("background rewards", "expert actions")
"""What a method may ask to see; its results are stamped with it."""


TUNED = {
    task: {
        "": {"hidden": (1024, 1024), "weight_decay": 0.1},
        "vfo": {"temperature": 0.1},
        "smodice": {"f": "chi2"},  # not in the paper; what SMODICE's code has for tasks that end with success
    }
    for task in (*MANIPULATION, *IMAGES)
}
"""What is set otherwise for a task, of all methods and of single ones (VfO, table 1)."""


def tuned(method: str, task: str) -> dict[str, Any]:
    """A file of algorithms/ has these settings on a task, if nothing else is said."""
    of = TUNED.get(task, {})
    return of.get("", {}) | of.get(method, {})


@dataclass(frozen=True)
class RunConfig:
    """What every method shares; its defaults are those of the paper (VfO, table 1)."""

    task: str
    """Task to learn."""
    dataset: tuple[str, ...]
    """Background datasets, such as bc-10; each has lanes of its own."""
    demos: int = 10
    """Expert demonstrations, 1 to 1000: the first ones of --expert."""
    expert: str = "expert"
    """Dataset that the demonstrations are taken from."""
    build: bool = False
    """Make datasets that are not there."""
    seeds: int = 5
    """Learners for each dataset and swept value, with one seed each."""
    seed: int = 0
    """The first of these seeds."""
    paired: bool = False
    """The first seed learns from the first dataset, the second from the second, instead of each from each."""
    steps: int = 1_000_000
    """Gradient updates, after those of a pretraining phase."""
    sweep: tuple[str, ...] = ()
    """A setting and the values to give it: --sweep temperature 0.1 1 10."""
    batch_size: int = 256
    """Steps per update."""
    learning_rate: float = 3e-4
    """Adam learning rate of every network."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The rate over a phase of updates; cosine brings it to 0, which helps short runs."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW)."""
    hidden: tuple[int, ...] = (512, 512)
    """Units of the hidden layers of every network."""
    evals: int = 50
    """Evaluations during training, evenly spaced; the paper averages those of the last tenth (manipulation: half)."""
    eval_episodes: int = 10
    """Episodes in each of them."""
    final_episodes: int = 1000
    """Episodes by which the finished policies are judged."""
    log_every: int = 1000
    """Updates between rows of metrics.jsonl."""
    checkpoint_every: int = 20_000
    """Updates between checkpoints."""
    engine: str = "auto"
    """Physics engine of evaluations: c, mjx, or auto (mjx on a GPU, c on a CPU)."""
    out: Path = Path("runs")
    """Folder of runs; this one's is <out>/<task>/<algorithm>-<dataset>."""
    tensorboard: bool = False
    """Write TensorBoard files too (extra [log])."""
    wandb: str = ""
    """Log to this Weights & Biases project too (extra [log])."""

    def __post_init__(self):
        require_positive(self, "demos", "seeds", "steps", "batch_size", "evals", "eval_episodes", "final_episodes")
        require_positive(self, "log_every", "checkpoint_every")
        require_seed(self, self.seeds)
        for field in dataclasses.fields(self):
            if isinstance(value := getattr(self, field.name), float) and not math.isfinite(value):
                raise UserError(f"{field.name}={value}; it must be finite (1e30 is as good as no clip)")
        require_above_zero(self, "learning_rate")
        if self.weight_decay < 0:
            raise UserError(f"weight_decay={self.weight_decay}; it must not be below 0")
        if self.batch_size % 2:
            raise UserError(f"batch_size={self.batch_size}; it must be even: half of a batch may be the expert's")
        if any(width < 1 for width in self.hidden):
            raise UserError(f"hidden={self.hidden}; every layer needs at least 1 unit")
        if self.sweep:
            check_sweep(self)

    @property
    def swept(self) -> str:
        """Name of the setting that --sweep sweeps, if any."""
        return self.sweep[0].replace("-", "_") if self.sweep else ""


class Spec(NamedTuple):
    obs_dim: int
    action_dim: int


class Algorithm(NamedTuple):
    """A method: pure functions of one learner; sibench/lanes.py makes many of it."""

    name: str
    init: Callable[[Data, jax.Array], Any]  # (data, key) -> state
    update: Callable[[Any, Data, jax.Array], tuple[Any, dict]]  # (state, data, key) -> (state, metrics)
    policy: Callable[[Any], Policy]  # state -> Policy
    pretrain: Callable[[Any, Data, jax.Array], tuple[Any, dict]] | None = None  # like update, and before it
    num_pretrain: int = 0  # updates of that
    privileges: tuple[str, ...] = ()  # what it sees beyond expert observations and background steps, of PRIVILEGES


def check_sweep(config: RunConfig) -> None:
    """Refuse a sweep over what is not a number of this method, and values that a setting does not take."""
    name, values = config.swept, config.sweep[1:]
    floats = [field.name for field in dataclasses.fields(config) if isinstance(getattr(config, field.name), float)]
    if name not in floats:
        raise unknown("swept setting", name, floats)
    try:
        numbers = [float(value) for value in values]
    except ValueError as error:
        raise UserError(f"--sweep {name} takes numbers: {error}") from None
    if len(numbers) < 1 or len({f"{number:g}" for number in numbers}) < len(numbers):
        raise UserError(f"--sweep {name} needs values, all different; got {', '.join(values) or 'none'}")
    for number in numbers:
        dataclasses.replace(config, sweep=(), **{name: number})  # its own checks


def effective_share(weight: jax.Array) -> jax.Array:
    """How much of a batch its weights leave in play: 1 if all are equal, 1 / B if one has everything."""
    weight = weight / jnp.maximum(weight.max(), jnp.finfo(weight.dtype).tiny)
    return weight.sum() ** 2 / jnp.maximum((weight**2).sum(), 1e-6) / len(weight)


def adam(config: RunConfig, steps: int | None = None, rate: float | None = None) -> optax.GradientTransformation:
    """The optimiser of every network; `steps` are those of its phase, if that is not the main one."""
    rate = config.learning_rate if rate is None else rate
    if config.schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, steps or config.steps)
    if isinstance(config.weight_decay, float) and config.weight_decay == 0:  # not a swept one
        return optax.adam(rate)
    decayed = functools.partial(jax.tree.map_with_path, lambda path, _: not is_statistic(path))
    return optax.adamw(rate, weight_decay=config.weight_decay, mask=decayed)


def defaults(config_type: type[RunConfig], method: str, words: list[str]) -> RunConfig:
    """What lies under a command line: the method's settings, over them those of the task that it names."""
    import tyro

    words = [word for argument in words for word in argument.split("=", 1)]
    task = dict(itertools.pairwise(words)).get("--task", "")
    return config_type(task=tyro.MISSING, dataset=tyro.MISSING, **tuned(method, task))


def run(config_type: type[RunConfig], make: Callable) -> None:
    """The command line of an algorithm's file."""
    from sibench import cli

    def main(config: RunConfig) -> None:
        from sibench.train import train  # so that --help need not wait for simulators

        train(config, make)

    method = Path(sys.argv[0]).stem
    cli.run(main, config_type, f"python algorithms/{method}.py", defaults(config_type, method, sys.argv))
