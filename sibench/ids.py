"""What datasets are called: `<task>/<source>-v<version>`."""

import re
from dataclasses import dataclass

from sibench.errors import UserError, unknown

EPISODES = 1000
MOST = 9_999_999
"""Episodes that an id can say."""
LADDER = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Numbers of demonstrations that the ladder's policies were trained on."""
FEW = tuple(level for level in LADDER if level <= 200)
"""The same, of manipulation."""
MIXES = tuple(range(0, 1001, 100))
"""Experts among the 1000 episodes of the bimodal datasets."""
VERSION = 1


def twin(task: str) -> str:
    """`lift` of `lift-image`: the task that is the same but for being seen through cameras. Others are their own."""
    return task.removesuffix("-image")


def has_frames(task: str) -> bool:
    return twin(task) != task


@dataclass(frozen=True)
class Id:
    """`hopper/bc-10-v1`, or `hopper/bc-10-n100-v1` for a smaller one of 100 episodes."""

    task: str
    source: str  # expert, random, bc-<d>, mix-<e>, or the name of data from elsewhere
    episodes: int = EPISODES
    version: int = VERSION

    def __str__(self) -> str:
        size = "" if self.episodes == EPISODES else f"-n{self.episodes}"
        return f"{self.task}/{self.source}{size}-v{self.version}"

    @property
    def kind(self) -> str:
        return self.source.split("-")[0] if self.source in sources() else "other"

    @property
    def number(self) -> int:
        """The d of bc-<d>, the e of mix-<e>."""
        return int(self.source.split("-")[1])

    @property
    def num_experts(self) -> int:
        """Episodes of the expert in a mix-<e>."""
        return self.number * self.episodes // EPISODES


def sources() -> list[str]:
    """What the benchmark's datasets are made of."""
    return ["expert", "random", *(f"bc-{d}" for d in LADDER), *(f"mix-{e}" for e in MIXES)]


def parse_id(text: str) -> Id:
    """Read an id; `-v1` may be left out. Ids of the benchmark's own datasets are checked."""
    match = re.fullmatch(
        r"([a-z0-9]+(?:-image)?)/([a-z0-9]+(?:-[a-z0-9]+)*?)(?:-n([1-9]\d{0,6}))?(?:-v(\d{1,4}))?", text
    )
    from sibench import tasks

    if (task := text.split("/")[0]) not in tasks.names() and re.fullmatch(r"[\w-]+/.+", text):
        raise unknown("task", task, tasks.names())
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
