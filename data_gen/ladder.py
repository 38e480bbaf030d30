"""Train the ladder: behavioural cloning of 1, 2, 5, ... 1000 expert demonstrations, with the paper's network.

These policies are the benchmark's behaviour policies; their rollouts are its background datasets.

    python -m data_gen.ladder --task hopper
"""

from dataclasses import dataclass
from pathlib import Path

from sibench import cli
from sibench.errors import UserError, require_above_zero, require_positive, require_seed


@dataclass(frozen=True)
class Config:
    """Train the behaviour policies of one task and store them as policies with their cards."""

    task: str
    """Task whose expert is cloned."""
    levels: tuple[int, ...] = ()
    """Numbers of demonstrations to train on; all of the task's, if none are named."""
    engine: str = "auto"
    """Physics engine: c, mjx, or auto (mjx on a GPU, c on a CPU)."""
    seed: int = 0
    """Seed of initialisation and batches."""
    num_updates: int = 0
    """Gradient updates of a policy, at most; 0 is 40 000, and 20 000 in manipulation."""
    updates_per_demonstration: int = 1000
    """Updates for each demonstration, if that is fewer; a quarter of --num-updates at least."""
    batch_size: int = 256
    """Steps per update."""
    learning_rate: float = 1e-3
    """Adam learning rate at the start; it decays to zero along a cosine."""
    width: int = 0
    """Units in each of the two hidden layers; 0 is 512, and 256 in manipulation."""
    checkpoint_every: int = 10_000
    """Updates between checkpoints and lines of progress."""
    eval_episodes: int = 100
    """Episodes by which each policy's quality is told."""
    out: Path = Path("runs/ladder")
    """Folder of checkpoints and policies, `<out>/<task>`."""
    ship: bool = False
    """Replace the policies that ship with the package."""

    def __post_init__(self):
        require_positive(self, "updates_per_demonstration", "batch_size", "checkpoint_every", "eval_episodes")
        require_seed(self)
        require_above_zero(self, "learning_rate")
        if min(self.num_updates, self.width) < 0:
            raise UserError(f"num_updates={self.num_updates}, width={self.width}; neither may be below 0")

    def updates(self, level: int) -> int:
        return min(self.num_updates, max(self.num_updates // 4, self.updates_per_demonstration * level))


def main(config: Config) -> None:
    import itertools
    from dataclasses import asdict, replace

    import jax

    from data_gen import cloning
    from sibench import files, provenance, tasks
    from sibench.errors import unknown
    from sibench.networks import BinsPolicy

    task = tasks.make(config.task, config.engine)
    for level in config.levels:
        if level not in task.ladder:
            raise unknown("level", str(level), map(str, task.ladder))
    width, num_updates = (256, 20_000) if task.script else (512, 40_000)
    num_updates, width = config.num_updates or num_updates, config.width or width
    config = replace(config, levels=config.levels or task.ladder, num_updates=num_updates, width=width)
    folder = config.out / task.name
    hidden = (config.width, config.width)
    network = BinsPolicy(task.action_size, hidden)
    with files.sole_user(folder):
        demos = cloning.demonstrations(task)
        free = ("levels", "checkpoint_every", "eval_episodes", "out", "ship")
        settings = {name: value for name, value in asdict(config).items() if name not in free}
        settings |= {"engine": task.backend, "demonstrations_from": demos.content_sha256}
        run = provenance.start_run(folder, settings)
        # on a CPU lanes cost what they cost one after the other, and one at a time there is something to show sooner
        together = config.updates if jax.default_backend() == "gpu" else lambda level: level
        for _, levels in itertools.groupby(sorted(config.levels), together):
            levels = tuple(levels)
            if not all((folder / f"bc-{level}.json").exists() for level in levels):
                train(config, task, network, demos, run, levels, folder)
        judge(config, task, folder)


def train(config: Config, task, network, demos, run: dict, levels: tuple[int, ...], folder: Path) -> None:
    """Train the policies of these levels as lanes of one program. A lane's draws do not depend on the others."""
    import time

    import jax
    import jax.numpy as jnp
    import numpy as np

    from data_gen import cloning
    from sibench import checkpoint, policies, provenance

    num_updates = config.updates(levels[0])
    learner = cloning.make(network, demos.stats, config.batch_size, config.learning_rate, num_updates)
    num_steps = jnp.array([demos.offsets[level] for level in levels])
    key = jax.random.key(config.seed)
    states = learner.init(jnp.stack([jax.random.fold_in(key, level) for level in levels]))
    checkpoints = folder / "checkpoints" / "-".join(map(str, levels))
    if found := checkpoint.restore(checkpoints, states):
        states = found[1]
        print(f"{task.name} bc {levels}: resumed at update {found[0]}", flush=True)
    start, first = time.monotonic(), int(states.num_updates[0])
    while (done := int(states.num_updates[0])) < num_updates:
        num = min(config.checkpoint_every, num_updates - done)
        states, train_loss = learner.chunk(states, num_steps, demos.obs, demos.action, num)
        done += num
        if not jnp.isfinite(train_loss).all():
            raise UserError(f"{task.name} bc {levels}: diverged before update {done}; try a lower --learning-rate")
        checkpoint.save(checkpoints, done, states)
        held_out = learner.loss(states, demos.held_out_obs, demos.held_out_action)
        rate = (done - first) / (time.monotonic() - start)
        shown = "  ".join(f"bc-{d} {a:.2f}, {b:.2f}" for d, a, b in zip(levels, train_loss, held_out, strict=True))
        left = (num_updates - done) / rate / 60
        print(
            f"{task.name} {done:>7} updates  nll (train, held out) {shown}  {rate:.0f}/s  {left:.0f} min left",
            flush=True,
        )

    held_out = learner.loss(states, demos.held_out_obs, demos.held_out_action)
    for lane, level in enumerate(levels):
        steps = slice(0, min(int(num_steps[lane]), len(demos.held_out_obs)))
        lane_state = jax.tree.map(lambda leaf, lane=lane: leaf[lane : lane + 1], states)
        card = {
            "task": task.id,
            "demonstrations": level,
            "num_updates": num_updates,
            "nll_train": float(learner.loss(lane_state, demos.obs[steps], demos.action[steps])[0]),
            "nll_held_out": float(held_out[lane]),
            "nll_held_out_expert": demos.expert_nll,
            "command": provenance.command(),
            **run,
        }
        params = jax.tree.map(lambda leaf, lane=lane: leaf[lane], states.model.params)
        policies.save(folder / f"bc-{level}", policies.Policy(network, params, task.observation_size), card, np.float16)


def judge(config: Config, task, folder: Path) -> None:
    """Say how good each policy is, as stored, write it to `<folder>/judged.json`, and ship it if asked to."""
    import math

    from sibench import assets, files, policies, tasks
    from sibench.evaluation import evaluate

    judged = {}
    print(f"{'policy':<10}{'return':>10}{'std':>10}{'quality':>9}{'nll train':>11}{'held out':>10}{'expert':>10}")
    for level in config.levels:
        policy = policies.load(folder / f"bc-{level}")
        returns = evaluate(policy, task.name, config.eval_episodes, block="select", engine=task.backend).returns
        card = policies.read_description(folder / f"bc-{level}")["card"]
        expert = math.nan if card["nll_held_out_expert"] is None else card["nll_held_out_expert"]  # of a script
        quality = tasks.quality(task.name, returns.mean())
        judged[f"bc-{level}"] = {"quality": quality, "engine": task.backend, "returns": returns.tolist(), "card": card}
        files.write_atomic(folder / "judged.json", files.to_json(judged))
        print(
            f"bc-{level:<7}{returns.mean():>10.4g}{returns.std():>10.3g}{quality:>9.2f}"
            f"{card['nll_train']:>11.2f}{card['nll_held_out']:>10.2f}{expert:>10.2f}",
            flush=True,
        )
        if config.ship:
            assets.ship(task.name, *(folder / f"bc-{level}{suffix}" for suffix in (".safetensors", ".json")))


if __name__ == "__main__":
    cli.run(main, Config, "python -m data_gen.ladder")
