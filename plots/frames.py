"""What the tasks look like: frames of a demonstration of each, by MuJoCo's renderer.

python plots/frames.py    draws plots/gaits.png of locomotion, plots/frames.png of manipulation, and plots/cameras.png
                          of what learners see of it; without OpenGL it says what to install
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sibench import cli

os.environ.setdefault("MUJOCO_GL", "osmesa")  # needs no screen and no GPU; MuJoCo reads it when it is imported
HERE = Path(__file__).parent
SIDE, FRAMES, MOMENTS, GAP = 240, 6, 4, 4


@dataclass(frozen=True)
class Config:
    """Draw strips of frames for each task."""


def main(config: Config) -> None:
    from matplotlib.image import imsave

    try:
        import mujoco

        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8).close()
    except Exception as error:  # of whichever of OpenGL's loaders fails
        print(f"frames: not drawn: no OpenGL ({error}); on Debian: apt install libosmesa6, or set MUJOCO_GL=egl")
        return
    from sibench.suites import MANIPULATION, TASKS

    gap = ((0, GAP), (0, GAP), (0, 0))
    strips = (("gaits", gait, TASKS), ("frames", frames, MANIPULATION), ("cameras", seen, MANIPULATION))
    for picture, of, names in strips:
        framed = [[np.pad(frame, gap, constant_values=255) for frame in of(name)] for name in names]
        whole = np.concatenate([np.concatenate(strip, axis=1) for strip in framed])[:-GAP, :-GAP]
        imsave(HERE / f"{picture}.png", np.ascontiguousarray(whole))
        print(f"drew {HERE / picture}.png")


def demonstration(name: str):
    """The first episode of the expert's."""
    from sibench import tasks
    from sibench.data.collect import player
    from sibench.rollout import rollout, seeds

    task = tasks.make(name, "c")
    act, params, _ = player(task, "expert")
    return task, rollout(task, act, params, seeds("select", f"frames/{name}", 1), record=True)


def seen(name: str) -> list[np.ndarray]:
    """By both cameras, at evenly spaced moments, each pixel twice as large."""
    from sibench import tasks

    task, played = demonstration(name)
    chosen = np.linspace(0, played.length[0], MOMENTS).round().astype(int)
    pairs = tasks.make(f"{task.name}-image", "c").frames(played.obs[0, chosen])
    return [np.kron(frame, np.ones((2, 2, 1), np.uint8)) for pair in pairs for frame in pair]


def frames(name: str) -> list[np.ndarray]:
    """Evenly spaced."""
    task, played = demonstration(name)
    return drawn(task, played, np.linspace(0, played.length[0] - 1, FRAMES).round(), "front")


def gait(name: str) -> list[np.ndarray]:
    """A tenth of a second apart, from two seconds on: later some are beyond the floor that is drawn."""
    task, played = demonstration(name)
    return drawn(task, played, ((2 + np.arange(FRAMES) / 10) / task.dt).round(), "track")


def drawn(task, played, chosen: np.ndarray, camera: str) -> list[np.ndarray]:
    """The episode played once more, and drawn at the chosen steps."""
    import jax
    import mujoco

    state = task.reset_to(*np.split(played.initial_state[0], [task.model.nq]))
    step, shown = jax.jit(task.step), []
    data = mujoco.MjData(task.model)
    with mujoco.Renderer(task.model, SIDE, SIDE) as renderer:
        for at, action in enumerate(played.action[0, : played.length[0]]):
            state = step(state, action)
            if at in chosen:
                data.qpos[:] = state.pipeline_state.fields["qpos"]
                mujoco.mj_forward(task.model, data)
                renderer.update_scene(data, camera=camera)
                shown.append(renderer.render())
    return shown


if __name__ == "__main__":
    cli.run(main, Config, "python plots/frames.py")
