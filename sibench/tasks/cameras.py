"""Camera frames, drawn by separate processes, and the observations that contain them.

An observation with frames is one row of bytes, so that everything that handles rows can handle it:

    | float32 numbers, 4 bytes each | front, 84 x 84 x 3 | wrist, 84 x 84 x 3 |

`networks.Encoder` unpacks it. Drawing needs OpenGL: EGL or OSMesa, whichever works, or the one that $MUJOCO_GL names.
Nothing else needs OpenGL, but MuJoCo cannot be imported while $MUJOCO_GL names a library that is missing.
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

from sibench.core.errors import UserError
from sibench.core.system import threads

VIEWS = ("front", "wrist")
SIDE = 84
FRAMES = (len(VIEWS), SIDE, SIDE, 3)
"""Shape of the frames of one observation."""
NUM_BYTES = math.prod(FRAMES)
MAX_PAINTERS = 8
MAX_REUSED_ROWS = 1024
"""Largest batch whose frames are kept until the next batch."""
INSTALL_HINT = "on Debian or Ubuntu: apt install libosmesa6 or libegl1; MUJOCO_GL=egl or osmesa selects one of them"


def pack(numbers: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Pack numbers [..., P] and frames [..., 2, 84, 84, 3] into rows of bytes."""
    numbers = np.ascontiguousarray(numbers, np.float32).view(np.uint8)
    return np.concatenate([numbers, frames.reshape(*numbers.shape[:-1], NUM_BYTES)], axis=-1)


def unpack(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers [..., P] and the frames [..., 2, 84, 84, 3] of rows of bytes."""
    numbers = np.ascontiguousarray(rows[..., :-NUM_BYTES]).view(np.float32)
    return numbers, rows[..., -NUM_BYTES:].reshape(*rows.shape[:-1], *FRAMES)


class Painter:
    """One process that draws. It is started when needed, and restarted once if it dies or hangs."""

    patience = 300  # seconds after which a request counts as hung; none should take more than ten
    max_rows = 500  # observations in one request, so that a long batch is not mistaken for a hung process

    def __init__(self, model: Any, gl: str):
        self.model, self.gl, self.lock = model, gl, threading.Lock()
        self.process: Any = None

    def draw(self, qpos: np.ndarray) -> np.ndarray:
        """[N, nq] -> [N, 2, 84, 84, 3]"""
        frames = np.empty((len(qpos), *FRAMES), np.uint8)
        with self.lock:
            for first in range(0, len(qpos), self.max_rows):
                rows = slice(first, first + self.max_rows)
                frames[rows] = self._draw(qpos[rows])
        return frames

    def _draw(self, qpos: np.ndarray, is_retry: bool = False) -> np.ndarray:
        timer = threading.Timer(self.patience, lambda: self.process and self.process.kill())
        timer.daemon = True
        timer.start()
        try:
            process = self.process or self.start()
            process.stdin.write(np.int64(len(qpos)).tobytes() + np.ascontiguousarray(qpos, np.float64).tobytes())
            process.stdin.flush()
            return np.frombuffer(self.receive(len(qpos) * NUM_BYTES), np.uint8).reshape(-1, *FRAMES)
        except (OSError, EOFError) as error:
            if self.process:
                with contextlib.suppress(subprocess.TimeoutExpired):  # it closed its pipe and is about to end
                    self.process.wait(1)
            problem = self.stop() or error
        finally:
            timer.cancel()
        if is_retry:
            raise UserError(f"no frames with MUJOCO_GL={self.gl}: {problem}")
        return self._draw(qpos, is_retry=True)

    def start(self) -> Any:
        import mujoco  # not at the top: other users of this module need no simulator

        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process lives
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sibench.tasks.cameras"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=os.environ | {"MUJOCO_GL": self.gl, "LP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the parent; this process ends with its input
        )
        image = np.zeros(mujoco.mj_sizeModel(self.model), np.uint8)
        mujoco.mj_saveModel(self.model, None, image)
        self.process.stdin.write(np.array([self.model.nq, len(image)], np.int64).tobytes() + image.tobytes())
        return self.process

    def receive(self, size: int) -> bytes:
        content = self.process.stdout.read(size)
        if len(content) < size:
            raise EOFError("the process that draws has ended")
        return content

    def stop(self) -> str:
        """End the process; return how it had ended before, with the last line of its error output."""
        if self.process is None:
            return ""
        exit_code = self.process.poll()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):  # closing flushes what the process had not read
                pipe.close()
        self.process = None
        with self.errors:
            self.errors.seek(0)
            output = self.errors.read().decode(errors="replace").rstrip()
        end = "the process that draws " + ("was ended" if exit_code is None else f"ended with {exit_code}")
        return f"{end}: {output.splitlines()[-1]}" if output else end


class Studio:
    """The painters of one model: one for each processor, up to `MAX_PAINTERS`."""

    def __init__(self, model: Any):
        gl = backend()
        self.painters = [Painter(model, gl) for _ in range(min(MAX_PAINTERS, threads()))]
        self.pool = ThreadPoolExecutor(len(self.painters))
        self.lock = threading.Lock()
        self.last_batch = np.zeros((0, model.nq)), np.zeros((0, *FRAMES), np.uint8)
        for painter in self.painters:
            atexit.register(painter.stop)

    def draw(self, qpos: np.ndarray) -> np.ndarray:
        """[N, nq] -> [N, 2, 84, 84, 3]; rows that equal the last batch's, as of finished episodes, are reused."""
        with self.lock:
            last_qpos, last_frames = self.last_batch
            frames, changed = np.empty((len(qpos), *FRAMES), np.uint8), np.ones(len(qpos), bool)
            if last_qpos.shape == qpos.shape:
                frames[:], changed = last_frames, (last_qpos != qpos).any(axis=1)
            shares = np.array_split(np.flatnonzero(changed), len(self.painters))
            drawn = self.pool.map(lambda painter, rows: painter.draw(qpos[rows]), self.painters, shares)
            for rows, new_frames in zip(shares, drawn, strict=True):
                frames[rows] = new_frames
            frames.flags.writeable = False
            if len(qpos) <= MAX_REUSED_ROWS:
                self.last_batch = qpos, frames
            return frames


studio = functools.cache(Studio)
"""The studio of a model, made once."""


@functools.cache
def backend() -> str:
    """Return the OpenGL library that works here: `egl` or `osmesa`, or what $MUJOCO_GL names."""
    import mujoco

    cameras = "".join(f'<camera name="{view}"/>' for view in VIEWS)
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{cameras}</worldbody></mujoco>")
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
    raise UserError("; ".join([*problems, INSTALL_HINT]))


def paint() -> None:
    """Run the process of a `Painter`: read a model, then repeatedly a count and as many qpos; write their frames."""
    import mujoco

    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keeps what a driver prints out of the frames
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
