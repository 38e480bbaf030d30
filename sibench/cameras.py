"""What two cameras see: frames drawn by processes of their own, and observations that hold them.

An observation with frames is one row of bytes,

    | float32 numbers, 4 bytes each | front, 84 x 84 x 3 | wrist, 84 x 84 x 3 |

so that all that handles rows handles it too, a learner's batches among them; `networks.Encoder` takes it apart.

Drawing needs OpenGL: EGL or OSMesa, whichever works, or the one that $MUJOCO_GL names. Nothing else here does; but
MuJoCo cannot be imported at all while $MUJOCO_GL names one that is not there.
"""

import atexit
import contextlib
import functools
import math
import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from sibench.cli import threads
from sibench.errors import UserError

VIEWS = ("front", "wrist")
SIDE = 84
FRAMES = (len(VIEWS), SIDE, SIDE, 3)
"""Shape of the frames of one observation."""
NUM_BYTES = math.prod(FRAMES)
REMEMBERED = 1024
"""Observations of which the frames are kept until the next are asked for."""
HINT = "on Debian or Ubuntu: apt install libosmesa6 or libegl1; MUJOCO_GL=egl or osmesa says which of them to use"


def pack(numbers: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Rows of bytes of [..., P] float32 and [..., 2, 84, 84, 3] uint8."""
    numbers = np.ascontiguousarray(numbers, np.float32).view(np.uint8)
    return np.concatenate([numbers, frames.reshape(*numbers.shape[:-1], NUM_BYTES)], axis=-1)


def unpack(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers [..., P] and the frames [..., 2, 84, 84, 3] of rows of bytes."""
    numbers = np.ascontiguousarray(rows[..., :-NUM_BYTES]).view(np.float32)
    return numbers, rows[..., -NUM_BYTES:].reshape(*rows.shape[:-1], *FRAMES)


class Painter:
    """One process that draws. It is started when it is needed, and once more if it dies or hangs."""

    patience = 300
    """Seconds for what takes ten at most."""
    most = 500
    """Observations in one request: the time of a whole one says nothing of whether the process is alive."""

    def __init__(self, model: Any, gl: str):
        self.model, self.gl, self.process, self.lock = model, gl, None, threading.Lock()

    def draw(self, qpos: np.ndarray) -> np.ndarray:
        """[N, nq] -> [N, 2, 84, 84, 3]"""
        frames = np.empty((len(qpos), *FRAMES), np.uint8)
        with self.lock:
            for first in range(0, len(qpos), self.most):
                some = slice(first, first + self.most)
                frames[some] = self._draw(qpos[some])
        return frames

    def _draw(self, qpos: np.ndarray) -> np.ndarray:
        for attempt in range(2):
            hung = threading.Timer(self.patience, lambda: self.process and self.process.kill())
            hung.daemon = True
            hung.start()
            try:
                if self.process is None:
                    self.start()
                self.process.stdin.write(
                    np.int64(len(qpos)).tobytes() + np.ascontiguousarray(qpos, np.float64).tobytes()
                )
                self.process.stdin.flush()
                return np.frombuffer(self.receive(len(qpos) * NUM_BYTES), np.uint8).reshape(-1, *FRAMES)
            except (OSError, EOFError) as error:
                if self.process:
                    with contextlib.suppress(subprocess.TimeoutExpired):  # it has closed its pipe, and is about to end
                        self.process.wait(1)
                why = self.stop() or error
                if attempt:
                    raise UserError(f"no frames with MUJOCO_GL={self.gl}: {why}") from None
            finally:
                hung.cancel()

    def start(self) -> None:
        import mujoco

        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process lives
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sibench.cameras"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=os.environ | {"MUJOCO_GL": self.gl, "LP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the program that asks; this one ends with its input
        )
        image = np.zeros(mujoco.mj_sizeModel(self.model), np.uint8)
        mujoco.mj_saveModel(self.model, None, image)
        self.process.stdin.write(np.int64([self.model.nq, len(image)]).tobytes() + image.tobytes())

    def receive(self, size: int) -> bytes:
        received = self.process.stdout.read(size)
        if len(received) < size:
            raise EOFError("the process that draws has ended")
        return received

    def stop(self) -> str:
        """End it; how it ended before, and the last line of its complaints."""
        if self.process is None:
            return ""
        ended = self.process.poll()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):  # what it had not read
                pipe.close()
        self.process = None
        with self.errors:
            self.errors.seek(0)
            lines = self.errors.read().decode(errors="replace").split("\n")
        said = next((line for line in reversed(lines) if line.strip()), "")
        how = "was ended" if ended is None else f"ended with {ended}"
        return f"the process that draws {how}" + (f": {said}" if said else "")


class Studio:
    """As many painters as processors, eight at most, of one model."""

    def __init__(self, model: Any):
        gl = backend()
        self.painters = [Painter(model, gl) for _ in range(min(8, threads()))]
        self.pool = ThreadPoolExecutor(len(self.painters))
        self.lock, self.last = threading.Lock(), (np.zeros((0, model.nq)), np.zeros((0, *FRAMES), np.uint8))
        atexit.register(self.close)

    def draw(self, qpos: np.ndarray) -> np.ndarray:
        """[N, nq] -> [N, 2, 84, 84, 3]; a row that is as it was the last time, of an episode that is over, is kept."""
        with self.lock:
            before, frames = self.last
            new = np.ones(len(qpos), bool)
            if before.shape == qpos.shape:
                new = (before != qpos).any(axis=1)
                frames = frames.copy()
            else:
                frames = np.empty((len(qpos), *FRAMES), np.uint8)
            shares = np.array_split(np.flatnonzero(new), len(self.painters))
            drawn = self.pool.map(lambda painter, share: painter.draw(qpos[share]), self.painters, shares)
            for share, some in zip(shares, drawn, strict=True):
                frames[share] = some
            frames.flags.writeable = False
            if len(qpos) <= REMEMBERED:
                self.last = qpos, frames
            return frames

    def close(self) -> None:
        for painter in self.painters:
            painter.stop()


studio = functools.cache(Studio)


@functools.cache
def backend() -> str:
    """The OpenGL that works here."""
    import mujoco

    views = "".join(f'<camera name="{view}"/>' for view in VIEWS)
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{views}</worldbody></mujoco>")
    problems = []
    for gl in [os.environ["MUJOCO_GL"]] if os.environ.get("MUJOCO_GL") else ["egl", "osmesa"]:
        painter = Painter(model, gl)
        try:
            painter.draw(np.zeros((1, 0)))
            return gl
        except UserError as error:
            problems.append(str(error))
        finally:
            painter.stop()
    raise UserError("; ".join([*problems, HINT]))


def paint() -> None:
    """The process: it reads a model, then a number of rows and as many qpos, writes their frames, and so on."""
    import mujoco

    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a driver prints is no frame
    nq, size = np.frombuffer(source.read(16), np.int64)
    model = mujoco.MjModel.from_binary_path("model.mjb", {"model.mjb": source.read(size)})
    data = mujoco.MjData(model)
    with mujoco.Renderer(model, SIDE, SIDE) as renderer:
        while header := source.read(8):
            num = int(np.frombuffer(header, np.int64)[0])
            for qpos in np.frombuffer(source.read(8 * num * nq), np.float64).reshape(num, nq):
                data.qpos[:] = qpos
                mujoco.mj_kinematics(model, data)
                mujoco.mj_camlight(model, data)
                for view in VIEWS:
                    renderer.update_scene(data, camera=view)
                    target.write(renderer.render().tobytes())
            target.flush()


if __name__ == "__main__":
    paint()
