"""Load a dataset by its id, building it on request."""

from sibench.core.errors import UserError
from sibench.core.ids import Id, parse_id
from sibench.data import collect, storage
from sibench.data.dataset import Dataset, Demonstrations, concatenate


def load(dataset: str, *, build: bool = False) -> Dataset | Demonstrations:
    """Load a dataset by its id; of an expert only the observations.

    Args:
        build: make the dataset if it is missing, which takes about a minute.
    """
    full = load_privileged(dataset, build=build)
    if parse_id(dataset).kind != "expert":
        return full
    card = {name: value for name, value in full.card.items() if not name.startswith("return")}
    return Demonstrations(full.observations, full.terminal, full.truncated, full.offsets, card, full.pixels)


def load_privileged(dataset: str, *, build: bool = False) -> Dataset:
    """Load a dataset with the expert's actions and rewards, which only methods marked as privileged may use."""
    id = storage.parse_known_id(dataset)
    if id.kind == "mix":
        if missing := [str(part) for part in collect.parts(id) if not build and not storage.exists(part)]:
            raise UserError(
                f"{id} is made of {' and '.join(missing)}, not in {storage.root()}; "
                f"make it: {storage.build_command(id)}"
            )
        return _mix(id, build)
    if build and not storage.exists(id):
        collect.build(id)
    return collect.read_current(id)


def _mix(id: Id, build: bool) -> Dataset:
    """Return a view on expert and random in the ratio of the id.

    It takes the expert's last episodes, since the first ones are the demonstrations.
    """
    expert, random = (load_privileged(str(part), build=build) for part in collect.parts(id))
    card = {"id": str(id), "task": expert.card["task"], "engine": expert.card["engine"]}
    mixed = concatenate(expert.last(id.num_experts), random.first(id.episodes - id.num_experts), card)
    card |= collect.statistics(mixed, id.task) | {"parts": [expert.card["id"], random.card["id"]]}
    return mixed
