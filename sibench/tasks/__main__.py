"""Print the tasks and their reference returns.

python -m sibench.tasks
"""

from sibench import tasks
from sibench.cameras import NUM_BYTES, SIDE


def table() -> str:
    """The table of the README."""
    lines = [
        "| task | the same as, or modelled on | observations | actions | random | expert |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in tasks.names():
        task, references = tasks.make(name, "c"), tasks.references(name)
        digits = 2 if references and references["expert"]["mean"] <= 1 else 0  # a return of 1 is a success
        returns = ["not measured"] * 2
        if references:
            measured = (references["random"], references["expert"])
            returns = [f"{one['mean']:.{digits}f} ± {one['std']:.{digits}f}" for one in measured]
        origin = task.gymnasium_id or task.modelled_on
        frames = task.observation_size - NUM_BYTES
        size = task.observation_size if frames < 0 else f"{frames // 4}, 2 × {SIDE} × {SIDE} × 3"
        cells = (f"`{task.id}`", origin, size, task.action_size, *returns)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
