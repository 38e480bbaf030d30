"""The command lines: quick to answer, and exact about mistakes."""

import subprocess
import sys

import pytest
from conftest import REPO, command

from sibench.policies import shipped

PROGRAMS = [
    *(f"data_gen.{name}" for name in ("collect", "experts", "ladder", "self_improve")),
    *(f"sibench.{name}" for name in ("analysis.claims", "analysis.tables", "bench", "data", "leaderboard")),
]
RANDOM = ("data_gen.collect", "--task", "hopper", "--dataset", "random")
EXPERTS, LADDER = (("data_gen.experts", "--task", "hopper"), ("data_gen.ladder", "--task", "hopper"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_imports_nothing_slow(program):
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
        ((*RANDOM, "--engine", "jx"), "did you mean 'mjx'?"),
        ((*RANDOM, "--episodes", "0"), "episodes=0; allowed: at least 1"),
        ((*RANDOM, "--episodes", "99999999999"), "episodes=99999999999; allowed: at least 1"),
        (("data_gen.collect", "--tsk", "hopper"), "--task"),
        ((*EXPERTS, "--learning-rate", "nan"), "learning_rate=nan; it must be finite"),
        ((*EXPERTS, "--learning-rate", "0"), "learning_rate=0.0; allowed: above 0"),
        ((*EXPERTS, "--discount", "1"), "discount=1.0; allowed: above 0 and below 1"),
        ((*EXPERTS, "--seed", "99999999999"), "seed=99999999999; allowed: at least 0"),
        ((*EXPERTS, "hoper"), "unknown task 'hoper'; did you mean 'hopper'?"),
        ((*LADDER, "--learning-rate", "inf"), "learning_rate=inf; it must be finite"),
        ((*LADDER, "--levels", "3"), "unknown level '3'; did you mean '2'?"),
        ((*LADDER, "hoper"), "unknown task 'hoper'; did you mean 'hopper'?"),
        (("sibench.data", "show", "hoper/bc-10"), "unknown task 'hoper'; did you mean 'hopper'?"),
        (("sibench.data", "verify", "hoper/bc-10"), "unknown task 'hoper'; did you mean 'hopper'?"),
        (("sibench.data", "import-d4rl", "x.hdf5", "hoper/mine"), "unknown task 'hoper'; did you mean 'hopper'?"),
        (("sibench.data", "import-robomimic", "x.hdf5", "lft/mine"), "unknown task 'lft'; did you mean 'lift'?"),
        (("sibench.data", "import-minari", "x-v0", "hoper/mine"), "unknown task 'hoper'; did you mean 'hopper'?"),
        (("sibench.data", "export-minari", "hoper/bc-10", "x-v0"), "unknown task 'hoper'; did you mean 'hopper'?"),
        (("sibench.data", "verify", "--replays", "-3"), "replays=-3; allowed: at least 0"),
        (("sibench.data", "show", "hopper/bc-10"), "make it: python -m data_gen.collect --task hopper --dataset bc-10"),
        (("sibench.data", "verify", "hopper/random"), "make it: python -m data_gen.collect"),
        (("sibench.data", "verfy"), "verify"),
        (("sibench.data", "import-d4rl", "/no/such/file", "hopper/mine"), "/no/such/file"),
        (("sibench.data", "import-d4rl", "/no/such/file", "hopper/bc-10"), "names a dataset of the benchmark's own"),
        (("sibench.bench", "--suite", "qick"), "did you mean 'quick'?"),
        (("sibench.bench", "--suite", "quick", "--tasks", "ant"), "unknown task 'ant'; tasks: hopper"),
        (("sibench.analysis.tables", "levels", "smal"), "unknown suite 'smal'; did you mean 'small'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_end_with_exit_code_2_and_one_message(args, message, data_root):
    result = command(*args)
    assert result.returncode == 2
    assert message in result.stderr + result.stdout
    assert "Traceback" not in result.stderr + result.stdout
    assert not data_root.exists() or not list(data_root.glob("[!.]*"))


def test_collect_by_default_makes_every_dataset_with_a_policy(data_root):
    made = command("data_gen.collect", "--task", "hopper", "--episodes", "2", "--engine", "c")
    assert made.returncode == 0, made.stderr
    expected = {f"{source}-n2-v1" for source in ("random", *shipped.shipped("hopper"))}
    assert {path.name for path in (data_root / "hopper").glob("[!.]*")} == expected


def test_collected_mix_is_shown_listed_and_verified(data_root):
    collect = ("data_gen.collect", "--task", "hopper", "--episodes", "4")
    made = command(*collect, "--dataset", "mix-500", "--engine", "c")
    assert made.returncode == 0, made.stderr
    assert "there already" in command(*collect, "--dataset", "mix-500").stdout
    other = command(*collect, "--dataset", "expert", "--engine", "mjx")
    assert other.returncode == 2 and "expert-n4-v1 was made on engine c, not mjx" in other.stderr
    listed = command("sibench.data", "list").stdout
    assert "hopper/expert-n4-v1" in listed and "hopper/random-n4-v1" in listed
    assert '"num_episodes": 4' in command("sibench.data", "show", "hopper/mix-500-n4").stdout
    verified = command("sibench.data", "verify")
    assert verified.returncode == 0 and verified.stdout.count("good") == 2
