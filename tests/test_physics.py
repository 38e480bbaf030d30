"""The two engines: `c` is bit-identical to Gymnasium, `mjx` equals `c` up to float32, and neither can hang."""

import functools
import os
import subprocess
import sys
import textwrap

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
import scipy.stats
from brax.training.agents.ppo import train as ppo
from conftest import REPO, TASKS, WELL, as_a_user

from sibench import tasks
from sibench.policies import shipped
from sibench.policies.evaluation import evaluate, policy_act
from sibench.tasks.physics import difference

STEPS, SEEDS = 1000, 3


def gymnasium_env(task):
    return gymnasium.make(task.gymnasium_id, **task.gymnasium_options).unwrapped


def play_c(task, kind):
    """Play 1000 steps of 3 seeds on engine c; return the start, the actions and their results."""
    if kind == "expert":
        policy = shipped.load_policy(task.name, "expert")
        act = policy_act(policy.network, "sample")

    def step(state, key):
        keys = jax.random.split(key, SEEDS)
        if kind == "expert":
            action = act(policy.params, state.obs, keys)
        else:
            action = jax.random.uniform(key, (SEEDS, task.action_size), minval=-1, maxval=1)
        after = jax.vmap(task.step)(state, action)
        return after, (action, after.pipeline_state.carry, after.obs, after.reward, after.done)

    @functools.partial(jax.jit, compiler_options=WELL)
    def run(key):
        qpos, qvel = jax.vmap(task.initial)(jax.random.split(key, SEEDS))
        state = jax.vmap(task.reset_to)(qpos, qvel)
        return (qpos, qvel), jax.lax.scan(step, state, jax.random.split(key, STEPS))[1]

    return jax.tree.map(np.asarray, run(jax.random.key(7)))


@pytest.mark.parametrize("kind", ["random", "expert"])
@pytest.mark.parametrize("name", TASKS)
def test_c_is_bit_identical_to_gymnasium(name, kind):
    task = tasks.make(name, "c")
    env = gymnasium_env(task)
    env.reset(seed=0)
    (qpos, qvel), (actions, carry, obs, rewards, terminals) = play_c(task, kind)
    num_pos = env.model.nq
    for seed in range(SEEDS):
        mujoco.mj_resetData(env.model, env.data)
        env.set_state(qpos[seed].astype(np.float64), qvel[seed].astype(np.float64))
        for t in range(STEPS):
            their_obs, reward, terminal, _, _ = env.step(actions[t, seed])
            our_qpos = carry[t, seed].view(np.float64)[1 : 1 + num_pos]
            assert np.array_equal(our_qpos, env.data.qpos), f"qpos differs at step {t} of seed {seed}"
            assert terminals[t, seed] == terminal, f"termination differs at step {t} of seed {seed}"
            assert abs(rewards[t, seed] - reward) < 1e-4, f"reward differs at step {t} of seed {seed}"
            np.testing.assert_array_equal(obs[t, seed], their_obs.astype(np.float32))


def test_velocity_is_exact_far_from_the_origin():
    """At x = 10 km the resolution of a float32 position is 1 mm, which would be a velocity error of 0.02 m/s."""
    task = tasks.make("halfcheetah", "c")
    qpos = jnp.asarray(task.model.qpos0, jnp.float32)

    @jax.jit
    def reward_at(x):
        state = task.reset_to(qpos.at[0].set(x), jnp.zeros(task.model.nv))
        for _ in range(5):
            before, state = state, task.step(state, jnp.ones(6))
        moved = difference(state.pipeline_state, before.pipeline_state, "qpos")[0]
        return state.reward, moved

    (near, near_moved), (far, far_moved) = reward_at(0.0), reward_at(10_000.0)
    assert abs(near - far) < 1e-5 and abs(near_moved - far_moved) < 1e-6


MJX_BOUNDS = {  # largest difference of qpos (m or rad) and qvel (m/s or rad/s) after one task step from the same state
    "ant": (2e-2, 1.5),
    "halfcheetah": (2e-3, 0.2),
    "hopper": (1e-4, 2e-2),
    "walker2d": (1e-3, 0.2),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "hopper")) for name in TASKS])
def test_mjx_equals_c_up_to_float32(name):
    """One step from 200 states along the expert's trajectories.

    Smooth motion agrees to 1e-6. When a foot touches down, the solvers' stopping rules differ, above all in velocities.
    """
    c, m = tasks.make(name, "c"), tasks.make(name, "mjx")
    policy = shipped.load_policy(name, "expert")
    act = policy_act(policy.network, "sample")

    def step(state, key):
        action = act(policy.params, state.obs, jax.random.split(key, 4))
        after = jax.vmap(c.step)(state, action)
        return after, (state.pipeline_state.fields, action)

    start = jax.vmap(c.reset)(jax.random.split(jax.random.key(0), 4))
    _, (fields, actions) = jax.jit(lambda s, k: jax.lax.scan(step, s, k))(
        start, jax.random.split(jax.random.key(1), 500)
    )
    qpos, qvel = (fields[f][::10].reshape(200, -1) for f in ("qpos", "qvel"))
    qpos = qpos.at[:, 0].set(0)  # mjx is float32: compare near the origin
    actions = actions[::10].reshape(200, -1)

    def one_step(task):
        return jax.jit(jax.vmap(lambda q, v, a: task.step(task.reset_to(q, v), a)))(qpos, qvel, actions)

    ours, theirs = one_step(m), one_step(c)
    errors = {f: np.abs(ours.pipeline_state.fields[f] - theirs.pipeline_state.fields[f]) for f in ("qpos", "qvel")}
    print({f: (float(np.median(e)), float(e.max())) for f, e in errors.items()})
    assert np.median(errors["qpos"]) < 1e-5 and np.median(errors["qvel"]) < 1e-3
    assert errors["qpos"].max() < MJX_BOUNDS[name][0]
    assert errors["qvel"].max() < MJX_BOUNDS[name][1]
    assert np.mean(np.abs(ours.reward - theirs.reward)) < 1e-2
    assert np.mean(ours.done != theirs.done) <= 0.01


def test_step_is_a_pure_function():
    """A step is the same alone, in a batch, in a nested batch, in another place of the batch, and when repeated."""
    task = tasks.make("ant", "c")  # the one whose contact forces need a persistent MjData
    states = jax.jit(jax.vmap(task.reset))(jax.random.split(jax.random.key(0), 6))
    actions = jax.random.uniform(jax.random.key(1), (6, 8), minval=-1, maxval=1)
    batched = jax.jit(jax.vmap(task.step))
    for _ in range(40):
        states = batched(states, actions)
    expected = batched(states, actions)

    def same(got, want):
        return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True))

    assert same(batched(states, actions), expected)
    flipped = jax.tree.map(lambda x: x[::-1], batched(*jax.tree.map(lambda x: x[::-1], (states, actions))))
    assert same(flipped, expected)
    alone = [jax.jit(task.step)(*jax.tree.map(lambda x, i=i: x[i], (states, actions))) for i in range(6)]
    assert same(jax.tree.map(lambda *rows: jnp.stack(rows), *alone), expected)
    nested = jax.jit(jax.vmap(jax.vmap(task.step)))(
        *jax.tree.map(lambda x: x.reshape(2, 3, *x.shape[1:]), (states, actions))
    )
    assert same(jax.tree.map(lambda x: x.reshape(6, *x.shape[2:]), nested), expected)


def run_scans(num_scans: int, steps: int, sizes: tuple[int, ...], cpus: str) -> subprocess.Popen:
    """Start a process that scans vmapped steps of batches of these sizes, on these CPUs, and prints a checksum."""
    code = f"""
        import os
        os.sched_setaffinity(0, {{{cpus}}})
        import jax
        from sibench import tasks
        task = tasks.make("hopper", "c")
        total = 0.0
        for size in {sizes}:
            body = lambda s, _: (jax.vmap(task.step)(s, s.obs[:, :3]), None)
            step = jax.jit(lambda s: jax.lax.scan(body, s, length={steps})[0])
            state = jax.jit(jax.vmap(task.reset))(jax.random.split(jax.random.key(0), size))
            for _ in range({num_scans}):
                state = step(state)
            total += float(state.obs.sum())
        print(total)
    """
    program = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.Popen(program, cwd=REPO, env=as_a_user(), stdout=subprocess.PIPE, text=True)


def test_no_deadlock_on_one_cpu_or_in_two_processes():
    """300 rows exceed the 100 KiB from which on JAX passes arguments of callbacks asynchronously."""
    cpus = sorted(os.sched_getaffinity(0))
    runs = [run_scans(3, 50, (1, 300), str(cpus[0])), run_scans(3, 50, (1, 300), ",".join(map(str, cpus)))]
    outputs = [run.communicate(timeout=240)[0] for run in runs]
    assert all(run.returncode == 0 for run in runs)
    assert outputs[0] == outputs[1] != ""


@pytest.mark.slow
@pytest.mark.timeout(7300)
def test_no_deadlock_in_500_scans_of_1000_steps():
    """Takes 40 minutes of CPU time. The batch of 1024 is scanned 50 times 100 steps only: 500 times 1000 take a day."""
    cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    runs = [run_scans(500, 1000, (1, 8), cpus), run_scans(50, 100, (1024,), cpus)]
    try:
        for run in runs:
            run.communicate(timeout=7200)
            assert run.returncode == 0
    finally:
        for run in runs:
            run.kill()


@pytest.mark.slow
def test_brax_ppo_trains_on_a_task(monkeypatch):
    """brax's trainer is unchanged but for a function that JAX has removed."""

    def replicate(tree, devices):
        return jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * len(devices)), tree)

    monkeypatch.setattr(jax, "device_put_replicated", replicate, raising=False)
    rewards = []
    ppo.train(
        environment=tasks.make("hopper", "c"),
        num_timesteps=2048,
        episode_length=1000,
        num_envs=128,
        batch_size=32,
        num_minibatches=4,
        unroll_length=4,
        num_updates_per_batch=1,
        num_evals=2,
        num_eval_envs=16,
        progress_fn=lambda steps, metrics: rewards.append(metrics["eval/episode_reward"]),
    )
    assert len(rewards) == 2 and np.isfinite(rewards).all() and rewards[0] > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["halfcheetah", "hopper"])
def test_mjx_and_c_agree_in_expert_return(name):
    policy = shipped.load_policy(name, "expert")
    num = 24
    c, m = (evaluate(policy, name, num, engine=engine).returns for engine in ("c", "mjx"))
    error = np.hypot(c.std(ddof=1), m.std(ddof=1)) / np.sqrt(num)
    assert abs(c.mean() - m.mean()) < 4 * error + 0.02 * abs(c.mean())


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TASKS)
def test_mjx_and_c_agree_in_return_distribution(name):
    """Mediocre clones are used, because their returns and lengths vary."""
    level = {"ant": "bc-10", "halfcheetah": "bc-50", "hopper": "bc-2", "walker2d": "bc-2"}[name]
    policy = shipped.load_policy(name, level)
    c, m = (evaluate(policy, name, 48, engine=engine) for engine in ("c", "mjx"))
    print({e: (r.returns.mean(), r.returns.std(), r.lengths.mean()) for e, r in (("c", c), ("mjx", m))})
    assert scipy.stats.ks_2samp(c.returns, m.returns).pvalue > 1e-3
    assert scipy.stats.ks_2samp(c.lengths, m.lengths).pvalue > 1e-3
