"""Self-improvement, policy against data (figure 6 of the paper).

python plots/staircase.py    draws plots/staircase-<suite>.png and .svg for every suite in results
"""

import numpy as np
import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

METHODS = ("vfo-bin", "vfo-disc", "awr", "smodice-kl")


def draw(results: list) -> Figure:
    """A panel for each method and task; what the method makes of the ladder's data is to foretell its stairs."""
    from sibench.evidence import chain, converged_places, place

    good = converged_places(results)
    chains = [one for one in results if "chain" in one.raw and one.method in METHODS]
    ladder = style.by_task(one for one in results if "chain" not in one.raw)
    tasks = style.by_task(chains)
    pairs = [(task, method) for method in METHODS for task, found in tasks.items() if method in found]
    names = [f"{task}, {style.LABELS[method].split(' (')[0]}" for task, method in pairs]
    height, columns = 1.9 if len(pairs) > 1 else 3.3, len(tasks) if len(tasks) > 1 else 3
    figure, panels = style.panels(names, "quality of the data", "score", height, columns)
    values = np.concatenate([np.ravel(chain(one)) for one in chains])
    limits = (values.min() - 0.06, values.max() + 0.06)
    for (task, method), (axis,) in zip(pairs, panels.values(), strict=True):
        axis.set(xlim=limits, ylim=limits)
        axis.locator_params(nbins=4)
        style.headroom(axis, absolute=True)
        if proxy := ladder.get(task, {}).get(method):
            quality, score = [one.quality for one in proxy], [one.score.mean() for one in proxy]
            axis.plot(quality, score, color="0.25", linewidth=1.0, linestyle=":", label="ladder")
        for one in tasks[task][method]:
            stairs(axis, *chain(one), place(one) in good, method)
    style.footnote(
        figure,
        chains,
        good,
        "Each step goes up from the data to the score of the policy that learned from it, and across to the data that "
        "this policy collected. Thin: seeds. Thick: their mean; it begins at the dot and ends at the mark. "
        "Diagonal: as good as the data. Dotted: what the method makes of the ladder's data. Hatched: above the expert.",
    )
    return figure


def stairs(axis: Axes, data: np.ndarray, policy: np.ndarray, solid: bool, method: str) -> None:
    """[K, S] qualities and scores."""
    colour, marker, *_ = style.LOOKS[method]
    for seed in range(data.shape[1]):
        axis.plot(*corners(data[:, seed], policy[:, seed]), color=colour, linewidth=0.4, alpha=0.35)
    x, y = corners(data.mean(1), policy.mean(1))
    axis.plot(x, y, color=colour, linewidth=1.1, alpha=1.0 if solid else 0.35, label=style.LABELS[method])
    axis.plot(x[0], y[0], marker="o", markersize=3, color=colour)
    axis.plot(x[-1], y[-1], marker=marker, markersize=4.5, color=colour, markerfacecolor=colour if solid else "white")


def corners(data: np.ndarray, policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From the diagonal up to each policy, and across to the data that it collected."""
    return np.repeat(data, 2), np.stack([np.append(data[0], policy[:-1]), policy], 1).ravel()


if __name__ == "__main__":
    style.run(draw, kinds=["chain"], methods=METHODS, beside=True)
