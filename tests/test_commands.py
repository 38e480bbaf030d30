"""The command lines: quick to answer, and exact about mistakes."""

import ast
import subprocess
import sys

import pytest
from conftest import REPO, command

from sibench import assets

PROGRAMS = ["data_gen.experts", "data_gen.ladder", "data_gen.collect", "data_gen.self_improve", "data_gen.encoders"]
PROGRAMS += ["sibench.data", "sibench.bench", "sibench.leaderboard", "sibench.claims", "sibench.tables"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_imports_nothing_slow(program):
    """Which is what keeps it under half a second."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{program}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('{program}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "slow = {'jax', 'mujoco', 'brax', 'h5py', 'matplotlib'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("data_gen.collect", "--task", "hoper"), "unknown task 'hoper'; did you mean 'hopper'?"),
        (("data_gen.collect", "--task", "hopper", "--dataset", "bc-7"), "did you mean 'bc-5'?"),
        (("data_gen.collect", "--task", "hopper", "--dataset", "random", "--engine", "jx"), "did you mean 'mjx'?"),
        (("data_gen.collect", "--task", "hopper", "--dataset", "random", "--episodes", "0"), "at least 1 is needed"),
        (("data_gen.collect", "--task", "hopper", "--episodes", "99999999999"), "9999999 is the most"),
        (("data_gen.experts", "--task", "hopper", "--learning-rate", "nan"), "learning_rate=nan; it must be above 0"),
        (("data_gen.experts", "--task", "hopper", "--discount", "1"), "discount=1.0; it must lie between 0 and 1"),
        (("data_gen.experts", "--task", "hopper", "--seed", "99999999999"), "it must lie between 0 and"),
        (("data_gen.ladder", "--task", "hopper", "--learning-rate", "inf"), "learning_rate=inf; it must be above 0"),
        (("data_gen.ladder", "--task", "hopper", "--levels", "3"), "unknown level '3'; did you mean '2'?"),
        (("sibench.data", "verify", "--replays", "-3"), "replays=-3; it must not be below 0"),
        (("data_gen.collect", "--tsk", "hopper"), "--task"),
        (("sibench.data", "show", "hopper/bc-10"), "make it: python -m data_gen.collect --task hopper --dataset bc-10"),
        (("sibench.data", "verify", "hopper/random"), "make it: python -m data_gen.collect"),
        (("sibench.data", "verfy"), "verify"),
        (("sibench.bench", "--suite", "qick"), "did you mean 'quick'?"),
        (("sibench.bench", "--suite", "quick", "--tasks", "ant"), "unknown task 'ant'; tasks: hopper"),
        (("sibench.tables", "levels", "smal"), "did you mean 'results/small'?"),
        (("sibench.data", "import-d4rl", "/no/such/file", "hopper/mine"), "/no/such/file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_end_with_2_and_one_message(args, message, data_root):
    result = command(*args)
    assert result.returncode == 2
    assert message in result.stderr + result.stdout
    assert "Traceback" not in result.stderr + result.stdout
    assert not data_root.exists() or not list(data_root.glob("[!.]*"))


def test_collect_makes_what_there_are_policies_for(data_root):
    """Without --dataset, as `make data` calls it: no stop at a policy that is not there."""
    made = command("data_gen.collect", "--task", "hopper", "--episodes", "2", "--engine", "c")
    assert made.returncode == 0, made.stderr
    expected = {f"{source}-n2-v1" for source in ("random", *assets.shipped("hopper"))}
    assert {path.name for path in (data_root / "hopper").glob("[!.]*")} == expected


def test_collect_show_list_verify(data_root):
    made = command("data_gen.collect", "--task", "hopper", "--dataset", "mix-500", "--episodes", "4", "--engine", "c")
    assert made.returncode == 0, made.stderr
    assert (
        "there already"
        in command("data_gen.collect", "--task", "hopper", "--dataset", "mix-500", "--episodes", "4").stdout
    )
    other = command("data_gen.collect", "--task", "hopper", "--dataset", "expert", "--episodes", "4", "--engine", "mjx")
    assert other.returncode == 2 and "expert-n4-v1 was made on engine c, not mjx" in other.stderr
    listed = command("sibench.data", "list").stdout
    assert "hopper/expert-n4-v1" in listed and "hopper/random-n4-v1" in listed
    assert '"num_episodes": 4' in command("sibench.data", "show", "hopper/mix-500-n4").stdout
    verified = command("sibench.data", "verify")
    assert verified.returncode == 0 and verified.stdout.count("good") == 2


def test_methods_hash_alike_on_every_python():
    """Python 3.12 writes strings inside the braces of an f-string with other quotes than 3.11."""
    for file in sorted((REPO / "algorithms").glob("*.py")):
        fields = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FormattedValue)]
        inside = [one for field in fields for one in ast.walk(field.value) if isinstance(one, ast.Constant)]
        assert not [one for one in inside if isinstance(one.value, str)], file
