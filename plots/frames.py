"""What the manipulation tasks look like: frames of a demonstration of each, by MuJoCo's renderer.

python plots/frames.py    draws plots/frames.png; without OpenGL it says what to install
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sibench import cli

os.environ.setdefault("MUJOCO_GL", "osmesa")  # needs no screen and no GPU; MuJoCo reads it when it is imported
HERE = Path(__file__).parent
SIDE, FRAMES, GAP = 240, 6, 4


@dataclass(frozen=True)
class Config:
    """Draw a strip of frames for each manipulation task."""


def main(config: Config) -> None:
    from matplotlib.image import imsave

    try:
        import mujoco

        mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8).close()
    except Exception as error:  # of whichever of OpenGL's loaders fails
        print(f"frames: not drawn: no OpenGL ({error}); on Debian: apt install libosmesa6, or set MUJOCO_GL=egl")
        return
    from sibench.suites import MANIPULATION

    gap = ((0, GAP), (0, GAP), (0, 0))
    framed = [[np.pad(frame, gap, constant_values=255) for frame in frames(name)] for name in MANIPULATION]
    imsave(HERE / "frames.png", np.concatenate([np.concatenate(strip, axis=1) for strip in framed])[:-GAP, :-GAP])
    print(f"drew {HERE / 'frames.png'}")


def frames(name: str) -> list[np.ndarray]:
    """Evenly spaced, of the script's first episode."""
    import jax
    import mujoco

    from sibench import tasks
    from sibench.data.collect import player
    from sibench.rollout import rollout, seeds

    task = tasks.make(name, "c")
    act, params, _ = player(task, "expert")
    played = rollout(task, act, params, seeds("select", f"frames/{name}", 1), record=True)
    state = task.reset_to(*np.split(played.initial_state[0], [task.model.nq]))
    step, shown = jax.jit(task.step), []
    chosen = np.linspace(0, played.length[0] - 1, FRAMES).round()
    data = mujoco.MjData(task.model)
    with mujoco.Renderer(task.model, SIDE, SIDE) as renderer:
        for at, action in enumerate(played.action[0, : played.length[0]]):
            state = step(state, action)
            if at in chosen:
                data.qpos[:] = state.pipeline_state.fields["qpos"]
                mujoco.mj_forward(task.model, data)
                renderer.update_scene(data, camera="front")
                shown.append(renderer.render())
    return shown


if __name__ == "__main__":
    cli.run(main, Config, "python plots/frames.py")
