"""A run: one program of lanes on one task, its data, and the folder in which it keeps everything.

<out>/<task>/<method>-<datasets>/
    run.json                    what is run; a folder with another run is refused
    checkpoints/                the states of all lanes
    <cell>-seed-<seed>/         metrics.jsonl, the policy, and its final episodes
    result-<cell>.json          one result a cell, at the end
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sibench import LEARNING_VERSION, tasks
from sibench.core import files, provenance
from sibench.core.errors import UserError
from sibench.core.ids import parse_id
from sibench.data import Dataset, load_privileged
from sibench.data.collect import content_key
from sibench.learning.lanes import Lane, Program, cell_name, lane_name, make_lanes
from sibench.learning.method import Method, RunConfig, Spec, settings_that_move_results
from sibench.learning.methods import name_of
from sibench.learning.results import Identity
from sibench.learning.sampling import Data, make_data
from sibench.tasks import cameras
from sibench.tasks.physics import pick_engine

ELSEWHERE = ("task", "dataset", "sweep", "paired")
"""Fields of a config that are not among the settings of a result, which has them elsewhere."""


class Run:
    """What does not change while a run goes on."""

    def __init__(self, config: RunConfig, method: Method):
        self.config, self.method = config, method
        self.task = tasks.make(config.task, config.engine)
        if self.task.observes_pixels:
            if not method.takes_pixels:
                twin = tasks.state_twin(config.task)
                raise UserError(f"task={config.task}; {method.file} cannot learn from frames; use {twin}")
            cameras.backend()  # fails now rather than after the training
        self.lanes = make_lanes(config)
        self.privileges = method.sees(config)
        spec = Spec(self.task.observation_size, self.task.action_size)
        self.algorithm = method.make(config, spec)
        data, self.datasets, self.demonstrations = load_data(config, self.lanes, self.privileges)
        self.program = Program(method.make, config, spec, self.lanes, data)
        self.name = name_of(method, config)
        self.folder = run_folder(config, self.name)
        self.lane_names = [lane_name(config, lane) for lane in self.lanes]
        self.cells: dict[str, Lane] = {}  # every cell with the first of its lanes
        for lane in self.lanes:
            self.cells.setdefault(cell_name(config, lane), lane)
        self.result_files = {cell: self.folder / f"result-{cell}.json" for cell in self.cells}

    def begin(self) -> None:
        """Write down what is run; refuse a folder that holds something else."""
        identities = [self.identity(lane) for lane in self.cells.values()]
        settings = settings_that_move_results(self.config) | {"method": self.name, "engine": self.task.backend}
        data = {name: key for one in identities for name, key in one.data.items()}
        settings |= {"method_version": self.method.version, "data": data}
        source = files.sha256(Path(self.method.make.__code__.co_filename))
        run = provenance.start_run(self.folder, settings, source)
        self.code = run["code"]
        if run.get("source_sha256") != source:
            print(
                f"note: {self.method.file}.py changed since {self.folder} was begun; if its numbers moved, raise its "
                "METHOD.version, or choose another --out"
            )

    def identity(self, lane: Lane) -> Identity:
        config = self.config
        swept = {} if lane.swept is None else {config.swept: lane.swept}
        return identity(self.method, config, lane.dataset, swept)


def run_folder(config: RunConfig, name: str) -> Path:
    """Return the folder of a run; `name` is that of its method."""
    datasets = ["paired"] if config.paired else config.dataset
    parts = [name, *datasets, *([config.swept] if config.sweep else [])]
    return config.out / tasks.task_type(config.task).name / "-".join(parts)


def identity(method: Method, config: RunConfig, dataset: str, given: dict[str, Any] | None = None) -> Identity:
    """Return what determines the result of a method on a dataset of this machine.

    Args:
        given: settings in place of the config's, such as a swept value; or beside them, such as a number of rounds.
    """
    settings = {name: value for name, value in settings_that_move_results(config).items() if name not in ELSEWHERE}
    names = dict.fromkeys((dataset, config.expert))
    return Identity(
        method_version=method.version,
        learning_version=LEARNING_VERSION,
        data={name: content_key(parse_id(f"{config.task}/{name}")) for name in names},
        settings=settings | {"engine": pick_engine(config.engine)} | (given or {}),
        packages=provenance.packages(),
    )


def load_data(
    config: RunConfig, lanes: list[Lane], privileges: tuple[str, ...]
) -> tuple[Data, dict[str, Dataset], Dataset]:
    """Return what the lanes draw from, the background datasets by name, and the demonstrations."""
    datasets = {name: load_privileged(f"{config.task}/{name}", build=config.build) for name in config.dataset}
    expert = load_privileged(f"{config.task}/{config.expert}", build=config.build)
    for dataset in (*datasets.values(), expert):
        if str(dataset.card.get("source", "")).startswith("robomimic"):
            print(f"{dataset.card['id']}: recorded in robosuite's frames; its returns on {config.task} mean nothing")
    if config.demos > expert.num_episodes:
        raise UserError(f"demos={config.demos}; {expert.card['id']} has {expert.num_episodes}")
    expert = expert.first(config.demos)
    order = list(datasets)
    data = make_data(list(datasets.values()), expert, [order.index(lane.dataset) for lane in lanes], privileges)
    return data, datasets, expert


class Stopwatch:
    """Seconds spent on compiling, training and evaluating."""

    def __init__(self, program: Program):
        self.program = program
        self.seconds = {"compile": 0.0, "train": 0.0, "evaluate": 0.0}

    @contextlib.contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        start, compiled = time.monotonic(), self.program.compile_seconds
        yield
        compiling = self.program.compile_seconds - compiled
        self.seconds["compile"] += compiling
        self.seconds[what] += time.monotonic() - start - compiling
