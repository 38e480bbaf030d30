"""Which encoder gains and which kernel width? Held-out likelihood of the expert's actions decides, once, for everyone.

python -m data_gen.encoders --task hopper
"""

from dataclasses import dataclass
from pathlib import Path

from sibench import cli

RESULTS = Path(__file__).parent / "encoders.json"

GAINS = {
    "3 gains to 1": (1 / 16, 1 / 4, 1.0),
    "4 gains to 4": (1 / 16, 1 / 4, 1.0, 4.0),
    "5 gains to 16": (1 / 16, 1 / 4, 1.0, 4.0, 16.0),
    "5 decades": (0.01, 0.1, 1.0, 10.0, 100.0),
}
WIDTHS = (0.04, 0.1, 0.2)
BASIS = {0.04: 61, 0.1: 25, 0.2: 13}
"""Numerical rank of each kernel: coefficients that its functions need."""


@dataclass(frozen=True)
class Config:
    """Compare encoders and kernel widths by the held-out likelihood of cloned demonstrations."""

    task: str
    """Task whose expert is cloned."""
    levels: tuple[int, ...] = (5, 50)
    """Numbers of demonstrations to clone."""
    engine: str = "auto"
    """Physics engine: c, mjx, or auto (mjx on a GPU, c on a CPU)."""
    num_updates: int = 10_000
    """Gradient updates of each."""
    width: int = 256
    """Units in each of the two hidden layers."""
    seed: int = 0
    """Seed of initialisation and batches."""


def main(config: Config) -> None:
    """Every variant is written as soon as it is known, and not trained again."""
    import json

    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    from data_gen import cloning
    from sibench import files, provenance, tasks
    from sibench.networks import MLP, BinsPolicy, Categorical, gaussian_kernel

    task = tasks.make(config.task, config.engine)
    demos = cloning.demonstrations(task)
    hidden = (config.width, config.width)
    mean, std = demos.obs.mean(0), demos.obs.std(0) + 1e-3

    class ZScored(nn.Module):
        """The control: the same head on a plain MLP of standardised observations."""

        @nn.compact
        def __call__(self, obs: jax.Array) -> Categorical:
            u = MLP(hidden, task.action_size * BASIS[0.1])((obs - mean) / std)
            kernel = gaussian_kernel(101, BASIS[0.1], 0.1)
            return Categorical(u.reshape(*obs.shape[:-1], task.action_size, BASIS[0.1]) @ kernel)

    def bins(gains, width):
        return BinsPolicy(task.action_size, hidden, gains, basis=BASIS[width], kernel_width=width)

    variants = {f"{name}, kernel 0.1": bins(gains, 0.1) for name, gains in GAINS.items()}
    variants |= {f"5 gains to 16, kernel {width}": bins(GAINS["5 gains to 16"], width) for width in WIDTHS}
    variants["4 gains to 4, kernel 0.2"] = bins(GAINS["4 gains to 4"], 0.2)
    variants["z-score, kernel 0.1"] = ZScored()

    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    settings = {"num_updates": config.num_updates, "width": config.width, "seed": config.seed}
    same = {"task": task.id, "demonstrations_from": demos.content_sha256, **settings}
    for name, network in variants.items():
        known = {row["demonstrations"] for row in results if row["variant"] == name and same.items() <= row.items()}
        levels = [level for level in config.levels if level not in known]
        if not levels:
            continue
        learner = cloning.make(network, task.observation_size, 256, 1e-3, config.num_updates)
        states = learner.init(jax.random.split(jax.random.key(config.seed), len(levels)))
        num_steps = jnp.array([demos.offsets[level] for level in levels])
        states, _ = learner.chunk(states, num_steps, demos.obs, demos.action, config.num_updates)
        held_out = learner.loss(states, demos.held_out_obs, demos.held_out_action)
        for lane, level in enumerate(levels):
            row = {"variant": name, "demonstrations": level, "nll_held_out": round(float(held_out[lane]), 3)}
            results.append(same | row | {"command": provenance.command(), "code": provenance.code_version()})
            print(f"{task.name} {name:<28} bc-{level:<5} held-out nll {held_out[lane]:.3f}", flush=True)
        files.write_atomic(RESULTS, files.to_json(results))


if __name__ == "__main__":
    cli.run(main, Config, "python -m data_gen.encoders")
