"""Plan a suite: which cells are stale, and how they are packed into programs."""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax

from sibench.bench import suites
from sibench.bench.config import Config
from sibench.bench.suites import Cell, Suite
from sibench.core.errors import UserError
from sibench.learning import results
from sibench.learning.lanes import Lane, cell_name
from sibench.learning.method import RunConfig, Spec
from sibench.learning.methods import CHECKOUT, flags, name_of, variant
from sibench.learning.results import Identity
from sibench.learning.run import identity, run_folder
from sibench.tasks import observes_pixels
from sibench.tasks.physics import pick_engine


@dataclasses.dataclass
class Pack:
    """Cells of one task, method and settings, save one number that may be swept: the lanes of one program."""

    cells: list[Cell]
    config: RunConfig
    command: list[str]
    identities: list[Identity | None]  # of each cell; None while its data is missing
    folder: Path
    seconds: float | None  # estimated; None without comparable results
    rounds: int = 0  # of self-improvement

    @property
    def name(self) -> str:
        first = self.cells[0]
        varied = {name: [str(dict(cell.settings)[name]) for cell in self.cells] for name, _ in first.settings}
        return " ".join([first.task, first.method, *(f"{k}={','.join(dict.fromkeys(v))}" for k, v in varied.items())])

    @property
    def datasets(self) -> str:
        return " ".join(dict.fromkeys(cell.dataset for cell in self.cells))

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def updates(self) -> int:
        """Updates of one lane, over all rounds."""
        return max(1, self.rounds) * num_updates(self.cells[0], self.config)

    @property
    def method_name(self) -> str:
        """The learner's own name for the method, from its settings."""
        return name_of(variant(self.cells[0].method).method, self.config)

    @property
    def run_folder(self) -> Path:
        """Folder of the learner's run."""
        if self.rounds:
            return self.config.out / self.config.task / f"self-{self.method_name}-{self.cells[0].dataset}"
        return run_folder(self.config, self.method_name)

    def result_file(self, cell: Cell) -> Path:
        """The file in which the learner leaves a cell's result."""
        return self.run_folder / ("result.json" if self.rounds else f"result-{self.lane_prefix(cell)}.json")

    def policy_files(self, cell: Cell, seed: int) -> list[Path]:
        """The files of a seed's policy; none in self-improvement, which keeps one a round."""
        if self.rounds:
            return []
        return sorted((self.run_folder / f"{self.lane_prefix(cell)}-seed-{seed}").glob("policy.*"))

    def lane_prefix(self, cell: Cell) -> str:
        return cell_name(self.config, Lane(cell.dataset, dict(cell.settings).get(self.config.swept), 0))

    def done(self) -> int:
        """Updates so far of any lane; they all move together."""
        finished = len(list(self.run_folder.glob("round-*.json")))
        current = self.run_folder / f"round-{finished}" if self.rounds else self.run_folder
        last = 0
        with contextlib.suppress(ValueError, IndexError, KeyError, OSError):
            newest = max(current.rglob("metrics.jsonl"), key=lambda file: file.stat().st_mtime)
            last = json.loads(newest.read_text().splitlines()[-1])["updates"]
        return min(self.updates, finished * self.updates // max(1, self.rounds) + last)


def num_updates(cell: Cell, config: RunConfig) -> int:
    """Updates of one lane in one round, those of a pretraining phase included."""
    return config.steps + variant(cell.method).method.make(config, Spec(1, 1)).num_pretrain


def plan(config: Config) -> tuple[list[Pack], int]:
    """Return the packs to run, longest first, and the number of cells whose results are fresh."""
    suite = suites.suite(config.suite)
    part, of = map(int, config.shard.split("/"))
    rates = Rates({config.results, CHECKOUT / "results"})
    lanes = config.lanes or (15 if jax.default_backend() == "cpu" else 250)
    groups: dict[tuple, list[Cell]] = {}
    for cell in suite.with_methods(config.methods):
        if cell.task in (config.tasks or [cell.task]) and cell.dataset in (config.datasets or [cell.dataset]):
            groups.setdefault((cell.task, cell.method), []).append(cell)
    programs: list[list[Cell]] = []
    for cells in groups.values():
        most = 1 if suite.rounds else max(1, lanes // cell_config(suite, cells[0], config.scale).seeds)
        programs += pack_cells(cells, most, sweep=bool(config.lanes))
    todo, fresh = [], 0
    for cells in programs[part - 1 :: of]:
        stale = [cell for cell in cells if not is_fresh(config, suite, cell)]
        fresh += len(cells) - len(stale)
        if stale:
            for some in pack_cells(stale, len(stale), sweep=bool(config.lanes)):
                todo.append(make_pack(config, suite, some, rates))
    return sorted(todo, key=lambda pack: -(pack.seconds or 0)), fresh


def pack_cells(cells: Sequence[Cell], most: int, sweep: bool) -> list[list[Cell]]:
    """Group cells of one task and method, at most `most` a group, into what one program can hold.

    A program holds several datasets, and several values of one swept number. A CPU gains nothing from a sweep, as it
    runs lanes one after the other and several programs at once: there only `sweep` asks for one.
    """
    sweep = sweep or jax.default_backend() != "cpu"
    numbers = {name for cell in cells for name, value in cell.settings if sweep and isinstance(value, float)}
    ways = []
    for swept in (None, *sorted(numbers)):
        by_dataset: dict[tuple, list[Cell]] = {}  # and by the settings that are not swept
        for cell in cells:
            rest = tuple((name, value) for name, value in cell.settings if name != swept)
            by_dataset.setdefault((rest, cell.dataset), []).append(cell)
        by_values: dict[tuple, list[list[Cell]]] = {}  # datasets that have the same swept values
        for (rest, _), own in by_dataset.items():
            by_values.setdefault((rest, tuple(dict(cell.settings).get(swept) for cell in own)), []).append(own)
        programs = []
        for (_, values), alike in by_values.items():
            num = max(1, most // len(values))
            programs += [list(itertools.chain(*alike[at : at + num])) for at in range(0, len(alike), num)]
        if all(len(program) <= most for program in programs):
            ways.append(programs)
    return min(ways, key=len)


def cell_config(suite: Suite, cell: Cell, scale: float) -> RunConfig:
    """Return the config of a cell at a share of its updates."""
    config = suite.config(cell)
    phases = [one.name for one in dataclasses.fields(config) if one.metadata.get("phase")]
    return dataclasses.replace(config, **{name: max(1, round(getattr(config, name) * scale)) for name in phases})


def make_pack(config: Config, suite: Suite, cells: list[Cell], rates: "Rates") -> Pack:
    first, method = cells[0], variant(cells[0].method).method
    identities = [cell_identity(suite, cell, config.scale) for cell in cells]
    values = {name: dict.fromkeys(dict(cell.settings)[name] for cell in cells) for name, _ in first.settings}
    sweep = [(name, *map(str, of)) for name, of in values.items() if len(of) > 1]
    options = dataclasses.replace(
        cell_config(suite, first, config.scale),
        dataset=tuple(dict.fromkeys(cell.dataset for cell in cells)),
        build=True,
        sweep=sweep[0] if sweep else (),
    )
    options = dataclasses.replace(options, engine=pick_engine(options.engine))  # resolved on the planning machine
    digest = hashlib.sha256(json.dumps([*identities, cells], default=str).encode()).hexdigest()[:10]
    options = dataclasses.replace(
        options, out=config.runs / config.suite_name / f"{first.task}-{first.method}-{digest}"
    )
    if suite.rounds:
        command = ["-m", "data_gen.self_improve", "--method", method.file, "--rounds", str(suite.rounds)]
        command += ["--episodes", str(suite.episodes), "--drop-data"]
    else:
        command = [str(CHECKOUT / "algorithms" / f"{method.file}.py")]
    command = [sys.executable, *command, *flags(method, options, everything=True)]
    seconds = rates.estimate(first, options, max(1, suite.rounds) * options.seeds * len(cells))
    return Pack(cells, options, command, identities, options.out, seconds, suite.rounds)


def cell_identity(suite: Suite, cell: Cell, scale: float) -> Identity | None:
    """Return what determines a cell's result; None while its data is missing."""
    options = cell_config(suite, cell, scale)
    rounds = {"rounds": suite.rounds, "episodes": suite.episodes} if suite.rounds else {}
    try:
        return identity(variant(cell.method).method, options, cell.dataset, rounds)
    except UserError:
        return None


def is_fresh(config: Config, suite: Suite, cell: Cell) -> bool:
    """Whether a cell has a result of the same identity. A stale one is reported with what changed."""
    file = results.path(config.results, config.suite_name, cell.task, cell.name)
    now = cell_identity(suite, cell, config.scale)
    if now is None or not file.exists():
        return False
    try:
        before = results.read(file).identity
    except UserError as error:
        _report(f"{file}: stale: {error}")
        return False
    changed = differences(before, now)
    if changed:
        _report(f"{file}: stale: {' and '.join(changed)} changed")
    return not changed


def differences(before: Identity | None, now: Identity) -> list[str]:
    """List the fields in which two identities differ."""
    if before is None:
        return ["its identity"]
    old, new = (json.loads(json.dumps(dataclasses.asdict(one), default=str)) for one in (before, now))
    return [name for name in new if old.get(name) != new[name]]


@functools.cache
def _report(line: str) -> None:
    """Print a line once, however often a suite is planned."""
    print(line)


class Rates:
    """Estimates of how long packs take, from how long the results in some folders took."""

    def __init__(self, folders: Iterable[Path]):
        self.known: list[tuple[str, bool, float]] = []  # method, pixels, seconds per lane and unit of size
        for file in (file for folder in folders for file in folder.glob("*/*/*.json")):
            with contextlib.suppress(UserError):
                result = results.read(file)
                if result.identity and (origin := result.origin) and origin.lanes:
                    lanes = origin.lanes * max(1, len(result.rounds))
                    seconds = origin.seconds["train"] + origin.seconds["evaluate"]
                    size = _size(result.identity.settings, origin.updates)
                    self.known.append((result.method, observes_pixels(result.task), seconds / (lanes * size)))

    def estimate(self, cell: Cell, config: RunConfig, lanes: int) -> float | None:
        """Return the seconds of a pack, from results of the same method or else of any; None without any."""
        alike = [rate for rate in self.known if rate[1] == observes_pixels(cell.task)]
        alike = [rate for rate in alike if rate[0] == cell.method] or alike
        size = _size(dataclasses.asdict(config), num_updates(cell, config))
        return lanes * size * sum(rate[2] for rate in alike) / len(alike) if alike else None


def _size(settings: dict[str, Any], updates: int) -> float:
    """Return what the time of a lane is about proportional to: multiplications of its updates and its episodes."""
    widths = [80, *settings["hidden"], 80]
    products = sum(a * b for a, b in itertools.pairwise(widths)) + 20_000
    episodes = settings["evals"] * settings["eval_episodes"] + settings["final_episodes"]
    return products * (updates * settings["batch_size"] + 1000 * episodes)
