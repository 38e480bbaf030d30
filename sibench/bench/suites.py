"""The suites: which cells there are, not how they run.

A cell is a method on a dataset of a task, with what it sets beside the method's own defaults. The figures in brackets
are those of *Value from Observations* (arXiv 2507.06701).
"""

import itertools
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sibench.core.errors import unknown
from sibench.core.ids import EPISODES, FEW, LADDER, MIXES
from sibench.learning import results
from sibench.learning.method import RunConfig
from sibench.learning.methods import Variant, resolve, variant
from sibench.learning.results import Result

TASKS = ("halfcheetah", "hopper", "walker2d", "ant")
MANIPULATION = ("lift", "can", "square")
IMAGES = tuple(f"{task}-image" for task in MANIPULATION)

MAIN = ("bc", "bco", "vfo-bin", "vfo-disc", "awr", "smodice-kl", "dilo")
"""The methods of the paper's main figures."""


class Cell(NamedTuple):
    task: str
    method: str
    dataset: str  # without its task
    settings: tuple[tuple[str, Any], ...] = ()  # sorted by name

    @property
    def name(self) -> str:
        """Name of its result file, without the task's folder: `vfo-bin-bc-5`, `vfo-bin-bc-5-temperature-0.1`."""
        parts = [self.method, self.dataset]
        for key, value in self.settings:
            parts += [key.replace("_", "-"), f"{value:g}" if isinstance(value, float) else str(value)]
        return "-".join(parts)


@dataclass(frozen=True)
class Suite:
    name: str
    about: str
    """One line: what it shows."""
    cells: tuple[Cell, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of all its cells, in place of the methods' defaults."""
    rounds: int = 0
    """Rounds of self-improvement that each cell goes through; 0 for a suite of single trainings."""
    episodes: int = EPISODES
    """Episodes that policies play between these rounds."""

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(cell.method for cell in self.cells))

    @property
    def places(self) -> set[tuple]:
        """What a method is run on: task, dataset and settings."""
        return {(cell.task, cell.dataset, cell.settings) for cell in self.cells}

    def with_methods(self, names: Iterable[str]) -> tuple[Cell, ...]:
        """Return the cells of these methods. One that is not in the suite is run on all that the others are run on."""
        chosen = list(names) or self.methods
        own = [cell for cell in self.cells if cell.method in chosen]
        places = dict.fromkeys((cell.task, cell.dataset, cell.settings) for cell in self.cells)
        for name in chosen:
            if name not in self.methods:
                variant(name)  # an unknown method is an error that names the nearest
                own += [Cell(task, name, dataset, settings) for task, dataset, settings in places]
        return tuple(own)

    def config(self, cell: Cell) -> RunConfig:
        """Return the config of a cell, without folders."""
        own: Variant = variant(cell.method)
        others = [variant(name).method for name in {*self.methods, cell.method}]
        given = dict(cell.settings)
        return resolve(
            own.method,
            cell.task,
            variant=own.settings,
            suite=self.settings,
            suite_methods=others,
            dataset=(cell.dataset,),
            **given,
        )


def grid(
    tasks: Iterable[str], methods: Iterable[str], datasets: Iterable[str], **varied: Iterable[Any]
) -> tuple[Cell, ...]:
    """Return every combination."""
    names = sorted(varied)
    return tuple(
        Cell(task, method, dataset, tuple(zip(names, values, strict=True)))
        for task, method, dataset in itertools.product(tasks, methods, datasets)
        for values in itertools.product(*(varied[name] for name in names))
    )


def ladder(*levels: int) -> tuple[str, ...]:
    return tuple(f"bc-{level}" for level in levels or LADDER)


SMALL = {
    "hidden": (128, 128),
    "batch_size": 128,
    "learning_rate": 2e-3,
    "schedule": "cosine",
    "steps": 30_000,
    "target_every": 20,  # 1500 copies: the paper's 200 would make 150, and values of a horizon of 100 a fifth short
    "seeds": 3,
    "evals": 3,
    "eval_episodes": 5,
    "final_episodes": 200,
    "expert": "expert-n10",
}
"""Settings that two processors can run in hours, and under which BC converges."""

WITH_BCO = {"inverse_steps": 10_000}

WIDE = SMALL | {
    "batch_size": 256,
    "learning_rate": 1e-3,
    "steps": 60_000,
    "target_every": 200,  # the paper's; 300 copies are enough
    "seeds": 2,
    "final_episodes": 100,
}
"""Settings for data that takes larger networks to learn."""

QUICK = SMALL | {
    "learning_rate": 3e-3,
    "steps": 20_000,
    "disc_steps": 2000,
    "seeds": 4,
    "evals": 1,
    "eval_episodes": 2,
    "final_episodes": 50,
}

_suites = (
    Suite(
        "quick",
        "the effect, in ten minutes on two processors: hopper, small networks",
        grid(("hopper",), ("bc", "vfo-bin", "awr", "smodice-kl", "dilo"), ("bc-1-n400", "bc-5-n400")),
        QUICK,
    ),
    Suite(
        "small",
        "the main comparison in an hour on two processors: hopper",
        grid(("hopper",), (*MAIN, "vfo-disc-ending", "awr-absorbing"), ladder(1, 2, 5, 20, 100, 1000)),
        SMALL | WITH_BCO,
    ),
    Suite(
        "small-walker2d",
        "the same on a second task: walker2d",
        grid(("walker2d",), MAIN, ladder(1, 2, 5)),
        SMALL | WITH_BCO,
    ),
    Suite(
        "small-halfcheetah",
        "the same on a third, with the paper's networks, as smaller clones fall short of their data: halfcheetah",
        grid(("halfcheetah",), MAIN, ladder(1, 5, 20, 50, 100, 1000)),
        WIDE | WITH_BCO | {"hidden": (512, 512)},
    ),
    Suite(
        "small-bimodal",
        "a few expert episodes among random ones, at that size: hopper",
        grid(("hopper",), ("bc", "vfo-bin", "awr", "smodice-kl", "dilo"), ("mix-100", "mix-300", "mix-600")),
        SMALL,
    ),
    Suite(
        "small-temperature",
        "how much VfO's temperature matters, at that size: hopper",
        grid(("hopper",), ("vfo-bin",), ladder(2, 5), temperature=(0.1, 0.3, 1.0, 3.0, 10.0)),
        SMALL | {"seeds": 2},
    ),
    Suite(
        "small-awr-temperature",
        "how much the oracle AWR's matters, at that size: hopper",
        grid(("hopper",), ("awr",), ladder(1, 2, 5), temperature=(0.03, 0.1, 0.3)),
        SMALL | {"seeds": 2},
    ),
    Suite(
        "small-mixture",
        "how much its share of background data matters, at that size: hopper",
        grid(("hopper",), ("vfo-bin",), ladder(2, 5), mixture=(0.1, 0.3, 0.5, 0.7, 0.9)),
        SMALL | {"seeds": 2},
    ),
    Suite(
        "small-sqil",
        "SQIL, privileged, against temperature and mixture, at that size: hopper",
        grid(("hopper",), ("sqil",), ladder(2, 5), mixture=(0.9,), temperature=(0.3, 1.0, 3.0))
        + grid(("hopper",), ("sqil",), ladder(2, 5), mixture=(0.1, 0.5), temperature=(1.0,)),
        SMALL | {"seeds": 2},
    ),
    Suite(
        "small-demos",
        "how results move with the number of expert demonstrations, at that size: hopper",
        grid(("hopper",), ("vfo-bin", "vfo-disc", "smodice-kl"), ladder(2), demos=(1, 10, 100, 1000)),
        SMALL | {"seeds": 2, "expert": "expert"},
    ),
    Suite(
        "small-nce",
        "dynamics representations against the number of demonstrations, at that size: hopper",
        grid(("hopper",), ("nce-inverse", "nce-value", "nce-privileged"), ladder(2), demos=(1, 10, 100)),
        SMALL | {"seeds": 2, "expert": "expert"},
    ),
    Suite(
        "small-self-improve",
        "self-improvement at that size: hopper, three rounds",
        grid(("hopper",), ("bc", "vfo-bin", "awr"), ("bc-2",)),
        SMALL | {"seeds": 2, "evals": 1},
        rounds=3,
        episodes=400,
    ),
    Suite(
        "small-self-improve-warm",
        "the same at VfO's temperature 3",
        grid(("hopper",), ("bc", "vfo-bin"), ("bc-2",)),
        SMALL | {"seeds": 2, "evals": 1, "temperature": 3.0},
        rounds=3,
        episodes=400,
    ),
    Suite(
        "small-manipulation",
        "improvement in success, with networks as large as the teachers': lift, can, square",
        grid(("lift",), ("bc", "vfo-bin", "awr"), ladder(50))
        + grid(("can",), ("bc", "vfo-bin", "awr"), ladder(20, 100))
        + grid(("square",), ("bc", "vfo-bin", "awr"), ladder(200)),
        WIDE | {"hidden": (256, 256), "seeds": 4, "final_episodes": 200},
    ),
    Suite(
        "small-manipulation-self-improve",
        "self-improvement of success, with these networks: can, three rounds",
        grid(("can",), ("bc", "vfo-bin", "awr"), ("bc-20",)),
        WIDE | {"hidden": (256, 256), "batch_size": 128, "steps": 30_000, "target_every": 100, "seeds": 4, "evals": 1},
        rounds=3,
        episodes=400,
    ),
    Suite(
        "small-manipulation-images",
        "the same through two cameras: lift",
        grid(("lift-image",), ("bc", "vfo-bin", "awr"), ("bc-5-n400",)),
        SMALL
        | {
            "hidden": (256, 256),
            "batch_size": 64,
            "steps": 20_000,
            "target_every": 50,
            "seeds": 4,
            "evals": 1,
            "eval_episodes": 2,
            "final_episodes": 100,
        },
    ),
    Suite(
        "sibench",
        "improvement over the whole range of data quality (figures 2, 10, 17, 18)",
        grid(TASKS, MAIN, ladder()),
    ),
    Suite(
        "bimodal",
        "a few expert episodes among random ones (figures 4, 12)",
        grid(TASKS, MAIN, [f"mix-{e}" for e in MIXES]),
    ),
    Suite(
        "self-improve",
        "a method applied again and again to its own output (figures 6, 14)",
        grid(TASKS, ("bc", "bco", "vfo-bin", "awr", "smodice-kl", "dilo"), ladder(1, 5)),
        rounds=20,
    ),
    Suite(
        "manipulation",
        "improvement in success: lift, can, square (figures 3, 11)",
        grid(MANIPULATION, ("bc", "bco", "vfo-bin", "vfo-disc", "awr", "smodice-chi2", "dilo"), ladder(*FEW)),
    ),
    Suite(
        "manipulation-images",
        "the same through two cameras (figures 5, 13)",
        grid(IMAGES, ("bc", "bco", "vfo-bin", "vfo-disc", "awr", "smodice-chi2", "dilo"), ladder(*FEW)),
    ),
    Suite(
        "manipulation-self-improve",
        "self-improvement of success (figure 7)",
        grid(MANIPULATION, ("bc", "vfo-bin", "awr"), ladder(5, 20)),
        rounds=20,
    ),
    Suite(
        "temperature",
        "how much the temperature of VfO's weights matters (figure 8)",
        grid(TASKS, ("vfo-bin",), ladder(), temperature=(0.1, 0.3, 1.0, 3.0, 10.0)),
    ),
    Suite(
        "mixture",
        "how much the share of background data in VfO's value loss matters (figure 9)",
        grid(TASKS, ("vfo-bin",), ladder(), mixture=(0.1, 0.3, 0.5, 0.7, 0.9)),
    ),
    Suite(
        "sqil",
        "SQIL, privileged with expert actions, against temperature and mixture (figures 15, 16)",
        grid(TASKS, ("sqil",), ladder(), mixture=(0.9,), temperature=(0.1, 0.3, 1.0, 3.0, 10.0))
        + grid(TASKS, ("sqil",), ladder(), mixture=(0.1, 0.3, 0.5, 0.7), temperature=(1.0,)),
    ),
    Suite(
        "ablations",
        "what the paper says in passing of temperatures and of SMODICE's discriminator (section 4.4, appendix B)",
        grid(TASKS, ("vfo-bin",), ("mix-100", "mix-200", "mix-300"), temperature=(0.1,))
        + grid(TASKS, ("smodice-kl",), ladder(1, 2, 5, 20), disc_steps=(100_000,))
        + grid(MANIPULATION, ("dilo",), ladder(*FEW), temperature=(100.0,)),
    ),
    Suite(
        "nce",
        "dynamics representations against the number of demonstrations",
        grid(TASKS, ("nce-inverse", "nce-value", "nce-privileged"), ladder(5, 20, 100), demos=(1, 10, 100)),
    ),
    Suite(
        "demos",
        "how results move with the number of expert demonstrations",
        grid(TASKS, ("bco", "vfo-bin", "vfo-disc", "smodice-kl", "dilo"), ladder(5, 20, 100), demos=(1, 10, 100, 1000)),
    ),
)
SUITES = {suite.name: suite for suite in _suites}


def base(name: str) -> str:
    """Return the suite that a folder of results is of: `sibench` for `sibench-x0.1`, a tenth of the updates."""
    return re.sub(r"-x(0\.\d+|\d(\.\d+)?e-\d+)$", "", name)


def suite(name: str) -> Suite:
    if name not in SUITES:
        raise unknown("suite", name, SUITES)
    return SUITES[name]


def read_suite(name: str, folder: Path = results.FOLDER) -> list[Result]:
    """Return all results of a suite, in the order of their names.

    A file counts if the suite runs that dataset with those settings, whatever the method. Any other file is reported.
    """
    known, found = suite(base(name)), []
    for file in sorted((folder / name).glob("*/*.json")):
        result = results.read(file)
        settings = tuple(sorted(result.settings.items()))
        cell = Cell(result.task, result.method, result.dataset, settings)
        if (result.task, result.dataset, settings) in known.places and file.stem == cell.name:
            found.append(result)
        else:
            print(f"{file} is no cell of suite {name}: left out", file=sys.stderr)
    return found
