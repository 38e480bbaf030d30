"""What of a suite is to be run: packs of cells, each a command, and what their results are made of."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import jax

import sibench
from sibench import batches, provenance, results, suites
from sibench.algorithm import RunConfig, Spec, tuned
from sibench.data import storage
from sibench.data.collect import check_recipe, parts
from sibench.errors import UserError
from sibench.ids import has_frames, parse_id
from sibench.physics import pick_engine
from sibench.suites import METHODS, Cell
from sibench.timings import Timing, guess, timings
from sibench.train import FREE

CHECKOUT = Path(sibench.__file__).parents[1]
DIRECT = (*FREE, "dataset", "build")
"""Settings that are no part of what a cell's result is made of, or stand elsewhere in it."""


@dataclasses.dataclass
class Pack:
    """Cells of one task, method and settings, but for one number that may be swept: the lanes of one program."""

    cells: list[Cell]
    config: RunConfig  # of the method
    command: list[str]
    recipes: list[dict[str, Any]]  # what the result of each cell is made of; {} for data that is not there yet
    folder: Path
    seconds: float | None  # how long it may take, if something like it was run before
    made_by: str  # a hash of the programs and packages that it was planned with
    iterations: int = 1  # of self-improvement

    @property
    def name(self) -> str:
        first = self.cells[0]
        told = {name: [str(dict(cell.settings)[name]) for cell in self.cells] for name, _ in first.settings}
        return " ".join([first.task, first.method, *(f"{k}={','.join(dict.fromkeys(v))}" for k, v in told.items())])

    @property
    def datasets(self) -> str:
        return " ".join(dict.fromkeys(cell.dataset for cell in self.cells))

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def updates(self) -> int:
        return self.iterations * updates_of(self.cells[0].method, self.config)

    def done(self) -> int:
        """Updates so far, of any of its lanes: they go forward together."""
        whole = len(list(self.folder.glob("*/*/iteration-*.json")))
        rounds = self.folder.glob(f"*/*/iteration-{whole}") if whole else [self.folder]
        last = 0
        with contextlib.suppress(ValueError, IndexError, KeyError, OSError):
            files = [file for folder in rounds for file in folder.rglob("metrics.jsonl")]
            newest = max(files, key=lambda file: file.stat().st_mtime)
            last = json.loads(newest.read_text().splitlines()[-1])["updates"]
        return min(self.updates, whole * self.updates // self.iterations + last)


def updates_of(method: str, config: RunConfig) -> int:
    any_task = Spec(1, 1)
    return config.steps + module(METHODS[method].file).make(config, any_task).num_pretrain


@functools.cache
def module(file: str):
    """An algorithm's file as a module."""
    path = CHECKOUT / "algorithms" / f"{file}.py"
    if not path.exists():
        raise UserError(f"{path} is not there; suites run from a checkout of the repository")
    spec = importlib.util.spec_from_file_location(f"algorithms.{file}", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def plan(config) -> tuple[list[Pack], int]:
    """The packs to run, longest first, and the number of cells whose results are fresh."""
    suite = suites.suite(config.suite)
    groups: dict[tuple, list[Cell]] = {}
    for cell in suite.cells:
        chosen = ((cell.task, config.tasks), (cell.method, config.methods), (cell.dataset, config.datasets))
        if all(not names or name in names for name, names in chosen):
            groups.setdefault((cell.task, cell.method), []).append(cell)
    part, of = map(int, config.shard.split("/"))
    known = [row for folder in {config.results, CHECKOUT / "results"} for row in timings(folder)]
    programs, todo, fresh = [], [], 0
    lanes = config.lanes or (15 if jax.default_backend() == "cpu" else 250)
    for cells in groups.values():
        num = 1 if suite.iterations else max(1, lanes // learner(suite, cells[0], config.scale).seeds)
        programs += together(config, cells, num)
    for cells in programs[part - 1 :: of]:
        recipes = (recipe(cell, learner(suite, cell, config.scale), suite) for cell in cells)
        stale = [cell for cell, made_of in zip(cells, recipes, strict=True) if not is_fresh(config, cell, made_of)]
        fresh += len(cells) - len(stale)
        if stale:
            todo += [make_pack(config, suite, some, known) for some in together(config, stale, len(stale))]
    return sorted(todo, key=lambda pack: -(pack.seconds or 0)), fresh


def together(config, cells: list[Cell], most: int) -> list[list[Cell]]:
    """Cells of a task and a method, at most so many, that one program can hold: datasets, by values of one number.

    A CPU takes as long for lanes of one program as for programs of one lane, of which it runs several at once: there
    values are swept only if --lanes asks for it.
    """
    sweeps = config.lanes or jax.default_backend() != "cpu"
    numbers = {name for cell in cells for name, value in cell.settings if sweeps and isinstance(value, float)}
    ways = []
    for swept in (None, *sorted(numbers)):
        of_dataset: dict[tuple, list[Cell]] = {}  # by the other settings too
        for cell in cells:
            rest = tuple((name, value) for name, value in cell.settings if name != swept)
            of_dataset.setdefault((rest, cell.dataset), []).append(cell)
        alike: dict[tuple, list[list[Cell]]] = {}  # datasets that have the same values
        for (rest, _), own in of_dataset.items():
            alike.setdefault((rest, tuple(dict(cell.settings).get(swept) for cell in own)), []).append(own)
        programs = []
        for (_, values), same in alike.items():
            num = max(1, most // len(values))
            programs += [list(itertools.chain(*same[at : at + num])) for at in range(0, len(same), num)]
        if all(len(program) <= most for program in programs):
            ways.append(programs)
    return min(ways, key=len)


def learner(suite: suites.Suite, cell: Cell, scale: float) -> RunConfig:
    """The method's config for a cell: its defaults, under those of the task, the method, the suite and the cell."""
    method = METHODS[cell.method]
    found = module(method.file)
    own = {field.name for field in dataclasses.fields(found.Config)}
    settings = {**tuned(method.file, cell.task), **method.settings, **suite.settings, **dict(cell.settings)}
    settings = {name: value for name, value in settings.items() if name in own}
    config = found.Config(task=cell.task, dataset=(cell.dataset,), **settings)
    phases = [name for name in own if name == "steps" or name.endswith("_steps")]
    return dataclasses.replace(config, **{name: max(1, round(getattr(config, name) * scale)) for name in phases})


def make_pack(config, suite: suites.Suite, cells: list[Cell], known: list[Timing]) -> Pack:
    each = [learner(suite, cell, config.scale) for cell in cells]
    recipes = [recipe(cell, options, suite) for cell, options in zip(cells, each, strict=True)]
    values = {name: dict.fromkeys(dict(cell.settings)[name] for cell in cells) for name, _ in cells[0].settings}
    sweep = [(name, *map(str, of)) for name, of in values.items() if len(of) > 1]
    datasets = tuple(dict.fromkeys(cell.dataset for cell in cells))
    options = dataclasses.replace(each[0], dataset=datasets, build=True, sweep=sweep[0] if sweep else ())
    options = dataclasses.replace(options, engine=pick_engine(options.engine))  # of this machine, wherever it is run
    made_of = [recipes, provenance.programs_sha256(), provenance.versions()]
    digest = hashlib.sha256(json.dumps(made_of, default=str).encode()).hexdigest()[:10]
    cell = cells[0]
    folder = config.runs / config.suite_name / f"{cell.task}-{cell.method}-{digest}"
    options = dataclasses.replace(options, out=folder)
    file = METHODS[cell.method].file
    defaults = type(options)(task=cell.task, dataset=options.dataset, **tuned(file, cell.task))
    if suite.iterations:
        start = ["-m", "data_gen.self_improve", "--algorithm", file, "--start", cell.dataset]
        start += ["--iterations", str(suite.iterations), "--episodes", str(suite.episodes), "--drop-data"]
        command = [*start, *flags(options, defaults)]
    else:
        command = [str(CHECKOUT / "algorithms" / f"{file}.py"), "--dataset", *options.dataset]
        command += flags(options, defaults)
    rounds, lanes = max(1, suite.iterations), options.seeds * len(cells)
    seconds = guess(known, cell.method, options, updates_of(cell.method, options), rounds * lanes)
    return Pack(cells, options, [sys.executable, *command], recipes, folder, seconds, provenance.made_by(), rounds)


def flags(options: RunConfig, defaults: RunConfig) -> list[str]:
    """The command line of what differs from a method's defaults."""
    words = ["--task", options.task]
    for field in dataclasses.fields(options):
        value, name = getattr(options, field.name), field.name.replace("_", "-")
        if field.name in ("task", "dataset", options.swept) or value == getattr(defaults, field.name):
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def recipe(cell: Cell, options: RunConfig, suite: suites.Suite) -> dict[str, Any]:
    """All that a cell's result is made of: data, settings, code, versions. {} if its data is not there yet."""
    try:
        data = {name: data_sha256(f"{cell.task}/{name}") for name in (cell.dataset, options.expert)}
    except UserError:
        return {}
    settings = {k: v for k, v in dataclasses.asdict(options).items() if k not in DIRECT}
    settings["engine"] = pick_engine(options.engine)
    rounds = {"episodes": suite.episodes} if suite.iterations else {}
    file = METHODS[cell.method].file
    made_of = {
        "data": data,
        "settings": settings | {"iterations": suite.iterations} | rounds,
        "method": provenance.program_sha256(CHECKOUT / "algorithms" / f"{file}.py"),
        "versions": provenance.packages() | {"sibench": sibench.__version__},
    }
    if has_frames(cell.task):
        made_of["frames"] = provenance.program_sha256(Path(batches.__file__))  # how they are shifted
    return json.loads(json.dumps(made_of, default=str))


def data_sha256(dataset: str) -> str:
    """Of what is on this machine; a mix is known by its parts."""
    hashes, id = [], parse_id(dataset)
    for part in parts(id):
        card = storage.read_card(part)
        check_recipe(part, card)
        hashes.append(card["content_sha256"])
    return f"last {id.num_experts} of {' and first of '.join(hashes)}" if id.kind == "mix" else hashes[0]


def is_fresh(config, cell: Cell, made_of: dict[str, Any]) -> bool:
    """Whether the cell's result is there and made of the same. One that is made of something else is told about."""
    file = results.path(config.results, config.suite_name, cell.task, cell.name)
    if not file.exists() or not made_of:
        return False
    try:
        before = dict(results.read(file).raw.get("made_of", {}))
    except UserError as error:
        tell(f"{file}: stale: {error}")
        return False
    other = sorted(name for name in before.keys() | made_of.keys() if before.get(name) != made_of.get(name))
    if other:
        tell(f"{file}: stale: its {' and '.join(other)} changed")
    return not other


@functools.cache
def tell(line: str) -> None:
    """Once, however often it is planned."""
    print(line)
