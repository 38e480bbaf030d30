"""Playing episodes, many at a time.

What is drawn in an episode depends on its task and its seed alone, not on which lane of a batch plays it next to which
others. A policy's actions may: matrix products of batches of another size round otherwise, by some 1e-7.
"""

import functools
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sibench.errors import UserError, unknown
from sibench.tasks import Task

BLOCKS = ("collect", "select", "eval")
"""Blocks of seeds: datasets are made with `collect`, methods tuned on `select` and judged on `eval`."""
MAX_LANES = {"c": 64, "mjx": 256}
"""Episodes at a time. A lane that is done waits for its chunk's end: few waste less; on a GPU many cost little."""
BEGIN = 2**32 - 1
"""What the key of an episode is folded with for the memory of a script; with 0 for its start, t for step t."""
CHUNK = 50
"""Steps between refills of the lanes whose episode is over."""

Act = Callable[[Any, jax.Array, jax.Array], jax.Array]
"""(parameters, observations [N, O], one key per observation [N]) -> actions [N, A]."""


class Script(NamedTuple):
    """Something that acts with a memory, in place of an `Act`."""

    begin: Callable[[jax.Array], Any]  # one key per episode [N] -> what is remembered at its start
    act: Callable[[Any, jax.Array, jax.Array], tuple[Any, jax.Array]]  # (memory, observations, keys) -> also actions


class Episodes(NamedTuple):
    """What happened, one row an episode. Rows of `obs`, `action` and `reward` are valid up to the length."""

    seed: np.ndarray  # [E] uint64
    length: np.ndarray  # [E] steps
    reward_sum: np.ndarray  # [E] float64
    terminal: np.ndarray  # [E] whether it ended in a terminal state
    nonfinite: np.ndarray  # [E] whether the policy ended it by an action that is not finite
    initial_state: np.ndarray  # [E, nq + nv] float32, where the simulation began: qpos and qvel
    progress: np.ndarray | None = None  # [E] the most of `Task.progress`
    obs: np.ndarray | None = None  # [E, H + 1, O], the last one of an episode included; `Task.seen` makes it whole
    action: np.ndarray | None = None  # [E, H, A]
    reward: np.ndarray | None = None  # [E, H]

    @property
    def in_step(self) -> np.ndarray:
        """Of recorded episodes, [E, H]: which rows are steps."""
        return np.arange(self.action.shape[1]) < self.length[:, None]


@functools.cache
def side_by_side(act: Act) -> Act:
    """Of many policies at once: parameters have a first axis for them, and each has as many of the rows, in order."""

    def acts(params, obs, keys):
        policies = len(jax.tree.leaves(params)[0])
        split = (rows.reshape(policies, -1, *rows.shape[1:]) for rows in (obs, keys))
        return jnp.concatenate(jax.vmap(act)(params, *split))

    return acts


def seeds(block: str, name: str, num: int) -> np.ndarray:
    """`num` episode seeds. Those of different blocks or names have nothing in common."""
    if block not in BLOCKS:
        raise unknown("seed block", block, BLOCKS)
    digests = [hashlib.sha256(f"{block}/{name}/{i}".encode()).digest() for i in range(num)]
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)


def keys_of(seed: np.ndarray) -> jax.Array:
    """The JAX key of each episode seed: its 64 bits."""
    halves = np.stack([seed >> np.uint64(32), seed & np.uint64(0xFFFFFFFF)], axis=-1).astype(np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(halves), impl="threefry2x32")


class _Lanes(NamedTuple):
    state: Any  # [N] brax State
    key: jax.Array  # [N] of the episode each lane plays
    time: jax.Array  # [N] steps into it
    active: jax.Array  # [N] whether it still goes on
    memory: Any  # [N] of a `Script`; () of an `Act`


class _Step(NamedTuple):
    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    next_obs: jax.Array
    terminal: jax.Array
    nonfinite: jax.Array
    progress: jax.Array | None
    time: jax.Array
    active: jax.Array  # whether this step is part of an episode
    over: jax.Array  # whether it is its last


def rollout(
    task: Task,
    act: Act | Script | Callable[[np.ndarray], Any],
    params: Any,
    seed: np.ndarray,
    *,
    record: bool = False,
    on_host: bool = False,
    progress: Callable[[int, int], None] = lambda episodes, steps: None,
) -> Episodes:
    """Play one episode for each seed.

    Args:
        act: an `Act` or a `Script`; or, `on_host`, any map of a NumPy batch of observations to a batch of actions.
        seed: [E]; or [P, E] of an act that is `side_by_side`, with as many policies. Rows of what comes back are in
            their order.
        record: keep observations, actions and rewards, not only the returns.
        progress: called now and then with the number of episodes and steps done.
    """
    policies, num = np.atleast_2d(seed).shape
    rounds = -(-policies * num // MAX_LANES[task.backend])
    each = -(-num // rounds)  # lanes of a policy, evenly filled
    reset, step, scan = _compiled(task, act if not on_host else None)
    keys = keys_of(seed := np.ravel(seed))
    episodes = _allocate(task, seed, record)

    lane_episode = np.add.outer(np.arange(policies) * num, np.arange(each)).ravel()
    lanes = reset(keys[lane_episode])
    episodes.initial_state[lane_episode] = _physics_state(lanes)
    begun, done, steps = np.full(policies, each), 0, 0
    while True:
        if on_host:
            lanes, trace = _on_host(step, lanes, act, task)
        else:
            lanes, trace = scan(lanes, params)
        if not record:
            trace = trace._replace(obs=None, action=None, next_obs=None)
        trace = jax.tree.map(np.asarray, trace)
        _write(episodes, trace, lane_episode)
        done, steps = done + int((trace.over & trace.active).sum()), steps + int(trace.active.sum())
        progress(done, steps)
        idle = np.flatnonzero(~np.asarray(lanes.active))
        if (begun >= num).all() and len(idle) == len(lane_episode):
            return episodes
        policy = idle // each
        episode = begun[policy] + np.arange(len(idle)) - np.searchsorted(policy, policy)  # its next ones
        refill, policy, episode = (of[episode < num] for of in (idle, policy, episode))
        if len(refill):
            lane_episode[refill] = policy * num + episode
            begun += np.bincount(policy, minlength=policies)
            fresh = np.zeros(len(lane_episode), bool)
            fresh[refill] = True
            lanes = _select(jnp.asarray(fresh), reset(keys[lane_episode]), lanes)
            episodes.initial_state[lane_episode[refill]] = _physics_state(lanes)[refill]


@functools.lru_cache(maxsize=16)
def _compiled(task: Task, act: Act | Script | None):
    """The jitted functions of a rollout; made once for each task and policy function."""
    script = act if isinstance(act, Script) else None

    # on a CPU the same bits, compiled in a fraction of the time; and it runs once in many steps
    options = {"xla_backend_optimization_level": 1} if task.backend == "c" else None

    @functools.partial(jax.jit, compiler_options=options)
    def reset(keys: jax.Array) -> _Lanes:
        state = jax.vmap(task.reset)(jax.vmap(jax.random.fold_in, (0, None))(keys, 0))
        num = keys.shape[0]
        memory = script.begin(jax.vmap(jax.random.fold_in, (0, None))(keys, BEGIN)) if script else ()
        return _Lanes(state, keys, jnp.zeros(num, jnp.int32), jnp.ones(num, bool), memory)

    def step(lanes: _Lanes, action: jax.Array) -> tuple[_Lanes, _Step]:
        nonfinite = ~jnp.isfinite(action).all(-1)
        action = jnp.clip(jnp.where(nonfinite[:, None], 0.0, action), -1.0, 1.0)
        moved = jax.vmap(task.step)(lanes.state, jnp.where(lanes.active[:, None], action, 0.0))
        after = _select(lanes.active, moved, lanes.state)  # a lane that is over stands still
        terminal = (after.done > 0) & ~nonfinite
        over = terminal | nonfinite | (lanes.time + 1 >= task.horizon)
        trace = _Step(
            obs=jax.vmap(task.recorded)(lanes.state),
            action=action,
            reward=jnp.where(nonfinite, 0.0, after.reward),
            next_obs=jax.vmap(task.recorded)(after),
            terminal=terminal,
            nonfinite=nonfinite,
            progress=jax.vmap(task.progress)(after.pipeline_state),
            time=lanes.time,
            active=lanes.active,
            over=over,
        )
        return lanes._replace(state=after, time=lanes.time + 1, active=lanes.active & ~over), trace

    @jax.jit
    def scan(lanes: _Lanes, params: Any) -> tuple[_Lanes, _Step]:
        def body(lanes, _):
            keys = jax.vmap(jax.random.fold_in)(lanes.key, lanes.time + 1)
            if script:
                memory, action = script.act(lanes.memory, lanes.state.obs, keys)
                return step(lanes._replace(memory=memory), action)
            return step(lanes, act(params, lanes.state.obs, keys))

        return jax.lax.scan(body, lanes, length=CHUNK)

    return reset, jax.jit(step), scan


@jax.jit
def _select(condition: jax.Array, new: Any, old: Any) -> Any:
    def pick(a, b):
        return jnp.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(pick, new, old)


def _physics_state(lanes: _Lanes) -> np.ndarray:
    fields = lanes.state.pipeline_state.fields
    return np.concatenate([fields["qpos"], fields["qvel"]], axis=1)


def _on_host(step, lanes: _Lanes, act: Callable, task: Task) -> tuple[_Lanes, _Step]:
    trace = []
    for _ in range(CHUNK):
        action = act(np.array(lanes.state.obs))  # a copy, for it to do with as it likes
        action = action.detach().cpu() if hasattr(action, "detach") else action  # a torch tensor
        action = np.asarray(action, np.float32)
        expected = (lanes.active.shape[0], task.action_size)
        if action.shape != expected:
            raise UserError(f"the policy returned actions of shape {action.shape}; {task.name} needs {expected}")
        lanes, row = step(lanes, action)
        trace.append(jax.tree.map(np.asarray, row))
        if not lanes.active.any():
            break
    return lanes, jax.tree.map(lambda *rows: np.stack(rows), *trace)


def _allocate(task: Task, seed: np.ndarray, record: bool) -> Episodes:
    num, horizon = len(seed), task.horizon
    episodes = Episodes(
        seed=seed,
        length=np.zeros(num, np.int64),
        reward_sum=np.zeros(num),
        terminal=np.zeros(num, bool),
        nonfinite=np.zeros(num, bool),
        initial_state=np.zeros((num, task.model.nq + task.model.nv), np.float32),
        progress=None if type(task).progress is Task.progress else np.zeros(num),
    )
    if not record:
        return episodes
    return episodes._replace(
        obs=np.zeros((num, horizon + 1, *_recorded(task)), np.float32),
        action=np.zeros((num, horizon, task.action_size), np.float32),
        reward=np.zeros((num, horizon), np.float32),
    )


def _recorded(task: Task) -> tuple[int, ...]:
    return jax.eval_shape(lambda key: task.recorded(task.reset(key)), jax.random.key(0)).shape


def _write(episodes: Episodes, trace: _Step, lane_episode: np.ndarray) -> None:
    at = trace.active & ~trace.nonfinite
    row, lane = np.nonzero(at)
    episode, time = lane_episode[lane], trace.time[row, lane]
    np.add.at(episodes.length, episode, 1)
    np.add.at(episodes.reward_sum, episode, trace.reward[row, lane].astype(np.float64))
    if episodes.progress is not None:
        np.maximum.at(episodes.progress, episode, trace.progress[row, lane])
    if episodes.obs is not None:
        episodes.obs[episode, time] = trace.obs[row, lane]
        episodes.obs[episode, time + 1] = trace.next_obs[row, lane]  # overwritten by the next step, save the last
        episodes.action[episode, time] = trace.action[row, lane]
        episodes.reward[episode, time] = trace.reward[row, lane]
    row, lane = np.nonzero(trace.active & trace.over)
    episodes.terminal[lane_episode[lane]] = trace.terminal[row, lane]
    episodes.nonfinite[lane_episode[lane]] = trace.nonfinite[row, lane]
