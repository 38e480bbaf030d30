"""Print the tasks and their reference returns.

python -m sibench.tasks
"""

from sibench import tasks


def table() -> str:
    """The table of the README."""
    lines = ["| task | Gymnasium | observations | actions | random | expert |", "| --- | --- | --- | --- | --- | --- |"]
    for name in tasks.names():
        task, references = tasks.make(name, "c"), tasks.references(name) or {}
        returns = [f"{r['mean']:.0f} ± {r['std']:.0f}" for r in (references.get(p) for p in ("random", "expert")) if r]
        returns = returns or ["not measured"] * 2
        cells = (f"`{task.id}`", task.gymnasium_id, task.observation_size, task.action_size, *returns)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
