"""Datasets from and to Minari and D4RL: nothing is lost, and hostile files are refused."""

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from conftest import command
from small_data import ID, external_link, external_storage, virtual_dataset

import sibench
from sibench.core.errors import UserError
from sibench.core.ids import parse_id
from sibench.data import formats, storage
from sibench.data.check import verify


@pytest.fixture
def minari_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def test_minari_round_trip_loses_nothing(small_root, minari_root):
    dataset = sibench.load(str(ID))
    formats.to_minari(dataset, "sibench/hopper/random-v1")
    theirs = minari.load_dataset("sibench/hopper/random-v1")
    assert theirs.total_episodes == 20 and theirs.total_steps == len(dataset.actions)
    assert theirs.recover_environment().spec.id == "Hopper-v5"
    back = formats.from_minari("sibench/hopper/random-v1", "hopper")
    for name in storage.COLUMNS:
        np.testing.assert_array_equal(getattr(back, name), getattr(dataset, name))
        assert getattr(back, name).dtype == getattr(dataset, name).dtype


def test_minari_dataset_of_its_own_collector_is_imported(data_root, minari_root):
    """The mujoco/* datasets are made in this way: in float64, by one environment that is reset in between."""
    env = minari.DataCollector(gymnasium.make("Hopper-v5"))
    rewards = []
    env.action_space.seed(0)
    for seed in range(3):
        env.reset(seed=seed)
        over = False
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            rewards.append(reward)
            over = terminated or truncated
    env.create_dataset(dataset_id="mujoco/hopper/test-v0", algorithm_name="random")
    result = command("sibench.data", "import-minari", "mujoco/hopper/test-v0", "hopper/from-minari")
    assert result.returncode == 0, result.stderr
    dataset = sibench.load("hopper/from-minari")
    np.testing.assert_allclose(dataset.rewards, rewards, rtol=1e-6)
    assert dataset.num_episodes == 3 and dataset.terminal.sum() == 3
    assert dataset.seeds.tolist() == [0, 1, 2]
    assert "float64" in dataset.card["rounded_to_float32_from"]
    verify(parse_id("hopper/from-minari"))


def minari_file(root):
    formats.to_minari(sibench.load(str(ID)), "sibench/hopper/random-v1")
    (file,) = root.rglob("main_data.hdf5")
    return file


def in_first_episode(attack):
    return lambda file, tmp_path: attack(file["episode_0"], tmp_path)


def no_rewards(file, tmp_path):
    del file["episode_0"]["rewards"]


def missing_last_reward(file, tmp_path):
    group = file["episode_0"]
    rewards = group["rewards"][:-1]
    del group["rewards"]
    group["rewards"] = rewards


def seed_of_text(file, tmp_path):
    file["episode_0"].attrs["seed"] = "x"


def seed_below_zero(file, tmp_path):
    file["episode_0"].attrs["seed"] = -1


def observation_moved(file, tmp_path):
    """Move an observation to the next episode; their total number stays."""
    first, second = (file[f"episode_{i}"] for i in range(2))
    rows = [group["observations"][()] for group in (first, second)]
    for group, content in ((first, rows[0][:-1]), (second, np.concatenate([rows[0][-1:], rows[1]]))):
        del group["observations"]
        group["observations"] = content


@pytest.mark.parametrize(
    "attack",
    [
        *map(in_first_episode, (external_storage, external_link, virtual_dataset)),
        *(no_rewards, missing_last_reward, seed_of_text, seed_below_zero, observation_moved),
    ],
)
def test_hostile_minari_is_refused(small_root, minari_root, tmp_path, attack):
    path = minari_file(tmp_path / "minari")
    with h5py.File(path, "r+") as file:
        attack(file, tmp_path)
    with pytest.raises(UserError, match=r"random-v1: (not a Minari dataset that can be read|it has no)"):
        formats.from_minari("sibench/hopper/random-v1", "hopper")


def test_minari_mistakes_are_refused(small_root, minari_root, tmp_path):
    path = minari_file(tmp_path / "minari")
    dataset = sibench.load(str(ID))
    with pytest.raises(UserError, match="is there already"):
        formats.to_minari(dataset, "sibench/hopper/random-v1")
    for bad in ("noversion", "bad id-v0", "../up-v0", "/tmp/abs-v0"):
        with pytest.raises(UserError, match="is not the id of a Minari dataset"):
            formats.to_minari(dataset, bad)
        with pytest.raises(UserError, match="is not the id of a Minari dataset"):
            formats.from_minari(bad, "hopper")
    with pytest.raises(UserError, match="list those that are: minari list local"):
        formats.from_minari("sibench/hopper/other-v1", "hopper")
    (path.parent / "metadata.json").write_text("{}")
    with pytest.raises(UserError, match="random-v1: not a Minari dataset that can be read"):
        formats.from_minari("sibench/hopper/random-v1", "hopper")
    path.write_bytes(b"junk")
    with pytest.raises(UserError, match="random-v1: not a Minari dataset that can be read"):
        formats.from_minari("sibench/hopper/random-v1", "hopper")


def d4rl_file(path, lengths, terminal, next_obs=True, timeouts=True, drop_last_flag=False):
    """Write a D4RL file, and return the observations of its episodes, the last ones included."""
    rng = np.random.default_rng(0)
    obs = [rng.normal(size=(n + 1, 11)).astype("f4") for n in lengths]
    ends = np.cumsum(lengths) - 1
    flags = {name: np.zeros(sum(lengths), bool) for name in ("terminals", "timeouts")}
    for end, is_terminal in zip(ends, terminal, strict=True):
        flags["terminals" if is_terminal else "timeouts"][end] = True
    if drop_last_flag:
        flags["timeouts"][ends[-1]] = False
    with h5py.File(path, "w") as file:
        file["observations"] = np.concatenate([o[:-1] for o in obs])
        file["actions"] = rng.uniform(-1, 1, (sum(lengths), 3)).astype("f4")
        file["rewards"] = rng.normal(size=sum(lengths)).astype("f4")
        file["terminals"] = flags["terminals"]
        if timeouts:
            file["timeouts"] = flags["timeouts"]
        if next_obs:
            file["next_observations"] = np.concatenate([o[1:] for o in obs])
        file.create_group("infos")["qpos"] = np.zeros(3)
    return obs


@pytest.mark.parametrize("name", ["terminals", "timeouts", "rewards"])
def test_d4rl_columns_with_other_dimensions_are_refused(tmp_path, name):
    d4rl_file(tmp_path / "d4rl.hdf5", [4, 3], [False, True])
    with h5py.File(tmp_path / "d4rl.hdf5", "r+") as file:
        column = file[name][()]
        del file[name]
        file[name] = column[:, None]
    with pytest.raises(UserError, match="must have a row for each step"):
        formats.from_d4rl(tmp_path / "d4rl.hdf5", "hopper")


def test_d4rl_with_next_observations_loses_nothing(tmp_path):
    obs = d4rl_file(tmp_path / "d4rl.hdf5", [4, 3, 5], [False, True, False], drop_last_flag=True)
    dataset = formats.from_d4rl(tmp_path / "d4rl.hdf5", "hopper")
    assert dataset.lengths.tolist() == [4, 3, 5]
    np.testing.assert_array_equal(dataset.observations, np.concatenate(obs))
    assert np.flatnonzero(dataset.terminal).tolist() == [6]
    assert np.flatnonzero(dataset.truncated).tolist() == [3, 11]


def test_d4rl_without_timeouts_is_cut_where_observations_do_not_follow(tmp_path):
    d4rl_file(tmp_path / "d4rl.hdf5", [4, 3, 5], [False, False, False], timeouts=False)
    assert formats.from_d4rl(tmp_path / "d4rl.hdf5", "hopper").lengths.tolist() == [4, 3, 5]


def test_d4rl_without_next_observations_drops_the_last_step_of_a_time_out(tmp_path):
    obs = d4rl_file(tmp_path / "d4rl.hdf5", [4, 3, 5], [False, True, False], next_obs=False)
    dataset = formats.from_d4rl(tmp_path / "d4rl.hdf5", "hopper")
    assert dataset.lengths.tolist() == [3, 3, 4]
    step = dataset.transitions()
    np.testing.assert_array_equal(step["next_obs"][:3], obs[0][1:4])
    np.testing.assert_array_equal(step["next_obs"][3:5], obs[1][1:3])
    np.testing.assert_array_equal(step["next_obs"][6:], obs[2][1:5])
    assert np.flatnonzero(dataset.terminal).tolist() == [5]
    assert dataset.card["dropped_steps"] == 2


def test_d4rl_without_flags_is_cut_at_the_time_limit(tmp_path):
    obs = d4rl_file(tmp_path / "d4rl.hdf5", [4, 4, 2], [False] * 3, next_obs=False, timeouts=False)
    dataset = formats.from_d4rl(tmp_path / "d4rl.hdf5", "hopper", max_episode_steps=4)
    assert dataset.lengths.tolist() == [3, 3, 1]
    np.testing.assert_array_equal(dataset.transitions()["next_obs"], np.concatenate([o[1:-1] for o in obs]))


def test_d4rl_command_imports_and_refuses(tmp_path, data_root):
    d4rl_file(tmp_path / "d4rl.hdf5", [4, 3, 5], [False, True, False])
    assert command("sibench.data", "import-d4rl", str(tmp_path / "d4rl.hdf5"), "hopper/d4rl-test").returncode == 0
    assert sibench.load("hopper/d4rl-test-v1").num_episodes == 3
    with h5py.File(tmp_path / "d4rl.hdf5", "r+") as file:
        external_storage(file, tmp_path)
    result = command("sibench.data", "import-d4rl", str(tmp_path / "d4rl.hdf5"), "hopper/d4rl-bad")
    assert result.returncode == 2 and "another file" in result.stderr
    result = command("sibench.data", "import-d4rl", str(tmp_path / "d4rl.hdf5"), "hopper/bc-10")
    assert result.returncode == 2 and "benchmark's own" in result.stderr
    with pytest.raises(UserError, match=r"d4rl\.hdf5: 11 observations and 3 actions; walker2d-v1 has"):
        d4rl_file(tmp_path / "d4rl.hdf5", [4], [False])
        formats.from_d4rl(tmp_path / "d4rl.hdf5", "walker2d")


def test_highly_compressed_flags_are_imported(tmp_path):
    d4rl_file(tmp_path / "d4rl.hdf5", [2000] * 5, [False] * 5)
    with h5py.File(tmp_path / "d4rl.hdf5", "r+") as file:
        flags = file["terminals"][()]
        del file["terminals"]
        file.create_dataset("terminals", data=flags, compression="gzip", compression_opts=9)
    assert formats.from_d4rl(tmp_path / "d4rl.hdf5", "hopper", 2000).num_episodes == 5
