"""What the commands of `python -m sibench.data` do."""

import json
import sys
from collections.abc import Callable

from sibench import tasks
from sibench.core import files
from sibench.core.errors import UserError
from sibench.core.ids import Id, parse_id
from sibench.data import formats, storage
from sibench.data.check import verify
from sibench.data.collect import parts, statistics
from sibench.data.dataset import Dataset
from sibench.data.loading import load_privileged


def list_datasets() -> None:
    """Print a table of the datasets on this machine."""
    ids = _ids_on_disk()
    if not ids:
        print(f"no datasets in {storage.root()}; make some: python -m data_gen.collect --task hopper")
        return
    print(f"{'dataset':<28}{'episodes':>9}{'steps':>10}{'return':>9}{'std':>7}{'quality':>9}  engine")
    for id in ids:
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
    """Print the card of a dataset."""
    id = storage.parse_known_id(text)
    card = load_privileged(text).card if id.kind == "mix" else storage.read_card(id)
    print(json.dumps({name: value for name, value in card.items() if name != "returns"}, indent=1))


def verify_all(texts: tuple[str, ...], replays: int) -> None:
    """Check datasets, by default all on this machine; go on after a bad one, and name all of them at the end."""
    problems = []
    for id in [part for text in texts for part in parts(storage.parse_known_id(text))] or _ids_on_disk():
        try:
            print(f"{id}: " + "; ".join(verify(id, replays)) + ": good", flush=True)
        except UserError as error:
            print(f"{id}: BAD", flush=True)
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))


def store(text: str, convert: Callable[[str], Dataset]) -> None:
    """Store under an id what `convert` makes of another format's data for a task."""
    id = storage.parse_known_id(text)
    if id.kind != "other":
        raise UserError(f"{id} names a dataset of the benchmark's own; choose another name for imported data")
    dataset = convert(id.task)
    card = dataset.card | {"id": str(id)} | statistics(dataset, id.task)
    with files.sole_user(storage.folder(id), wait=True):
        print(f"{id}: {dataset.num_episodes} episodes in {storage.write(id, dataset._replace(card=card))}")


def export_minari(text: str, minari_id: str) -> None:
    """Write a dataset as a local Minari dataset."""
    formats.to_minari(load_privileged(text), minari_id)
    print(f"{text} is now the Minari dataset {minari_id}")


def _ids_on_disk() -> list[Id]:
    """List the datasets on this machine; report and skip folders whose names are not ids."""
    ids = []
    for path in sorted(storage.root().glob("[!.]*/[!.]*/")):
        try:
            ids.append(parse_id(f"{path.parent.name}/{path.name}"))
        except UserError as error:
            print(f"passing over {path}: {error}", file=sys.stderr)
    return ids
