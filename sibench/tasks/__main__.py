"""Print the tasks and their reference returns.

python -m sibench.tasks
"""

from sibench import tasks
from sibench.cameras import NUM_BYTES, SIDE
from sibench.ids import has_frames


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
        numbers = task.observation_size
        size = f"{(numbers - NUM_BYTES) // 4}, 2 × {SIDE} × {SIDE} × 3" if has_frames(name) else numbers
        cells = (f"`{task.id}`", origin, size, task.action_size, *returns)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
