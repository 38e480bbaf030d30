"""The end of a run: store every policy, play its final episodes, and write one result a cell."""

import threading
from typing import Any

import jax
import numpy as np

from sibench import policies, tasks
from sibench.core import files, provenance
from sibench.core.ids import parse_id
from sibench.data import Dataset, storage
from sibench.data.collect import recipe_sha256
from sibench.learning import results
from sibench.learning.convergence import HeldOut, held_out
from sibench.learning.lanes import NEVER, Lane, cell_name
from sibench.learning.methods import command_line
from sibench.learning.results import Background, Demonstrations, Origin, Result, SeedResult, TrainingEvaluation
from sibench.learning.run import Run, Stopwatch
from sibench.policies.evaluation import evaluate


def judge(
    run: Run,
    states: Any,
    diverged: np.ndarray,
    evaluations: list[dict[str, Any]],
    watch: Stopwatch,
    stop: threading.Event,
) -> None:
    """Judge every lane by its final episodes, and write the results. A lane diverged at update `diverged[lane]`."""
    found: dict[str, list[SeedResult]] = {cell: [] for cell in run.cells}
    teacher_nll: dict[str, float | None] = {}
    for name in dict.fromkeys(run.config.dataset):
        teacher = None  # frees the frames of the last dataset before the next ones are drawn
        with watch("evaluate"):
            teacher = held_out(run.task, run.datasets[name].card)
        teacher_nll[name] = teacher.teacher_nll if teacher else None
        for index, lane in enumerate(run.lanes):
            if stop.is_set():
                raise KeyboardInterrupt
            if lane.dataset == name:
                curve = [
                    TrainingEvaluation(row["updates"], tuple(row["returns"][index]))
                    for row in evaluations
                    if row["returns"][index] is not None
                ]
                seed = judge_seed(run, index, run.program.policy(states, index), int(diverged[index]), teacher, watch)
                found[cell_name(run.config, lane)].append(SeedResult(**seed, evaluations=tuple(curve)))
    for cell, lane in run.cells.items():
        result = make_result(run, lane, tuple(found[cell]), teacher_nll[lane.dataset], watch)
        results.write(run.result_files[cell], result)
        print(run.result_files[cell])


def judge_seed(
    run: Run, index: int, policy: policies.Policy, diverged: int, teacher: HeldOut | None, watch: Stopwatch
) -> dict[str, Any]:
    """Return the fields of a seed's result. Final episodes are played once, even if the run is killed later."""
    lane, folder = run.lanes[index], run.folder / run.lane_names[index]
    if diverged != NEVER or not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(policy.params)):
        total = run.algorithm.num_pretrain + run.config.steps
        return {"seed": lane.seed, "status": "diverged", "diverged_at": min(diverged, total)}
    card = {"task": run.task.id, "method": run.name, "code": run.code}
    card |= {"lane": lane._asdict(), "settings": run.identity(lane).settings}
    policies.save(folder / "policy", policy, card | {"versions": provenance.versions()})
    digest = policies.read_description(folder / "policy")["weights_sha256"]
    final = files.read_signed(folder / "final.json") or {}
    if final.get("policy_sha256") != digest:
        with watch("evaluate"):
            played = evaluate(policy, run.task.name, run.config.final_episodes, engine=run.task.backend)
        progress = () if played.progress is None else played.progress
        final = {
            "policy_sha256": digest,
            "returns": np.round(played.returns, 3).tolist(),
            "lengths": played.lengths.tolist(),
            "progress": np.round(progress, 3).tolist(),
            "num_nonfinite": played.num_nonfinite,
            "nll": teacher.nll(policy) if teacher else None,
        }
        files.write_signed(folder / "final.json", final)
    print(
        f"{folder}: return {np.mean(final['returns']):.4g} +- {np.std(final['returns']):.3g} "
        f"of {len(final['returns'])} episodes",
        flush=True,
    )
    row = {name: tuple(value) if isinstance(value, list) else value for name, value in final.items()}
    return {"seed": lane.seed, "status": "finished"} | row


def make_result(
    run: Run, lane: Lane, seeds: tuple[SeedResult, ...], teacher_nll: float | None, watch: Stopwatch
) -> Result:
    """Return the result of one cell; a suite fills in its own name and what sets the cell apart."""
    pretrain = run.algorithm.num_pretrain
    return Result(
        format=results.FORMAT,
        suite="",
        task=run.task.name,
        method=run.name,
        dataset=lane.dataset,
        settings={} if lane.swept is None else {run.config.swept: lane.swept},
        privileges=run.privileges,
        engine=run.task.backend,
        action_size=run.task.action_size,
        background=describe_background(run.task.name, run.datasets[lane.dataset], teacher_nll),
        expert=describe_demonstrations(run.demonstrations),
        identity=run.identity(lane),
        origin=Origin(
            command=command_line(run.method, run.config),
            code=run.code,
            python=provenance.python(),
            machine=provenance.machine(),
            device=jax.devices()[0].device_kind,
            seconds={name: round(value, 1) for name, value in watch.seconds.items()},
            lanes=len(run.lanes),
            updates=pretrain + run.config.steps,
            pretrain_updates=pretrain,
        ),
        seeds=seeds,
    )


def describe_background(task: str, dataset: Dataset, teacher_nll: float | None) -> Background:
    mean, std = float(dataset.returns.mean()), float(dataset.returns.std())
    return Background(
        id=dataset.card["id"],
        engine=dataset.card["engine"],
        num_episodes=dataset.num_episodes,
        return_mean=mean,
        return_std=std,
        quality=tasks.quality(task, mean),
        teacher_nll=teacher_nll,
        recipe_sha256=recipe_sha256(parse_id(dataset.card["id"])),
        content_sha256=storage.content_sha256(dataset),
    )


def describe_demonstrations(expert: Dataset) -> Demonstrations:
    return Demonstrations(expert.card["id"], expert.num_episodes, storage.content_sha256(expert))
