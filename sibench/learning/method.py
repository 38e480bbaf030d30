"""What a method is: its settings, and a handful of pure functions made from them."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax

from sibench.core.errors import UserError, unknown
from sibench.core.settings import check_bounds, setting
from sibench.learning.sampling import Data
from sibench.policies import Policy

Privilege = Literal["background rewards", "expert actions"]
PRIVILEGES: tuple[Privilege, ...] = get_args(Privilege)
"""What a method may see beyond expert observations and background steps. Its results are stamped with it."""


@dataclass(frozen=True)
class RunConfig:
    """Settings that every method shares. Defaults are the paper's (VfO, table 1)."""

    task: str
    """Task to learn."""
    dataset: tuple[str, ...]
    """Background datasets, such as bc-10; each gets lanes of its own."""
    demos: int = setting(10, at_least=1)
    """Expert demonstrations, 1 to 1000: the first ones of --expert."""
    expert: str = "expert"
    """Dataset that the demonstrations come from."""
    build: bool = setting(False, moves_results=False)
    """Build missing datasets."""
    seeds: int = setting(5, at_least=1)
    """Number of seeds for each dataset and swept value."""
    seed: int = 0
    """The first seed."""
    paired: bool = False
    """Pair seeds with datasets: the first seed learns from the first dataset, the second from the second."""
    steps: int = setting(1_000_000, at_least=1, phase=True)
    """Gradient updates, not counting those of a pretraining phase."""
    sweep: tuple[str, ...] = ()
    """A setting and the values to give it: --sweep temperature 0.1 1 10."""
    batch_size: int = setting(256, at_least=1)
    """Steps per update."""
    learning_rate: float = setting(3e-4, above=0, sweep=True)
    """Adam learning rate of every network."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate over a phase of updates; cosine decays it to 0, which helps short runs."""
    weight_decay: float = setting(0.0, at_least=0, sweep=True)
    """Decoupled weight decay (AdamW)."""
    hidden: tuple[int, ...] = (512, 512)
    """Units of the hidden layers of every network."""
    evals: int = setting(50, at_least=1)
    """Evaluations during training, evenly spaced. The paper averages the last tenth of them (manipulation: half)."""
    eval_episodes: int = setting(10, at_least=1)
    """Episodes per evaluation."""
    final_episodes: int = setting(1000, at_least=1)
    """Episodes that the finished policies are judged by."""
    log_every: int = setting(1000, at_least=1, moves_results=False)
    """Updates between rows of metrics.jsonl."""
    checkpoint_every: int = setting(20_000, at_least=1, moves_results=False)
    """Updates between checkpoints."""
    engine: str = "auto"
    """Physics engine of evaluations: c, mjx, or auto (mjx on a GPU, c on a CPU)."""
    out: Path = setting(Path("runs"), moves_results=False)
    """Folder of runs; this one goes to <out>/<task>/<method>-<dataset>."""
    tensorboard: bool = setting(False, moves_results=False)
    """Also write TensorBoard files (extra [log])."""
    wandb: str = setting("", moves_results=False)
    """Also log to this Weights & Biases project (extra [log])."""

    def __post_init__(self):
        check_bounds(self)
        if not 0 <= self.seed <= 2**31 - self.seeds:
            raise UserError(f"seed={self.seed}; allowed: 0 to {2**31 - self.seeds}")
        if self.batch_size % 2:
            raise UserError(f"batch_size={self.batch_size}; it must be even: half of a batch may be the expert's")
        if any(width < 1 for width in self.hidden):
            raise UserError(f"hidden={self.hidden}; every layer needs at least 1 unit")
        if self.sweep:
            check_sweep(self)

    @property
    def swept(self) -> str:
        """Name of the setting that --sweep varies; empty without one."""
        return self.sweep[0].replace("-", "_") if self.sweep else ""


def check_sweep(config: RunConfig) -> None:
    """Raise `UserError` unless --sweep names a sweepable setting and different, allowed values."""
    name, values = config.swept, config.sweep[1:]
    sweepable = [one.name for one in dataclasses.fields(config) if one.metadata.get("sweep")]
    if name not in sweepable:
        raise unknown("swept setting", name, sweepable)
    try:
        numbers = [float(value) for value in values]
    except ValueError as error:
        raise UserError(f"--sweep {name} takes numbers: {error}") from None
    if len(numbers) < 1 or len({f"{number:g}" for number in numbers}) < len(numbers):
        raise UserError(f"--sweep {name} needs values, all different; got {', '.join(values) or 'none'}")
    for number in numbers:
        dataclasses.replace(config, sweep=(), **{name: number})  # runs the checks of the config


def settings_that_move_results(config: RunConfig) -> dict[str, Any]:
    """Return every setting that can change a number of a result."""
    fields = dataclasses.fields(config)
    return {one.name: getattr(config, one.name) for one in fields if one.metadata.get("moves_results", True)}


class Spec(NamedTuple):
    """Sizes of a task."""

    obs_dim: int
    action_dim: int


class Algorithm(NamedTuple):
    """A learner as pure functions of one lane; sibench/learning/lanes.py runs many lanes of it in one program.

    `make(config, spec)` runs once per lane inside the compiled program, where a swept setting of `config` is a traced
    scalar: it may enter arithmetic, but not Python control flow, shapes or `float()`. It also runs outside, for
    `num_pretrain` and `policy`.
    """

    init: Callable[[Data, jax.Array], Any]  # (data, key) -> state
    update: Callable[[Any, Data, jax.Array], tuple[Any, dict]]  # (state, data, key) -> (state, metrics)
    policy: Callable[[Any], Policy]  # state -> Policy
    pretrain: Callable[[Any, Data, jax.Array], tuple[Any, dict]] | None = None  # like update, and runs before it
    num_pretrain: int = 0  # updates of the pretraining phase


@dataclass(frozen=True)
class Method:
    """What a file of algorithms/ declares as `METHOD`: its config, its learner, and what it may see.

    A file alone is enough: it is found by its name, `<name>.py`, trains, runs in every suite, appears in every figure
    and table, and can be submitted.
    """

    config: type[RunConfig]
    make: Callable[[Any, Spec], Algorithm]
    version: int = 1
    """Raise it when the numbers of the method move; results of other versions are then stale."""
    privileges: tuple[Privilege, ...] | Callable[[Any], tuple[Privilege, ...]] = ()
    """What it sees beyond expert observations and background steps; a function of the config where that decides."""
    uses_expert: bool = True
    """Whether it learns from the expert's observations."""
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Names under which the method appears on the board, with the settings of each; none: the file's name."""
    task_defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Defaults for a task or a family of tasks, such as {"manipulation": {"temperature": 0.1}}."""
    takes_pixels: bool = True
    """Whether it can learn from observations that contain camera frames."""

    @property
    def file(self) -> str:
        """Name of the file that declares it, without suffix."""
        return Path(self.make.__code__.co_filename).stem  # type: ignore[attr-defined]

    def sees(self, config: RunConfig) -> tuple[Privilege, ...]:
        """Return the privileges of a config. What is not among them never reaches the learner."""
        return self.privileges(config) if callable(self.privileges) else self.privileges

    def defaults(self, kind: str) -> Mapping[str, Any]:
        return self.task_defaults.get(kind, {})
