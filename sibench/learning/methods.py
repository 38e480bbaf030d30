"""Find the methods, and resolve what a method's settings are.

    source, later ones win                            where it stands
    ------------------------------------------------  ------------------------------------------
    1. defaults that all methods share                RunConfig (sibench/learning/method.py)
    2. defaults of the method                         `Config` in its file, algorithms/<file>.py
    3. defaults of a task's family, for all methods   FAMILY_DEFAULTS, below
    4. defaults of a task or family, for the method   METHOD.task_defaults in its file
    5. settings of a variant, such as vfo-bin         METHOD.variants in its file
    6. settings of a suite                            SUITES (sibench/bench/suites.py)
    7. settings of a cell, such as a temperature      the suite's cells
    8. flags of a command, and the values of --sweep  the command line

`resolve` is the only place where 1 to 7 meet; flags go over its output. A suite passes its resolved settings to the
learner as flags. A setting that the method does not have is an error, except in a suite: there it is skipped for
methods that lack it, as long as some method of the suite has it.
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import sibench
from sibench.core.errors import UserError, nearest, unknown
from sibench.learning.method import Method, RunConfig

CHECKOUT = Path(sibench.__file__).parents[1]
FOLDER = CHECKOUT / "algorithms"
FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {
    "manipulation": {"hidden": (1024, 1024), "weight_decay": 0.1},  # VfO, table 1
}


class Variant(NamedTuple):
    """A method as it appears on the board: a file and the settings that make one method of it."""

    name: str
    file: str
    settings: Mapping[str, Any]

    @property
    def method(self) -> Method:
        return load(self.file)


def files() -> list[str]:
    """List the files of algorithms/, without suffix."""
    if not FOLDER.is_dir():
        raise UserError(f"{FOLDER} is not there; methods and suites run from a checkout of the repository")
    return sorted(file.stem for file in FOLDER.glob("[!_]*.py"))


@functools.cache
def load(file: str) -> Method:
    """Import algorithms/<file>.py and return its `METHOD`."""
    if file not in files():
        raise unknown("method file", file, files())
    path = FOLDER / f"{file}.py"
    spec = importlib.util.spec_from_file_location(f"algorithms.{file}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    method = getattr(module, "METHOD", None)
    if not isinstance(method, Method):
        raise UserError(f"{path} declares no METHOD; end it with METHOD = Method(Config, make)")
    return method


@functools.cache
def variants() -> dict[str, Variant]:
    """Map every name on the board to its variant."""
    found: dict[str, Variant] = {}
    for file in files():
        for name, settings in (load(file).variants or {file: {}}).items():
            if name in found:
                raise UserError(
                    f"algorithms/{found[name].file}.py and algorithms/{file}.py both declare the variant '{name}'; "
                    "rename it in METHOD.variants of the new file"
                )
            found[name] = Variant(name, file, settings)
    return found


def variant(name: str) -> Variant:
    if name not in variants():
        raise unknown("method", name, variants())
    return variants()[name]


def name_of(method: Method, config: RunConfig) -> str:
    """Return the variant whose settings a config has; the file's name if it has those of none."""
    fits = [
        (len(settings), name)
        for name, settings in method.variants.items()
        if all(getattr(config, key) == value for key, value in settings.items())
    ]
    return max(fits)[1] if fits else method.file


def resolve(
    method: Method,
    task: str,
    *,
    variant: Mapping[str, Any] | None = None,
    suite: Mapping[str, Any] | None = None,
    suite_methods: Iterable[Method] = (),
    **given: Any,
) -> RunConfig:
    """Return the config of a method on a task; see the table above.

    Args:
        variant: settings of the variant.
        suite, suite_methods: settings of the suite, and its methods.
        given: settings of a cell.
    """
    from sibench.tasks import task_type  # simulators, which --help need not wait for (0.6 s)

    kind = task_type(task)
    family = FAMILY_DEFAULTS.get(kind.family, {}) | dict(method.defaults(kind.family))
    settings = family | dict(method.defaults(kind.name)) | dict(variant or {})
    for name, value in (suite or {}).items():
        if name in setting_names(method):
            settings[name] = value
        elif not any(name in setting_names(other) for other in suite_methods):
            files = ", ".join(sorted({other.file for other in suite_methods}))
            raise _unknown_setting(name, f"any method of the suite ({files})", method)
    settings |= given
    for name in settings:
        if name not in setting_names(method):
            raise _unknown_setting(name, f"algorithms/{method.file}.py", method)
    return method.config(**({"task": task} | settings))


def command_line(method: Method, config: RunConfig) -> str:
    """Return the command that trains with a config, as it would be typed in a checkout."""
    return " ".join([f"python algorithms/{method.file}.py", *flags(method, config)])


def flags(method: Method, config: RunConfig, everything: bool = False) -> list[str]:
    """Return the flags that differ from the method's defaults; with `everything`, also those that move no result."""
    default = resolve(method, config.task, dataset=config.dataset)
    words = ["--task", config.task, "--dataset", *config.dataset]
    for one in dataclasses.fields(config):
        value, name = getattr(config, one.name), one.name.replace("_", "-")
        if one.name in ("task", "dataset", config.swept) or value == getattr(default, one.name):
            continue
        if not everything and not one.metadata.get("moves_results", True):
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def setting_names(method: Method) -> list[str]:
    return [one.name for one in dataclasses.fields(method.config)]


def _unknown_setting(name: str, owner: str, method: Method) -> UserError:
    near = nearest(name, setting_names(method))
    return UserError(f"'{name}' is not a setting of {owner}" + (f"; did you mean '{near}'?" if near else ""))
