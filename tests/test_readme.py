"""The README is true: its Python runs, its commands exist, its table is the one that the package prints."""

import json
import re
import runpy
import shlex
import subprocess
import sys

import pytest
from conftest import MANIPULATION, REPO, TASKS, as_a_user, command

from data_gen import encoders
from sibench import stats, suites, tables
from sibench.results import read_suite

README = (REPO / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_python_runs(data_root):
    for block in blocks("python"):
        python = [sys.executable, "-c", block]
        result = subprocess.run(python, cwd=REPO, env=as_a_user(), capture_output=True, text=True, timeout=500)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "line", [line.split("#")[0] for block in blocks("bash") for line in block.splitlines() if line]
)
def test_commands_exist(line):
    """Programs and targets are there and know the flags that the README gives them."""
    program, *args = shlex.split(line)
    if program == "make":
        targets = subprocess.run(["make"], cwd=REPO, capture_output=True, text=True, check=True).stdout
        is_suite = args[0].removeprefix("bench-") in suites.SUITES
        assert f"make {'bench-<suite>' if is_suite else args[0]} " in targets
        return
    flags = {arg for arg in args if arg.startswith("--")}
    if args[0].endswith(".py"):
        shown = subprocess.run([sys.executable, args[0], "--help"], cwd=REPO, capture_output=True, text=True)
    else:
        assert [program, args[0]] == ["python", "-m"]
        subcommand = [args[2]] if args[1] in ("sibench.data", "sibench.leaderboard") else []
        shown = command(args[1], *subcommand, "--help")
        if args[1] == "data_gen.self_improve":  # takes the flags of an algorithm, too
            flags -= {"--task"}
    assert shown.returncode == 0
    assert all(flag in shown.stdout for flag in flags)


def test_table_of_tasks_is_the_packages():
    """Save for tasks that somebody has added to a copy."""
    shown = re.search(r"<!-- tasks: .*? -->\n(.*?)<!-- /tasks -->", README, re.DOTALL).group(1).splitlines()
    assert set(shown) <= set(tables.tasks().splitlines())
    assert all(any(f"`{name}-v1`" in row for row in shown) for name in (*TASKS, *MANIPULATION))


def test_table_of_encoders_is_that_of_its_results():
    shown = re.search(r"<!-- encoders: .*? -->\n(.*?)<!-- /encoders -->", README, re.DOTALL).group(1)
    assert shown.strip() == encoders.table()


def test_table_of_suites_is_the_packages():
    shown = re.search(r"<!-- suites: .*? -->\n(.*?)<!-- /suites -->", README, re.DOTALL).group(1)
    assert shown.strip() == tables.suites()


def test_table_of_scores_is_that_of_the_results():
    shown = re.search(r"<!-- scores: .*? -->\n(.*?)<!-- /scores -->", README, re.DOTALL).group(1)
    assert shown.strip() == tables.scores(stats.summarise(read_suite("small", REPO / "results")))


def test_tables_of_improvements_are_those_of_the_results():
    page = (REPO / "RESULTS.md").read_text()
    shown = re.findall(
        r"<!-- levels: python -m sibench.tables levels (\S+) -->\n(.*?)<!-- /levels -->", page, re.DOTALL
    )
    assert {"small", "small-bimodal"} <= dict(shown).keys()
    for suite, lines in shown:
        assert lines.strip() == tables.levels(read_suite(suite, REPO / "results")), suite


def test_table_of_the_ladder_is_that_of_its_results():
    page, figure = (REPO / "RESULTS.md").read_text(), runpy.run_path(str(REPO / "plots" / "ladder.py"))
    shown = re.search(r"<!-- ladder: .*? -->\n(.*?)<!-- /ladder -->", page, re.DOTALL).group(1)
    assert shown.strip() == figure["table"](json.loads(figure["RESULTS"].read_text()))


def test_rows_of_the_ladder_trained_twice_as_long_are_those_of_its_results():
    page = (REPO / "RESULTS.md").read_text()
    files = sorted((REPO / "results" / "aside" / "ladder-twice").glob("*.json"))
    assert len(files) == 3
    for file in files:
        task, source = file.stem.split("-", 1)
        shipped = json.loads((REPO / "sibench" / "assets" / task / f"{source}.json").read_text())["card"]
        quality = json.loads((REPO / "sibench" / "assets" / "ladder.json").read_text())[task][source]["quality"]
        twice = json.loads(file.read_text())[source]
        for card, value in ((shipped, quality), (twice["card"], twice["quality"])):
            nats = " | ".join(f"{card[name]:.2f}" for name in ("nll_train", "nll_held_out", "nll_held_out_expert"))
            assert f"| {nats} | {value:.2f} |" in page, file


def test_claims_and_page_are_of_the_results(tmp_path):
    """What `make claims` writes is what is there."""
    judged = re.search(r"^JUDGED := (.*?)\n\n", (REPO / "Makefile").read_text(), re.MULTILINE | re.DOTALL).group(1)
    suites = judged.replace("\\", "").split()
    (claims, page) = (tmp_path / name for name in ("claims.md", "leaderboard.html"))
    assert command("sibench.claims", "--suites", *suites, "--markdown", str(claims)).returncode == 0
    assert command("sibench.leaderboard", "render", "--results", "results", "--out", str(page)).returncode == 0

    def seen(text):
        """Without what another machine's rounding may change: last digits, and hashes of them."""
        text = re.sub(r"[0-9a-f]{64}", "hash", text)
        return re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda number: f"{float(number[0]):.5g}", text)

    for made in (claims, page):
        same = seen(made.read_text()) == seen((REPO / "results" / made.name).read_text())
        assert same, f"{made.name} is not that of the results: make claims"


def test_every_method_is_in_the_table():
    shown = re.findall(r"^\| \[`(\w+)`\]\(algorithms/\1\.py\)", README, re.MULTILINE)
    assert sorted(shown) == sorted(file.stem for file in (REPO / "algorithms").glob("*.py"))


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (REPO / target).exists(), target
