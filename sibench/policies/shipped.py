"""The policies that ship with the package: a task's `expert`, and its ladder of behaviour policies `bc-<d>`."""

import re
from pathlib import Path

from sibench import tasks
from sibench.core import assets, files
from sibench.core.errors import UserError, unknown
from sibench.core.ids import sources
from sibench.policies.policy import Policy, load


def path(task: str, source: str) -> Path:
    """Return the path of a shipped policy, without suffix; `source` is `expert` or `bc-<d>`."""
    return assets.ASSETS / tasks.state_twin(task) / source


def shipped(task: str) -> list[str]:
    """List the sources of a task for which a policy ships."""
    return [source for source in sources() if path(task, source).with_suffix(".json").exists()]


def load_policy(task: str, source: str) -> Policy:
    """Load the shipped policy `expert` or `bc-<d>` of a task."""
    return load(_require(task, source))


def policy_sha256(task: str, source: str) -> str:
    """Return the hash of a shipped policy's weights."""
    return files.from_json(_require(task, source).with_suffix(".json").read_bytes())["weights_sha256"]


def _require(task: str, source: str) -> Path:
    """Return the path of an intact shipped policy, or say how to get it."""
    task_type = tasks.task_type(task)
    if not re.fullmatch(r"expert|bc-\d+", source):
        raise unknown("source", source, shipped(task))
    file = path(task, source)
    if not file.with_suffix(".json").exists():
        if source == "expert" and task_type.script:
            raise UserError(f"{task} has no expert policy: a script demonstrates it; see {task}/expert-v1, its dataset")
        levels = [str(level) for level in task_type.ladder]
        if source != "expert" and source.removeprefix("bc-") not in levels:
            raise UserError(f"{task} has no policy '{source}'; the levels of its ladder: {', '.join(levels)}")
        command = f"python -m data_gen.{'experts' if source == 'expert' else 'ladder'} --task {task} --ship"
        raise UserError(f"{task} has no shipped policy '{source}' ({file}.json); train it: {command}")
    for suffix in (".safetensors", ".json"):
        assets.read(file.with_suffix(suffix))
    return file
