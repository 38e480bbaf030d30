"""Datasets with frames: what they hold, how they are indexed, and which damage is refused."""

import resource
import signal

import h5py
import numpy as np
import pytest
from conftest import command

import sibench
from sibench import tasks
from sibench.core.errors import UserError
from sibench.core.ids import Id, parse_id
from sibench.data import formats, frames, loading, robomimic, storage
from sibench.data.check import verify

# --- on disk ----------------------------------------------------------------------------------------------------------


def test_dataset_shows_the_episodes_of_its_state_twin(frames_root):
    seen, twin = sibench.load("lift-image/bc-20-n3"), sibench.load("lift/bc-20-n3")
    for name in ("actions", "rewards", "terminal", "truncated", "offsets", "seeds", "initial_states"):
        assert np.array_equal(getattr(seen, name), getattr(twin, name)), name
    assert np.array_equal(seen.observations, twin.observations[:, :9])
    assert np.array_equal(seen.pixels[:], tasks.make("lift-image", "c").frames(twin.observations))
    assert storage.content_sha256(seen) == seen.card["content_sha256"]
    assert "lift-image-v1" in seen.card["task"] and seen.card["quality"] == twin.card["quality"]
    assert "3 episodes replayed" in verify(parse_id("lift-image/bc-20-n3"), 3)[-1]
    demos = sibench.load("lift-image/expert-n4")
    assert len(demos.pixels) == len(demos.observations) and not hasattr(demos, "actions")


def test_frames_are_indexed_by_numbers_slices_and_arrays(frames_root, monkeypatch):
    first, second = (sibench.load_privileged(f"lift-image/{name}") for name in ("bc-20-n3", "expert-n4"))
    every = first.pixels[:]
    index = np.array([[3, 0], [len(every) - 1, 7]])
    assert np.array_equal(first.pixels[index], every[index]) and np.array_equal(first.pixels[5], every[5])
    assert np.array_equal(first.first(2).pixels[:], every[: first.offsets[2] + 2])
    last = first.last(2)
    assert np.array_equal(last.pixels[:], every[first.offsets[1] + 1 :]) and len(last.observations) == len(last.pixels)
    both = frames.join([first.pixels, second.pixels])
    at = np.array([len(every), 1, len(every) + 9, 0])
    assert np.array_equal(both[at], np.stack([second.pixels[0], every[1], second.pixels[9], every[0]]))
    random, begins = second, second.offsets[:-1] + np.arange(4)  # another dataset would take longer to draw
    monkeypatch.setattr(loading, "load_privileged", lambda id, build: first if "expert" in id else random)
    for share, num in ((0, 0), (500, 2)):
        mixed = loading._mix(Id("lift-image", f"mix-{share}", 4), build=False)
        assert len(mixed.pixels) == len(mixed.observations)
        at = mixed.offsets[num] + num
        assert np.array_equal(mixed.pixels[at], random.pixels[begins[0]])
    with pytest.raises(UserError, match="take those of a batch from `pixels`"):
        first.transitions()


def test_damaged_frames_are_refused(frames_root, tmp_path, monkeypatch):
    id = parse_id("lift-image/expert-n4")
    dataset = storage.read(id)
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path))
    file = storage.write(id, dataset) / storage.PIXELS
    good = file.read_bytes()
    for bad in (good[:-1], good[:999] + bytes([good[999] ^ 1]) + good[1000:]):
        file.write_bytes(bad)
        with pytest.raises(UserError, match=r"pixels.zlib: refused: differs from its sha256; delete its folder and"):
            storage.read(id)
    file.unlink()
    with pytest.raises(UserError, match=r"pixels.zlib: refused"):
        storage.read(id)

    # also frames that are damaged after they were opened, or whose ends are wrong
    file.write_bytes(good)
    ends = h5py.File(file.parent / storage.DATA)["pixel_ends"][()]
    opened = frames.open_stored(file, ends)
    file.write_bytes(good[:999] + bytes([good[999] ^ 1]) + good[1000:])
    with pytest.raises(UserError, match=r"the frames of observation \d+ cannot be read"):
        opened[:]
    huge = np.array([2**63 - 1, -(2**63) + 5, -1, len(good)])
    for wrong in (ends[:-1], ends + 1, ends[::-1], ends[:0], huge):
        with pytest.raises(ValueError, match="length"):
            frames.open_stored(file, wrong)
    with pytest.raises(ValueError, match="longer than its frames"):
        frames.open_stored(file, ends[-1:])


def test_verify_finds_frames_of_another_moment_and_of_a_moved_object(frames_root, tmp_path, monkeypatch):
    id, states = parse_id("lift-image/expert-n4"), sibench.load_privileged("lift/expert-n4").observations
    good = storage.read(id)
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path))
    moved = states + np.where(np.arange(states.shape[1]) == 10, 0.02, 0.0).astype(np.float32)
    task = tasks.make("lift-image", "c")
    for other in (
        frames.Pixels(good.pixels._read, np.roll(good.pixels._rows, 5)),
        frames.Pixels(lambda rows: task.frames(moved[rows]), np.arange(len(moved))),
    ):
        storage.write(id, good._replace(pixels=other))
        with pytest.raises(UserError, match="the frames of episode 0 differ from the drawn scene"):
            verify(id, 2)


def test_write_that_fails_in_the_middle_of_the_frames_leaves_nothing(frames_root, tmp_path, monkeypatch):
    """RLIMIT_FSIZE stands in for a full disk."""
    id = parse_id("lift-image/expert-n4")
    dataset = storage.read(id)
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[0][1]))
        with pytest.raises(OSError):
            storage.write(id, dataset)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[0])
        signal.signal(signal.SIGXFSZ, before[1])
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "lock" not in path.name]


# --- robomimic's files ------------------------------------------------------------------------------------------------


def robomimic_file(path, *, next_obs: bool = True, side: int = 84, views=robomimic.VIEW_NAMES) -> dict:
    """Write two demonstrations, the second of which fails; return what they hold."""
    rng, made = np.random.default_rng(0), {}
    with h5py.File(path, "w") as file:
        for name, length, success in (("demo_0", 5, 4), ("demo_1", 3, None)):
            demo = file.create_group(f"data/{name}")
            reward = np.zeros(length)
            if success is not None:
                reward[success - 1 :] = 1
            demo["rewards"], demo["actions"] = reward, rng.uniform(-1, 1, (length, 7))
            for part in ("obs", "next_obs")[: 2 if next_obs else 1]:
                for column, width in zip(robomimic.STATE_NAMES[:-1], (3, 4, 2), strict=True):
                    demo[f"{part}/{column}"] = made[name, part, column] = rng.normal(size=(length, width))
                for view in views:
                    frames = made[name, part, view] = rng.integers(0, 256, (length, side, side, 3), np.uint8)
                    demo.create_dataset(
                        f"{part}/{view}", data=frames, chunks=(1, *frames.shape[1:]), compression="gzip"
                    )
    return made


def test_robomimic_frames_are_imported(tmp_path, monkeypatch):
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path / "data"))
    made = robomimic_file(tmp_path / "image.hdf5")
    command("sibench.data", "import-robomimic", str(tmp_path / "image.hdf5"), "lift-image/robomimic-ph", check=True)
    read = sibench.load("lift-image/robomimic-ph")
    assert read.lengths.tolist() == [4, 3] and read.terminal.sum() == 1
    for at, (demo, part, row) in {
        0: ("demo_0", "obs", 0),
        3: ("demo_0", "obs", 3),
        4: ("demo_0", "next_obs", 3),
        5: ("demo_1", "obs", 0),
        8: ("demo_1", "next_obs", 2),
    }.items():
        assert np.array_equal(read.pixels[at], np.stack([made[demo, part, view][row] for view in robomimic.VIEW_NAMES]))
        numbers = np.concatenate([made[demo, part, name][row] for name in robomimic.STATE_NAMES[:-1]])
        np.testing.assert_allclose(read.observations[at], numbers, rtol=1e-6)
    assert verify(parse_id("lift-image/robomimic-ph"))
    with pytest.raises(UserError, match="has frames, which are not exported"):
        formats.to_minari(read, "sibench/lift")


def test_damaged_robomimic_frames_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SIBENCH_DATA", str(tmp_path / "data"))
    robomimic_file(file := tmp_path / "image.hdf5")
    with h5py.File(file) as opened:
        place = opened[f"data/demo_1/obs/{robomimic.VIEW_NAMES[1]}"].id.get_chunk_info(1)
    content = bytearray(file.read_bytes())
    content[place.byte_offset : place.byte_offset + 100] = b"\0" * 100
    file.write_bytes(content)
    ran = command("sibench.data", "import-robomimic", str(file), "lift-image/robomimic-ph")
    assert ran.returncode == 2 and f"{file}: the frames of demo_1 cannot be read" in ran.stderr
    assert [path.suffix for path in (tmp_path / "data").rglob("*.*")] == [".lock"]


def test_import_without_frames_is_refused_for_a_task_with_frames(tmp_path):
    columns = {"observations": np.zeros((4, 9)), "actions": np.zeros((4, 7)), "rewards": np.zeros(4)}
    with h5py.File(tmp_path / "d4rl.hdf5", "w") as file:
        for name, column in (columns | {"terminals": np.arange(4) == 3}).items():
            file[name] = column
    with pytest.raises(UserError, match="lift-image has frames, and the data has none"):
        formats.from_d4rl(tmp_path / "d4rl.hdf5", "lift-image")


def test_robomimic_file_with_other_frames_is_refused(tmp_path):
    for options, message in (
        ({"side": 64}, r"expected uint8 and \(84, 84, 3\)"),
        ({"views": robomimic.VIEW_NAMES[:1]}, "has not 5 frames called robot0_eye_in_hand_image"),
    ):
        robomimic_file(tmp_path / "image.hdf5", **options)
        with pytest.raises(UserError, match=message):
            robomimic.from_robomimic(tmp_path / "image.hdf5", "lift-image")
    robomimic_file(tmp_path / "image.hdf5", next_obs=False)
    cut = robomimic.from_robomimic(tmp_path / "image.hdf5", "lift-image")
    assert cut.lengths.tolist() == [4, 2] and len(cut.pixels) == 8 == len(cut.observations)
