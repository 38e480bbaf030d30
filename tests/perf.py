"""Environment steps per second: ours through JAX, the raw `Batch`, and Gymnasium.

    make perf

Contenders of one task run in turn, three rounds; medians are printed. Compare ratios, not machines. `collect` is the
cost of a dataset without its file: recorded episodes of the clone of 1000 demonstrations.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from mujoco.batch import Batch

from sibench import tasks
from sibench.core.system import threads
from sibench.data.collect import player
from sibench.policies.evaluation import policy_act
from sibench.policies.networks import BinsPolicy
from sibench.tasks.rollout import MAX_LANES, rollout, seeds

NUM, SECONDS, ROUNDS = 256, 1.0, 3


def through_jax(task, act, params) -> Callable[[], int]:
    """Scan NUM simulations; an `act` of None sends constant actions, so that only physics is measured."""

    def step(carry, _):
        state, key = carry
        key, action_key = jax.random.split(key)
        if act is None:
            action = jnp.zeros((NUM, task.action_size)) + 0.1
        else:
            action = act(params, state.obs, jax.random.split(action_key, NUM))
        return (jax.vmap(task.step)(state, action), key), None

    scan = jax.jit(lambda carry: jax.lax.scan(step, carry, length=20)[0])
    carry = jax.jit(jax.vmap(task.reset))(jax.random.split(jax.random.key(0), NUM)), jax.random.key(1)

    def run() -> int:
        nonlocal carry
        carry = jax.block_until_ready(scan(carry))
        return 20 * NUM

    return run


def recorded(task) -> Callable[[], int]:
    act, params, _ = player(task, "bc-1000")
    episodes = seeds("select", f"perf/{task.name}", MAX_LANES["c"])
    return lambda: int(rollout(task, act, params, episodes, record=True).length.sum())


def raw_batch(task) -> Callable[[], int]:
    batch = Batch(task.model, nsim=NUM, nthread=threads())
    batch.reset()
    ctrl = batch.bind("ctrl")

    def run() -> int:
        for _ in range(20):
            ctrl[:] = 0.1
            batch.step(nstep=task.frame_skip)
        return 20 * NUM

    return run


def gymnasium_env(env, num: int) -> Callable[[], int]:
    """One environment or a vector of them, with Gymnasium's own resets."""
    env.reset(seed=0)
    shape = env.action_space.shape

    def run() -> int:
        action = np.full(shape, 0.1, np.float32)
        for _ in range(200):
            _, _, terminated, truncated, _ = env.step(action)
            if num == 1 and (terminated or truncated):
                env.reset()
        return 200 * num

    return run


def rate(run: Callable[[], int]) -> float:
    steps, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SECONDS:
        steps += run()
    return steps / elapsed


def main() -> None:
    print(f"{threads()} processors, {NUM} simulations; environment steps per second, median of {ROUNDS} rounds\n")
    header = ("task", "collect", "policy", "physics", "Batch", "gym one", "gym async")
    print("".join(f"{name:>16}" for name in (*header, "physics/Batch", "policy/gym best")))
    for name in (name for name in tasks.names() if tasks.task_type(name).gymnasium_id):
        task = tasks.make(name, "c")
        network = BinsPolicy(task.action_size)
        params = network.init(jax.random.key(0), jnp.zeros((1, task.observation_size)))
        make = lambda task=task: gymnasium.make(task.gymnasium_id, **task.gymnasium_options)  # noqa: E731
        vector = gymnasium.vector.AsyncVectorEnv([make] * 2 * threads())
        contenders = [
            recorded(task),
            through_jax(task, policy_act(network, "sample"), params),
            through_jax(task, None, None),
            raw_batch(task),
            gymnasium_env(make(), 1),
            gymnasium_env(vector, 2 * threads()),
        ]
        for run in contenders:
            run()
        rates = np.median([[rate(run) for run in contenders] for _ in range(ROUNDS)], axis=0)
        vector.close()
        _, policy, physics, batch, one, several = rates
        print(f"{name:>16}" + "".join(f"{r:>16,.0f}" for r in rates), end="")
        print(f"{physics / batch:>16.2f}{policy / max(one, several):>16.1f}", flush=True)
    memory()


MEMORY = """
from pathlib import Path
from sibench import load_privileged
from sibench.data import storage
from sibench.data.collect import build
from sibench.core.ids import Id

def memory(which):
    return int(Path("/proc/self/status").read_text().split(which)[1].split()[0]) / 1024  # MiB

build(Id("halfcheetah", "bc-1000", 64), "c")  # compiles
before = memory("VmRSS:")
Path("/proc/self/clear_refs").write_text("5")  # the peak is what follows
build(Id("halfcheetah", "bc-1000"), "c")
after = memory("VmHWM:")
dataset = load_privileged("halfcheetah/bc-1000-v1")
size = sum(getattr(dataset, name).nbytes for name in storage.COLUMNS)
print(f"{dataset.card['id']}, collected and written: {size / 2**20:.0f} MiB of data, {after - before:.0f} at the peak")
"""


def memory() -> None:
    """Of a collection of 1000 episodes in a process of its own, beyond what one of 64 has taken."""
    with tempfile.TemporaryDirectory() as folder:
        print(flush=True)
        subprocess.run([sys.executable, "-c", MEMORY], env=os.environ | {"SIBENCH_DATA": folder}, check=True)


if __name__ == "__main__":
    sys.exit(main())
