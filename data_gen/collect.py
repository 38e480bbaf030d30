"""Play a shipped policy to make a background dataset.

python -m data_gen.collect --task hopper --dataset bc-10
"""

from dataclasses import dataclass

from sibench import cli
from sibench.errors import UserError, require_positive, unknown
from sibench.ids import EPISODES, MOST, Id, sources, twin


@dataclass(frozen=True)
class Config:
    """Make datasets from the shipped policies; one that is there and intact is left alone."""

    task: tuple[str, ...] = ()
    """Tasks; all but those with frames if not given."""
    dataset: tuple[str, ...] = ()
    """expert, random, bc-<d> or mix-<e>; if not given, all whose policy ships with the package (a mix is composed)."""
    episodes: int = EPISODES
    """Episodes in each; another number than 1000 makes a smaller dataset with its own id."""
    engine: str = "auto"
    """Physics engine: c, mjx, or auto (mjx on a GPU, c on a CPU)."""

    def __post_init__(self):
        require_positive(self, "episodes")
        if self.episodes > MOST:
            raise UserError(f"episodes={self.episodes}; {MOST} is the most that a dataset's id can say")
        for source in self.dataset:
            if source not in sources():
                raise unknown("dataset", source, sources())


def main(config: Config) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from sibench import assets, tasks
    from sibench.data import storage
    from sibench.data.collect import build, check_engine, is_built, parts, recipe

    ids = [
        Id(task.name, source, config.episodes)
        for task in (tasks.make(name, config.engine) for name in config.task or sorted({*map(twin, tasks.names())}))
        for source in config.dataset or ("random", *(["expert"] if task.script else []), *assets.shipped(task.name))
    ]
    for id in ids:
        for part in parts(id):
            recipe(part)  # a policy that is not there is said before anything is played
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("episodes  {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    for id in ids:
        if all(is_built(part) for part in parts(id)):
            for part in parts(id):
                check_engine(part, config.engine)
            print(f"{id}: there already")
            continue
        with Progress(*columns) as bar:
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
