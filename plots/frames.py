"""What the tasks look like: frames of a demonstration of each, by MuJoCo's renderer.

python plots/frames.py plots    draws plots/gaits.png of locomotion, plots/frames.png of manipulation, and
                                plots/cameras.png of what learners see of it; without OpenGL it says what to install
"""

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("MUJOCO_GL", "osmesa")  # needs no screen and no GPU; MuJoCo reads it when it is imported
try:
    import mujoco

    mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8).close()
except Exception as error:  # OpenGL loaders raise errors of many types
    hint = "on Debian: apt install libosmesa6, or set MUJOCO_GL=egl"
    print(f"frames: not drawn: no OpenGL ({error}); {hint}", file=sys.stderr)
    sys.exit()

import jax
import numpy as np
from matplotlib.image import imsave

from sibench import tasks
from sibench.bench.suites import MANIPULATION, TASKS
from sibench.data.collect import player
from sibench.tasks.rollout import rollout, seeds

SIDE, FRAMES, MOMENTS, GAP = 240, 6, 4, 4


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for picture, strip, names in (
        ("gaits", gait_frames, TASKS),
        ("frames", episode_frames, MANIPULATION),
        ("cameras", camera_frames, MANIPULATION),
    ):
        border = ((0, GAP), (0, GAP), (0, 0))
        strips = [[np.pad(frame, border, constant_values=255) for frame in strip(*play(name))] for name in names]
        image = np.concatenate([np.concatenate(frames, axis=1) for frames in strips])[:-GAP, :-GAP]
        imsave(out / f"{picture}.png", np.ascontiguousarray(image))
        print(f"drew {out / picture}.png")


def play(name: str) -> tuple[Any, Any]:
    """Play the expert for one episode; return the task and the episode."""
    task = tasks.make(name, "c")
    act, params, _ = player(task, "expert")
    return task, rollout(task, act, params, seeds("select", f"frames/{name}", 1), record=True)


def camera_frames(task, episode) -> list[np.ndarray]:
    """Return what both cameras see at evenly spaced moments, enlarged twice."""
    steps = np.linspace(0, episode.length[0], MOMENTS).round().astype(int)
    image_task: Any = tasks.make(f"{task.name}-image", "c")
    pairs = image_task.frames(episode.obs[0, steps])
    return [np.kron(frame, np.ones((2, 2, 1), np.uint8)) for pair in pairs for frame in pair]


def episode_frames(task, episode) -> list[np.ndarray]:
    """Return evenly spaced frames of an episode."""
    return render(task, episode, np.linspace(0, episode.length[0] - 1, FRAMES).round(), "front")


def gait_frames(task, episode) -> list[np.ndarray]:
    """Return frames a tenth of a second apart, from second two on; later some tasks leave the floor that is drawn."""
    return render(task, episode, ((2 + np.arange(FRAMES) / 10) / task.dt).round(), "track")


def render(task, episode, steps: np.ndarray, camera: str) -> list[np.ndarray]:
    """Replay an episode and return its frames at these steps."""
    state = task.reset_to(*np.split(episode.initial_state[0], [task.model.nq]))
    step, frames = jax.jit(task.step), []
    data = mujoco.MjData(task.model)
    with mujoco.Renderer(task.model, SIDE, SIDE) as renderer:
        for at, action in enumerate(episode.action[0, : episode.length[0]]):
            state = step(state, action)
            if at in steps:
                data.qpos[:] = state.pipeline_state.fields["qpos"]
                mujoco.mj_forward(task.model, data)
                renderer.update_scene(data, camera=camera)
                frames.append(renderer.render())
    return frames


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "plots"))
