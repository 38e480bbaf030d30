"""Look at datasets, check them, and exchange them with other formats.

python -m sibench.data list
python -m sibench.data show hopper/bc-10-v1
python -m sibench.data verify hopper/bc-10-v1
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, subcommand

from sibench import cli
from sibench.errors import UserError


@dataclass(frozen=True)
class List:
    """List the datasets that are on this machine."""


@dataclass(frozen=True)
class Show:
    """Print a dataset's card."""

    id: Positional[str]
    """Such as hopper/bc-10-v1."""


@dataclass(frozen=True)
class Verify:
    """Check hashes, shapes, values, episode ends and statistics, and replay episodes on engine c."""

    id: Positional[tuple[str, ...]] = ()
    """Such as hopper/bc-10-v1; all on this machine if not given."""
    replays: int = 10
    """Episodes of each to replay."""

    def __post_init__(self):
        if self.replays < 0:
            raise UserError(f"replays={self.replays}; it must not be below 0")


@dataclass(frozen=True)
class ImportD4rl:
    """Store a D4RL HDF5 file as a dataset."""

    file: Positional[Path]
    """The HDF5 file."""
    id: Positional[str]
    """What to call it, such as hopper/d4rl-medium."""
    max_episode_steps: int = 1000
    """Length at which an episode without a terminal is cut."""


@dataclass(frozen=True)
class ImportRobomimic:
    """Store a robomimic HDF5 file as a dataset: of a task with frames its frames too, else its numbers."""

    file: Positional[Path]
    """The HDF5 file, such as low_dim_v141.hdf5 or image_v141.hdf5."""
    id: Positional[str]
    """What to call it, such as can/robomimic-ph or can-image/robomimic-ph."""
    mask: str = ""
    """Filter key, such as train; all demonstrations if not given."""


@dataclass(frozen=True)
class ImportMinari:
    """Store a local Minari dataset as a dataset."""

    minari_id: Positional[str]
    """Such as mujoco/hopper/medium-v0."""
    id: Positional[str]
    """What to call it, such as hopper/minari-medium."""


@dataclass(frozen=True)
class ExportMinari:
    """Write a dataset as a local Minari dataset."""

    id: Positional[str]
    """Such as hopper/bc-10-v1."""
    minari_id: Positional[str]
    """Such as sibench/hopper/bc-10-v1."""


Command = (
    Annotated[List, subcommand("list")]
    | Annotated[Show, subcommand("show")]
    | Annotated[Verify, subcommand("verify")]
    | Annotated[ImportD4rl, subcommand("import-d4rl")]
    | Annotated[ImportRobomimic, subcommand("import-robomimic")]
    | Annotated[ImportMinari, subcommand("import-minari")]
    | Annotated[ExportMinari, subcommand("export-minari")]
)


def main(command: Command) -> None:
    match command:
        case List():
            list_datasets()
        case Show(id):
            show(id)
        case Verify(ids, replays):
            verify(ids, replays)
        case ImportD4rl(file, id, max_episode_steps):
            store(id, lambda task: interop().from_d4rl(file, task, max_episode_steps))
        case ImportRobomimic(file, id, mask):
            store(id, lambda task: interop().from_robomimic(file, task, mask))
        case ImportMinari(minari_id, id):
            store(id, lambda task: interop().from_minari(minari_id, task))
        case ExportMinari(id, minari_id):
            from sibench.data import load_privileged

            interop().to_minari(load_privileged(id), minari_id)
            print(f"{id} is now the Minari dataset {minari_id}")


def interop():
    from sibench.data import interop

    return interop


def on_disk() -> list:
    """The ids of what is there; a folder that is not called as a dataset is named and passed over."""
    from sibench.data import root
    from sibench.errors import UserError
    from sibench.ids import parse_id

    found = []
    for path in sorted(root().glob("[!.]*/[!.]*/")):
        try:
            found.append(parse_id(f"{path.parent.name}/{path.name}"))
        except UserError as error:
            print(f"passing over {path}: {error}", file=sys.stderr)
    return found


def list_datasets() -> None:
    from sibench import tasks
    from sibench.data import root, storage
    from sibench.errors import UserError

    found = on_disk()
    if not found:
        print(f"no datasets in {root()}; make some: python -m data_gen.collect --task hopper")
        return
    print(f"{'dataset':<28}{'episodes':>9}{'steps':>10}{'return':>9}{'std':>7}{'quality':>9}  engine")
    for id in found:
        try:
            card = storage.read_card(id)
            quality = tasks.quality(id.task, card["return_mean"])
            quality = "-" if quality is None else f"{quality:.3f}"
            print(
                f"{id!s:<28}{card['num_episodes']:>9}{card['num_steps']:>10}{card['return_mean']:>9.5g}"
                f"{card['return_std']:>7.4g}{quality:>9}  {card['engine']}"
            )
        except UserError as error:
            print(f"{id!s:<28}{error}")


def show(text: str) -> None:
    import json

    from sibench.data import load_privileged, storage
    from sibench.ids import parse_id

    id = parse_id(text)
    card = load_privileged(text).card if id.kind == "mix" else storage.read_card(id)
    shown = {name: value for name, value in card.items() if name != "returns"}
    print(json.dumps(shown, indent=1))


def verify(texts: tuple[str, ...], replays: int) -> None:
    from sibench.data import verify as checks
    from sibench.data.collect import parts
    from sibench.errors import UserError
    from sibench.ids import parse_id

    bad = []
    for id in [part for text in texts for part in parts(parse_id(text))] or on_disk():
        try:
            print(f"{id}: " + "; ".join(checks.verify(id, replays)) + ": good", flush=True)
        except UserError as error:
            print(f"{id}: BAD", flush=True)
            bad.append(str(error))
    if bad:
        raise UserError("\n".join(bad))


def store(text: str, read) -> None:
    from sibench import files
    from sibench.data import storage
    from sibench.data.collect import statistics
    from sibench.errors import UserError
    from sibench.ids import parse_id

    id = parse_id(text)
    if id.kind != "other":
        raise UserError(f"{id} names a dataset of the benchmark's own; call imported data something else")
    dataset = read(id.task)
    card = dataset.card | {"id": str(id)} | statistics(dataset, id.task)
    with files.sole_user(storage.folder(id), wait=True):
        print(f"{id}: {dataset.num_episodes} episodes in {storage.write(id, dataset._replace(card=card))}")


if __name__ == "__main__":
    cli.run(main, Command, "python -m sibench.data")
