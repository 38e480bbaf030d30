"""Run the packs of a suite, several at a time or on a Ray cluster, and publish their results."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import jax

from sibench.bench.config import Config
from sibench.bench.plan import Pack, differences
from sibench.core import files, system
from sibench.core.errors import UserError
from sibench.core.ids import parse_id
from sibench.data.collect import build, is_built, parts
from sibench.learning import results
from sibench.learning.methods import CHECKOUT


def show(config: Config, todo: list[Pack], fresh: int) -> None:
    """Print how many cells will run, and an estimate of the time."""
    cells = sum(len(pack.cells) for pack in todo)
    counts = [f"{number} {noun}{'s' * (number != 1)}" for number, noun in ((cells, "cell"), (len(todo), "pack"))]
    print(f"{config.suite_name}: {counts[0]} to run in {counts[1]}, {fresh} there already")
    for pack in todo if config.dry_run else ():
        size = f"{len(pack.cells) * pack.config.seeds:>3} lanes x {pack.updates} updates"
        print(f"  {pack.name:<36} {duration(pack.seconds):>9}  {size}: {pack.datasets}")
    estimates = [pack.seconds for pack in todo if pack.seconds]
    if todo and len(estimates) == len(todo):
        total = max(*estimates, sum(estimates) / num_workers(config))
        print(f"about {duration(total)}, going by how long earlier results took")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def build_data(todo: list[Pack]) -> bool:
    """Build all missing datasets before any pack starts; return whether there were any."""
    names = [f"{pack.config.task}/{name}" for pack in todo for name in (*pack.config.dataset, pack.config.expert)]
    ids = dict.fromkeys(part for name in names for part in parts(parse_id(name)))
    missing = [id for id in ids if not is_built(id)]
    for id in missing:
        print(f"{id}: building", flush=True)
        build(id)
    return bool(missing)


def num_workers(config: Config) -> int:
    return config.workers or (system.threads() if jax.default_backend() == "cpu" else 1)


def run_all(config: Config, todo: list[Pack]) -> list[Pack]:
    """Run packs, several at a time, each pinned to its share of the processors; return those that failed."""
    if config.ray:
        return run_on_ray(config, todo)
    num = min(num_workers(config), len(todo))
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    share = max(1, len(processors) // num)
    shares = [set(processors[i * share : (i + 1) * share]) for i in range(num)] if num > 1 else [set()]
    failed, running, processes = [], [], set()

    def work(pack: Pack) -> int:
        own = shares.pop()
        running.append(pack)
        try:
            return run_pack(config, pack, own, processes)
        finally:
            shares.append(own)
            running.remove(pack)

    with system.interrupt_on_sigterm(), ThreadPoolExecutor(num) as pool:
        futures = {pool.submit(work, pack): pack for pack in todo}
        try:
            with progress(config, todo, running) as report:
                for future in as_completed(futures):
                    code = future.result()
                    report(futures[future], code)
                    if code == 130:
                        raise KeyboardInterrupt
                    if code != 0:
                        failed.append(futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            asked: set[subprocess.Popen] = set()
            while not all(future.done() for future in futures):  # one may be about to start its process
                for process in set(processes) - asked:
                    process.send_signal(signal.SIGTERM)
                    asked.add(process)
                time.sleep(0.05)
            raise
    return failed


def run_pack(config: Config, pack: Pack, processors: set[int], processes: set[subprocess.Popen]) -> int:
    """Run a pack and publish its results; return the exit code."""
    code = run_command(pack, processors, processes)
    if code == 0:
        try:
            publish(config, pack)
        except UserError as error:
            with open(pack.log, "a") as log:
                print(f"error: {error}", file=log)
            return 2
    return code


def run_command(pack: Pack, processors: set[int], processes: set[subprocess.Popen]) -> int:
    """Run the command of a pack in a session of its own, so that Ctrl-C reaches it once, through the suite."""
    pack.folder.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(CHECKOUT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    environment = os.environ | {"PYTHONPATH": path, system.PARENT: str(os.getpid())}
    with open(pack.log, "a") as log:
        streams: dict[str, Any] = {"stdout": log, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        process = subprocess.Popen(pack.command, start_new_session=True, env=environment, **streams)
        processes.add(process)
        if processors:
            os.sched_setaffinity(process.pid, processors)  # threads, which start later, inherit it
        try:
            return process.wait()
        finally:
            processes.discard(process)


def publish(config: Config, pack: Pack) -> None:
    """Copy the result of every cell, and its policies, from the learner's folder to where they are looked for."""
    for cell, planned in zip(pack.cells, pack.identities, strict=True):
        result = results.read(pack.result_file(cell))
        if planned and result.identity and (changed := differences(planned, result.identity)):
            raise UserError(f"{pack.name}: {' and '.join(changed)} changed while the suite ran; start it again")
        for seed in result.seeds:
            for policy in pack.policy_files(cell, seed.seed):
                folder = config.runs / config.suite_name / "policies" / cell.task
                files.write_atomic(folder / f"{cell.name}-seed-{seed.seed}{policy.suffix}", policy.read_bytes())
        result = dataclasses.replace(result, suite=config.suite_name, method=cell.method, settings=dict(cell.settings))
        # last, since it marks the cell as done
        results.write(results.path(config.results, config.suite_name, cell.task, cell.name), result)


@contextlib.contextmanager
def progress(config: Config, todo: list[Pack], running: list[Pack]) -> Iterator[Callable[[Pack, int], None]]:
    """Print now and then how far the suite is, and a line for every pack that is reported as finished."""
    start, over, finished, terminal = time.monotonic(), threading.Event(), [], sys.stdout.isatty()
    total = sum(pack.updates * len(pack.cells) for pack in todo)
    before = sum(pack.done() * len(pack.cells) for pack in todo)  # of an interrupted run

    def line() -> str:
        done = sum((pack.updates if pack in finished else pack.done()) * len(pack.cells) for pack in todo)
        elapsed = time.monotonic() - start
        left = duration(elapsed * (total - done) / (done - before)) + " left" if done > before else "starting"
        now = ", ".join(f"{pack.name} {pack.done() / pack.updates:.0%}" for pack in list(running))
        return f"{config.suite_name}: {done / total:.0%} of updates, {duration(elapsed)}, {left}: {now}"

    def watch() -> None:
        while not over.wait(2 if terminal else 60):
            shown = f"\r\x1b[K{line()[: os.get_terminal_size().columns - 1]}" if terminal else line() + "\n"
            print(shown, end="", flush=True)

    def report(pack: Pack, code: int) -> None:
        finished.append(pack)
        clear = "\r\x1b[K" if terminal else ""
        if code not in (0, 130):
            print(f"{clear}{pack.name}: failed with exit code {code}: {last_line(pack.log)}", flush=True)
        for cell in pack.cells if code == 0 else ():
            result = results.read(results.path(config.results, config.suite_name, cell.task, cell.name))
            gain = f"data {result.quality:5.2f}  score {result.score.mean():5.2f} ({result.improvement.mean():+.2f})"
            nll = f"nll {result.nll.mean():.2f}, teacher {result.teacher_nll:.2f}"
            print(f"{clear}{cell.task:<12}{cell.name:<36} {gain}  {'' if 'nan' in nll else nll}", flush=True)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield report
    finally:
        over.set()
        watcher.join()


def last_line(log: Path) -> str:
    """Return the last line of a log, without jax's advice on tracebacks."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip(" -")]
    return next((line for line in reversed(lines) if "JAX_TRACEBACK_FILTERING" not in line), "it printed nothing")


def run_on_ray(config: Config, todo: list[Pack]) -> list[Pack]:
    """Run packs as Ray tasks. One whose worker is lost is tried again, and resumes from its checkpoint."""
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("ray is not installed; get it with: make setup EXTRAS=cluster") from None
    if not ray.is_initialized():
        ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False)
    gpus = min(1, ray.cluster_resources().get("GPU", 0))  # a worker sees none unless it asks

    @ray.remote(max_retries=5, num_cpus=1, num_gpus=gpus)
    def play(pack: Pack) -> int:
        return run_pack(config, pack, set(), set())

    waiting, failed, running = {play.remote(pack): pack for pack in todo}, [], list(todo)
    with progress(config, todo, running) as report:
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            pack = waiting.pop(ready)
            try:
                code = ray.get(ready)
            except ray.exceptions.RayError as error:
                print(f"{pack.name}: {error}", file=sys.stderr)
                code = 1
            running.remove(pack)
            failed += [pack] * (code != 0)
            report(pack, code)
    return failed
