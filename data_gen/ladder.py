"""Train the ladder: behavioural cloning of 1, 2, 5, ... 1000 expert demonstrations, with the paper's network.

These policies are the benchmark's behaviour policies; their rollouts are its background datasets.

    python -m data_gen.ladder --task hopper
"""

from dataclasses import dataclass
from pathlib import Path

from sibench.core import cli
from sibench.core.settings import check_bounds, setting

PROG = "python -m data_gen.ladder"
TASK_DEFAULTS = {"manipulation": {"num_updates": 20_000, "width": 256}}
"""Settings that differ from the defaults below, by task or family of tasks."""


@dataclass(frozen=True)
class Config:
    """Train behaviour policies and store them with their cards. Some tasks have defaults of their own."""

    task: tuple[str, ...] = ()
    """Tasks whose experts are cloned; by default all without frames."""
    levels: tuple[int, ...] = ()
    """Numbers of demonstrations to train on; by default all of the task's."""
    engine: str = "auto"
    """Physics engine: c, mjx, or auto (mjx on a GPU, c on a CPU)."""
    seed: int = setting(0, at_least=0, below=2**31)
    """Seed of initialisation and batches."""
    num_updates: int = setting(40_000, at_least=1)
    """Maximum number of gradient updates of a policy."""
    updates_per_demonstration: int = setting(1000, at_least=1)
    """Updates for each demonstration, if that is fewer; at least a quarter of --num-updates."""
    batch_size: int = setting(256, at_least=1)
    """Steps per update."""
    learning_rate: float = setting(1e-3, above=0)
    """Adam learning rate at the start; it decays to zero along a cosine."""
    width: int = setting(512, at_least=1)
    """Units in each of the two hidden layers."""
    checkpoint_every: int = setting(10_000, at_least=1)
    """Updates between checkpoints and lines of progress."""
    eval_episodes: int = setting(100, at_least=1)
    """Episodes by which the quality of each policy is measured."""
    out: Path = Path("runs/ladder")
    """Folder of checkpoints and policies, `<out>/<task>`."""
    ship: bool = False
    """Replace the policies that ship with the package."""

    def __post_init__(self):
        check_bounds(self)

    def updates(self, level: int) -> int:
        """Return the number of updates of the policy that is cloned from `level` demonstrations."""
        return min(self.num_updates, max(self.num_updates // 4, self.updates_per_demonstration * level))


def main(config: Config) -> None:
    from data_gen import cloning, per_task
    from sibench import tasks
    from sibench.core.errors import unknown

    configs = per_task.configs(Config, config.task, TASK_DEFAULTS, PROG)
    for name in configs:
        tasks.require_no_pixels(name, "its ladder is that of its twin")
        for level in config.levels:
            if level not in (ladder := tasks.task_type(name).ladder):
                raise unknown("level", str(level), map(str, ladder))
    for name, task_config in configs.items():
        cloning.make_ladder(tasks.make(name, task_config.engine), task_config)


if __name__ == "__main__":
    cli.run(main, Config, PROG)
