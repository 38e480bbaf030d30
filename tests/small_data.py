"""A small dataset that tests damage, and the ways in which HDF5 files can be hostile."""

import json
from pathlib import Path

import h5py
import numpy as np

from sibench.core import files
from sibench.core.ids import parse_id

ID = parse_id("hopper/random-n20")
COLLECT = ("data_gen.collect", "--task", "hopper", "--dataset", "random", "--episodes", "20", "--engine", "c")
"""Command that makes it."""


def sign_again(root: Path) -> None:
    """Make hashes agree with tampered files, as somebody who ships a bad dataset would."""
    folder = root / str(ID)
    manifest = {name: files.sha256(folder / name) for name in ("data.hdf5", "card.json")}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


def change_card(root: Path, **changes) -> None:
    """Change entries of the card, and sign it."""
    file = root / str(ID) / "card.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | changes))
    sign_again(root)


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
    """Store a type for which h5py has no NumPy type."""
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
    """Store offsets whose differences are positive in 64 bits."""
    file["offsets"][1:3] = [-(2**63), -3]


ATTACKS = [
    *(external_storage, external_link, soft_link, virtual_dataset, huge_shape, object_dtype, time_type),
    *(wrong_dtype, wrong_rows, group_in_place, extra_key, other_filter, huge_chunk, bad_offsets, wrapping_offsets),
]
