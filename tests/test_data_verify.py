"""`verify`: which wrong datasets it finds though all of their hashes fit."""

import shutil

import h5py
import numpy as np
import pytest
from small_data import ID, change_card, sign_again

import sibench
from sibench.core.errors import UserError
from sibench.core.ids import parse_id
from sibench.data import storage
from sibench.data.check import verify
from sibench.data.collect import build, statistics


def rewrite(change, fix_card: bool = True) -> None:
    """Store the dataset again after `change(columns)`, with fitting hashes and, if asked, card statistics."""
    dataset = storage.read(ID)
    columns = {name: np.array(getattr(dataset, name)) for name in storage.COLUMNS}
    change(columns)
    changed = dataset._replace(**columns)
    card = dataset.card | (statistics(changed, "hopper") if fix_card else {})
    storage.write(ID, changed._replace(card=card))


def test_verify_accepts_a_good_dataset(small_root):
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
def test_verify_finds_a_changed_number_by_replaying(small_root, name, row, value, message):
    rewrite(lambda columns: columns[name].__setitem__(row, value))
    with pytest.raises(UserError, match=message):
        verify(ID, replays=20)


def test_verify_finds_an_early_time_out(small_root):
    def change(columns):
        end = columns["offsets"][1] - 1
        columns["terminal"][end], columns["truncated"][end] = False, True

    rewrite(change)
    with pytest.raises(UserError, match="truncated or too long"):
        verify(ID)


def test_verify_finds_statistics_of_other_arrays(small_root):
    rewrite(lambda columns: columns["rewards"].__setitem__(0, 50.0), fix_card=False)
    with pytest.raises(UserError, match="its card says return_mean"):
        verify(ID)


def test_verify_finds_statistics_that_are_not_numbers(small_root):
    change_card(small_root, return_min="x")
    with pytest.raises(UserError, match="says return_min = x"):
        verify(ID)


def test_verify_finds_repeated_seeds(small_root):
    rewrite(lambda columns: columns["seeds"].__setitem__(1, columns["seeds"][0]))
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
def test_bad_arrays_are_neither_written_nor_read(small_root, name, value, message):
    dataset = storage.read(ID)
    columns = {n: np.array(getattr(dataset, n)) for n in storage.COLUMNS}
    columns[name][0] = value
    with pytest.raises(UserError, match=message):
        storage.write(ID, dataset._replace(**columns))
    with h5py.File(small_root / str(ID) / "data.hdf5", "r+") as file:
        file[name][0] = value
    sign_again(small_root)
    with pytest.raises(UserError, match=message):
        sibench.load(str(ID))


def test_stale_dataset_is_refused_and_built_again(small_root):
    change_card(small_root, seeds="collect/another")
    with pytest.raises(UserError, match="is stale: its seeds is 'collect/another'"):
        sibench.load(str(ID))
    build(ID, "c")
    assert sibench.load(str(ID)).num_episodes == 20


@pytest.mark.slow
def test_dataset_of_the_other_engine_is_good_and_starts_alike(data_root):
    id = parse_id("halfcheetah/random-n2")
    build(id, "mjx")
    on_mjx = sibench.load(str(id))
    assert on_mjx.card["engine"] == "mjx" and on_mjx.lengths.tolist() == [1000, 1000]
    assert "up to 2 steps" in " ".join(verify(id))
    shutil.rmtree(data_root)
    build(id, "c")
    on_c = sibench.load(str(id))
    for name in ("seeds", "initial_states", "actions"):
        np.testing.assert_array_equal(getattr(on_mjx, name), getattr(on_c, name))
    np.testing.assert_allclose(on_mjx.rewards[:5], on_c.rewards[:5], atol=0.02)  # float32 soon leaves the path
