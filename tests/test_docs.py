"""The documentation is true: its Python runs, its commands exist, its tables and links are those of the repository."""

import re
import shlex
import subprocess
import sys

import pytest
from conftest import REPO, as_a_user, command

from sibench.analysis import tables
from sibench.bench import suites

PAGES = [
    *("README.md", "RESULTS.md", "CONTRIBUTING.md", "results/README.md", "plots/README.md"),
    *(str(path.relative_to(REPO)) for path in sorted((REPO / "docs").glob("*.md"))),
]
README = (REPO / "README.md").read_text()


def blocks(language: str) -> list[tuple[str, str]]:
    """List the code blocks of all pages as (page, block)."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(page, block) for page in PAGES for block in pattern.findall((REPO / page).read_text())]


@pytest.mark.parametrize(("page", "block"), blocks("python"), ids=[page for page, _ in blocks("python")])
def test_python_runs(page, block, data_root):
    result = subprocess.run(
        [sys.executable, "-c", block], cwd=REPO, env=as_a_user(), capture_output=True, text=True, timeout=500
    )
    assert result.returncode == 0, result.stderr


LINES = sorted({line.split("#")[0].strip() for _, block in blocks("bash") for line in block.splitlines() if line})
EXTENDING = ("sed ", "python algorithms/mymethod.py", "python -m sibench.bench --suite quick --methods mymethod")


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith(EXTENDING)])
def test_commands_exist(line):
    """Programs and targets exist, and know the flags that the pages give them."""
    program, *args = shlex.split(line)
    if program == "make":
        targets = subprocess.run(["make"], cwd=REPO, capture_output=True, text=True, check=True).stdout
        names = [arg for arg in args if "=" not in arg]
        for name in names:
            is_suite = name.removeprefix("bench-") in suites.SUITES
            assert f"make {'bench-<suite>' if is_suite else name} " in targets
        return
    if program in ("source", "pre-commit"):
        return
    flags = {arg for arg in args if arg.startswith("--")}
    if args[0].endswith(".py"):
        shown = subprocess.run([sys.executable, args[0], "--help"], cwd=REPO, capture_output=True, text=True)
    else:
        assert [program, args[0]] == ["python", "-m"]
        if args[1] == "pytest":
            return
        subcommands = ("sibench.data", "sibench.leaderboard", "sibench.analysis.tables")
        shown = command(args[1], *([args[2]] if args[1] in subcommands else []), "--help")
        if args[1] == "data_gen.self_improve":  # takes the flags of a method, too
            flags &= {"--method", "--rounds", "--episodes", "--drop-data"}
    assert shown.returncode == 0, shown.stderr
    assert all(flag in shown.stdout for flag in flags), flags


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_those_of_the_results(page):
    for found in tables.GENERATED.finditer((REPO / page).read_text()):
        words = found[2].split()
        assert found[0] == f"{found[1]}{tables.generate(*words, **_results(words))}\n{found[3]}", "make tables"


def _results(words: list[str]) -> dict:
    return {"results": REPO / "results"} if len(words) > 1 else {}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", (REPO / page).read_text()):
        assert ((REPO / page).parent / target).exists(), target


def test_every_doc_is_linked():
    text = "".join((REPO / page).read_text() for page in PAGES)
    for path in (REPO / "docs").glob("*.md"):
        assert f"{path.name})" in text, path


def test_readme_is_short_and_paragraphs_are_too():
    prose = re.sub(r"<!-- generated.*?/generated -->", "", README, flags=re.DOTALL)
    assert len(prose.split()) <= 900
    for page in PAGES:
        text = re.sub(r"<!-- generated.*?/generated -->|^```.*?^```", "", (REPO / page).read_text(), flags=re.S | re.M)
        for paragraph in re.split(r"\n\s*\n", text):
            if not paragraph.lstrip().startswith(("|", "-", "    ", "#", "1.")):
                assert len(paragraph.split()) <= 80, f"{page}: {paragraph}"


def test_claims_and_page_are_those_of_the_results(tmp_path):
    """`make claims` reproduces the committed files."""
    judged = re.search(r"^JUDGED := (.*?)\n\n", (REPO / "Makefile").read_text(), re.MULTILINE | re.DOTALL)[1]
    names = judged.replace("\\", "").split()
    claims, page = tmp_path / "claims.md", tmp_path / "leaderboard.html"
    assert command("sibench.analysis.claims", "--suites", *names, "--markdown", str(claims)).returncode == 0
    assert command("sibench.leaderboard", "render", "--results", "results", "--out", str(page)).returncode == 0

    def without_rounding(text: str) -> str:
        """Round all numbers, and drop hashes, which depend on last digits and so on the machine."""
        text = re.sub(r"[0-9a-f]{64}|sha256-[A-Za-z0-9+/=]{44}", "hash", text)
        return re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda number: f"{float(number[0]):.5g}", text)

    for made in (claims, page):
        same = without_rounding(made.read_text()) == without_rounding((REPO / "results" / made.name).read_text())
        assert same, f"{made.name} is not that of the results: make claims"
