"""Shared by the tests of faults: commands to disturb, and ways to do it."""

import subprocess
import sys
from pathlib import Path

from conftest import REPO

EXPERT = "data_gen.experts --task hopper --engine c --eval-every 8 --checkpoint-every 8 --num-envs 8 --width 16 "
EXPERT += "--batch-size 8 --warmup-steps 160 --replay-size 4096 --eval-episodes 2 --reference-episodes 4 --num-updates"
LADDER = "data_gen.ladder --task hopper --engine c --levels 1 5 --checkpoint-every 20 --width 16 --batch-size 16 "
LADDER += "--eval-episodes 2 --num-updates"
"""Needs the expert's 1000 episodes among the datasets of this machine."""


def start(*args: str, **kwargs) -> subprocess.Popen:
    """Start `python -m ...` without its output."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", *args], cwd=REPO, **quiet | kwargs)


def leftovers(folder: Path) -> list[Path]:
    """List the temporary files in a folder."""
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]
