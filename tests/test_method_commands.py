"""The command line of a method's file."""

import re
import subprocess
import sys

import pytest
from conftest import REPO
from learners import method

from sibench.learning.main import parse
from sibench.learning.methods import flags, resolve


def program(name, *args):
    return subprocess.run(
        [sys.executable, f"algorithms/{name}.py", *args], cwd=REPO, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--task", "hoper", "--dataset", "random"], "did you mean 'hopper'?"),
        (["--task", "hopper", "--dataset", "random-n7"], "python -m data_gen.collect --task hopper --dataset random"),
        (["--task", "hopper", "--dataset", "bc-7"], "did you mean 'bc-5'?"),
        (["--task", "hopper", "--dataset", "random", "--temprature", "2"], "--temperature"),
        (["--task", "hopper", "--dataset", "random", "--seeds", "0"], "seeds=0; allowed: at least 1"),
        (["--task", "hopper", "--dataset", "random", "--sweep", "temprature", "1"], "did you mean 'temperature'?"),
        (
            ["--task", "hopper", "--dataset", "random", "--sweep", "temperature", "0"],
            "temperature=0.0; allowed: above 0",
        ),
        (["--task", "hopper", "--dataset", "random", "--sweep", "temperature", "1", "1.0"], "all different"),
        (["--task", "hopper", "--dataset", "random", "random"], "named twice"),
        (["--task", "hopper", "--dataset", "random", "--seed", "99999999999"], "allowed: 0 to 2147483643"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_end_with_2_and_one_message(args, message, tmp_path):
    result = program("vfo", *args, "--out", str(tmp_path))
    assert result.returncode == 2, result.stdout + result.stderr
    said = re.sub(r"[\s│]+", " ", result.stdout + result.stderr)  # tyro draws a frame
    assert message in said and "Traceback" not in said


def test_help_says_what_a_flag_means():
    shown = program("dilo", "--help").stdout
    assert "kappa" in shown and "--temperature" in shown and "(VfO, appendix B)" in shown


@pytest.mark.parametrize(("words", "temperature"), [([], 0.1), (["--temperature", "5"], 5.0)])
def test_defaults_of_the_task_lie_under_the_command_line(words, temperature):
    parsed = parse(method("vfo"), ["--task", "lift", "--dataset", "random", *words], "vfo.py")
    assert (parsed.temperature, parsed.hidden, parsed.weight_decay) == (temperature, (1024, 1024), 0.1)
    assert parse(method("vfo"), ["--task=hopper", "--dataset", "random"], "vfo.py").temperature == 1.0


@pytest.mark.parametrize("name", ["vfo", "bco", "smodice", "nce"])
def test_flags_reproduce_every_setting(name):
    changed = {"hidden": (8, 8), "learning_rate": 0.01, "steps": 7, "build": True, "seeds": 2, "engine": "c"}
    if name == "vfo":
        changed |= {"terminal_rule": False, "reward": "disc"}
    config = resolve(method(name), "lift", dataset=("bc-5", "random"), **changed)
    assert parse(method(name), flags(method(name), config, everything=True), "x") == config
    assert "--build" not in flags(method(name), config)


def test_help_shows_the_defaults_of_the_task():
    assert "(default: 0.1)" in program("vfo", "--task", "lift", "--help").stdout.split("--temperature")[1][:200]
    assert "(default: 1.0)" in program("vfo", "--help").stdout.split("--temperature")[1][:200]
