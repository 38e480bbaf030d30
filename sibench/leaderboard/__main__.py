"""The leaderboard: make submissions, check them, replay their policies, and draw the page.

python -m sibench.leaderboard new --suite quick --method vfo-bin
python -m sibench.leaderboard validate submissions/quick-vfo-bin
python -m sibench.leaderboard render
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from sibench.core import cli, files
from sibench.core.errors import UserError, unknown
from sibench.core.settings import check_bounds, setting

SUBMISSIONS = Path("submissions")


@dataclass(frozen=True)
class New:
    """Make a submission from a method's results, as sibench.bench left them."""

    suite: str
    """Suite, such as sibench; sibench-x0.1 for results of --scale 0.1."""
    method: str
    """Method, such as vfo-bin."""
    results: Path = Path("runs/results")
    """Folder of results."""
    policies: Path | None = None
    """Folder of the policies, such as runs/bench/sibench/policies; without them nobody can verify the submission."""
    out: Path = SUBMISSIONS
    """Folder of submissions; this one goes to <out>/<suite>-<method>."""
    about: str = ""
    """A sentence or two about the method."""
    paper: str | None = None
    """The paper's https address."""
    code: str | None = None
    """The code's https address."""

    def run(self) -> None:
        from sibench.bench.suites import read_suite
        from sibench.leaderboard.entry import from_results
        from sibench.leaderboard.submission import board

        board(self.suite)
        results = read_suite(self.suite, self.results)
        chosen = [result for result in results if result.method == self.method]
        if not results:
            raise UserError(
                f"{self.results / self.suite} has no results; make them: "
                f"python -m sibench.bench --suite {self.suite} --methods {self.method}"
            )
        if not chosen:
            raise unknown("method", self.method, dict.fromkeys(result.method for result in results))
        if self.policies and not self.policies.is_dir():
            raise UserError(f"{self.policies}: no such folder; run the suite here, or leave --policies out")
        entry = from_results(chosen, self.policies)
        entry.about, entry.paper, entry.code = self.about, self.paper, self.code
        print(entry.write(self.out))


@dataclass(frozen=True)
class Validate:
    """Check submissions: every field and every dataset, and all scores again from the raw returns."""

    folder: Positional[tuple[Path, ...]]
    """Folders such as submissions/quick-vfo-bin."""

    def run(self) -> None:
        from sibench.leaderboard import replay, validation

        problems = []
        for folder in self.folder:
            try:
                submission, digest = validation.read(folder)
                level = replay.level_of(replay.read(folder, submission, digest))
            except (UserError, FileNotFoundError) as error:
                problems.append(str(error))
            else:
                numbers = "score {mean:+.2f}, 95 % {low:+.2f} to {high:+.2f}".format(**vars(submission.score))
                print(f"{folder}: valid; {numbers}; {level}", flush=True)
        if problems:
            raise UserError("\n".join(problems))


@dataclass(frozen=True)
class Verify:
    """Replay policies of a submission, drawn at random, on held-back seeds, and write verification.json."""

    folder: Positional[Path]
    """Folder such as submissions/quick-vfo-bin."""
    key: str = ""
    """Key in the file of an earlier verification, to repeat it; by default a random one."""
    num: int = setting(8, at_least=1)
    """Policies to replay; a badge needs 8, or all."""
    episodes: int | None = setting(None, at_least=2)
    """Episodes of each policy; by default as many as the suite asks for, which a badge needs too."""

    def run(self) -> None:
        from sibench.leaderboard import replay, validation

        check_bounds(self)
        verification = replay.verify(self.folder, self.key, self.num, self.episodes)
        if failed := sum(not check.passed for check in verification.checks):
            file = self.folder / replay.VERIFICATION_FILE
            raise UserError(f"{self.folder}: {failed} of {len(verification.checks)} checks failed; see {file}")
        enough = replay.is_enough(verification, validation.read(self.folder)[0])
        outcome = replay.LEVELS[1] if enough else "passed, on too little for a badge"
        print(f"{self.folder}: {outcome}; to repeat it: --key {verification.key} --episodes {verification.episodes}")


@dataclass(frozen=True)
class Render:
    """Draw the page, one file that needs no network, from submissions and from complete results."""

    submissions: Path = SUBMISSIONS
    """Folder of submissions."""
    results: tuple[Path, ...] = (Path("results"), Path("runs/results"))
    """Folders of results. A method with all results of a suite is an entry; the last folder that has them counts."""
    out: Path = Path("runs/site/index.html")
    """File to write."""

    def run(self) -> None:
        from sibench.leaderboard.render import render

        for warning in render(self.submissions, self.results, self.out):
            print(warning, file=sys.stderr)
        print(self.out)


@dataclass(frozen=True)
class Schema:
    """Print the JSON Schema of a submission."""

    def run(self) -> None:
        from sibench.leaderboard.submission import schema

        print(files.to_json(schema()).decode(), end="")


Command = New | Validate | Verify | Render | Schema


def main(command: Command) -> None:
    command.run()


if __name__ == "__main__":
    cli.run(main, Command, "python -m sibench.leaderboard")
