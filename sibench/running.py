"""Runs packs, several at a time or on a Ray cluster, tells how far they are, and publishes their results."""

import contextlib
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

import jax

from sibench import cli, files, results, suites
from sibench.data.collect import build, is_built, parts
from sibench.errors import UserError
from sibench.ids import parse_id
from sibench.lanes import Lane, cell_name
from sibench.packs import CHECKOUT, Pack
from sibench.timings import duration


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
            asked = set()
            while not all(future.done() for future in futures):  # one may be about to start its process
                for process in set(processes) - asked:
                    process.send_signal(signal.SIGTERM)
                    asked.add(process)
                time.sleep(0.05)
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
    told = {"PYTHONPATH": path, "SIBENCH_SUITE_PID": str(os.getpid()), "SIBENCH_SUITE_MADE_BY": pack.made_by}
    with open(pack.log, "a") as log:
        process = subprocess.Popen(
            pack.command,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | told,
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
