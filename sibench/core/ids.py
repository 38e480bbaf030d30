"""Ids of datasets: `<task>/<source>-v<version>`."""

import re
from dataclasses import dataclass

from sibench.core.errors import UserError, unknown

EPISODES = 1000
"""Episodes of a dataset whose id names no other number."""
MAX_EPISODES = 9_999_999
"""Most episodes that an id can express."""
LADDER = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Numbers of demonstrations that the behaviour policies of the ladder are cloned from."""
FEW = tuple(level for level in LADDER if level <= 200)
"""The ladder of the manipulation tasks."""
MIXES = tuple(range(0, 1001, 100))
"""Numbers of expert episodes among the 1000 of a bimodal dataset."""
VERSION = 1


@dataclass(frozen=True)
class Id:
    """A dataset id: `hopper/bc-10-v1`, or `hopper/bc-10-n100-v1` for a smaller dataset of 100 episodes."""

    task: str
    source: str  # expert, random, bc-<d>, mix-<e>, or the name of imported data
    episodes: int = EPISODES
    version: int = VERSION

    def __str__(self) -> str:
        size = "" if self.episodes == EPISODES else f"-n{self.episodes}"
        return f"{self.task}/{self.source}{size}-v{self.version}"

    @property
    def kind(self) -> str:
        """`expert`, `random`, `bc` or `mix`; `other` for a dataset that the benchmark does not make."""
        return self.source.split("-")[0] if self.source in sources() else "other"

    @property
    def number(self) -> int:
        """The d of bc-<d>, the e of mix-<e>."""
        return int(self.source.split("-")[1])

    @property
    def num_experts(self) -> int:
        """Number of expert episodes in a mix-<e>."""
        return self.number * self.episodes // EPISODES


def sources() -> list[str]:
    """List the sources of the benchmark's own datasets."""
    return ["expert", "random", *(f"bc-{d}" for d in LADDER), *(f"mix-{e}" for e in MIXES)]


def parse_id(text: str) -> Id:
    """Parse an id, in which `-v1` may be left out. The task is not checked: only `sibench.tasks` knows the tasks."""
    match = re.fullmatch(
        r"([a-z0-9]+(?:-image)?)/([a-z0-9]+(?:-[a-z0-9]+)*?)(?:-n([1-9]\d{0,6}))?(?:-v(\d{1,4}))?", text
    )
    if match is None:
        raise UserError(f"'{text}' is not a dataset id; one looks like hopper/bc-10-v1: <task>/<source>-v<version>")
    task, source, episodes, version = match.groups()
    if re.fullmatch(r"(expert|random|bc|mix)(-.*)?", source) and source not in sources():
        raise unknown("dataset", source, sources())
    parsed = Id(task, source, int(episodes or EPISODES), int(version or VERSION))
    if parsed.kind != "other" and parsed.version != VERSION:
        raise UserError(
            f"dataset {text}: this version of sibench makes version {VERSION} only: {task}/{source}-v{VERSION}"
        )
    return parsed
