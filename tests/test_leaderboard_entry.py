"""Submissions are made from results and from methods elsewhere, and the format is what its JSON Schema says."""

import copy
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import least_squares
import pytest
from conftest import command
from submissions import SETTINGS, read_results, run, run_to_fail
from test_leaderboard_validation import REFUSED

from sibench.bench import suites
from sibench.core import schema
from sibench.core.ids import parse_id
from sibench.leaderboard import submission as sub
from sibench.leaderboard import validation
from sibench.leaderboard.entry import from_results
from sibench.learning import results

pytest_plugins = ["submissions"]
pytestmark = pytest.mark.usefixtures("small_suites")


def test_submission_holds_what_the_results_hold(folder, results_folder):
    submission, _ = validation.read(folder)
    before = {result.background.id: result for result in read_results(results_folder, "vfo-bin")}
    for result in sub.as_results(submission, "vfo-bin"):
        assert result == replace(before[result.background.id], identity=None, origin=None)
    assert submission.config == {name: tuple(v) if isinstance(v, list) else v for name, v in SETTINGS.items()}
    assert submission.hours["train"] == pytest.approx(4 / 60, abs=1e-3)
    assert submission.versions == {"jax": "0.10.1", "machine": "Linux x86_64", "python": "3.12.7"}
    assert submission.suite_sha256 == sub.board("tiny").sha256 != sub.board("tiny-x0.1").sha256


def test_a_method_that_no_suite_lists_can_be_submitted(results_folder, tmp_path, capsys):
    for result in read_results(results_folder, "bc"):
        file = tmp_path / "results" / "tiny" / result.task / f"my-method-{result.dataset}.json"
        results.write(file, replace(result, method="my-method", privileges=("expert actions",)))
    run("new", "--suite", "tiny", "--method", "my-method", "--results", tmp_path / "results", "--out", tmp_path / "out")
    run("validate", tmp_path / "out" / "tiny-my-method")
    assert validation.read(tmp_path / "out" / "tiny-my-method")[0].privileges == ("expert actions",)


def test_incomplete_submission_is_not_written(results_folder, tmp_path):
    result, *others = read_results(results_folder, "bc")
    wrong = replace(result, background=replace(result.background, id="hopper/bc-2-n5-v1"))
    with pytest.raises(ValueError, match="unknown tiny dataset 'hopper/bc-2-n5-v1'; did you mean"):
        from_results([wrong, *others])
    with pytest.raises(ValueError, match="walker2d/bc-5-n5-v1 is missing"):
        from_results([result, *others[:-1]]).write(tmp_path / "submissions")
    assert not list(tmp_path.glob("submissions/[!.]*"))


def test_numpy_method_from_elsewhere_makes_a_valid_submission(real_data, tmp_path, capsys):
    path = least_squares.main("one", tmp_path)
    run("validate", path)
    assert "valid; score" in capsys.readouterr().out
    assert len((Path(least_squares.__file__)).read_text().splitlines()) <= 60
    assert "has no policies: it stays self-reported" in run_to_fail(capsys, "verify", path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("new", "--suite", "quik", "--method", "bc"), "unknown suite 'quik'; did you mean 'quick'?"),
        (("new", "--suite", "quick", "--method", "vfo", "--results", "results"), "unknown method 'vfo'; did you mean"),
        (
            ("new", "--suite", "quick", "--method", "bc", "--results", "/nowhere"),
            "python -m sibench.bench --suite quick",
        ),
        (("verify", "/nowhere", "--num", "0"), "num=0; allowed: at least 1"),
        (("validate", "/nowhere"), "No such file or directory"),
    ],
)
def test_mistake_ends_with_2_and_one_message(words, message, capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    assert message in run_to_fail(capsys, *words)


def test_program_reports_a_mistake_without_traceback():
    ended = command("sibench.leaderboard", "validate", "/nowhere")
    assert ended.returncode == 2 and "error: " in ended.stderr and "Traceback" not in ended.stderr


def test_help_imports_nothing_slow():
    code = "import sys, sibench.leaderboard.__main__; sys.exit(bool({'jax', 'mujoco', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- the schema -------------------------------------------------------------------------------------------------------


def test_parse_names_the_place_the_value_and_what_is_allowed():
    problems: list[str] = []
    schema.parse(dict[schema.Line, tuple[int, ...]], {"a": [1, 2.5], "b\n": []}, "x", problems)
    assert problems == [
        "x: its name: 'b\\n'; allowed: 1 to 80 visible characters",
        "x.a[1]: 2.5; allowed: a whole number",
    ]


def test_every_dataset_of_the_suites_has_an_id_that_the_schema_allows():
    (pattern,) = [rule for rule in schema.DataId.__metadata__ if isinstance(rule, schema.Pattern)]  # type: ignore
    for cell in itertools.chain.from_iterable(suite.cells for suite in suites.SUITES.values()):
        for name in (cell.dataset, "expert-n10"):
            assert re.fullmatch(pattern.regex, str(parse_id(f"{cell.task}/{name}"))), cell


JSON_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}


def obeys(value, rule) -> bool:
    """A validator of the part of JSON Schema that is used."""
    if "anyOf" in rule:
        return any(obeys(value, option) for option in rule["anyOf"])
    if "enum" in rule:
        return value in rule["enum"]
    if not isinstance(value, JSON_TYPES[rule["type"]]) or (value is True and rule["type"] != "boolean"):
        return False
    if not re.search(rule.get("pattern", ""), str(value)) or value == rule.get("minimum", 0) - 1:
        return False
    if isinstance(value, list):
        return all(obeys(item, rule["items"]) for item in value)
    if isinstance(value, dict):
        fields, other = rule.get("properties", {}), rule["additionalProperties"]
        if not set(rule.get("required", ())) <= value.keys() or not (other or value.keys() <= fields.keys()):
            return False
        return all(obeys(item, fields.get(name, other)) for name, item in value.items())
    return True


def test_json_schema_accepts_and_refuses_what_parse_does(valid, capsys):
    run("schema")
    printed = json.loads(capsys.readouterr().out)
    assert printed["title"] == sub.FORMAT and printed["additionalProperties"] is False
    assert obeys(valid, printed)
    for name in (
        "unknown field",
        "missing field",
        "text for a number",
        "true for a number",
        "negative seed",
        "script as an address",
        "control characters",
        "unknown privilege",
    ):
        forged = copy.deepcopy(valid)
        REFUSED[name][0](forged)
        assert not obeys(forged, printed), name
