"""Checkpoints: a damaged one is passed over, and one that cannot be written leaves the one before."""

import numpy as np

from sibench.learning import checkpoint


def test_damaged_checkpoint_is_passed_over(tmp_path, caplog):
    state = {"weights": np.arange(1000.0, dtype=np.float32), "step": np.array(3)}
    checkpoint.save(tmp_path, 1, state, {"seconds": 3})
    checkpoint.save(tmp_path, 2, {"weights": state["weights"] + 1, "step": np.array(4)})
    assert checkpoint.restore(tmp_path, state)[0] == 2
    largest = max((p for p in (tmp_path / "2").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 4
    largest.write_bytes(content)
    step, restored, notes = checkpoint.restore(tmp_path, state)
    assert step == 1 and np.array_equal(restored["weights"], state["weights"]) and notes == {"seconds": 3}
    assert "damaged" in caplog.text
    (tmp_path / "1" / "MANIFEST.json").unlink()
    assert checkpoint.restore(tmp_path, state) is None


def test_run_that_began_anew_keeps_its_checkpoints_despite_later_damaged_ones(tmp_path):
    for step in (60, 80):
        checkpoint.save(tmp_path, step, {"x": np.zeros(3)})
        (tmp_path / str(step) / "MANIFEST.json").write_text("{}")
    assert checkpoint.restore(tmp_path, {"x": np.zeros(3)}) is None
    for step in (20, 40):
        checkpoint.save(tmp_path, step, {"x": np.full(3, step)})
        assert checkpoint.restore(tmp_path, {"x": np.zeros(3)})[0] == step


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, step, {"x": np.zeros(3)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "2"]
