"""Metrics: one JSON line per lane and interval, and the loggers that a user asks for."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sibench.core.errors import UserError
from sibench.core.files import write_atomic


class Log:
    """Appends to the `metrics.jsonl` of every lane. Rows after the checkpoint that a run resumes from are cut off."""

    def __init__(self, folder: Path, lanes: Sequence[str], updates: int, tensorboard: bool, wandb: str):
        self.lanes = lanes
        self.files, self.boards, self.wandb = [], [], None
        for lane in lanes:
            file = folder / lane / "metrics.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            kept = []
            for line in file.read_text(errors="replace").splitlines() if file.exists() else []:
                try:
                    if json.loads(line)["updates"] <= updates:
                        kept.append(line + "\n")
                except (ValueError, KeyError, TypeError):
                    break  # half a line from a kill, or a damaged one
            write_atomic(file, "".join(kept).encode())
            self.files.append(open(file, "a"))  # noqa: SIM115
        if tensorboard:
            board = _import("tensorboardX").SummaryWriter
            self.boards = [board(str(folder / lane), purge_step=updates + 1) for lane in lanes]
        if wandb:
            run = (folder / "run.json").read_bytes()
            identity, name = hashlib.sha256(run).hexdigest()[:16], "/".join(folder.parts[-2:])
            self.wandb = _import("wandb").init(
                project=wandb, name=name, id=identity, resume="allow", config=json.loads(run)
            )
            self.wandb.define_metric("*", step_metric="updates")

    def write(self, updates: int, metrics: dict[str, np.ndarray], alive: np.ndarray) -> None:
        """Write one number of each metric for every lane that is alive."""
        for index, lane in enumerate(self.lanes):
            if not alive[index]:
                continue
            row = {name: float(np.float32(value[index])) for name, value in metrics.items()}
            self.files[index].write(json.dumps({"updates": updates, **row}) + "\n")
            self.files[index].flush()
            if self.boards:
                for name, value in row.items():
                    self.boards[index].add_scalar(name, value, updates)
            if self.wandb:
                self.wandb.log({f"{lane}/{name}": value for name, value in row.items()} | {"updates": updates})

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: object) -> None:
        for file in [*self.files, *self.boards]:
            file.close()
        if self.wandb:
            self.wandb.finish()


def _import(name: str):
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{name} is not installed; get it with: make setup EXTRAS=log") from None
