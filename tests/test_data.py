"""Datasets: what is in one, what its id means, and how it is loaded."""

import h5py
import numpy as np
import pytest
from conftest import command
from small_data import ID, sign_again

import sibench
from sibench.core.errors import UserError
from sibench.core.ids import Id, parse_id, sources
from sibench.data import Demonstrations, concatenate, observation_index, storage
from sibench.data.collect import build


def test_steps_and_observations_of_an_episode_line_up(small_root):
    dataset = sibench.load("hopper/random-n20-v1")
    assert dataset.num_episodes == 20 == len(dataset.returns) == len(dataset.seeds)
    num_steps = int(dataset.lengths.sum())
    assert len(dataset.observations) == num_steps + 20
    step = dataset.transitions()
    assert {len(column) for column in step.values()} == {num_steps}
    for episode in range(20):
        rows = slice(dataset.offsets[episode], dataset.offsets[episode + 1])
        obs = dataset.observations[rows.start + episode : rows.stop + episode + 1]
        np.testing.assert_array_equal(step["obs"][rows], obs[:-1])
        np.testing.assert_array_equal(step["next_obs"][rows], obs[1:])
        np.testing.assert_allclose(dataset.returns[episode], dataset.rewards[rows].sum(), rtol=1e-5)
        assert dataset.terminal[rows].sum() + dataset.truncated[rows].sum() == 1
        assert dataset.terminal[rows][-1] or dataset.truncated[rows][-1]


def test_observation_index_skips_last_observations():
    assert observation_index(np.array([0, 3, 5])).tolist() == [0, 1, 2, 4, 5]


def test_concatenated_datasets_are_consistent(small_root):
    dataset = sibench.load("hopper/random-n20")
    both = concatenate(dataset.first(5), dataset.first(3), {})
    np.testing.assert_array_equal(both.returns, np.concatenate([dataset.returns[:5], dataset.returns[:3]]))
    assert storage.inconsistency({name: getattr(both, name) for name in storage.COLUMNS}) is None


def test_same_recipe_gives_same_content(small_root, tmp_path, monkeypatch):
    expected = storage.read(ID).card["content_sha256"]
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path / "again"))
    build(ID, "c")
    assert storage.read(ID).card["content_sha256"] == expected


def test_content_hash_does_not_depend_on_chunks(small_root):
    path = small_root / str(ID) / "data.hdf5"
    before = storage.content_sha256(storage.read(ID))
    with h5py.File(path, "r") as file:
        columns = {name: file[name][()] for name in file}
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            file.create_dataset(name, data=column, chunks=(7, *column.shape[1:]), compression="gzip")
    sign_again(small_root)
    assert storage.content_sha256(storage.read(ID)) == before
    assert "good" in command("sibench.data", "verify", str(ID)).stdout


def test_missing_dataset_says_how_to_make_it(data_root):
    with pytest.raises(UserError, match=r"python -m data_gen\.collect --task hopper --dataset random --episodes 20"):
        sibench.load("hopper/random-n20-v1")
    assert not data_root.exists() or not any(data_root.iterdir())
    assert sibench.load("hopper/random-n3", build=True).num_episodes == 3


def test_missing_mix_says_how_to_make_both_parts(data_root):
    both = "hopper/expert-n20-v1 and hopper/random-n20-v1"
    with pytest.raises(UserError, match=rf"{both}, not in .*--dataset mix-300 --episodes 20"):
        sibench.load("hopper/mix-300-n20")


def test_loaded_expert_has_no_actions_and_no_rewards(data_root):
    expert = sibench.load("hopper/expert-n2-v1", build=True)
    assert type(expert) is Demonstrations
    assert set(Demonstrations._fields) == {"observations", "terminal", "truncated", "offsets", "card", "pixels"}
    full = sibench.load_privileged("hopper/expert-n2-v1")
    np.testing.assert_array_equal(full.observations, expert.observations)
    assert len(full.actions) == len(full.rewards) == full.offsets[-1]


def test_mix_shows_last_expert_and_first_random_episodes(data_root):
    mix = sibench.load("hopper/mix-300-n10-v1", build=True)
    expert, random = (sibench.load_privileged(f"hopper/{s}-n10-v1") for s in ("expert", "random"))
    np.testing.assert_array_equal(mix.returns, np.concatenate([expert.returns[-3:], random.returns[:7]]))
    start = expert.offsets[7] + 7
    np.testing.assert_array_equal(mix.observations[: mix.offsets[3] + 3], expert.observations[start:])
    np.testing.assert_array_equal(mix.actions[: mix.offsets[3]], expert.actions[expert.offsets[7] :])
    assert mix.offsets[0] == 0 and len(mix.observations) == len(mix.actions) + 10 and len(set(mix.seeds)) == 10
    assert not set(mix.seeds) & set(expert.first(7).seeds)  # with their actions, no demonstration is in the data
    assert sorted(p.name for p in (data_root / "hopper").glob("[!.]*")) == ["expert-n10-v1", "random-n10-v1"]
    assert mix.card["quality"] == pytest.approx(0.3 * 1 + 0.7 * 0, abs=0.05)


MALFORMED = ["hopper", "hopper/", "/etc/passwd", "hopper/../../x", "hopper/bc-10/..", "HOPPER/bc-10", "hopper/bc_10"]


@pytest.mark.parametrize("text", [*MALFORMED, "hopper/bc-10-v1 ", "hopper/bc-10-v1\n"])
def test_malformed_ids_are_refused(text):
    with pytest.raises(UserError, match="is not a dataset id"):
        parse_id(text)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("bc-11", "bc-10"),
        ("bc-900", "bc-1000"),
        ("mix-240", "mix-200"),
        ("expert-obs", "expert"),
        ("random-n0", "random"),
    ],
)
def test_unknown_source_names_the_nearest(text, nearest):
    with pytest.raises(UserError, match=f"unknown dataset '{text}'; did you mean '{nearest}'"):
        parse_id(f"hopper/{text}")


def test_unknown_names_in_load_are_refused():
    with pytest.raises(UserError, match=r"unknown task 'hoper'; did you mean 'hopper'\?"):
        sibench.load("hoper/bc-10")
    with pytest.raises(UserError, match="did you mean hopper/expert"):
        sibench.load("hopper/exprt")
    with pytest.raises(UserError, match="makes version 1 only"):
        parse_id("hopper/bc-10-v2")


@pytest.mark.parametrize("source", sources())
def test_ids_round_trip(source):
    for episodes in (1000, 7):
        id = Id("hopper", source, episodes)
        assert parse_id(str(id)) == id
