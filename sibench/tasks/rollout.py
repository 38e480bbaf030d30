"""Play episodes, many at a time.

The random draws of an episode depend on its task and seed only, not on the other episodes of its batch. Actions of a
policy may depend on the size of the batch, because matrix products of other sizes round differently, by about 1e-7.
"""

import functools
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sibench.core.errors import UserError, unknown
from sibench.tasks.base import Task

BLOCKS = ("collect", "select", "eval")
"""Seed blocks: `collect` for datasets, `select` for tuning methods, `eval` for reporting results."""
MAX_LANES = {"c": 64, "mjx": 256}
"""Episodes at a time. A finished lane idles until its chunk ends, so on a CPU fewer lanes waste less."""
START_INDEX, MEMORY_INDEX = 0, 2**32 - 1
"""An episode's key is folded with these for its initial state and a script's memory, and with t for step t from 1."""
CHUNK = 50
"""Steps between refills of the lanes whose episode is over."""

Act = Callable[[Any, jax.Array, jax.Array], jax.Array]
"""(parameters, observations [N, O], one key per observation [N]) -> actions [N, A]."""


class Script(NamedTuple):
    """A behaviour with memory, in place of an `Act`."""

    begin: Callable[[jax.Array], Any]  # one key per episode [N] -> memories at the start
    act: Callable[[Any, jax.Array, jax.Array], tuple[Any, jax.Array]]  # (memories, obs, keys) -> memories, actions


class Episodes(NamedTuple):
    """Played episodes, one a row. Rows of `obs`, `action` and `reward` are valid up to the episode's length."""

    seed: np.ndarray  # [E] uint64
    length: np.ndarray  # [E] steps
    reward_sum: np.ndarray  # [E] float64
    terminal: np.ndarray  # [E] whether it ended in a terminal state
    nonfinite: np.ndarray  # [E] whether the policy ended it by an action that is not finite
    initial_state: np.ndarray  # [E, nq + nv] float32: qpos and qvel at the start
    progress: np.ndarray | None = None  # [E] maximum of `Task.progress`
    obs: np.ndarray | None = None  # [E, H + 1, O] stored observations (`Task.stored_observation`), final one included
    action: np.ndarray | None = None  # [E, H, A]
    reward: np.ndarray | None = None  # [E, H]

    @property
    def in_step(self) -> np.ndarray:
        """Return which rows [E, H] of recorded episodes are valid steps."""
        return np.arange(self.action.shape[1]) < self.length[:, None]


@functools.cache
def side_by_side(act: Act) -> Act:
    """Return an `Act` of many policies: parameters gain a leading axis; each policy acts on an equal share of rows."""

    def joint_act(params: Any, obs: jax.Array, keys: jax.Array) -> jax.Array:
        num_policies = len(jax.tree.leaves(params)[0])
        shares = (rows.reshape(num_policies, -1, *rows.shape[1:]) for rows in (obs, keys))
        return jnp.concatenate(jax.vmap(act)(params, *shares))

    return joint_act


def seeds(block: str, name: str, num: int) -> np.ndarray:
    """Return `num` episode seeds. Different blocks and names share no seeds."""
    if block not in BLOCKS:
        raise unknown("seed block", block, BLOCKS)
    digests = [hashlib.sha256(f"{block}/{name}/{i}".encode()).digest() for i in range(num)]
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)


def episode_keys(seed: np.ndarray) -> jax.Array:
    """Return the JAX key of each episode seed: its 64 bits."""
    halves = np.stack([seed >> np.uint64(32), seed & np.uint64(0xFFFFFFFF)], axis=-1).astype(np.uint32)
    return jax.random.wrap_key_data(jnp.asarray(halves), impl="threefry2x32")


class _Lanes(NamedTuple):
    state: Any  # [N] brax State
    key: jax.Array  # [N] of the lane's episode
    time: jax.Array  # [N] steps into the episode
    active: jax.Array  # [N] whether the episode goes on
    memory: Any  # [N] of a `Script`; () for an `Act`


class _Step(NamedTuple):
    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    next_obs: jax.Array
    terminal: jax.Array
    nonfinite: jax.Array
    progress: jax.Array | None
    time: jax.Array
    active: jax.Array  # whether the step is part of an episode
    over: jax.Array  # whether it is the episode's last


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

    With `on_host`, `act` is any map from a NumPy batch of observations to a batch of actions. Seeds are [E], or [P, E]
    for an act that is `side_by_side` of P policies. `record` stores more than returns: observations, actions, rewards.
    `progress` is called after each chunk with the number of episodes and steps done.
    """
    # each policy has the same number of lanes, and plays its episodes in order
    num_episodes = seed.shape[-1]
    by_policy = np.arange(seed.size).reshape(-1, num_episodes)
    rounds = -(-seed.size // MAX_LANES[task.backend])
    lanes_per_policy = -(-num_episodes // rounds)
    lane_episode = by_policy[:, :lanes_per_policy].ravel()
    waiting = [list(row) for row in by_policy[:, lanes_per_policy:]]

    reset, step, scan = _compiled(task, act if not on_host else None)
    keys = episode_keys(seed := np.ravel(seed))
    episodes = _allocate(task, seed, record)
    lanes = reset(keys[lane_episode])
    episodes.initial_state[lane_episode] = _physics_state(lanes)
    done = 0
    while True:
        lanes, trace = _step_on_host(step, lanes, act, task) if on_host else scan(lanes, params)
        if not record:
            trace = trace._replace(obs=None, action=None, next_obs=None)
        trace = jax.tree.map(np.asarray, trace)
        _write(episodes, trace, lane_episode)
        done += int((trace.over & trace.active).sum())
        progress(done, int(episodes.length.sum()))
        if done == len(seed):
            return episodes
        fresh = np.zeros(len(lane_episode), bool)
        for lane in np.flatnonzero(~np.asarray(lanes.active)):
            if queue := waiting[lane // lanes_per_policy]:
                lane_episode[lane], fresh[lane] = queue.pop(0), True
        if fresh.any():
            lanes = _select(fresh, reset(keys[lane_episode]), lanes)
            episodes.initial_state[lane_episode[fresh]] = _physics_state(lanes)[fresh]


@functools.lru_cache(maxsize=16)
def _compiled(task: Task, act: Any) -> tuple[Callable, Callable, Callable]:
    """Return the jitted reset, step and scan of a rollout, made once for each task and act."""
    script = act if isinstance(act, Script) else None
    fold_in = jax.vmap(jax.random.fold_in, (0, None))
    # the level gives the same bits on a CPU and compiles much faster; a reset runs once in many steps
    options = {"xla_backend_optimization_level": 1} if task.backend == "c" else None

    @functools.partial(jax.jit, compiler_options=options)
    def reset(keys: jax.Array) -> _Lanes:
        state, num = jax.vmap(task.reset)(fold_in(keys, START_INDEX)), len(keys)
        memory = script.begin(fold_in(keys, MEMORY_INDEX)) if script else ()
        return _Lanes(state, keys, jnp.zeros(num, jnp.int32), jnp.ones(num, bool), memory)

    def step(lanes: _Lanes, action: jax.Array) -> tuple[_Lanes, _Step]:
        nonfinite = ~jnp.isfinite(action).all(-1)
        action = jnp.clip(jnp.where(nonfinite[:, None], 0.0, action), -1.0, 1.0)
        moved = jax.vmap(task.step)(lanes.state, jnp.where(lanes.active[:, None], action, 0.0))
        after = _select(lanes.active, moved, lanes.state)  # finished lanes stand still
        terminal = (after.done > 0) & ~nonfinite
        over = terminal | nonfinite | (lanes.time + 1 >= task.horizon)
        trace = _Step(
            obs=jax.vmap(task.stored_observation)(lanes.state),
            action=action,
            reward=jnp.where(nonfinite, 0.0, after.reward),
            next_obs=jax.vmap(task.stored_observation)(after),
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
        def body(lanes: _Lanes, _: None) -> tuple[_Lanes, _Step]:
            keys = jax.vmap(jax.random.fold_in)(lanes.key, lanes.time + 1)
            if script:
                memory, action = script.act(lanes.memory, lanes.state.obs, keys)
                return step(lanes._replace(memory=memory), action)
            return step(lanes, act(params, lanes.state.obs, keys))  # pyright: ignore[reportCallIssue]

        return jax.lax.scan(body, lanes, length=CHUNK)

    return reset, jax.jit(step), scan


@jax.jit
def _select(condition: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old)


def _physics_state(lanes: _Lanes) -> np.ndarray:
    fields = lanes.state.pipeline_state.fields
    return np.concatenate([fields["qpos"], fields["qvel"]], axis=1)


def _step_on_host(step: Callable, lanes: _Lanes, act: Any, task: Task) -> tuple[_Lanes, _Step]:
    """Step a chunk with the actions of a function that cannot be compiled."""
    trace = []
    for _ in range(CHUNK):
        action = act(np.array(lanes.state.obs))  # a copy, which the function may change
        action = np.asarray(
            action.detach().cpu() if hasattr(action, "detach") else action, np.float32
        )  # a torch tensor
        if action.shape != (expected := (len(lanes.active), task.action_size)):
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
    stored = jax.eval_shape(lambda key: task.stored_observation(task.reset(key)), jax.random.key(0))
    shapes = {"obs": (horizon + 1, *stored.shape), "action": (horizon, task.action_size), "reward": (horizon,)}
    return episodes._replace(**{name: np.zeros((num, *shape), np.float32) for name, shape in shapes.items()})


def _write(episodes: Episodes, trace: _Step, lane_episode: np.ndarray) -> None:
    """Add a chunk's steps to the episodes that the lanes play."""
    row, lane = np.nonzero(trace.active & ~trace.nonfinite)
    episode, time = lane_episode[lane], trace.time[row, lane]
    np.add.at(episodes.length, episode, 1)
    np.add.at(episodes.reward_sum, episode, trace.reward[row, lane].astype(np.float64))
    if episodes.progress is not None:
        np.maximum.at(episodes.progress, episode, trace.progress[row, lane])
    if episodes.obs is not None:
        episodes.obs[episode, time] = trace.obs[row, lane]
        episodes.obs[episode, time + 1] = trace.next_obs[row, lane]  # the next step overwrites all but the last
        episodes.action[episode, time] = trace.action[row, lane]
        episodes.reward[episode, time] = trace.reward[row, lane]
    row, lane = np.nonzero(trace.active & trace.over)
    episodes.terminal[lane_episode[lane]] = trace.terminal[row, lane]
    episodes.nonfinite[lane_episode[lane]] = trace.nonfinite[row, lane]
