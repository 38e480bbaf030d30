"""Print the tasks and their reference returns.

python -m sibench.tasks
"""

from sibench import tasks


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
        cells = (f"`{task.id}`", origin, task.observation_size, task.action_size, *returns)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
