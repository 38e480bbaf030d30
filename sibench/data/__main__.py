"""Look at datasets, check them, and exchange them with other formats.

python -m sibench.data list
python -m sibench.data show hopper/bc-10-v1
python -m sibench.data verify hopper/bc-10-v1
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, subcommand

from sibench.core import cli
from sibench.core.settings import check_bounds, setting


@dataclass(frozen=True)
class List:
    """List the datasets on this machine."""


@dataclass(frozen=True)
class Show:
    """Print a dataset's card."""

    id: Positional[str]
    """Dataset, such as hopper/bc-10-v1."""


@dataclass(frozen=True)
class Verify:
    """Check hashes, shapes, values, episode ends and statistics, and replay episodes on engine c."""

    id: Positional[tuple[str, ...]] = ()
    """Datasets, such as hopper/bc-10-v1; by default all on this machine."""
    replays: int = setting(10, at_least=0)
    """Episodes of each dataset to replay."""

    def __post_init__(self):
        check_bounds(self)


@dataclass(frozen=True)
class ImportD4rl:
    """Store a D4RL HDF5 file as a dataset."""

    file: Positional[Path]
    """HDF5 file."""
    id: Positional[str]
    """Id of the new dataset, such as hopper/d4rl-medium."""
    max_episode_steps: int = setting(1000, at_least=1)
    """Length at which an episode without a terminal is cut."""

    def __post_init__(self):
        check_bounds(self)


@dataclass(frozen=True)
class ImportRobomimic:
    """Store a robomimic HDF5 file as a dataset, with its frames if the task has frames."""

    file: Positional[Path]
    """HDF5 file, such as low_dim_v141.hdf5 or image_v141.hdf5."""
    id: Positional[str]
    """Id of the new dataset, such as can/robomimic-ph or can-image/robomimic-ph."""
    mask: str = ""
    """Filter key, such as train; by default all demonstrations."""


@dataclass(frozen=True)
class ImportMinari:
    """Store a local Minari dataset as a dataset."""

    minari_id: Positional[str]
    """Minari dataset, such as mujoco/hopper/medium-v0."""
    id: Positional[str]
    """Id of the new dataset, such as hopper/minari-medium."""


@dataclass(frozen=True)
class ExportMinari:
    """Write a dataset as a local Minari dataset."""

    id: Positional[str]
    """Dataset, such as hopper/bc-10-v1."""
    minari_id: Positional[str]
    """Id of the new Minari dataset, such as sibench/hopper/bc-10-v1."""


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
    from sibench.data import commands, formats, robomimic  # import the simulators, which --help need not wait for

    match command:
        case List():
            commands.list_datasets()
        case Show(id):
            commands.show(id)
        case Verify(ids, replays):
            commands.verify_all(ids, replays)
        case ImportD4rl(file, id, max_episode_steps):
            commands.store(id, lambda task: formats.from_d4rl(file, task, max_episode_steps))
        case ImportRobomimic(file, id, mask):
            commands.store(id, lambda task: robomimic.from_robomimic(file, task, mask))
        case ImportMinari(minari_id, id):
            commands.store(id, lambda task: formats.from_minari(minari_id, task))
        case ExportMinari(id, minari_id):
            commands.export_minari(id, minari_id)


if __name__ == "__main__":
    cli.run(main, Command, "python -m sibench.data")
