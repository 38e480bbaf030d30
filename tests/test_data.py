"""Datasets: what is in one, what `verify` sees, and what is refused."""

import json
import shutil

import h5py
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from conftest import command

import sibench
from sibench import files
from sibench.data import Demonstrations, concatenate, interop, observation_index, storage
from sibench.data.collect import build
from sibench.data.verify import verify
from sibench.errors import UserError
from sibench.ids import Id, parse_id, sources

ID = parse_id("hopper/random-n20")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of a small dataset; tests copy it."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIBENCH_DATA", str(root))
        build(ID, "c")
    return root


@pytest.fixture
def root(made, data_root):
    shutil.copytree(made, data_root)
    return data_root


def stored(root):
    return root / "hopper" / "random-n20-v1"


def resign(root):
    """Make hashes agree with tampered files, as somebody who ships a bad dataset would."""
    folder = stored(root)
    manifest = {name: files.sha256(folder / name) for name in ("data.hdf5", "card.json")}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


def test_layout_of_episodes(root):
    dataset = sibench.load("hopper/random-n20-v1")
    assert dataset.num_episodes == 20 == len(dataset.returns) == len(dataset.seeds)
    num_steps = int(dataset.lengths.sum())
    assert len(dataset.observations) == num_steps + 20
    step = dataset.transitions()
    assert {len(column) for column in step.values()} == {num_steps}
    for episode in range(20):
        here = slice(dataset.offsets[episode], dataset.offsets[episode + 1])
        obs = dataset.observations[here.start + episode : here.stop + episode + 1]
        np.testing.assert_array_equal(step["obs"][here], obs[:-1])
        np.testing.assert_array_equal(step["next_obs"][here], obs[1:])
        np.testing.assert_allclose(dataset.returns[episode], dataset.rewards[here].sum(), rtol=1e-5)
        assert dataset.terminal[here].sum() + dataset.truncated[here].sum() == 1
        assert dataset.terminal[here][-1] or dataset.truncated[here][-1]


def test_observation_index_by_hand():
    assert observation_index(np.array([0, 3, 5])).tolist() == [0, 1, 2, 4, 5]


def test_first_and_concatenate(root):
    dataset = sibench.load("hopper/random-n20")
    both = concatenate(dataset.first(5), dataset.first(3), {})
    np.testing.assert_array_equal(both.returns, np.concatenate([dataset.returns[:5], dataset.returns[:3]]))
    assert storage.inconsistency({name: getattr(both, name) for name in storage.COLUMNS}) is None


def test_the_same_recipe_gives_the_same_content(root, tmp_path, monkeypatch):
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path / "again"))
    build(ID, "c")
    again = storage.read(ID).card["content_sha256"]
    monkeypatch.setenv("SIBENCH_DATA", str(root))
    assert storage.read(ID).card["content_sha256"] == again


def test_content_hash_does_not_depend_on_chunks(root):
    path = stored(root) / "data.hdf5"
    before = storage.content_sha256(storage.read(ID))
    with h5py.File(path, "r") as file:
        columns = {name: file[name][()] for name in file}
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            file.create_dataset(name, data=column, chunks=(7, *column.shape[1:]), compression="gzip")
    resign(root)
    assert storage.content_sha256(storage.read(ID)) == before
    assert "good" in command("sibench.data", "verify", str(ID)).stdout


def test_absent_datasets_say_how_to_make_them(data_root):
    with pytest.raises(UserError, match=r"python -m data_gen\.collect --task hopper --dataset random --episodes 20"):
        sibench.load("hopper/random-n20-v1")
    assert not data_root.exists() or not any(data_root.iterdir())
    assert sibench.load("hopper/random-n3", build=True).num_episodes == 3


def test_expert_data_has_no_actions_and_no_rewards(data_root):
    expert = sibench.load("hopper/expert-n2-v1", build=True)
    assert type(expert) is Demonstrations
    assert set(Demonstrations._fields) == {"observations", "terminal", "truncated", "offsets", "card", "pixels"}
    full = sibench.load_privileged("hopper/expert-n2-v1")
    np.testing.assert_array_equal(full.observations, expert.observations)
    assert len(full.actions) == len(full.rewards) == full.offsets[-1]


def test_mix_is_a_view_on_expert_and_random(data_root):
    mix = sibench.load("hopper/mix-300-n10-v1", build=True)
    expert, random = (sibench.load_privileged(f"hopper/{s}-n10-v1") for s in ("expert", "random"))
    np.testing.assert_array_equal(mix.returns, np.concatenate([expert.returns[-3:], random.returns[:7]]))
    at = expert.offsets[7] + 7
    np.testing.assert_array_equal(mix.observations[: mix.offsets[3] + 3], expert.observations[at:])
    np.testing.assert_array_equal(mix.actions[: mix.offsets[3]], expert.actions[expert.offsets[7] :])
    assert mix.offsets[0] == 0 and len(mix.observations) == len(mix.actions) + 10 and len(set(mix.seeds)) == 10
    assert not set(mix.seeds) & set(expert.first(7).seeds)  # with their actions, no demonstration is in the data
    assert sorted(p.name for p in (data_root / "hopper").glob("[!.]*")) == ["expert-n10-v1", "random-n10-v1"]
    assert mix.card["quality"] == pytest.approx(0.3 * 1 + 0.7 * 0, abs=0.05)


@pytest.mark.parametrize(
    "text",
    [
        "hopper",
        "hopper/",
        "/etc/passwd",
        "hopper/../../x",
        "hopper/bc-10/..",
        "HOPPER/bc-10",
        "hopper/bc_10",
        "hopper/bc-10-v1 ",
        "hopper/bc-10-v1\n",
    ],
)
def test_odd_ids_are_refused(text):
    with pytest.raises(UserError):
        parse_id(text)


def test_unknown_ids_name_the_nearest():
    with pytest.raises(UserError, match="did you mean 'hopper'"):
        parse_id("hoper/bc-10")
    with pytest.raises(UserError, match="unknown dataset 'bc-11'; did you mean 'bc-10'"):
        parse_id("hopper/bc-11")
    for text, meant in (
        ("bc-900", "bc-1000"),
        ("mix-240", "mix-200"),
        ("expert-obs", "expert"),
        ("random-n0", "random"),
    ):
        with pytest.raises(UserError, match=f"unknown dataset '{text}'; did you mean '{meant}'"):
            parse_id(f"hopper/{text}")
    with pytest.raises(UserError, match="did you mean hopper/expert"):
        sibench.load("hopper/exprt")
    with pytest.raises(UserError, match="makes version 1 only"):
        parse_id("hopper/bc-10-v2")


@pytest.mark.parametrize("source", sources())
def test_ids_round_trip(source):
    for episodes in (1000, 7):
        id = Id("hopper", source, episodes)
        assert parse_id(str(id)) == id


# --- what verify sees -------------------------------------------------------------------------------------------------


def rewrite(root, change, fix_card=True):
    """Store the dataset again after `change(columns)`; hashes and card statistics fit the new arrays."""
    from sibench.data.collect import statistics

    dataset = storage.read(ID)
    columns = {name: np.array(getattr(dataset, name)) for name in storage.COLUMNS}
    change(columns)
    card = dataset.card
    changed = dataset._replace(**columns)
    if fix_card:
        card = card | statistics(changed, "hopper")
    storage.write(ID, changed._replace(card=card))


def test_verify_passes_what_is_good(root):
    assert "replayed" in " ".join(verify(ID))


@pytest.mark.parametrize(
    ("name", "row", "value", "message"),
    [
        ("rewards", 5, 9.0, "other rewards"),
        ("actions", 3, 0.123, "other"),
        ("observations", 4, 0.5, "other observations"),
        ("initial_states", 0, 0.01, "do not start where their seeds say"),
        ("observations", -1, 0.5, "other observations"),
    ],
)
def test_verify_replays(root, name, row, value, message):
    """A changed number whose hashes and statistics all fit is found by playing the actions again."""
    rewrite(root, lambda columns: columns[name].__setitem__(row, value))
    with pytest.raises(UserError, match=message):
        verify(ID, replays=20)


def test_verify_sees_a_time_out_before_its_time(root):
    def change(columns):
        end = columns["offsets"][1] - 1
        columns["terminal"][end], columns["truncated"][end] = False, True

    rewrite(root, change)
    with pytest.raises(UserError, match="truncated or too long"):
        verify(ID)


def test_verify_sees_repeated_seeds_and_wrong_cards(root):
    rewrite(root, lambda columns: columns["rewards"].__setitem__(0, 50.0), fix_card=False)
    with pytest.raises(UserError, match="its card says return_mean"):
        verify(ID)
    rewrite(root, lambda columns: columns["seeds"].__setitem__(1, columns["seeds"][0]))
    with pytest.raises(UserError, match="seeds are not those of its recipe"):
        verify(ID)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rewards", np.nan, "not finite"),
        ("observations", np.inf, "not finite"),
        ("actions", 1.01, r"leave \[-1, 1\]"),
        ("terminal", True, "ends inside another"),
    ],
)
def test_bad_arrays_are_neither_written_nor_read(root, name, value, message):
    dataset = storage.read(ID)
    columns = {n: np.array(getattr(dataset, n)) for n in storage.COLUMNS}
    columns[name][0] = value
    with pytest.raises(UserError, match=message):
        storage.write(ID, dataset._replace(**columns))
    with h5py.File(stored(root) / "data.hdf5", "r+") as file:
        file[name][0] = value
    resign(root)
    with pytest.raises(UserError, match=message):
        sibench.load(str(ID))


def test_a_stale_dataset_is_refused(root):
    card = json.loads((stored(root) / "card.json").read_text())
    card["seeds"] = "collect/another"
    (stored(root) / "card.json").write_text(json.dumps(card))
    resign(root)
    with pytest.raises(UserError, match="is stale: its seeds is 'collect/another'"):
        sibench.load(str(ID))
    build(ID, "c")
    assert sibench.load(str(ID)).num_episodes == 20


# --- damage and malice ------------------------------------------------------------------------------------------------


def refused(match="refused"):
    with pytest.raises(UserError, match=match) as error:
        sibench.load(str(ID))
    assert "python -m data_gen.collect --task hopper --dataset random --episodes 20" in str(error.value)


@pytest.mark.parametrize("name", ["data.hdf5", "card.json", "MANIFEST.json"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_files_are_refused(root, name, share):
    file = stored(root) / name
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    refused()


@hypothesis.settings(max_examples=25, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused(root, position, bit):
    file = stored(root) / "data.hdf5"
    content = bytearray(file.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    original = file.read_bytes()
    file.write_bytes(content)
    try:
        refused("differs from its sha256")
    finally:
        file.write_bytes(original)


@pytest.mark.parametrize("name", ["data.hdf5", "card.json", "MANIFEST.json"])
def test_missing_files_are_refused(root, name):
    (stored(root) / name).unlink()
    refused()


def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"root:x:0:0:" * 100)
    return path


def external_storage(file, tmp_path):
    size = file["rewards"].shape[0]
    del file["rewards"]
    file.create_dataset("rewards", (size,), "f4", external=[(str(secret(tmp_path)), 0, 4 * size)])


def external_link(file, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["rewards"] = file["rewards"][()]
    del file["rewards"]
    file["rewards"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "rewards")


def soft_link(file, tmp_path):
    del file["truncated"]
    file["truncated"] = h5py.SoftLink("/terminal")


def virtual_dataset(file, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["rewards"] = file["rewards"][()]
    layout = h5py.VirtualLayout(file["rewards"].shape, "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "rewards", file["rewards"].shape)
    del file["rewards"]
    file.create_virtual_dataset("rewards", layout)


def huge_shape(file, tmp_path):
    del file["observations"]
    file.create_dataset("observations", (1 << 40, 11), "f4", chunks=(1024, 11))


def object_dtype(file, tmp_path):
    del file["seeds"]
    file.create_dataset("seeds", (20,), h5py.string_dtype())


def time_type(file, tmp_path):
    """Which h5py has no NumPy type for."""
    del file["seeds"]
    h5py.h5d.create(file.id, b"seeds", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((20,)))


def wrong_dtype(file, tmp_path):
    rewards = file["rewards"][()]
    del file["rewards"]
    file["rewards"] = rewards.astype(np.float64)


def wrong_rows(file, tmp_path):
    rewards = file["rewards"][()]
    del file["rewards"]
    file["rewards"] = rewards[:-1]


def group_in_place(file, tmp_path):
    del file["rewards"]
    file.create_group("rewards")


def extra_key(file, tmp_path):
    file["surprise"] = np.zeros(3)


def other_filter(file, tmp_path):
    rewards = file["rewards"][()]
    del file["rewards"]
    file.create_dataset("rewards", data=rewards, compression="lzf")


def huge_chunk(file, tmp_path):
    del file["seeds"]
    file.create_dataset("seeds", (20,), "u8", maxshape=(None,), chunks=(1 << 24,))


def bad_offsets(file, tmp_path):
    file["offsets"][1] = file["offsets"][2] + 1


def wrapping_offsets(file, tmp_path):
    """Differences of these are positive in 64 bits."""
    file["offsets"][1:3] = [-(2**63), -3]


ATTACKS = [
    *(external_storage, external_link, soft_link, virtual_dataset, huge_shape, object_dtype, time_type),
    *(wrong_dtype, wrong_rows, group_in_place, extra_key, other_filter, huge_chunk, bad_offsets, wrapping_offsets),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_hostile_hdf5_is_refused(root, tmp_path, attack):
    """Even when every hash fits."""
    with h5py.File(stored(root) / "data.hdf5", "r+") as file:
        attack(file, tmp_path)
    resign(root)
    refused()


def test_bad_datasets_are_made_again_and_told_apart(root):
    """`collect` sees that the data is gone; `verify` goes on after a bad one and says so at the end."""
    (stored(root) / "data.hdf5").unlink()
    result = command("sibench.data", "verify")
    assert result.returncode == 2 and "BAD" in result.stdout and "Traceback" not in result.stderr
    args = ("data_gen.collect", "--task", "hopper", "--dataset", "random", "--episodes", "20", "--engine", "c")
    assert "there already" not in command(*args).stdout
    (root / "hopper" / "my_stuff").mkdir()
    listed = command("sibench.data", "list")
    assert listed.returncode == 0 and "random-n20-v1" in listed.stdout and "passing over" in listed.stderr


def test_a_mixture_without_its_parts_says_how_to_make_both(data_root):
    both = "hopper/expert-n20-v1 and hopper/random-n20-v1"
    with pytest.raises(UserError, match=rf"{both}, not in .*--dataset mix-300 --episodes 20"):
        sibench.load("hopper/mix-300-n20")


@pytest.mark.parametrize("name", ["card.json", "MANIFEST.json"])
@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "3", "{}", '{"return_mean": 1}'])
def test_cards_and_manifests_of_another_form_are_refused(root, name, content):
    (stored(root) / name).write_text(content)
    if name == "card.json":
        resign(root)
    refused()
    with pytest.raises(UserError, match="refused"):
        storage.read_card(ID)  # which is all that `list` reads


@pytest.mark.parametrize("name", ["return_mean", "return_std", "num_steps", "quality"])
@pytest.mark.parametrize("value", ["x", [1], {}, float("nan"), 10**400])
def test_cards_with_other_than_numbers_are_refused(root, name, value):
    card = json.loads((stored(root) / "card.json").read_bytes())
    (stored(root) / "card.json").write_text(json.dumps(card | {name: value}))
    resign(root)
    with pytest.raises(UserError, match="refused"):
        storage.read_card(ID)


def test_a_card_that_says_otherwise_is_found_out(root):
    card = json.loads((stored(root) / "card.json").read_bytes())
    (stored(root) / "card.json").write_text(json.dumps(card | {"return_min": "x"}))
    resign(root)
    with pytest.raises(UserError, match="says return_min = x"):
        verify(ID)


def test_highly_compressed_flags_are_not_taken_for_a_bomb(tmp_path):
    d4rl_file(tmp_path / "d4rl.hdf5", [2000] * 5, [False] * 5)
    with h5py.File(tmp_path / "d4rl.hdf5", "r+") as file:
        flags = file["terminals"][()]
        del file["terminals"]
        file.create_dataset("terminals", data=flags, compression="gzip", compression_opts=9)
    assert interop.from_d4rl(tmp_path / "d4rl.hdf5", "hopper", 2000).num_episodes == 5


# --- other suites' formats --------------------------------------------------------------------------------------------


@pytest.fixture
def minari_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def test_minari_round_trip_loses_nothing(root, minari_root):
    import minari

    dataset = sibench.load(str(ID))
    interop.to_minari(dataset, "sibench/hopper/random-v1")
    theirs = minari.load_dataset("sibench/hopper/random-v1")
    assert theirs.total_episodes == 20 and theirs.total_steps == len(dataset.actions)
    assert theirs.recover_environment().spec.id == "Hopper-v5"
    back = interop.from_minari("sibench/hopper/random-v1", "hopper")
    for name in storage.COLUMNS:
        np.testing.assert_array_equal(getattr(back, name), getattr(dataset, name))
        assert getattr(back, name).dtype == getattr(dataset, name).dtype


def test_minari_collected_with_its_own_collector(data_root, minari_root):
    """As the mujoco/* datasets were made: float64, one Gymnasium environment, with resets in the middle."""
    import gymnasium
    import minari

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
    interop.to_minari(sibench.load(str(ID)), "sibench/hopper/random-v1")
    (file,) = root.rglob("main_data.hdf5")
    return file


def in_first_episode(attack):
    return lambda file, tmp_path: attack(file["episode_0"], tmp_path)


def no_rewards(file, tmp_path):
    del file["episode_0"]["rewards"]


def rewards_cut(file, tmp_path):
    group = file["episode_0"]
    rewards = group["rewards"][:-1]
    del group["rewards"]
    group["rewards"] = rewards


def seed_of_text(file, tmp_path):
    file["episode_0"].attrs["seed"] = "x"


def seed_below_zero(file, tmp_path):
    file["episode_0"].attrs["seed"] = -1


def observation_moved(file, tmp_path):
    """To the next episode: in sum there are as many as there should be."""
    first, second = (file[f"episode_{i}"] for i in range(2))
    rows = [group["observations"][()] for group in (first, second)]
    for group, content in ((first, rows[0][:-1]), (second, np.concatenate([rows[0][-1:], rows[1]]))):
        del group["observations"]
        group["observations"] = content


@pytest.mark.parametrize(
    "attack",
    [
        *map(in_first_episode, (external_storage, external_link, virtual_dataset)),
        *(no_rewards, rewards_cut, seed_of_text, seed_below_zero, observation_moved),
    ],
)
def test_hostile_minari_is_refused(root, minari_root, tmp_path, attack):
    path = minari_file(tmp_path / "minari")
    with h5py.File(path, "r+") as file:
        attack(file, tmp_path)
    with pytest.raises(UserError, match=r"random-v1: (not a Minari dataset that can be read|it has no)"):
        interop.from_minari("sibench/hopper/random-v1", "hopper")


def test_other_minari_mistakes(root, minari_root, tmp_path):
    path = minari_file(tmp_path / "minari")
    dataset = sibench.load(str(ID))
    with pytest.raises(UserError, match="is there already"):
        interop.to_minari(dataset, "sibench/hopper/random-v1")
    for bad in ("noversion", "bad id-v0", "../up-v0", "/tmp/abs-v0"):
        with pytest.raises(UserError, match="is not the id of a Minari dataset"):
            interop.to_minari(dataset, bad)
        with pytest.raises(UserError, match="is not the id of a Minari dataset"):
            interop.from_minari(bad, "hopper")
    with pytest.raises(UserError, match="see what is: minari list local"):
        interop.from_minari("sibench/hopper/other-v1", "hopper")
    (path.parent / "metadata.json").write_text("{}")
    with pytest.raises(UserError, match="random-v1: not a Minari dataset that can be read"):
        interop.from_minari("sibench/hopper/random-v1", "hopper")
    path.write_bytes(b"junk")
    with pytest.raises(UserError, match="random-v1: not a Minari dataset that can be read"):
        interop.from_minari("sibench/hopper/random-v1", "hopper")


@pytest.mark.parametrize("name", ["terminals", "timeouts", "rewards"])
def test_d4rl_columns_of_another_form_are_refused(tmp_path, name):
    d4rl_file(tmp_path / "d4rl.hdf5", [4, 3], [False, True])
    with h5py.File(tmp_path / "d4rl.hdf5", "r+") as file:
        column = file[name][()]
        del file[name]
        file[name] = column[:, None]
    with pytest.raises(UserError, match="must have a row a step"):
        interop.from_d4rl(tmp_path / "d4rl.hdf5", "hopper")


def d4rl_file(path, lengths, terminal, next_obs=True, timeouts=True, drop_last_flag=False):
    """A file as D4RL has them: flat, observations without the last of an episode."""
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


def test_d4rl_with_next_observations(tmp_path):
    obs = d4rl_file(tmp_path / "d4rl.hdf5", [4, 3, 5], [False, True, False], drop_last_flag=True)
    dataset = interop.from_d4rl(tmp_path / "d4rl.hdf5", "hopper")
    assert dataset.lengths.tolist() == [4, 3, 5]
    np.testing.assert_array_equal(dataset.observations, np.concatenate(obs))
    assert np.flatnonzero(dataset.terminal).tolist() == [6]
    assert np.flatnonzero(dataset.truncated).tolist() == [3, 11]


def test_d4rl_finds_ends_without_flags(tmp_path):
    """Timeouts are not always marked: the next observation that does not follow gives them away."""
    d4rl_file(tmp_path / "d4rl.hdf5", [4, 3, 5], [False, False, False], timeouts=False)
    assert interop.from_d4rl(tmp_path / "d4rl.hdf5", "hopper").lengths.tolist() == [4, 3, 5]


def test_d4rl_without_next_observations(tmp_path):
    """The last step of a timed-out episode has no successor: it goes, and never meets the next episode's start."""
    obs = d4rl_file(tmp_path / "d4rl.hdf5", [4, 3, 5], [False, True, False], next_obs=False)
    dataset = interop.from_d4rl(tmp_path / "d4rl.hdf5", "hopper")
    assert dataset.lengths.tolist() == [3, 3, 4]
    step = dataset.transitions()
    np.testing.assert_array_equal(step["next_obs"][:3], obs[0][1:4])
    np.testing.assert_array_equal(step["next_obs"][3:5], obs[1][1:3])
    np.testing.assert_array_equal(step["next_obs"][6:], obs[2][1:5])
    assert np.flatnonzero(dataset.terminal).tolist() == [5]
    assert dataset.card["dropped_steps"] == 2


def test_d4rl_cuts_at_the_time_limit(tmp_path):
    """Without flags or next observations, a row after the limit is the next episode's: it is nobody's successor."""
    obs = d4rl_file(tmp_path / "d4rl.hdf5", [4, 4, 2], [False] * 3, next_obs=False, timeouts=False)
    dataset = interop.from_d4rl(tmp_path / "d4rl.hdf5", "hopper", max_episode_steps=4)
    assert dataset.lengths.tolist() == [3, 3, 1]
    np.testing.assert_array_equal(dataset.transitions()["next_obs"], np.concatenate([o[1:-1] for o in obs]))


def test_d4rl_command_and_refusals(tmp_path, data_root):
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
        interop.from_d4rl(tmp_path / "d4rl.hdf5", "walker2d")


@pytest.mark.slow
def test_a_dataset_made_on_the_other_engine(data_root):
    """MJX plays the same episodes as far as float32 follows: same starts, same first rewards; `verify` passes."""
    build(parse_id("halfcheetah/random-n2"), "mjx")
    on_mjx = sibench.load("halfcheetah/random-n2")
    assert on_mjx.card["engine"] == "mjx" and on_mjx.lengths.tolist() == [1000, 1000]
    assert "up to 2 steps" in " ".join(verify(parse_id("halfcheetah/random-n2")))
    shutil.rmtree(data_root)
    build(parse_id("halfcheetah/random-n2"), "c")
    on_c = sibench.load("halfcheetah/random-n2")
    for name in ("seeds", "initial_states", "actions"):
        np.testing.assert_array_equal(getattr(on_mjx, name), getattr(on_c, name))
    np.testing.assert_allclose(on_mjx.rewards[:5], on_c.rewards[:5], atol=0.02)
