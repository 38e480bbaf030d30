"""The command line of a file of algorithms/."""

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from sibench.core import cli
from sibench.learning.method import Method, RunConfig
from sibench.learning.methods import resolve, variants


@dataclass(frozen=True)
class _Named:
    task: str = ""


def main(method: Method) -> None:
    """Parse the command line, then train."""

    def start(config: RunConfig) -> None:
        from sibench.learning.train import train  # imports simulators, which --help need not wait for

        variants()  # a copy with the names of its original is an error
        train(config, method)

    cli.run(
        start, method.config, f"python algorithms/{method.file}.py", functools.partial(defaults, method, sys.argv[1:])
    )


def defaults(method: Method, words: Sequence[str]) -> RunConfig:
    """Return what lies under the flags: the method's defaults for the task that they name."""
    named, _ = tyro.cli(_Named, args=words, return_unknown_args=True, add_help=False)
    if not named.task:
        return method.config(task=tyro.MISSING, dataset=tyro.MISSING)
    return resolve(method, named.task, dataset=tyro.MISSING)


def parse(method: Method, words: Sequence[str], prog: str) -> RunConfig:
    return tyro.cli(method.config, prog=prog, args=words, default=defaults(method, words))
