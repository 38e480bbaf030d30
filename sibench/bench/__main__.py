"""Run a suite: train every cell that has no fresh result, several at a time. Interrupt and repeat it at will.

    python -m sibench.bench --suite quick
    python -m sibench.bench --suite sibench --tasks hopper --scale 0.1 --dry-run
    sbatch --array=1-8 --wrap 'python -m sibench.bench --suite sibench --shard $SLURM_ARRAY_TASK_ID/8'

Cells of one task and method are packed into the lanes of one program. A pack is a command of its own, such as
`python algorithms/vfo.py ...`, with a log and checkpoints in --runs. Finished cells are in --results, one file each.
"""

import os
from dataclasses import replace

from sibench.bench.config import Config
from sibench.core import cli
from sibench.core.errors import UserError


def main(config: Config) -> None:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves a GPU's memory to the learners
    from sibench.bench import execute
    from sibench.bench.plan import plan

    config = replace(config, runs=config.runs.resolve(), results=config.results.resolve())  # for Ray's workers
    todo, fresh = plan(config)
    execute.show(config, todo, fresh)
    if config.dry_run or not todo:
        return
    if execute.build_data(todo):
        before, (todo, fresh) = fresh, plan(config)  # now that the hashes of the data are known
        if fresh != before:
            execute.show(config, todo, fresh)
    failed = execute.run_all(config, todo) if todo else []
    print(f"results: {config.results / config.suite_name}")
    if failed:
        logs = "\n".join(f"  {pack.log}" for pack in failed)
        raise UserError(f"{len(failed)} of {len(todo)} packs failed; their logs:\n{logs}\nthe same command tries again")


if __name__ == "__main__":
    cli.run(main, Config, "python -m sibench.bench")
