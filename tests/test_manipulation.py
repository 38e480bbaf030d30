"""Lift, Can and Square: grasps are physical, success is what it should be, and the demonstrator succeeds."""

import json

import h5py
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from conftest import MANIPULATION, command

import sibench
from sibench import tasks
from sibench.core.errors import UserError
from sibench.core.ids import parse_id
from sibench.data import formats, hdf5, robomimic
from sibench.data.check import verify
from sibench.data.collect import player
from sibench.tasks import demonstrator
from sibench.tasks.physics import PhysicsState
from sibench.tasks.rollout import MAX_LANES, rollout, seeds

OBJECT = slice(8, 11)


@pytest.fixture(scope="module")
def demonstrations():
    """32 recorded episodes of the demonstrator for each task."""
    result = {}
    for name in MANIPULATION:
        task = tasks.make(name, "c")
        act, params, _ = player(task, "expert")
        result[name] = task, rollout(task, act, params, seeds("select", f"test/{name}", 32), record=True)
    return result


@pytest.mark.parametrize("name", MANIPULATION)
def test_observations_match_mujoco_poses(name, demonstrations):
    """Over 100 steps, in robosuite's order, with quaternions as xyzw."""
    task, played = demonstrations[name]
    assert task.observation_size == played.obs.shape[-1] == {"lift": 19, "can": 23, "square": 23}[name]
    data = mujoco.MjData(task.model)
    state = task.reset(jax.random.key(0))
    step = jax.jit(task.step)
    for action in played.action[0, :100]:
        state = step(state, action)
        if state.done:
            break
        data.qpos[:] = state.pipeline_state.fields["qpos"]
        mujoco.mj_kinematics(task.model, data)
        eef, target = data.body("gripper"), data.body("object")
        back, relative, position = np.zeros(4), np.zeros(4), np.zeros(3)
        mujoco.mju_negQuat(back, eef.xquat)
        mujoco.mju_mulQuat(relative, back, target.xquat)
        mujoco.mju_rotVecQuat(position, target.xpos - eef.xpos, back)
        relative_pose = (position, np.roll(relative, -1)) if name != "lift" else (eef.xpos - target.xpos,)
        fingers = (data.qpos[6:7], -data.qpos[7:8])
        robot = (eef.xpos, np.roll(eef.xquat, -1), *fingers)
        expected = np.concatenate([*robot, target.xpos, np.roll(target.xquat, -1), *relative_pose])
        # a quaternion and its negative are the same rotation
        ours = np.asarray(state.obs)
        for start in (3, 12, 19) if name != "lift" else (3, 12):
            if ours[start : start + 4] @ expected[start : start + 4] < 0:
                expected[start : start + 4] *= -1
        np.testing.assert_allclose(ours, expected, atol=2e-6)


@pytest.mark.parametrize("name", MANIPULATION)
def test_actions_move_turn_and_grip(name):
    task = tasks.make(name, "c")
    step, start = jax.jit(task.step), task.reset(jax.random.key(1))
    roll, pitch, yaw = 5, 4, 3  # joints
    for index, joint in enumerate((0, 1, 2, roll, pitch, yaw)):
        state = start
        for _ in range(4):
            state = step(state, jnp.eye(7)[index] * (-1.0 if index == 2 else 1.0))
        moved = state.pipeline_state.fields["qpos"][:6] - start.pipeline_state.fields["qpos"][:6]
        assert np.argmax(np.abs(moved / np.array([1, 1, 1, 10, 10, 10]))) == joint
        assert moved[joint] * (-1 if index == 2 else 1) > 0.03
    for grip, goal in ((1.0, 0.0), (-1.0, 0.04)):
        state = start
        for _ in range(10):
            state = step(state, jnp.array([0, 0, 0, 0, 0, 0, grip]))
        np.testing.assert_allclose(state.pipeline_state.fields["qpos"][6:8], goal, atol=2e-3)


@pytest.mark.parametrize("name", MANIPULATION)
def test_reset_is_random_and_never_successful(name):
    task = tasks.make(name, "c")
    state = jax.jit(jax.vmap(task.reset))(jax.random.split(jax.random.key(0), 1000))
    qpos = np.asarray(state.pipeline_state.fields["qpos"])
    assert not jax.vmap(task.terminal)(state.pipeline_state).any()
    assert (np.std(qpos[:, OBJECT], axis=0)[:2] > 1e-3).all()
    assert np.std(np.arctan2(qpos[:, 14], qpos[:, 11])) > 0.8  # any angle


@pytest.mark.parametrize("name", MANIPULATION)
def test_demonstrator_succeeds_and_random_policy_fails(name, demonstrations):
    task, played = demonstrations[name]
    assert played.reward_sum.mean() >= 0.98
    assert (played.reward_sum == played.terminal).all() and (played.length[played.terminal] < task.horizon).all()
    random = rollout(task, player(task, "random")[0], None, seeds("select", "test", 16))
    assert random.reward_sum.sum() == 0 and (random.length == task.horizon).all()


@pytest.mark.parametrize("name", MANIPULATION)
def test_progress_rises_before_success(name, demonstrations):
    task, played = demonstrations[name]
    assert (played.progress[played.terminal] == 1).all()
    random = rollout(task, player(task, "random")[0], None, seeds("select", "test", 16))
    assert (random.progress > 0).all() and random.progress.mean() < 0.5

    def progress(eef, position):
        qpos = jnp.zeros(15).at[:3].set(jnp.array(eef)).at[8:11].set(jnp.array(position)).at[11].set(1.0)
        return float(task.progress(PhysicsState(None, {"qpos": qpos}, {})))

    stages = 2 if name == "lift" else 3
    place = task.place or (0.0, 0.0)
    aside, half, high = (place[0] - 0.2, place[1]), task.at_rest + task.rise / 2, task.at_rest + task.rise - 1e-6
    assert progress((*aside, 1.0), (*aside, task.at_rest)) == pytest.approx(0, abs=1e-6)
    assert progress((*aside, task.at_rest), (*aside, task.at_rest)) == pytest.approx(1 / stages)
    close = (1 - np.tanh(5 * 0.2)) if task.place else 0
    assert progress((*aside, half), (*aside, half)) == pytest.approx((1 + 0.5 + 0.5 * close) / stages, rel=1e-4)
    if task.place:
        assert progress((*place, high), (*place, high)) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("name", MANIPULATION)
def test_demonstrations_vary_in_length_speed_and_grasp(name, demonstrations):
    _, played = demonstrations[name]
    assert played.length.max() > 1.5 * played.length.min()
    fastest = [np.abs(action[:length, :3]).max() for action, length in zip(played.action, played.length, strict=True)]
    assert max(fastest) > 1.5 * min(fastest)
    last = played.obs[np.arange(len(played.length)), played.length - 5]
    yaw = 2 * np.arctan2(last[:, 5], last[:, 6])
    assert name == "square" or np.std(yaw) > 0.5


def test_demonstrator_memory_is_independent_of_other_lanes(demonstrations, monkeypatch):
    _, played = demonstrations["lift"]
    task, act = tasks.make("lift", "c"), demonstrator.script("lift")
    monkeypatch.setitem(MAX_LANES, "c", 2)  # lanes are refilled
    alone = rollout(task, act, None, played.seed[-3:], record=True)
    assert alone.length.tolist() == played.length[-3:].tolist()
    np.testing.assert_allclose(alone.action[alone.in_step], played.action[-3:][played.in_step[-3:]], atol=1e-4)


@pytest.mark.parametrize("name", MANIPULATION)
def test_demonstrator_behaves_as_its_version_requires(name):
    """Datasets name the script's version: if these numbers move, raise `Manipulation.script` and record new ones."""
    expected = {
        "scripted-1": {"lift": (1.8047, 1620, 693), "can": (40.2719, 2310, 566), "square": (39.0789, 1121, 566)}
    }
    num, rng = 700, np.random.default_rng(0)
    obs = rng.normal(size=(num, 19 if name == "lift" else 23)).astype(np.float32)
    obs[:, :3] = 0.1 * obs[:, :3] + [0, 0, 0.1]
    obs[:, 9:12] = obs[:, :3] + 0.02 * obs[:, 9:12]
    begin, act = demonstrator.script(name)
    memory = begin(jax.random.split(jax.random.key(0), num))
    memory = memory._replace(phase=jnp.arange(num) % 7, time=jnp.arange(num) % 90, pause=jnp.arange(num) % 3)
    after, action = act(memory, jnp.asarray(obs), jax.random.split(jax.random.key(1), num))
    checksum = (rng.normal(size=(num, 7)) * action).sum(), after.phase.sum(), after.pause.sum()
    np.testing.assert_allclose(checksum, expected[tasks.task_type(name).script][name], rtol=1e-3)


@pytest.mark.parametrize("name", MANIPULATION)
def test_grasp_holds_at_rest_and_when_shaken(name):
    """Ten seconds at rest slip less than 2 mm, ten seconds of shaking less than 10 mm."""
    task = tasks.make(name, "c")
    data = mujoco.MjData(task.model)
    qpos, _ = task.initial(jax.random.key(3))
    data.qpos[:] = qpos
    mujoco.mj_forward(task.model, data)
    rng, deepest = np.random.default_rng(0), 0.0

    def act(move, grip):
        nonlocal deepest
        action = np.concatenate([move, np.zeros(3), [grip]])
        goal = data.qpos[:6] + 0.05 * np.r_[action[:3], 0, 0, 0]
        goal[3:6] = aim
        data.ctrl[:] = np.r_[goal, -grip, -grip]
        mujoco.mj_step(task.model, data, task.frame_skip)
        deepest = max(deepest, -min((contact.dist for contact in data.contact), default=0.0))

    def grip_point():
        offset = {"lift": np.zeros(3), "can": np.array([0, 0, 0.01]), "square": np.array([0.056, 0, 0])}[name]
        return data.body("object").xpos + data.body("object").xmat.reshape(3, 3) @ offset

    yaw = np.arctan2(*data.body("object").xmat.reshape(3, 3)[[1, 0], 0])
    aim = np.array([(yaw + np.pi / 2) % np.pi - np.pi / 2, 0, 0])
    for height in (0.08, 0.0):
        for _ in range(60):
            act(np.clip((grip_point() + np.array([0, 0, height]) - data.qpos[:3]) / 0.05, -1, 1), -1)
    for _ in range(20):
        act(np.zeros(3), 1)

    def rise():
        return [0, 0, np.clip((0.15 - data.qpos[2]) / 0.05 * 1.3, -1, 1)]

    for _ in range(40):
        act(rise(), 1)
    assert data.body("object").xpos[2] > 0.1
    held = grip_point() - data.qpos[:3]
    for _ in range(200):
        act(rise(), 1)
    assert np.linalg.norm(grip_point() - data.qpos[:3] - held) < 2e-3
    for _ in range(200):
        act(np.r_[rng.uniform(-0.6, 0.6, 2), rise()[2]], 1)
        assert np.abs(data.qvel).max() < 50
    assert np.linalg.norm(grip_point() - data.qpos[:3] - held) < 1e-2
    assert deepest < 3e-3


def release(name, at, velocity=(0.0, 0.0, 0.0)):
    """Simulate the object alone for two seconds; yield its position, penetration and speed after each step."""
    model = tasks.make(name, "c").model
    data = mujoco.MjData(model)
    data.qpos[:3], data.qpos[6:8], data.qpos[8:12], data.qvel[8:11] = (-0.2, -0.2, 0.3), 0.04, (*at, 1), velocity
    data.ctrl[:] = np.r_[data.qpos[:6], 1, 1]
    for _ in range(round(2 / model.opt.timestep)):
        mujoco.mj_step(model, data)
        depth = -min((contact.dist for contact in data.contact), default=0.0)
        yield data.qpos[OBJECT].copy(), depth, np.abs(data.qvel[8:]).max()


@pytest.mark.parametrize("name", MANIPULATION)
def test_falling_object_penetrates_briefly_and_comes_to_rest(name):
    """Contacts are soft; the README says how soft. The fall starts at the height at which objects are carried."""
    _, depth, speed = zip(*release(name, (-0.05, -0.15, 0.17)), strict=True)
    assert 0.005 < max(depth) < 0.013 and depth[-1] < 1e-3 and speed[-1] < 1e-3


@pytest.mark.parametrize(
    "name, at, axis, end", [("can", (0.05, -0.06, 0.041), 1, 0.012 - 0.025), ("square", (0.12, 0.1, 0.011), 0, 0.17025)]
)
def test_wall_and_peg_stop_objects_faster_than_the_gripper(name, at, axis, end):
    places, depth, _ = zip(*release(name, at, 1.5 * np.eye(3)[axis]), strict=True)
    assert max(depth) < 0.01 and end - 0.002 < max(place[axis] for place in places) < end + 0.01
    assert places[-1][axis] < end + 0.001


def test_nut_dropped_beside_the_peg_fails():
    """Falling from the height at which it is carried turns 6.75 mm of play into 11."""

    def succeeds(beside):
        places = np.array([place for place, *_ in release("square", (0.23 + beside, 0.1, 0.17))])
        return (np.abs(places - [0.23, 0.1, 0]) < [0.03, 0.03, 0.05]).all(axis=1).any()

    assert [beside for beside in range(0, 20, 2) if succeeds(beside / 1000)] == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in MANIPULATION])
def test_engines_agree_over_a_demonstration(name, demonstrations):
    """The same actions from the same start succeed on both, and the object ends within 3 mm."""
    _, played = demonstrations[name]
    first = int(np.argmin(played.length))
    ends = {}
    for engine in ("c", "mjx"):
        task = tasks.make(name, engine)
        step, state = jax.jit(task.step), task.reset_to(*jnp.split(jnp.asarray(played.initial_state[first]), [15]))
        for action in played.action[first, : played.length[first]]:
            state = step(state, action)
        ends[engine] = np.asarray(state.pipeline_state.fields["qpos"])
        assert state.done, engine
    np.testing.assert_allclose(ends["mjx"][OBJECT], ends["c"][OBJECT], atol=3e-3)


def robomimic_file(path, rewards, next_obs=True, skip=()):
    """Write a file like robomimic's; demonstrations are numbered from 9, so that their names do not sort."""
    rng, observations = np.random.default_rng(0), []
    sizes = {"robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2, "object": 10, "robot0_joint_pos": 7}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift"})
        for number, reward in enumerate(rewards, start=9):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = num = len(reward)
            values_by_name = {
                name: rng.normal(size=(num + 1, size)) for name, size in sizes.items() if name not in skip
            }
            for name, values in values_by_name.items():
                demo[f"obs/{name}"] = values[:-1]
                if next_obs:
                    demo[f"next_obs/{name}"] = values[1:]
            demo["actions"], demo["rewards"] = rng.uniform(-1, 1, (num, 7)), np.array(reward, float)
            demo["dones"] = np.eye(num, dtype=int)[-1]
            demo["states"] = rng.normal(size=(num, 32))
            if not skip:
                observations.append(np.concatenate([values_by_name[name] for name in robomimic.STATE_NAMES], axis=1))
        file["mask/train"] = np.array([f"demo_{9 + i}" for i in range(len(rewards) - 1)], "S")
    return observations


def test_robomimic_import_ends_episodes_at_success_and_keeps_final_observations(tmp_path, data_root):
    file = tmp_path / "low_dim.hdf5"
    observations = robomimic_file(file, [[0, 0, 1, 1], [0, 0, 0], [0, 1]])
    run = command("sibench.data", "import-robomimic", str(file), "lift/robomimic-ph")
    assert run.returncode == 0, run.stderr
    data = sibench.load_privileged("lift/robomimic-ph")
    assert data.lengths.tolist() == [3, 3, 2] and data.card["dropped_steps"] == 1
    assert np.flatnonzero(data.terminal).tolist() == [2, 7] and np.flatnonzero(data.truncated).tolist() == [5]
    expected = np.concatenate([observations[0][:4], observations[1][:4], observations[2][:3]])
    np.testing.assert_array_equal(data.observations, expected.astype(np.float32))
    assert sibench.load("lift/robomimic-ph").num_episodes == 3
    assert robomimic.from_robomimic(file, "lift", "train").lengths.tolist() == [3, 3]
    observations = robomimic_file(file, [[0, 0, 1, 1], [0, 0, 0]], next_obs=False)
    data = robomimic.from_robomimic(file, "lift")
    assert data.lengths.tolist() == [3, 2]
    np.testing.assert_array_equal(data.observations[:4], observations[0][:4].astype(np.float32))
    np.testing.assert_array_equal(data.observations[4:], observations[1][:3].astype(np.float32))


def test_unsuitable_robomimic_files_are_refused(tmp_path, data_root):
    file = tmp_path / "image.hdf5"
    robomimic_file(file, [[0, 1]])
    with pytest.raises(UserError, match="unknown mask 'trian'; did you mean 'train'"):
        robomimic.from_robomimic(file, "lift", "trian")
    with pytest.raises(UserError, match=r"image\.hdf5: 19 observations and 7 actions; can-v1 has"):
        robomimic.from_robomimic(file, "can")
    robomimic_file(file, [[0, 1]], skip=("object",))
    run = command("sibench.data", "import-robomimic", str(file), "lift/robomimic-image")
    assert run.returncode == 2 and "has no object" in run.stderr and "Traceback" not in run.stderr
    robomimic_file(file, [[0.1, 1.0]])
    with pytest.raises(UserError, match="beside 0 and 1"):
        robomimic.from_robomimic(file, "lift")
    robomimic_file(file, [[0, 1], [0, 1]])
    with h5py.File(file, "r+") as opened:
        del opened["data/demo_10/obs/object"], opened["data/demo_10/next_obs/object"]
        opened["data/demo_10/obs/object"] = opened["data/demo_10/next_obs/object"] = np.zeros((2, 14))
    with pytest.raises(UserError, match="not a robomimic file of lift"):
        robomimic.from_robomimic(file, "lift")
    robomimic_file(file, [[0, 1]])
    with h5py.File(file, "r+") as opened:
        del opened["data/demo_9/actions"]
    with pytest.raises(UserError, match="there is no 'actions'"):
        robomimic.from_robomimic(file, "lift")
    with pytest.raises(UserError, match=r"not a robomimic file of lift that can be read: [^\n]*$"):
        robomimic.from_robomimic(tmp_path, "lift")
    file.write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a robomimic file of lift"):
        robomimic.from_robomimic(file, "lift")


def test_robomimic_files_with_links_or_oversized_tables_are_refused(tmp_path, monkeypatch):
    robomimic_file(tmp_path / "other.hdf5", [[0, 1]])
    for group in ("data", "data/demo_9", "data/demo_9/obs", "mask"):
        robomimic_file(tmp_path / "low_dim.hdf5", [[0, 1], [0, 1]])
        with h5py.File(tmp_path / "low_dim.hdf5", "r+") as opened:
            del opened[group]
            opened[group] = h5py.ExternalLink(str(tmp_path / "other.hdf5"), group)
        with pytest.raises(UserError, match="or a link"):
            robomimic.from_robomimic(tmp_path / "low_dim.hdf5", "lift", "train")
    robomimic_file(tmp_path / "low_dim.hdf5", [[0, 1], [0, 1]])
    with h5py.File(tmp_path / "low_dim.hdf5", "r+") as opened:
        opened.create_dataset("mask/many", shape=(10**13,), dtype="S6", chunks=(1000,))
    with pytest.raises(UserError, match="at most 2 names"):
        robomimic.from_robomimic(tmp_path / "low_dim.hdf5", "lift", "many")
    monkeypatch.setattr(hdf5, "MAX_COLUMN_BYTES", 1000)
    with pytest.raises(UserError, match="more than 0 MiB"):
        robomimic.from_robomimic(tmp_path / "low_dim.hdf5", "lift")


def test_demonstration_dataset_replays_and_survives_minari(data_root, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    dataset = sibench.load_privileged("lift/expert-n3", build=True)
    assert dataset.card["policy"] == "scripted-1" and dataset.terminal.sum() == dataset.rewards.sum() == 3
    verify(parse_id("lift/expert-n3"))
    formats.to_minari(dataset, "sibench/lift/expert-v1")
    back = formats.from_minari("sibench/lift/expert-v1", "lift")
    np.testing.assert_array_equal(back.observations, dataset.observations)
    np.testing.assert_array_equal(back.terminal, dataset.terminal)
