"""Play shipped policies to make background datasets.

python -m data_gen.collect --task hopper --dataset bc-10
"""

from dataclasses import dataclass

from sibench.core import cli
from sibench.core.errors import unknown
from sibench.core.ids import EPISODES, MAX_EPISODES, Id, sources
from sibench.core.settings import check_bounds, setting


@dataclass(frozen=True)
class Config:
    """Make datasets from the shipped policies; skip those that are on this machine and intact."""

    task: tuple[str, ...] = ()
    """Tasks; by default all without frames."""
    dataset: tuple[str, ...] = ()
    """Any of expert, random, bc-<d> and mix-<e>; by default all whose policy ships with the package, save mixes."""
    episodes: int = setting(EPISODES, at_least=1, below=MAX_EPISODES + 1)
    """Episodes in each; another number than 1000 makes a smaller dataset with its own id."""
    engine: str = "auto"
    """Physics engine: c, mjx, or auto (mjx on a GPU, c on a CPU)."""

    def __post_init__(self):
        check_bounds(self)
        for source in self.dataset:
            if source not in sources():
                raise unknown("dataset", source, sources())


def main(config: Config) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from data_gen import per_task
    from sibench import tasks
    from sibench.data import storage
    from sibench.data.collect import build, check_engine, is_built, parts, recipe
    from sibench.policies import shipped

    ids = []
    for name in per_task.names(config.task):
        task = tasks.make(name, config.engine)
        by_default = ("random", *(["expert"] if task.script else []), *shipped.shipped(task.name))
        ids += [Id(task.name, source, config.episodes) for source in config.dataset or by_default]
    for id in ids:
        for part in parts(id):
            recipe(part)  # raises for a missing policy before anything is played
    text, rate = TextColumn("{task.description}"), TextColumn("episodes  {task.fields[rate]}")
    for id in ids:
        if all(is_built(part) for part in parts(id)):
            for part in parts(id):
                check_engine(part, config.engine)
            print(f"{id}: there already")
            continue
        with Progress(text, BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn()) as bar:
            job = bar.add_task(str(id), total=len(parts(id)) * id.episodes, rate="")

            def show(episodes: int, steps: int, bar=bar, job=job) -> None:
                elapsed = bar.tasks[job].elapsed or 1
                bar.update(job, completed=episodes, rate=f"{steps / elapsed:,.0f} steps/s")

            build(id, config.engine, show)
            bar.update(job, completed=len(parts(id)) * id.episodes)
        for part in parts(id):
            card = storage.read_card(part)
            quality = tasks.quality(part.task, card["return_mean"])
            quality = "" if quality is None else f"  quality {quality:.2f}"
            print(f"  {part}: return {card['return_mean']:.4g} +- {card['return_std']:.3g}{quality}")
            print(f"  {storage.folder(part)}")


if __name__ == "__main__":
    cli.run(main, Config, "python -m data_gen.collect")
