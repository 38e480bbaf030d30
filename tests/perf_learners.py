"""Updates per second of learners: the loop against a bare scan, many lanes against one, and the machine's limit.

    python tests/perf_learners.py        part of `make perf`

Networks have the paper's size, data has halfcheetah's shape. Contenders run in turn; medians are printed.
"""

import argparse
import contextlib
import io
import os
import tempfile
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from learners import FILES, dataset, method, of_lane

from sibench.learning.lanes import Lane, Program
from sibench.learning.method import Spec
from sibench.learning.run import Run
from sibench.learning.sampling import make_data
from sibench.learning.train import Trainer

SPEC = Spec(17, 6)


def contender(name: str, num_lanes: int, updates: int, hidden: tuple[int, ...]):
    """Return a function that runs the loop's own program, and the seconds it took to compile."""
    config = method(name).config(task="halfcheetah", dataset=("toy",), hidden=hidden)
    toy = dataset(lengths=[1000] * 100, obs_dim=SPEC.obs_dim, action_dim=SPEC.action_dim)
    data = make_data([toy], toy.first(10), [0] * num_lanes, method(name).sees(config))
    program = Program(method(name).make, config, SPEC, [Lane("toy", None, seed) for seed in range(num_lanes)], data)
    states, done = program.init(), 0

    def run() -> None:
        nonlocal states, done
        states, metrics, bad = program.chunk("update", states, done, done + updates)
        jax.block_until_ready((states, metrics, bad))
        done += updates

    run()
    return run, program.compile_seconds


def bare(name: str, updates: int, hidden: tuple[int, ...]):
    """Return a function that runs a bare scan over keys, and the FLOPs of one update."""
    config = method(name).config(task="halfcheetah", dataset=("toy",), hidden=hidden)
    toy = dataset(lengths=[1000] * 100, obs_dim=SPEC.obs_dim, action_dim=SPEC.action_dim)
    learner = method(name).make(config, SPEC)
    data = of_lane(make_data([toy], toy.first(10), [0], method(name).sees(config)))
    state = jax.jit(learner.init)(data, jax.random.key(0))

    @jax.jit
    def scan(state, data, keys):
        return jax.lax.scan(lambda state, key: learner.update(state, data, key), state, keys)

    cost = jax.jit(learner.update).lower(state, data, jax.random.key(0)).compile().cost_analysis()
    keys = jax.random.split(jax.random.key(1), updates)

    def run() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(scan(state, data, keys))

    run()
    return run, (cost[0] if isinstance(cost, list) else cost)["flops"]


def rest_of_the_loop(hidden: tuple[int, ...]) -> float:
    """Return the seconds that 20 000 updates spend on logs and a checkpoint: 20 rows, one checkpoint.

    Checkpoints are written while learning goes on; here the loop waits for it.
    """
    sizes = {"hidden": hidden, "seeds": 1, "demos": 2, "expert": "expert-n2", "build": True}
    often = {"steps": 40, "log_every": 2, "checkpoint_every": 40, "evals": 1, "eval_episodes": 1}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.environ["SIBENCH_DATA"] = folder
        config = method("vfo").config(task="halfcheetah", dataset=("random-n2",), out=Path(folder), **sizes, **often)
        run = Run(config, method("vfo"))
        run.begin()
        trainer, start = Trainer(run), time.perf_counter()
        trainer.learn(threading.Event())
        return time.perf_counter() - start - sum(trainer.watch.seconds.values())


def peak() -> float:
    """Return the FLOP/s of one large float32 matrix product."""
    size = 8192 if jax.default_backend() == "gpu" else 2048
    a = jnp.ones((size, size))
    product = jax.jit(lambda a: a @ a / size)
    product(a).block_until_ready()
    start = time.perf_counter()
    for _ in range(5):
        a = product(a).block_until_ready()
    return 5 * 2 * size**3 / (time.perf_counter() - start)


def seconds(runs, rounds: int) -> np.ndarray:
    """Return the median seconds of each function, run in turn."""
    table = []
    for _ in range(rounds):
        row = []
        for run in runs:
            start = time.perf_counter()
            run()
            row.append(time.perf_counter() - start)
        table.append(row)
    return np.median(table, axis=0)


def main() -> None:
    gpu = jax.default_backend() == "gpu"
    parser = argparse.ArgumentParser()
    parser.add_argument("--updates", type=int, default=2000 if gpu else 100)
    parser.add_argument("--lanes", type=int, nargs="*", default=[1, 8, 40, 160] if gpu else [1, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hidden", type=int, nargs="*", default=[512, 512])
    parser.add_argument("--methods", nargs="*", default=[file.stem for file in FILES])
    args = parser.parse_args()
    hidden, limit = tuple(args.hidden), peak()
    print(f"{jax.devices()[0].device_kind}: a large float32 product runs at {limit / 1e9:,.0f} GFLOP/s\n")
    header = f"{'':<10}{'MFLOP/update':>14}{'compile s':>11}{'bare/s':>9}{'loop/s':>9}{'bare/loop':>11}"
    print(f"{header}{'GFLOP/s':>9}{'of peak':>9}")
    for name in args.methods:
        (by_hand, flops), (loop, compiling) = bare(name, args.updates, hidden), contender(name, 1, args.updates, hidden)
        bare_rate, loop_rate = args.updates / seconds([by_hand, loop], args.rounds)
        print(
            f"{name:<10}{flops / 1e6:>14,.0f}{compiling:>11.1f}{bare_rate:>9,.0f}{loop_rate:>9,.0f}"
            f"{bare_rate / loop_rate:>11.2f}{flops * loop_rate / 1e9:>9,.0f}{flops * loop_rate / limit:>9.0%}",
            flush=True,
        )
    (one, _), flops = contender("vfo", 1, args.updates, hidden), bare("vfo", 1, hidden)[1]
    rate, spent = args.updates / seconds([one], args.rounds)[0], rest_of_the_loop(hidden)
    print(f"\nlogs and a checkpoint of 20 000 updates of vfo: {spent:.1f} s, {spent * rate / 20_000:.1%} of their time")
    print(f"\n{'vfo lanes':<10}{'updates/s in sum':>18}{'against one':>13}{'GFLOP/s':>9}{'of peak':>9}{'memory':>12}")
    for lanes in sorted(args.lanes):
        (many, _), memory = contender("vfo", lanes, args.updates, hidden), ""
        alone, together = seconds([one, many], args.rounds)
        rate = lanes * args.updates / together
        if gpu:  # at the peak, which grows with the lanes
            memory = f"{jax.devices()[0].memory_stats()['peak_bytes_in_use'] / 2**30:.1f} GiB"
        print(
            f"{lanes:<10}{rate:>18,.0f}{lanes * alone / together:>13.2f}{flops * rate / 1e9:>9,.0f}"
            f"{flops * rate / limit:>9.0%}{memory:>12}",
            flush=True,
        )
        del many


if __name__ == "__main__":
    main()
