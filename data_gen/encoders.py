"""Which encoder and which kernel width? The likelihood of held-out actions decides, once, for everyone.

Behaviour is cloned from few and from many expert demonstrations, and from the wide data of a middling policy.

    python -m data_gen.encoders --task hopper    measures, and writes data_gen/encoders.json
    python -m data_gen.encoders                  prints the table of what was measured
"""

from dataclasses import dataclass
from pathlib import Path

from sibench import cli
from sibench.errors import require_positive, require_seed

RESULTS = Path(__file__).parent / "encoders.json"

GAINS = {
    "standardised, 4 gains to 4": (1 / 16, 1 / 4, 1.0, 4.0),
    "standardised, 3 gains to 1": (1 / 16, 1 / 4, 1.0),
    "standardised, 5 gains to 16": (1 / 16, 1 / 4, 1.0, 4.0, 16.0),
    "standardised": (),
}
WIDTHS = {0.04: 61, 0.2: 13}
"""Other kernel widths than 0.1, and the numerical rank of each kernel: coefficients that its functions need."""
WIDE, WIDE_EPISODES = "bc-20-n200", 160


@dataclass(frozen=True)
class Config:
    """Compare encoders and kernel widths by the held-out likelihood of cloned behaviour."""

    task: str = ""
    """Task whose expert and whose ladder are cloned; without one, the table of what is known is printed."""
    engine: str = "auto"
    """Physics engine: c, mjx, or auto (mjx on a GPU, c on a CPU)."""
    num_updates: int = 10_000
    """Gradient updates of each."""
    width: int = 256
    """Units in each of the two hidden layers."""
    seed: int = 0
    """Seed of initialisation and batches."""

    def __post_init__(self):
        require_positive(self, "num_updates", "width")
        require_seed(self)


def main(config: Config) -> None:
    if config.task:
        measure(config)
    else:
        print(table())


def table() -> str:
    """Held-out negative log-likelihoods as Markdown: a row for each variant, a column for each task and dataset."""
    import json

    rows = json.loads(RESULTS.read_text())
    columns = dict.fromkeys((row["task"].split("-")[0], row["trained_on"]) for row in rows)
    known = {(row["variant"], row["task"].split("-")[0], row["trained_on"]): row["nll_held_out"] for row in rows}
    best = {column: min(nll for (_, *rest), nll in known.items() if tuple(rest) == column) for column in columns}
    lines = ["| network | " + " | ".join(f"{task}: {data}" for task, data in columns) + " |"]
    lines.append("| --- |" + " --- |" * len(columns))
    for variant in dict.fromkeys(row["variant"] for row in rows):
        cells = []
        for column in columns:
            nll = known.get((variant, *column))
            cells.append("" if nll is None else f"**{nll:.2f}**" if nll == best[column] else f"{nll:.2f}")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measure(config: Config) -> None:
    """Every variant is written as soon as it is known, and not trained again."""
    import json

    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    from data_gen import cloning
    from sibench import files, provenance, tasks
    from sibench.batches import statistics
    from sibench.data import load
    from sibench.networks import MLP, BinsPolicy, Categorical, gaussian_kernel

    task = tasks.make(config.task, config.engine)
    hidden = (config.width, config.width)

    class TanhOnly(nn.Module):
        """A control: the gains on raw observations, nothing standardised."""

        @nn.compact
        def __call__(self, obs: jax.Array) -> Categorical:
            x = jnp.concatenate([jnp.tanh(gain * obs) for gain in GAINS["standardised, 4 gains to 4"]], axis=-1)
            u = MLP(hidden, task.action_size * 25)(x).reshape(*obs.shape[:-1], task.action_size, 25)
            return Categorical(u @ gaussian_kernel(101, 25, 0.1))

    variants = {f"{name}, kernel 0.1": BinsPolicy(task.action_size, hidden, gains) for name, gains in GAINS.items()}
    variants["4 gains to 4, kernel 0.1"] = TanhOnly()
    for width, basis in WIDTHS.items():
        network = BinsPolicy(task.action_size, hidden, basis=basis, kernel_width=width)
        variants[f"standardised, 4 gains to 4, kernel {width}"] = network

    demos = cloning.demonstrations(task)
    wide = load(f"{task.name}/{WIDE}", build=True)
    steps, held_out = wide.transitions(), int(wide.offsets[WIDE_EPISODES])
    wide_obs, wide_action = jnp.asarray(steps["obs"]), jnp.asarray(steps["action"])
    unseen = wide_obs[held_out:], wide_action[held_out:]
    data = {
        f"expert, {d}": (demos.offsets[d], demos.obs, demos.action, demos.held_out_obs, demos.held_out_action)
        for d in (5, 50)
    }
    data[f"{WIDE}, {WIDE_EPISODES}"] = (held_out, wide_obs, wide_action, *unseen)
    hashes = {"expert": demos.content_sha256, WIDE: wide.card["content_sha256"]}

    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    settings = {"num_updates": config.num_updates, "width": config.width, "seed": config.seed}
    for name, network in variants.items():
        for trained_on, (num_steps, obs, action, held_out_obs, held_out_action) in data.items():
            same = {"task": task.id, "trained_on": trained_on, "variant": name, **settings}
            same |= {"content_sha256": hashes[trained_on.split(",")[0]]}
            if any(same.items() <= row.items() for row in results):
                continue
            stats = statistics(obs[:num_steps])
            learner = cloning.make(network, stats, 256, 1e-3, config.num_updates)
            states = learner.init(jax.random.key(config.seed)[None])
            states, _ = learner.chunk(states, jnp.array([num_steps]), obs, action, config.num_updates)
            nll = float(learner.loss(states, held_out_obs, held_out_action)[0])
            row = {"nll_held_out": round(nll, 3), "command": provenance.command(), "code": provenance.code_version()}
            results.append(same | row)
            print(f"{task.name} {name:<44} {trained_on:<18} held-out nll {nll:.3f}", flush=True)
            files.write_atomic(RESULTS, files.to_json(results))


if __name__ == "__main__":
    cli.run(main, Config, "python -m data_gen.encoders")
