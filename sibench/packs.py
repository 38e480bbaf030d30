"""What sibench/bench.py runs: packs of cells, each a command, and the results that come of them."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import jax

import sibench
from sibench import cli, files, provenance, results, suites
from sibench.algorithm import RunConfig, Spec, tuned
from sibench.data import storage
from sibench.data.collect import build, check_recipe, is_built, parts
from sibench.errors import UserError
from sibench.ids import has_frames, parse_id
from sibench.lanes import Lane, cell_name
from sibench.physics import pick_engine
from sibench.suites import METHODS, Cell
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
        with contextlib.suppress(ValueError, IndexError, KeyError, OSError):
            newest = max(self.folder.rglob("metrics.jsonl"), key=lambda file: file.stat().st_mtime)
            last = json.loads(newest.read_text().splitlines()[-1])["updates"]
            return min(self.updates, whole * self.updates // self.iterations + last)
        return 0


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


# --- what is to be done -----------------------------------------------------------------------------------------------


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


def make_pack(config, suite: suites.Suite, cells: list[Cell], known: list) -> Pack:
    each = [learner(suite, cell, config.scale) for cell in cells]
    recipes = [recipe(cell, options, suite) for cell, options in zip(cells, each, strict=True)]
    values = {name: dict.fromkeys(dict(cell.settings)[name] for cell in cells) for name, _ in cells[0].settings}
    sweep = [(name, *map(str, of)) for name, of in values.items() if len(of) > 1]
    datasets = tuple(dict.fromkeys(cell.dataset for cell in cells))
    options = dataclasses.replace(each[0], dataset=datasets, build=True, sweep=sweep[0] if sweep else ())
    digest = hashlib.sha256(json.dumps([recipes, provenance.code_version()], default=str).encode()).hexdigest()[:10]
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
    lanes = options.seeds * len(cells) * max(1, suite.iterations)
    seconds = guess(known, cell.method, options, lanes)
    return Pack(cells, options, [sys.executable, *command], recipes, folder, seconds, max(1, suite.iterations))


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
    moving = {k: v for k, v in provenance.versions().items() if k not in ("python", "machine")}
    made_of = {
        "data": data,
        "settings": settings | {"iterations": suite.iterations} | rounds,
        "method": provenance.program_sha256(CHECKOUT / "algorithms" / f"{file}.py"),
        "versions": moving | {"sibench": sibench.__version__},
    }
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


class Timing(NamedTuple):
    """What a result took."""

    method: str
    frames: bool  # whether its task is seen through cameras, where other things take long
    size: float
    update: float  # seconds of each, of one lane
    episode: float  # seconds


def timings(folder: Path) -> Iterator[Timing]:
    for file in folder.glob("*/*/*.json"):
        with contextlib.suppress(UserError):
            raw = results.read(file).raw
            if "seconds" in raw and (lanes := raw["lanes_together"]):
                settings, seconds = raw["config"], raw["seconds"]
                lanes *= len(raw["chain"]) if "chain" in raw else 1
                updates = (settings["steps"] + raw["num_pretrain"]) * lanes
                episodes = max(1, settings["final_episodes"] * lanes)
                method, frames = raw["cell"]["method"], has_frames(raw["cell"]["task"])
                yield Timing(method, frames, size(settings), seconds["train"] / updates, seconds["evaluate"] / episodes)


def size(settings: dict[str, Any]) -> float:
    """What the time of an update is about proportional to."""
    widths = [80, *settings["hidden"], 80]
    return settings["batch_size"] * (sum(a * b for a, b in itertools.pairwise(widths)) + 20_000)


def guess(known: list[Timing], method: str, options: RunConfig, lanes: int) -> float | None:
    """Seconds of a pack, from results of like methods on whatever machine they were made."""
    known = [row for row in known if row.frames == has_frames(options.task)]
    for like in ([row for row in known if row.method == method], known):
        if like:
            now = size(dataclasses.asdict(options))
            updates = updates_of(method, options)
            train = sum(row.update * now / row.size for row in like) / len(like)
            play = sum(row.episode for row in like) / len(like)
            return lanes * (updates * train + options.final_episodes * play)
    return None


def show(config, todo: list[Pack], fresh: int) -> None:
    """What would run, and for how long."""
    num = sum(len(pack.cells) for pack in todo)
    some, packs = (f"{n} {what}{'s' * (n != 1)}" for n, what in ((num, "cell"), (len(todo), "pack")))
    print(f"{config.suite_name}: {some} to run in {packs}, {fresh} there already")
    for pack in todo if config.dry_run else ():
        lanes = len(pack.cells) * pack.config.seeds
        print(
            f"  {pack.name:<36} {duration(pack.seconds):>9}  {lanes:>3} lanes x {pack.updates} updates: {pack.datasets}"
        )
    if todo and all(pack.seconds for pack in todo):
        each = [pack.seconds for pack in todo]
        total = max(*each, sum(each) / workers(config))
        print(f"about {duration(total)}, going by how long earlier results took")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# --- doing it ---------------------------------------------------------------------------------------------------------


def make_data(todo: list[Pack]) -> bool:
    """All datasets that packs need, one after the other, before any of them starts; says whether one was missing."""
    names = [f"{pack.config.task}/{name}" for pack in todo for name in (*pack.config.dataset, pack.config.expert)]
    ids = dict.fromkeys(part for name in names for part in parts(parse_id(name)))
    missing = [id for id in ids if not is_built(id)]
    for id in missing:
        print(f"{id}: being made", flush=True)
        build(id)
    return bool(missing)


def workers(config) -> int:
    return config.workers or (cli.threads() if jax.default_backend() == "cpu" else 1)


def run_all(config, todo: list[Pack]) -> list[Pack]:
    """Run packs, several at a time; returns those that failed."""
    if config.ray:
        return run_on_ray(config, todo)
    num = min(workers(config), len(todo))
    free = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    share = max(1, len(free) // num)
    places = [set(free[i * share : (i + 1) * share]) for i in range(num)] if num > 1 else [set()]
    failed, running, lock = [], [], threading.Lock()

    def work(pack: Pack) -> int:
        with lock:
            place = places.pop()
            running.append(pack)
        try:
            code = run_command(pack, place, processes)
            if code == 0:
                publish(config, pack)
            return code
        finally:
            with lock:
                places.append(place)
                running.remove(pack)

    processes: set[subprocess.Popen] = set()
    with stopping(), ThreadPoolExecutor(num) as pool:
        futures = {pool.submit(work, pack): pack for pack in todo}
        try:
            with progress(config, todo, running) as told:
                for future in as_completed(futures):
                    code = future.result()
                    if code not in (0, 130):
                        failed.append(futures[future])
                    told(futures[future], code)
                    if code == 130:
                        raise KeyboardInterrupt
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(processes):
                process.send_signal(signal.SIGTERM)
            raise
    return failed


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """SIGTERM, as a cluster sends it, is taken like Ctrl-C: the learners keep what they have."""

    def stop(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run_command(pack: Pack, place: set[int], processes: set) -> int:
    """Run a pack to its end in a session of its own, so that Ctrl-C reaches it once, through us."""
    pack.folder.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(CHECKOUT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    with open(pack.log, "a") as log:
        process = subprocess.Popen(
            pack.command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": path, "SIBENCH_SUITE_PID": str(os.getpid())},
        )
        processes.add(process)
        if place:
            os.sched_setaffinity(process.pid, place)  # its threads, which come later, have it from it
        try:
            return process.wait()
        finally:
            processes.discard(process)


def publish(config, pack: Pack) -> None:
    """Put the result of every cell, and its policies, where they are looked for."""
    for cell, made_of in zip(pack.cells, pack.recipes, strict=True):
        own = cell_name(pack.config, Lane(cell.dataset, dict(cell.settings).get(pack.config.swept), 0))
        name = "chain" if suites.suite(config.suite).iterations else f"result-{own}"
        (file,) = pack.folder.glob(f"*/*/{name}.json")
        raw = json.loads(file.read_bytes())
        place = {"suite": config.suite_name, "task": cell.task, "method": cell.method, "dataset": cell.dataset}
        raw = {"format": raw.pop("format"), "cell": place | {"settings": dict(cell.settings)}, "made_of": made_of} | raw
        for lane in raw["lanes"]:
            for policy in file.parent.glob(f"{own}-seed-{lane['seed']}/policy.*"):
                kept = config.runs / config.suite_name / "policies" / cell.task
                files.write_atomic(kept / f"{cell.name}-seed-{lane['seed']}{policy.suffix}", policy.read_bytes())
        # last, as it is what says that the cell is done
        results.write(results.path(config.results, config.suite_name, cell.task, cell.name), raw)


@contextlib.contextmanager
def progress(config, todo: list[Pack], running: list[Pack]):
    """A line a finished pack, and in between one that tells how far the suite is."""
    start, over, finished, terminal = time.monotonic(), threading.Event(), [], sys.stdout.isatty()
    total = sum(pack.updates * len(pack.cells) for pack in todo)
    before = sum(pack.done() * len(pack.cells) for pack in todo)  # of a run that was stopped

    def line() -> str:
        done = sum(pack.updates * len(pack.cells) for pack in finished)
        done += sum(pack.done() * len(pack.cells) for pack in todo if pack not in finished)
        elapsed = time.monotonic() - start
        left = duration(elapsed * (total - done) / (done - before)) + " left" if done > before else "starting"
        now = ", ".join(f"{pack.name} {pack.done() / pack.updates:.0%}" for pack in list(running))
        return f"{config.suite_name}: {done / total:.0%} of updates, {duration(elapsed)}, {left}: {now}"

    def watch() -> None:
        while not over.wait(2 if terminal else 60):
            if terminal:
                print(f"\r\x1b[K{line()[: os.get_terminal_size().columns - 1]}", end="", flush=True)
            else:
                print(line(), flush=True)

    def told(pack: Pack, code: int) -> None:
        finished.append(pack)
        clear = "\r\x1b[K" if terminal else ""
        if code not in (0, 130):
            print(f"{clear}{pack.name}: failed with exit code {code}: {last_line(pack.log)}", flush=True)
        elif code == 0:
            for cell in pack.cells:
                found = results.read(results.path(config.results, config.suite_name, cell.task, cell.name))
                gain = f"data {found.quality:5.2f}  score {found.score.mean():5.2f} ({found.improvement.mean():+.2f})"
                has_one = not math.isnan(found.teacher_nll)
                spread = f"nll {found.nll.mean():.2f}, teacher {found.teacher_nll:.2f}" if has_one else ""
                print(f"{clear}{cell.task:<12}{cell.name:<36} {gain}  {spread}", flush=True)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield told
    finally:
        over.set()
        watcher.join()


def last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def run_on_ray(config, todo: list[Pack]) -> list[Pack]:
    """Packs as Ray tasks; one whose worker is lost is tried again, and goes on from its checkpoint."""
    try:
        import ray
    except ImportError:
        raise UserError("ray is not installed; get it with: make setup EXTRAS=cluster") from None
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False)
    gpus = min(1, ray.cluster_resources().get("GPU", 0))  # without asking, a worker sees none

    @ray.remote(max_retries=5, num_cpus=1, num_gpus=gpus)
    def play(pack: Pack) -> int:
        return run_command(pack, set(), set())

    waiting = {play.remote(pack): pack for pack in todo}
    failed, running = [], list(todo)
    with progress(config, todo, running) as told:
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            pack = waiting.pop(ready)
            try:
                code = ray.get(ready)
            except ray.exceptions.RayError as error:
                print(f"{pack.name}: {error}", file=sys.stderr)
                code = 1
            running.remove(pack)
            if code == 0:
                publish(config, pack)
            else:
                failed.append(pack)
            told(pack, code)
    return failed
