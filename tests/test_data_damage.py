"""Damaged and hostile datasets are refused with a message that says how to make them again."""

import h5py
import hypothesis
import hypothesis.strategies as st
import pytest
from conftest import command
from small_data import ATTACKS, COLLECT, ID, change_card, sign_again

import sibench
from sibench.core.errors import UserError
from sibench.data import storage


def assert_refused(match: str = "refused") -> None:
    with pytest.raises(UserError, match=match) as error:
        sibench.load(str(ID))
    assert "python -m data_gen.collect --task hopper --dataset random --episodes 20" in str(error.value)


@pytest.mark.parametrize("name", ["data.hdf5", "card.json", "MANIFEST.json"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_file_is_refused(small_root, name, share):
    file = small_root / str(ID) / name
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert_refused()


@hypothesis.settings(max_examples=25, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_flipped_bit_is_refused(small_root, position, bit):
    file = small_root / str(ID) / "data.hdf5"
    original = file.read_bytes()
    content = bytearray(original)
    content[int(position * len(content))] ^= 1 << bit
    file.write_bytes(content)
    try:
        assert_refused("differs from its sha256")
    finally:
        file.write_bytes(original)


@pytest.mark.parametrize("name", ["data.hdf5", "card.json", "MANIFEST.json"])
def test_missing_file_is_refused(small_root, name):
    (small_root / str(ID) / name).unlink()
    assert_refused()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_hostile_hdf5_with_fitting_hashes_is_refused(small_root, tmp_path, attack):
    with h5py.File(small_root / str(ID) / "data.hdf5", "r+") as file:
        attack(file, tmp_path)
    sign_again(small_root)
    assert_refused()


@pytest.mark.parametrize("name", ["card.json", "MANIFEST.json"])
@pytest.mark.parametrize("content", ["[" * 100_000, "[]", "3", "{}", '{"return_mean": 1}'])
def test_card_or_manifest_of_another_form_is_refused(small_root, name, content):
    (small_root / str(ID) / name).write_text(content)
    if name == "card.json":
        sign_again(small_root)
    assert_refused()
    with pytest.raises(UserError, match="refused"):
        storage.read_card(ID)  # all that `list` reads


@pytest.mark.parametrize("name", ["return_mean", "return_std", "num_steps", "quality"])
@pytest.mark.parametrize("value", ["x", [1], {}, float("nan"), 10**400])
def test_card_without_numbers_is_refused(small_root, name, value):
    change_card(small_root, **{name: value})
    with pytest.raises(UserError, match="refused"):
        storage.read_card(ID)


def test_verify_names_bad_dataset_and_collect_makes_it_again(small_root):
    (small_root / str(ID) / "data.hdf5").unlink()
    result = command("sibench.data", "verify")
    assert result.returncode == 2 and "BAD" in result.stdout and "Traceback" not in result.stderr
    assert "there already" not in command(*COLLECT).stdout
    assert sibench.load(str(ID)).num_episodes == 20


def test_list_passes_over_folders_that_are_no_datasets(small_root):
    (small_root / "hopper" / "my_stuff").mkdir()
    listed = command("sibench.data", "list")
    assert listed.returncode == 0 and "random-n20-v1" in listed.stdout and "passing over" in listed.stderr
