"""The leaderboard: make submissions, check them, play them again, and draw the page.

python -m sibench.leaderboard new --suite quick --method vfo-bin
python -m sibench.leaderboard validate submissions/quick-vfo-bin
python -m sibench.leaderboard render
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, subcommand

from sibench import cli
from sibench.errors import UserError, require_positive, unknown

SUBMISSIONS = Path("submissions")


@dataclass(frozen=True)
class New:
    """Make a submission of a method's results, as sibench.bench left them."""

    suite: str
    """Such as sibench; sibench-x0.1 for what was run with --scale 0.1."""
    method: str
    """Such as vfo-bin."""
    results: Path = Path("runs/results")
    """Folder of results."""
    policies: Path | None = None
    """Folder of the policies, such as runs/bench/sibench/policies; without them nobody can verify it."""
    out: Path = SUBMISSIONS
    """Folder of submissions; this one's is <out>/<suite>-<method>."""
    about: str = ""
    """A sentence or two about the method."""
    paper: str | None = None
    """Its https address."""
    code: str | None = None
    """That of the code."""


@dataclass(frozen=True)
class Validate:
    """Check submissions: every field, every cell and seed, every number again from the raw returns."""

    folder: Positional[tuple[Path, ...]]
    """Such as submissions/quick-vfo-bin."""


@dataclass(frozen=True)
class Verify:
    """Play a random part of a submission's policies again, on held-back seeds, and write verification.json."""

    folder: Positional[Path]
    """Such as submissions/quick-vfo-bin."""
    secret_file: Path | None = None
    """A secret of the maintainers', from which lanes and seeds are drawn; a fresh random one if not given."""
    key: str = ""
    """Of an earlier verification, out of its file, to repeat it."""
    num: int = 8
    """Lanes to play; a badge rests on 8, or on all."""
    episodes: int = 0
    """Of each; 0 are as many as the suite asks for, and a badge too."""

    def __post_init__(self):
        require_positive(self, "num")
        if self.episodes < 0 or self.episodes == 1:
            raise UserError(f"episodes={self.episodes}; at least 2 are needed, or 0 for as many as the suite asks for")


@dataclass(frozen=True)
class Render:
    """Draw the page, one file that needs no network: of submissions, and of results that would be valid ones."""

    submissions: Path = SUBMISSIONS
    """Folder of submissions."""
    results: tuple[Path, ...] = (Path("results"), Path("runs/results"))
    """Folders of results; a method that has all cells of a suite is an entry. Of a suite in two, the last counts."""
    out: Path = Path("runs/site/index.html")
    """The file."""


@dataclass(frozen=True)
class Schema:
    """Print the JSON Schema of a submission."""


Command = (
    Annotated[New, subcommand("new")]
    | Annotated[Validate, subcommand("validate")]
    | Annotated[Verify, subcommand("verify")]
    | Annotated[Render, subcommand("render")]
    | Annotated[Schema, subcommand("schema")]
)


def main(command: Command) -> None:
    match command:
        case New():
            new(command)
        case Validate(folders):
            validate(folders)
        case Verify():
            verify(command)
        case Render(submissions, results, out):
            from sibench.leaderboard.render import render

            for line in render(submissions, results, out):
                print(line, file=sys.stderr)
            print(out)
        case Schema():
            from sibench import files
            from sibench.leaderboard.submission import schema

            print(files.to_json(schema()).decode(), end="")


def new(command: New) -> None:
    from sibench.leaderboard.entry import of_results
    from sibench.leaderboard.submission import suite
    from sibench.results import read_suite

    known = dict.fromkeys(cell.method for cell in suite(command.suite).cells)
    if command.method not in known:
        raise unknown("method", command.method, known)
    found = [result for result in read_suite(command.suite, command.results) if result.method == command.method]
    if not found:
        raise UserError(
            f"{command.results / command.suite} has no result of {command.method}; make them: "
            f"python -m sibench.bench --suite {command.suite} --methods {command.method}"
        )
    if command.policies and not command.policies.is_dir():
        raise UserError(
            f"{command.policies}: no such folder; policies are where the results were made: run their suite here, "
            "into another --results, or leave --policies out, and nobody can verify the submission"
        )
    entry = of_results(found, command.policies)
    entry.about, entry.paper, entry.code = command.about, command.paper, command.code
    print(entry.write(command.out))


def validate(folders: tuple[Path, ...]) -> None:
    from sibench.leaderboard import verify
    from sibench.leaderboard.submission import read

    bad = []
    for folder in folders:
        try:
            submission, digest = read(folder)
            verification = verify.read(folder, submission, digest)
            mean, low, high = (100 * end for end in vars(submission.claims.score).values())
            print(f"{folder}: valid; SI {mean:.1f} [{low:.1f}, {high:.1f}]; {verify.level(verification)}", flush=True)
        except (UserError, FileNotFoundError) as error:
            bad.append(str(error))
    if bad:
        raise UserError("\n".join(bad))


def verify(command: Verify) -> None:
    from sibench.leaderboard.submission import read
    from sibench.leaderboard.verify import FILE, is_enough, verify

    secret = command.secret_file.read_bytes() if command.secret_file else b""
    if command.secret_file and len(secret) < 16:
        raise UserError(f"{command.secret_file}: {len(secret)} bytes; a secret needs at least 16: openssl rand -hex 32")
    result = verify(command.folder, command.key, secret, command.num, command.episodes)
    failed = sum(not check.passed for check in result.checks)
    if failed:
        raise UserError(
            f"{command.folder}: {failed} of {len(result.checks)} checks failed; see {command.folder / FILE}"
        )
    known = "re-evaluated" if is_enough(result, read(command.folder)[0]) else "passed, on too little for a badge"
    print(f"{command.folder}: {known}; to repeat it: --key {result.key} --episodes {result.episodes}")


if __name__ == "__main__":
    cli.run(main, Command, "python -m sibench.leaderboard")
