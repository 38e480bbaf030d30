"""Train the experts with soft actor-critic (data_gen/sac.py), and measure the tasks' reference returns.

For a task whose expert is a script (sibench/tasks/demonstrator.py), only the returns are measured.
A killed run resumes from its last checkpoint, on a CPU bit for bit.

    python -m data_gen.experts --task hopper
"""

from dataclasses import dataclass
from pathlib import Path

from sibench.core import cli
from sibench.core.errors import UserError
from sibench.core.settings import check_bounds, setting

PROG = "python -m data_gen.experts"
TASK_DEFAULTS = {
    "ant": {"num_updates": 440_000, "learning_rate": 6e-4, "eval_every": 40_000},
    "halfcheetah": {"num_updates": 520_000, "seed": 1},
    "hopper": {"num_updates": 400_000, "target_entropy": 0.5},
    "walker2d": {"num_updates": 240_000},
}
"""Settings of the shipped experts that differ from the defaults below."""


@dataclass(frozen=True)
class Config:
    """Train experts and store each as a policy with its card. Some tasks have defaults of their own."""

    task: tuple[str, ...] = ()
    """Tasks; by default all without frames."""
    engine: str = "auto"
    """Physics engine: c, mjx, or auto (mjx on a GPU, c on a CPU)."""
    seed: int = setting(0, at_least=0, below=2**31)
    """Seed of everything that is drawn."""
    num_updates: int = setting(600_000, at_least=1)
    """Gradient updates of the critics."""
    eval_every: int = setting(20_000, at_least=1)
    """Updates between evaluations."""
    checkpoint_every: int = setting(40_000, at_least=1)
    """Updates between checkpoints of the whole state."""
    eval_episodes: int = setting(16, at_least=1)
    """Episodes with sampled actions per evaluation; the best policy by them is kept."""
    reference_episodes: int = setting(1000, at_least=1)
    """Episodes by which the finished expert and the random policy are measured."""
    num_envs: int = setting(32, at_least=1)
    """Simulations stepped together."""
    env_steps_per_update: int = setting(4, at_least=1)
    """Environment steps collected for each update."""
    warmup_steps: int = setting(10_000, at_least=1)
    """Environment steps of uniform actions before the first update."""
    replay_size: int = setting(1_000_000, at_least=1)
    """Transitions that the replay buffer holds."""
    batch_size: int = setting(128, at_least=1)
    """Transitions per update."""
    width: int = setting(256, at_least=1)
    """Units in each of the two hidden layers of policy and critics."""
    learning_rate: float = setting(3e-4, above=0)
    """Adam learning rate of policy, critics and temperature."""
    actor_every: int = setting(2, at_least=1)
    """Critic updates per policy and temperature update."""
    target_entropy: float = 1.0
    """Negative of the entropy that the temperature aims at, per action dimension (1: the SAC paper's)."""
    discount: float = setting(0.99, above=0, below=1)
    """Discount factor."""
    target_rate: float = setting(0.005, above=0, below=1)
    """Rate at which the target critics follow the critics."""
    out: Path = Path("runs/experts")
    """Folder of checkpoints, curve and policy, `<out>/<task>`."""
    ship: bool = False
    """Replace the policy and the reference returns that ship with the package."""

    def __post_init__(self):
        check_bounds(self)

    def check_schedule(self) -> None:
        """Raise `UserError` if settings do not fit together."""
        if self.replay_size < max(self.batch_size, self.num_envs):
            raise UserError(
                f"replay_size={self.replay_size}; allowed: at least batch_size={self.batch_size} and "
                f"num_envs={self.num_envs}"
            )
        updates_per_step = self.num_envs / self.env_steps_per_update
        if updates_per_step != int(updates_per_step) or self.eval_every % updates_per_step:
            raise UserError(
                f"num_envs={self.num_envs} / env_steps_per_update={self.env_steps_per_update} is {updates_per_step:g} "
                f"updates a step; it must be an integer that divides eval_every={self.eval_every}"
            )
        for name in ("num_updates", "checkpoint_every"):
            if getattr(self, name) % self.eval_every:
                raise UserError(f"{name}={getattr(self, name)}; it must be a multiple of eval_every={self.eval_every}")


def main(config: Config) -> None:
    from data_gen import expert_training, per_task
    from sibench import tasks

    configs = per_task.configs(Config, config.task, TASK_DEFAULTS, PROG)
    for name, task_config in configs.items():
        tasks.require_no_pixels(name, "its expert is that of its twin")
        task_config.check_schedule()
    for name, task_config in configs.items():
        expert_training.make_expert(tasks.make(name, task_config.engine), task_config)


if __name__ == "__main__":
    cli.run(main, Config, PROG)
