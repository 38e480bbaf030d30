"""Self-improvement, policy against data (figure 6 of the paper)."""

import numpy as np
import panels
import style

from sibench.analysis.measures import chain, converged_places, place


def draw(results: list):
    """Draw a panel for each method and task; the dotted line, from single trainings, predicts the stairs."""
    converged, chains = converged_places(results), [result for result in results if result.rounds]
    singles = [result for result in results if not result.rounds and result.dataset.startswith("bc-")]
    ladder, tasks = panels.by_task(singles), panels.by_task(chains)
    looks = style.looks(result.method for result in chains)
    pairs = [(task, method) for method in looks for task in tasks if method in tasks[task]]
    names = [f"{task}, {looks[method].label.split(' (')[0]}" for task, method in pairs]
    columns = len(tasks) if len(tasks) > 1 else 3
    figure, axes = panels.make_panels(names, "quality of the data", "score", 2.1 if columns < 4 else 1.9, columns)
    values = np.concatenate([np.ravel(chain(result)) for result in chains])
    limits = (values.min() - 0.06, values.max() + 0.06)
    for (task, method), (axis,) in zip(pairs, axes.values(), strict=True):
        axis.set(xlim=limits, ylim=limits)
        axis.locator_params(nbins=4)
        panels.mark_expert(axis, absolute=True)
        if cells := ladder.get(task, {}).get(method):
            quality, score = [cell.quality for cell in cells], [cell.score.mean() for cell in cells]
            axis.plot(quality, score, color="0.25", linewidth=1.0, linestyle=":", label="ladder")
        for result in tasks[task][method]:
            stairs(axis, *chain(result), place(result) in converged, looks[method])
    panels.key(figure, {}, chains, converged, hatched=limits[1] > 1)
    dotted = " Dotted: single trainings on the ladder." if ladder else ""
    panels.caption(figure, f"Up: the policy's score. Across: the data that it collects.{dotted}")
    return figure


def stairs(axis, data: np.ndarray, policy: np.ndarray, solid: bool, look: style.Look) -> None:
    """Draw the stairs of all seeds and of their mean, given [K, S] qualities and scores."""
    for seed in range(data.shape[1]):
        axis.plot(*corners(data[:, seed], policy[:, seed]), color=look.color, linewidth=0.4, alpha=0.35)
    x, y = corners(data.mean(1), policy.mean(1))
    axis.plot(x, y, color=look.color, linewidth=1.1, alpha=1.0 if solid else 0.35, label=look.label)
    axis.plot(x[0], y[0], marker="o", markersize=3, color=look.color)
    face = look.color if solid else "white"
    axis.plot(x[-1], y[-1], marker=look.marker, markersize=4.5, color=look.color, markerfacecolor=face)


def corners(data: np.ndarray, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a line from the diagonal up to each policy, and across to the data that it collected."""
    return np.repeat(data, 2), np.stack([np.append(data[0], policy[:-1]), policy], 1).ravel()
