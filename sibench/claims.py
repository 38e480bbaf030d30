"""What *Value from Observations* (arXiv 2507.06701) says that can be checked, and what the results here say of it.

    python -m sibench.claims
    python -m sibench.claims --suites sibench-x0.1 bimodal-x0.1 --markdown claims.md

Each statement (sibench/paper.py) is put to a test (sibench/judging.py): it holds, fails, or these results cannot tell.
Cells whose data BC has not learned, or without a BC, are left out, and a task of whose headroom that is more than half.
Without all its tasks a statement holds or fails so far, on those that are left; if these are too few, it is not judged,
or not yet run where cells are missing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sibench import cli
from sibench.errors import UserError


@dataclass(frozen=True)
class Config:
    """Judge the paper's statements by the results there are."""

    suites: tuple[str, ...] = (
        *("sibench", "bimodal", "self-improve", "temperature", "mixture", "sqil", "ablations"),
        *("manipulation", "manipulation-images", "manipulation-self-improve"),
    )
    """Suites whose results count; sibench-x0.1 is one at a tenth of its updates."""
    results: Path = Path("results")
    """Folder of results, <results>/<suite>/<task>/<cell>.json."""
    markdown: Path | None = None
    """Write a table to this file too."""


def main(config: Config) -> None:
    from sibench import files, judging
    from sibench.paper import CLAIMS

    if not config.results.is_dir():
        raise UserError(f"{config.results} is not a folder; --results is one with <suite>/<task>/<cell>.json in it")
    found = judging.read(config.suites, config.results)
    verdicts = [judging.verdict(claim.test, found, config.suites) for claim in CLAIMS]
    for claim, given in zip(CLAIMS, verdicts, strict=True):
        print(f"{given.word:<12} {claim.id:<5} {claim.statement} ({claim.where})")
        for line in (given.why, words(claim), given.numbers, given.evidence):
            if line:
                print(f"{'':<19}{line}")
    counts = Counter(given.word for given in verdicts)
    print(f"{len(CLAIMS)} statements; " + ", ".join(f"{word}: {counts[word]}" for word in judging.WORDS))
    if config.markdown:
        files.write_atomic(config.markdown, table(CLAIMS, verdicts).encode())
        print(config.markdown)


def words(claim) -> str:
    """Of the test, if there is one."""
    return "" if isinstance(claim.test, str) else claim.test.words


def table(claims: Sequence, verdicts: Sequence) -> str:
    """In Markdown."""
    lines = ["| | statement | where | test | numbers | evidence | verdict |", "| --- " * 7 + "|"]
    for claim, given in zip(claims, verdicts, strict=True):
        evidence = f"`{given.evidence}`" if given.evidence else ""
        word = f"{given.word}: {given.why}" if given.why else given.word
        cells = (claim.id, claim.statement, claim.where, words(claim), given.numbers, evidence, word)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main, Config, "python -m sibench.claims")
