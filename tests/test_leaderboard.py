"""The leaderboard: what is refused and why, that a false claim is found, and the page in a real browser."""

import copy
import dataclasses
import hashlib
import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import chromium
import jax
import jax.numpy as jnp
import least_squares
import numpy as np
import pytest
from chromium import Chromium
from conftest import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sibench
from sibench import cli, files, policies, results, suites, tasks
from sibench.errors import UserError
from sibench.evaluation import Evaluation
from sibench.ids import Id, parse_id
from sibench.leaderboard import Entry, schema, verify
from sibench.leaderboard import submission as sub
from sibench.leaderboard.__main__ import Command, main
from sibench.leaderboard.entry import of_results
from sibench.leaderboard.render import render
from sibench.networks import BinsPolicy

QUALITY = {"bc-1-n5": 0.2, "bc-5-n5": 0.7}
"""Of the made-up data of the suite `tiny`."""
SETTINGS = {"steps": 10_000, "batch_size": 64, "hidden": [64, 64], "temperature": 1.0}
MARKUP = '<img src=x onerror="alert(1)"> & </script><script>alert(2)</script>'


@pytest.fixture(scope="module", autouse=True)
def small_suites():
    """`tiny`, of made-up results; `real` and `one`, whose data is made in seconds."""
    tiny = suites.grid(("hopper", "walker2d"), ("bc", "vfo-bin", "awr"), QUALITY)
    real = suites.grid(("hopper",), ("bc",), ("random-n100", "bc-1-n5"))
    with pytest.MonkeyPatch.context() as patch:
        for name, cells, episodes in (("tiny", tiny, 8), ("real", real, 40), ("one", real[:1], 40)):
            asked = {"seeds": 3, "final_episodes": episodes, "expert": "expert-n10"}
            patch.setitem(suites.SUITES, name, suites.Suite(name, f"for tests, {name}", cells, asked))
        yield


@pytest.fixture(scope="module")
def real_data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIBENCH_DATA", str(tmp_path_factory.mktemp("datasets")))
        yield


def scaled(task: str, score: float) -> float:
    """The return of a score."""
    ends = tasks.references(task)
    return ends["random"]["mean"] + score * (ends["expert"]["mean"] - ends["random"]["mean"])


def result(cell: suites.Cell, suite: str, quality: float, scores: list[float | None], episodes: int = 8) -> dict:
    """A result file with made-up returns around these scores; None is a seed that diverged."""
    task, id = cell.task, parse_id(f"{cell.task}/{cell.dataset}")
    rng = np.random.default_rng(list(f"{suite}{task}{cell.name}".encode()))
    lanes = []
    for seed, score in enumerate(scores):
        lane = {"seed": seed, "status": "diverged", "diverged_at": 7, "evaluations": []}
        if score is not None:
            returns = scaled(task, score) + rng.normal(0, 0.03 * scaled(task, 1), episodes)
            lane = {"seed": seed, "status": "finished", "evaluations": [], "returns": np.round(returns, 3).tolist()}
            lane |= {"lengths": rng.integers(100, 1000, episodes).tolist(), "num_nonfinite": 0, "nll": 9.3}
            lane |= {"policy_sha256": hashlib.sha256(rng.bytes(8)).hexdigest()}
        lanes.append(lane)
    data = {"id": str(id), "engine": "c", "return_mean": scaled(task, quality), "return_std": 100.0}
    data |= {"num_episodes": id.episodes, "quality": quality, "content_sha256": "a" * 64, "teacher_nll": 9.1}
    return {
        "format": "sibench-result-1",
        "cell": {"suite": suite, "task": task, "method": cell.method, "dataset": cell.dataset, "settings": {}},
        "privileges": ["background rewards"] if cell.method == "awr" else [],
        "engine": "c",
        "dataset": data,
        "expert": {"id": f"{task}/expert-n10-v1", "num_episodes": 10, "content_sha256": "b" * 64, "demos": 10},
        "config": SETTINGS | {"task": task, "wandb": "", "demos": 10, "final_episodes": 5},
        "code": "c" * 40,
        "versions": {"python": "3.12.7", "jax": "0.10.2"},
        "device": "cpu",
        "seconds": {"compile": 1.0, "train": 60.0, "evaluate": 30.0},
        "lanes_together": 3,
        "lanes": lanes,
    }


GAIN = {"bc": 0.0, "vfo-bin": 0.15, "awr": 0.1}


def write_results(folder: Path) -> None:
    for number, cell in enumerate(suites.suite("tiny").cells):
        quality = QUALITY[cell.dataset]
        scores = [quality + GAIN[cell.method] + 0.01 * seed for seed in range(3)]
        scores[1] = None if number == 5 else scores[1]
        results.write(results.path(folder, "tiny", cell.task, cell.name), result(cell, "tiny", quality, scores))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_suites):
    """A valid submission, of results, made by the command."""
    root = tmp_path_factory.mktemp("leaderboard")
    write_results(root / "results")
    run("new", "--suite", "tiny", "--method", "vfo-bin", "--results", root / "results", "--out", root / "submissions")
    return root / "submissions" / "tiny-vfo-bin"


def run(*words: object) -> None:
    """The command line, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["leaderboard", *map(str, words)])
        cli.run(main, Command, "leaderboard")


def fails(capsys, *words: object) -> str:
    """What it says as it ends with exit code 2."""
    with pytest.raises(SystemExit) as end:
        run(*words)
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def valid(folder) -> dict:
    return json.loads((folder / sub.FILE).read_bytes())


@pytest.fixture
def changed(folder, tmp_path):
    """Somebody else's submission: another text, in a folder of its own."""

    def make(text: str) -> Path:
        place = tmp_path / folder.name
        files.write_atomic(place / sub.FILE, text.encode())
        return place

    return make


# --- making and validating --------------------------------------------------------------------------------------------


def test_of_results(folder, valid, capsys):
    run("validate", folder)
    score = valid["claims"]["score"]
    assert f"valid; SI {100 * score['mean']:.1f} [" in (out := capsys.readouterr().out) and "self-reported" in out
    assert score["low"] < score["mean"] < score["high"]
    by_hand = np.mean([np.mean(lane["returns"]) for cell in valid["cells"][:1] for lane in cell["lanes"]])
    assert np.mean([lane["return_mean"] for lane in valid["cells"][0]["lanes"]]) == pytest.approx(by_hand)
    assert valid["config"] == SETTINGS
    assert valid["hours"]["train"] == pytest.approx(4 / 60, abs=1e-3)
    assert valid["suite_sha256"] == sub.suite_sha256("tiny") != sub.suite_sha256("tiny-x0.1")


def lane_of(value: dict, cell: int = 0, lane: int = 0) -> dict:
    return value["cells"][cell]["lanes"][lane]


def again(lane: dict) -> None:
    """Put what follows from the returns right, as a careful forger would."""
    lane["return_mean"] = float(np.mean(lane["returns"]))
    lane["returns_sha256"] = sub.returns_sha256(lane["returns"])


def forge(value: dict) -> None:
    for lane in (lane for cell in value["cells"] for lane in cell["lanes"] if lane["returns"]):
        lane["returns"] = [each + 40 for each in lane["returns"]]
        again(lane)


def copy_lane(value: dict, *names: str) -> None:
    for name in names:
        lane_of(value, 1, 2)[name] = lane_of(value, 0, 1)[name]


def turn_lane(value: dict) -> None:
    lane, other = lane_of(value, 1, 2), lane_of(value, 0, 1)
    lane["returns"] = other["returns"][1:] + other["returns"][:1]
    again(lane)


def worsen(data: dict) -> None:
    data.update(return_mean=70.0, quality=tasks.quality("hopper", 70.0))


def take_first(value: dict, num: int) -> None:
    for cell in value["cells"]:
        for lane in cell["lanes"]:
            lane["returns"], lane["lengths"] = lane["returns"][:num], lane["lengths"][:num]
            again(lane)


REFUSED = {
    "missing cell": (lambda v: v["cells"].pop(1), "cells: hopper/bc-5-n5-v1 is missing"),
    "cell twice": (lambda v: v["cells"].append(v["cells"][0]), "cells[4].background.id: 'hopper/bc-1-n5-v1' again"),
    "strange cell": (
        lambda v: v["cells"][0]["background"].update(id="hopper/bc-2-n5-v1"),
        "cells[0].background.id: 'hopper/bc-2-n5-v1'; not a dataset of suite tiny",
    ),
    "seed twice": (lambda v: lane_of(v).update(seed=1), "cells[0].lanes: a seed is there twice: [1, 1, 2]"),
    "other seeds": (
        lambda v: lane_of(v, 2).update(seed=7),
        "cells[2].lanes: seeds [1, 2, 7]; allowed, as in",
    ),
    "too few seeds": (lambda v: [c["lanes"].pop() for c in v["cells"]], "cells[3].lanes: 2 seeds; suite tiny needs 3"),
    "too few episodes": (lambda v: take_first(v, 7), "cells[0].lanes[0].returns: 7 episodes; suite tiny needs 8"),
    "no episodes": (lambda v: lane_of(v).update(returns=[]), "cells[0].lanes[0].returns: 0 episodes"),
    "returns twice": (
        lambda v: copy_lane(v, "returns", "returns_sha256", "return_mean"),
        "cells[1].lanes[2].returns_sha256: ",
    ),
    "returns twice, in another order": (lambda v: turn_lane(v), "cells[1].lanes[2].returns_sha256: "),
    "policy twice": (lambda v: copy_lane(v, "policy_sha256"), "no two lanes are the same"),
    "an episode without a step": (lambda v: lane_of(v)["lengths"].__setitem__(3, 0), "lanes[0].lengths: 0; an episode"),
    "another engine": (lambda v: v["cells"][1].update(engine="my engine"), "cells[1].engine: 'my engine'"),
    "another name": (lambda v: v["method"].update(name="AWR"), "of its suite and its method's name it is 'tiny-awr'"),
    "data poorer than its recipe's": (
        lambda v: worsen(v["cells"][1]["background"]),
        "cells[1].background.return_mean: 70.0; hopper/bc-5-n5-v1 has 1",
    ),
    "other returns": (lambda v: lane_of(v)["returns"].reverse(), "cells[0].lanes[0].returns_sha256: "),
    "no hash": (lambda v: lane_of(v).update(returns_sha256=None), "cells[0].lanes[0].returns_sha256: None"),
    "wrong mean": (
        lambda v: lane_of(v).update(return_mean=1.001 * lane_of(v)["return_mean"]),
        "cells[0].lanes[0].return_mean: ",
    ),
    "wrong score": (
        lambda v: v["claims"]["score"].update(mean=1.001 * v["claims"]["score"]["mean"]),
        "claims.score.mean: ",
    ),
    "wrong interval": (
        lambda v: v["claims"]["tasks"]["hopper"].update(low=0.999 * v["claims"]["tasks"]["hopper"]["low"]),
        "claims.tasks.hopper.low: ",
    ),
    "a task less": (lambda v: v["claims"]["tasks"].pop("hopper"), "claims.tasks: walker2d; needed: hopper, walker2d"),
    "raised returns": (forge, "claims.score.mean: "),
    "impossible return": (
        lambda v: (lane_of(v)["returns"].__setitem__(0, 1e6), again(lane_of(v))),
        "cells[0].lanes[0].returns: 1000000.0; beyond 3 times",
    ),
    "impossible length": (
        lambda v: lane_of(v)["lengths"].__setitem__(0, 1001),
        "cells[0].lanes[0].lengths: 1001; an episode of hopper ends at 1000",
    ),
    "fewer lengths": (lambda v: lane_of(v)["lengths"].pop(), "cells[0].lanes[0]: 8 returns, 7 lengths"),
    "returns of the diverged": (
        lambda v: lane_of(v).update(status="diverged"),
        "cells[0].lanes[0]: diverged, and yet with returns",
    ),
    "worse data": (
        lambda v: v["cells"][0]["background"].update(quality=0.1),
        "cells[0].background.quality: 0.1; a return of",
    ),
    "other data": (
        lambda v: v["cells"][0]["background"].update(recipe_sha256="0" * 64),
        "cells[0].background.recipe_sha256: 000",
    ),
    "less data": (
        lambda v: v["cells"][0]["background"].update(num_episodes=4),
        "cells[0].background.num_episodes: 4; hopper/bc-1-n5-v1 has 5",
    ),
    "more demonstrations": (
        lambda v: v["cells"][0]["expert"].update(num_episodes=11),
        "cells[0].expert.num_episodes: 11; suite tiny allows 10",
    ),
    "another expert": (
        lambda v: v["cells"][0]["expert"].update(id="walker2d/expert-v1"),
        "cells[0].expert.id: 'walker2d/expert-v1'",
    ),
    "other suite": (lambda v: v.update(suite_sha256="1" * 64), "suite_sha256: 111"),
    "unknown suite": (lambda v: v.update(suite="tinny"), "suite: unknown suite 'tinny'; did you mean 'tiny'?"),
    "suite without a board": (lambda v: v.update(suite="temperature"), "suite: suite temperature varies more"),
    "other folder": (
        lambda v: v["method"].update(name="Other") or v.update(id="tiny-other"),
        "id: 'tiny-other'; its folder is called 'tiny-vfo-bin'",
    ),
    "id of a suite": (lambda v: v.update(id="quick-vfo-bin"), "'quick-vfo-bin'; of its suite and its method's name"),
    "id like a path": (lambda v: v.update(id="../tiny"), "id: '../tiny'; allowed: 3 to 80 of a-z"),
    "no commit": (lambda v: v["method"].update(commits=[]), "method.commits: none"),
    "commit": (lambda v: v["method"].update(commits=["main"]), "method.commits[0]: 'main'; allowed: a commit"),
    "privilege": (
        lambda v: v.update(privileges=["rewards"]),
        "privileges[0]: 'rewards'; allowed: 'background rewards', 'expert actions'",
    ),
    "unknown field": (
        lambda v: lane_of(v).update(policy_path="../../etc/passwd"),
        "cells[0].lanes[0].policy_path: unknown field",
    ),
    "missing field": (lambda v: lane_of(v).pop("nll"), "cells[0].lanes[0].nll: missing"),
    "text": (
        lambda v: lane_of(v)["returns"].__setitem__(3, "9"),
        "cells[0].lanes[0].returns[3]: '9'; allowed: a number",
    ),
    "truth": (
        lambda v: lane_of(v).update(seed=True),
        "cells[0].lanes[0].seed: True; allowed: a whole number from 0 on",
    ),
    "negative seed": (
        lambda v: lane_of(v).update(seed=-1),
        "cells[0].lanes[0].seed: -1; allowed: a whole number from 0",
    ),
    "huge number": (lambda v: lane_of(v).update(return_mean=10**400), "not strict JSON: 1000000000"),
    "javascript": (
        lambda v: v["method"].update(paper="javascript:alert(1)"),
        "method.paper: 'javascript:alert(1)'; allowed: an https:// address or null",
    ),
    "terminal": (lambda v: v["method"].update(name="\x1b[2J"), "method.name: '\\x1b[2J'; allowed: 1 to 80 visible"),
    "right to left": (lambda v: v["method"].update(name="a\u202eb"), "method.name: 'a\\u202eb'; allowed"),
    "a book": (lambda v: v["config"].update({f"setting {i}": "x" * 500 for i in range(50)}), "config: 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, valid, changed, capsys):
    mutate, message = REFUSED[name]
    mutate(valid)
    said = fails(capsys, "validate", changed(json.dumps(valid)))
    assert message in said
    assert "\x1b" not in said and max(map(len, said.splitlines())) < 400


def test_all_problems_at_once(valid, changed, capsys):
    lane_of(valid)["seed"], valid["suite_sha256"], valid["method"]["paper"] = -1, "x", 3
    said = fails(capsys, "validate", changed(json.dumps(valid)))
    assert "3 things are wrong" in said
    assert all(part in said for part in ("seed: -1", "suite_sha256: 'x'", "method.paper: 3"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"num_nonfinite":0', '"num_nonfinite":NaN', "NaN is not a number of JSON"),
        ('"num_nonfinite":0', '"num_nonfinite":1e999', "1e999 is too large"),
        ('"num_nonfinite":0', '"num_nonfinite":-Infinity', "-Infinity is not a number of JSON"),
        ('"num_nonfinite":0', '"num_nonfinite":0,"num_nonfinite":0', "a name is given twice: num_nonfinite"),
        ("{", "[" * 100_000 + "{", "not strict JSON"),
        ("}", "", "not strict JSON"),
        ("{", "\ufeff{", "not strict JSON"),
    ],
)
def test_strict_json(old, new, message, folder, changed, capsys):
    text = (folder / sub.FILE).read_text()
    assert message in fails(capsys, "validate", changed(text.replace(old, new, 1)))


def test_sizes_and_links(folder, changed, capsys, monkeypatch, tmp_path):
    place = changed((folder / sub.FILE).read_text())
    monkeypatch.setitem(sub.MAX_BYTES, sub.FILE, 1000)
    assert "bytes; at most 1000 are read" in fails(capsys, "validate", place)
    monkeypatch.undo()
    (place / sub.FILE).rename(tmp_path / "elsewhere.json")
    (place / sub.FILE).symlink_to(tmp_path / "elsewhere.json")
    assert "not a regular file" in fails(capsys, "validate", place)
    assert "No such file" in fails(capsys, "validate", tmp_path / "nowhere")


scalars = (
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whatever_is_in_it_nothing_breaks(folder, data):
    """Any one part of it in place of another thing is refused, or is a submission, and says so in JSON."""
    value = json.loads((folder / sub.FILE).read_bytes())
    place, key = [value], 0
    while isinstance(place[key], dict | list) and place[key] and (place is value or data.draw(st.booleans())):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = data.draw(anything)
    submission, problems = sub.check(value)
    assert problems or sub.check(files.from_json(sub.as_json(submission))) == (submission, [])


def test_every_dataset_of_the_suites_can_be_named():
    (pattern,) = [one for one in sub.DataId.__metadata__ if isinstance(one, schema.Pattern)]
    for cell in itertools.chain.from_iterable(suite.cells for suite in suites.SUITES.values()):
        for name in (cell.dataset, "expert-n10"):
            assert re.fullmatch(pattern.regex, str(parse_id(f"{cell.task}/{name}"))), cell


def test_the_policies_behind_images_play_on_states():
    """As in making the data; but no policy that is submitted for a task with frames sees its state."""
    background = SimpleNamespace(id="lift-image/bc-200-v1", return_mean=0.9, num_episodes=100)
    cell = SimpleNamespace(background=background, engine="c")
    assert verify._check_background(cell, np.arange(20, dtype=np.uint64), 0.01).passed
    ((policy, _),) = verify.teachers({"id": background.id})
    with pytest.raises(UserError, match=r"takes and gives \(19, 7\)"):
        verify.play(policy, cell, np.arange(2, dtype=np.uint64))


def test_schema_is_what_parse_accepts(valid, capsys):
    """The same fields, all needed; and the examples of both sorts by a validator of a dozen lines."""
    run("schema")
    told = json.loads(capsys.readouterr().out)
    assert told["title"] == sub.FORMAT and told["additionalProperties"] is False

    def obeys(value, rule) -> bool:
        kinds = {
            "object": dict,
            "array": list,
            "string": str,
            "number": (int, float),
            "integer": int,
            "null": type(None),
        }
        if "anyOf" in rule:
            return any(obeys(value, option) for option in rule["anyOf"])
        if "enum" in rule:
            return value in rule["enum"]
        if not isinstance(value, kinds.get(rule["type"], bool)) or (value is True and rule["type"] != "boolean"):
            return False
        if not re.search(rule.get("pattern", ""), str(value)) or value == rule.get("minimum", 0) - 1:
            return False
        if isinstance(value, list):
            return all(obeys(item, rule["items"]) for item in value)
        if isinstance(value, dict):
            own, other = rule.get("properties", {}), rule["additionalProperties"]
            known = all(
                obeys(item, own.get(name, other)) if name in own or other else False for name, item in value.items()
            )
            return known and set(rule.get("required", ())) <= value.keys()
        return True

    assert obeys(valid, told)
    for name in (
        "unknown field",
        "missing field",
        "text",
        "truth",
        "negative seed",
        "javascript",
        "terminal",
        "privilege",
    ):
        other = copy.deepcopy(valid)
        REFUSED[name][0](other)
        assert not obeys(other, told), name


def test_a_submission_that_is_not_complete_is_not_written(folder, tmp_path):
    found = [one for one in results.read_suite("tiny", folder.parents[1] / "results") if one.method == "bc"]
    stale = found[0].raw | {"dataset": found[0].raw["dataset"] | {"id": "hopper/bc-2-n5-v1"}}
    with pytest.raises(UserError, match="unknown tiny dataset 'hopper/bc-2-n5-v1'; did you mean"):
        of_results([found[0]._replace(raw=stale), *found[1:]])
    with pytest.raises(UserError, match="walker2d/bc-5-n5-v1 is missing"):
        of_results(found[:-1]).write(tmp_path / "submissions")
    assert not (tmp_path / "submissions").exists() or not list((tmp_path / "submissions").glob("[!.]*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("new", "--suite", "quik", "--method", "bc"), "unknown suite 'quik'; did you mean 'quick'?"),
        (("new", "--suite", "quick", "--method", "vfo"), "unknown method 'vfo'; did you mean"),
        (
            ("new", "--suite", "quick", "--method", "bc", "--results", "/nowhere"),
            "python -m sibench.bench --suite quick",
        ),
        (("verify", "/nowhere", "--num", "0"), "num=0; at least 1 is needed"),
        (("validate", "/nowhere"), "No such file or directory"),
    ],
)
def test_mistakes_end_with_2_and_one_message(words, message, capsys):
    assert message in fails(capsys, *words)


def test_the_program():
    ended = command("sibench.leaderboard", "validate", "/nowhere")
    assert ended.returncode == 2 and "error: " in ended.stderr and "Traceback" not in ended.stderr


# --- a method from elsewhere, and verification ------------------------------------------------------------------------


def test_the_example(real_data, tmp_path, capsys):
    """As the README has it, on a small suite."""
    path = least_squares.main("one", tmp_path)
    run("validate", path)
    assert "valid; SI" in capsys.readouterr().out
    assert len((Path(least_squares.__file__)).read_text().splitlines()) <= 60
    assert "has no policies: it stays self-reported" in fails(capsys, "verify", path)


@pytest.fixture(scope="module")
def honest(real_data, small_suites, tmp_path_factory) -> Path:
    """A submission with policies: fresh networks, which fall within a second."""
    root, network = tmp_path_factory.mktemp("honest"), BinsPolicy(3, (8, 8))
    entry = Entry("real", "fresh networks", commits=["0.1.0"], hardware="cpu")
    for number, dataset in enumerate(entry.datasets):
        background = sibench.load(dataset, build=True)
        for seed in range(entry.num_seeds):
            params = network.init(jax.random.key(10 * number + seed), jnp.zeros((1, 11)))
            policy = policies.Policy(network, params, 11)
            policies.save(root / f"{number}-{seed}", policy, {})
            played = sibench.evaluate(policy, "hopper", entry.num_episodes)
            entry.add(background, seed, played, policy=root / f"{number}-{seed}")
    return entry.write(root / "submissions")


KEY = "5" * 64
"""Draws first a lane of random-n100, then one of bc-1-n5, which takes longer."""


def rewritten(folder: Path, where: Path, change) -> Path:
    """A copy of a submission whose every lane is changed and whose arithmetic is right."""
    submission, _ = sub.read(folder)
    entry = Entry("real", submission.method.name, commits=["0.1.0"], hardware="cpu")
    for cell in submission.cells:
        background = sibench.load(cell.background.id)
        for lane in cell.lanes:
            source = folder / sub.policy_file("real", cell.background.id, lane.seed)
            played = Evaluation(change(np.array(lane.returns)), np.array(lane.lengths), 0, "c")
            entry.add(background, lane.seed, played, policy=source)
    return entry.write(where)


def test_verify_an_honest_submission(honest, monkeypatch, capsys):
    run("validate", honest)
    monkeypatch.setattr(verify, "LEAST", 2)
    run("verify", honest, "--key", KEY, "--num", 2, "--episodes", 40)
    assert f"re-evaluated; to repeat it: --key {KEY} --episodes 40" in capsys.readouterr().out
    submission, digest = sub.read(honest)
    found = verify.read(honest, submission, digest)
    assert found.passed and len({check.what for check in found.checks}) == len(found.checks) == 5
    assert not verify.is_enough(dataclasses.replace(found, episodes=39), submission)
    run("validate", honest)
    assert "re-evaluated" in capsys.readouterr().out
    assert verify.read(honest, submission, "0" * 64) is None  # another submission's badge is none
    monkeypatch.setattr(verify, "LEAST", 3)
    assert verify.read(honest, submission, digest) is None  # nor is one of too few lanes
    (honest / verify.FILE).unlink()


@pytest.mark.parametrize(
    "change",
    [
        lambda returns: 1.3 * returns + 20,
        lambda returns: np.where(np.arange(len(returns)) % 2, 9 * returns.mean() + returns, returns / 9),
    ],
    ids=["raised", "raised under cover of a great spread"],
)
def test_verify_finds_inflated_returns(change, honest, tmp_path, capsys):
    forged = rewritten(honest, tmp_path, change)
    run("validate", forged)  # the arithmetic is right
    assert "checks failed" in fails(capsys, "verify", forged, "--key", KEY, "--num", 1, "--episodes", 40)
    run("validate", forged)
    assert "verified, and failed" in capsys.readouterr().out
    told = list(render(tmp_path, (), tmp_path / "index.html"))
    assert len(told) == 1 and "it was verified, and failed" in told[0]


def test_verify_finds_worse_data(honest, tmp_path, capsys, monkeypatch):
    """Improvement counts from the data, so that must not be made worse than it is."""
    load = sibench.load

    def worse(id):
        data = load(id)
        return data._replace(rewards=data.rewards / 10)

    monkeypatch.setattr(sibench, "load", worse)
    forged = rewritten(honest, tmp_path, lambda returns: returns)
    said = fails(capsys, "verify", forged, "--key", KEY, "--num", 1, "--episodes", 40)
    assert "1 of 3 checks failed" in said


def test_the_secret_decides_what_is_verified(honest, tmp_path, capsys):
    _, digest = sub.read(honest)
    key = verify.new_key(b"x" * 32, digest)
    assert key == verify.new_key(b"x" * 32, digest) != verify.new_key(b"x" * 32, "0" * 64)
    one, other = verify.held_back(key, "a", 1000), verify.held_back(KEY, "a", 1000)
    assert one.dtype == np.uint64 and len(set(one) | set(other)) == 2000
    (tmp_path / "secret").write_bytes(b"short")
    assert "a secret needs at least 16" in fails(capsys, "verify", honest, "--secret-file", tmp_path / "secret")


def test_an_honest_claim_seldom_fails():
    """At 1 % over all checks together: of skewed returns, and of means that differ only by chance."""
    rng = np.random.default_rng(0)
    failed = 0
    for _ in range(200):
        draws = [rng.exponential(100, 200) for _ in range(16)]
        pairs = list(zip(draws[::2], draws[1::2], strict=True))
        checks = [verify.compare("x", *pair, 0.01 / 17) for pair in pairs]
        checks.append(verify.compare_means(verify.ALL, pairs, 0.01 / 17))
        failed += not all(check.passed for check in checks)
    assert failed <= 6


def test_small_inflations_of_all_lanes_are_found_together():
    """Each lane within its reach."""
    rng = np.random.default_rng(0)
    draws = [rng.normal(0.5, 0.3, 50) for _ in range(16)]
    pairs = [(claimed + 0.12, found) for claimed, found in zip(draws[::2], draws[1::2], strict=True)]
    assert sum(not verify.compare("x", *pair, 0.01 / 17).passed for pair in pairs) == 0
    assert not verify.compare_means(verify.ALL, pairs, 0.01 / 17).passed


def test_a_forged_verification_is_refused(honest, tmp_path, capsys):
    """One of no lane, of other claims, of lanes that its key does not draw, and one where there are no policies."""
    place = rewritten(honest, tmp_path, lambda returns: returns)
    run("verify", place, "--key", KEY, "--num", 1, "--episodes", 40)
    assert "passed, on too little for a badge" in capsys.readouterr().out
    run("validate", place)
    found, (submission, _) = json.loads((place / verify.FILE).read_text()), sub.read(place)
    keys = (f"{i:064x}" for i in range(100))
    other = next(key for key in keys if verify.drawn(submission, key)[0] != verify.drawn(submission, KEY)[0])
    for forged in (
        found | {"checks": found["checks"][1:]},
        found | {"checks": [found["checks"][0] | {"claimed": 5.0}]},
        found | {"key": other},
    ):
        (place / verify.FILE).write_text(json.dumps(forged))
        assert "does not verify this submission" in fails(capsys, "validate", place)
    (place / verify.FILE).write_text(json.dumps(found))
    shutil.rmtree(place / "policies")
    assert "does not verify this submission" in fails(capsys, "validate", place)


def test_policies_are_read_with_suspicion(honest, tmp_path, capsys):
    place = rewritten(honest, tmp_path, lambda returns: returns)
    weights = place / "policies/hopper/bc-1-n5-seed-0.safetensors"
    good = weights.read_bytes()

    weights.write_bytes(good[:-1] + b"\x01")
    assert "its sha256 is not the policy_sha256 of its lane" in fails(capsys, "validate", place)
    weights.unlink()
    weights.symlink_to("/etc/passwd")
    assert "a link; only regular files are read" in fails(capsys, "validate", place)
    weights.unlink()
    assert "missing; policies are given of all lanes or of none" in fails(capsys, "validate", place)
    weights.write_bytes(good)
    run("validate", place)

    description = weights.with_suffix(".json")
    kept = description.read_text()
    description.write_text("[" * 100_000)
    assert "bc-1-n5-seed-0.json: not strict JSON" in fails(capsys, "validate", place)
    description.write_text(kept)

    (place / "policies/hopper/policy.py").write_text("print()")
    assert "does not belong to a submission" in fails(capsys, "validate", place)
    (place / "policies/hopper/policy.py").unlink()
    (place / "policies").rename(tmp_path / "policies")
    (place / "policies").symlink_to(tmp_path / "policies")
    assert "a link; only regular files are read" in fails(capsys, "validate", place)


# --- the page ---------------------------------------------------------------------------------------------------------

browser = pytest.mark.skipif(chromium.PROGRAM is None, reason="no Chromium on this machine: apt-get install chromium")


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory) -> Path:
    """Of our results, a submission of them, and one with markup wherever there is text."""
    root = folder.parents[1]
    found = [one for one in results.read_suite("tiny", root / "results") if one.method == "vfo-bin"]
    entry = of_results(found)
    entry.name, entry.about, entry.config = MARKUP, MARKUP, {MARKUP: MARKUP}
    entry.privileges = ["expert actions"]
    entry.paper = "https://example.org/"
    entry.write(root / "submissions")
    broken = root / "submissions" / "tiny-broken"
    files.write_atomic(broken / sub.FILE, b"{}")
    out = root / "site" / "index.html"
    told = list(render(root / "submissions", (root / "results",), out))
    assert len(told) == 1 and "tiny-broken" in told[0]
    return out


def test_the_page_has_no_markup_of_others(page):
    text = page.read_text()
    assert MARKUP not in text and "<img" not in text
    assert text.count("<script") == 2 and text.count("</script>") == 2
    assert "default-src 'none'" in text and not re.search(r"(src|href)=[\"']?http|@import|url\((?!#)", text)


def board(page: Path) -> dict:
    (data,) = re.findall(r'id="data">(.*?)</script>', page.read_text())
    (suite,) = json.loads(data)["suites"]
    return suite


def test_the_page_has_every_likelihood(page, folder):
    """The method's, BC's, and that of the data's own policy."""
    entries = {entry["id"]: entry["cells"] for entry in board(page)["entries"]}
    clones = {cell["id"]: cell["nll"] for cell in entries["tiny-bc"]}
    read = {(r.method, r.task, r.dataset): r for r in results.read_suite("tiny", folder.parents[1] / "results")}
    checked = 0
    for (method, task, dataset), result in read.items():
        (cell,) = [one for one in entries[f"tiny-{method}"] if one["id"] == f"{task}/{dataset}-v1"]
        assert cell["bc_nll"] == clones[cell["id"]] and cell["teacher_nll"] == result.teacher_nll
        if np.isfinite(result.nll).all():
            assert cell["nll"] == pytest.approx(result.nll.mean())
            checked += 1
    assert checked > 3


def test_of_two_folders_the_last_whole_method_counts(folder, tmp_path):
    """Live results take the place of those in the repository, and until a method's are whole the latter stay."""
    live, committed, out = tmp_path / "live", folder.parents[1] / "results", tmp_path / "index.html"
    write_results(live)
    assert list(render(tmp_path / "none", (committed, live), out)) == []
    assert dict(board(out)["facts"])["from"] == f"{live}/tiny"
    (live / "tiny" / "hopper" / "bc-bc-1-n5.json").unlink()
    told = list(render(tmp_path / "none", (committed, live), out))
    assert len(told) == 1 and "hopper/bc-1-n5-v1 is missing" in told[0]
    assert {entry["id"] for entry in board(out)["entries"]} == {"tiny-bc", "tiny-awr", "tiny-vfo-bin"}
    assert dict(board(out)["facts"])["from"] == ", ".join(sorted([f"{committed}/tiny", f"{live}/tiny"]))
    (live / "tiny" / "hopper" / "bc-bc-1-n5.json").write_text("{}")
    assert "is not a result file" in next(render(tmp_path / "none", (live,), tmp_path / "none.html"))


@pytest.mark.parametrize("name", ["BC", "AWR"])
def test_nobody_takes_the_name_of_a_method_whose_results_are_here(name, folder, tmp_path):
    """Whoever calls his method BC, which all are compared with, or AWR; alone he may."""
    root, out = folder.parents[1], tmp_path / "index.html"
    render_all = lambda *tops: list(render(tmp_path / "submissions", tops, out))  # noqa: E731
    assert render_all(root / "results") == []
    ours = board(out)
    stranger = of_results([one for one in results.read_suite("tiny", root / "results") if one.method == "vfo-bin"])
    stranger.name, id = name, f"tiny-{name.lower()}"
    stranger.write(tmp_path / "submissions")
    (told,) = render_all(root / "results")
    assert told.startswith(f"passing over the submission {id}: the results of that name")
    assert board(out) == ours
    assert render_all() == [] and [entry["id"] for entry in board(out)["entries"]] == [id]


def names(browser: Chromium) -> list[str]:
    return browser.eval("[...document.querySelectorAll('tbody th a')].map((link) => link.textContent)")


@browser
def test_the_page_in_a_browser(page):
    with Chromium() as browser:
        browser.look(1280, 900)
        browser.open(page)
        assert names(browser) == [MARKUP, "vfo-bin", "awr", "bc"]
        assert browser.eval("document.querySelectorAll('img, main script, b').length") == 0

        # a figure of every method on every task, each in one frame with the others, and a way to the method
        assert browser.eval("document.querySelectorAll('figure svg').length") == 4 * 2
        named = "[...document.querySelectorAll('figcaption a')].map((link) => link.textContent)"
        assert browser.eval(named) == 2 * [MARKUP, "vfo-bin", "awr", "bc"]
        zeros = "[...document.querySelectorAll('figure .zero')].map((line) => line.getAttribute('y1'))"
        assert len(set(browser.eval(zeros))) == 1
        browser.click("figure:nth-of-type(3) a")
        browser.until("location.hash == '#/method/tiny-awr'")
        browser.eval("history.back()")
        browser.until("document.querySelectorAll('tbody th').length == 4")

        head = "thead th:nth-of-type({}) button"  # sort by name, down and up, then by P(>BC)
        browser.click(head.format(2))
        assert names(browser) == [MARKUP, "awr", "bc", "vfo-bin"]
        assert browser.eval("document.querySelector('[aria-sort=ascending]').textContent") == "Method"
        browser.click(head.format(2))
        assert names(browser) == ["vfo-bin", "bc", "awr", MARKUP]
        browser.click(head.format(3))
        assert names(browser)[2:] == ["awr", "bc"]
        browser.click(head.format(3))
        assert names(browser)[:2] == ["bc", "awr"]

        browser.click("input[type=search]")
        browser.type("VFO")
        assert names(browser) == ["vfo-bin"]
        assert browser.eval("document.querySelector('output').textContent") == "1 of 4 methods"
        browser.type(" zzz")
        assert names(browser) == [] and "No method is like that" in browser.eval("document.body.textContent")
        browser.eval("location.reload()")
        browser.until("document.readyState == 'complete' && document.querySelectorAll('tbody th').length == 4")
        choose = "((s) => (s.value = '{}', s.dispatchEvent(new Event('change'))))(document.querySelector('select'))"
        browser.eval(choose.format("none"))
        assert names(browser) == ["vfo-bin", "bc"]
        browser.eval(choose.format("expert actions"))
        assert names(browser) == [MARKUP]

        browser.click("tbody th a")
        browser.until("location.hash.startsWith('#/method/tiny-img')")
        browser.until("document.querySelectorAll('figure svg').length == 2")
        assert browser.eval("document.querySelector('h1').textContent") == MARKUP
        assert browser.eval("document.activeElement.tagName") == "H1"
        assert browser.eval("document.querySelectorAll('circle.seed').length") == 12
        assert MARKUP in browser.eval("document.querySelector('.list:last-of-type').textContent")
        assert browser.eval("document.querySelector('main a[href^=https]').href") == "https://example.org/"
        browser.eval("history.back()")
        browser.until("document.querySelectorAll('tbody th').length == 1")
        browser.eval("location.hash = '#/method/tiny-awr'")  # of which one seed diverged
        browser.until("document.querySelectorAll('circle.seed').length == 11")
        assert browser.eval("document.querySelectorAll('circle.dead').length") == 1

        assert browser.errors == []
        assert {url.split("#")[0] for url in browser.requests} == {page.as_uri()}


CONTRAST = """(() => {
  const channel = (c) => ((c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = (rgb) => {
    const [r, g, b] = rgb.match(/[0-9.]+/g).map(Number).map(channel);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const paper = light(getComputedStyle(document.documentElement).backgroundColor);
  const all = [...document.querySelectorAll('body *:not(script, style, noscript, title)')];
  const texts = all.filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  const inks = texts.map((e) => light(getComputedStyle(e)[e.closest('svg') ? 'fill' : 'color']));
  return Math.min(...inks.map((ink) => Math.max(ink, paper) / Math.min(ink, paper)));
})()"""


@browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("fragment", ["", "#/method/tiny-vfo-bin"])
def test_the_page_can_be_read(page, dark, fragment):
    """On a phone nothing sticks out; every text has a contrast of at least 4.5."""
    with Chromium() as browser:
        browser.look(360, 740, dark=dark, phone=True)
        browser.open(page, fragment)
        assert browser.eval("document.documentElement.scrollWidth") == 360
        assert (browser.eval("getComputedStyle(document.documentElement).backgroundColor") == "rgb(22, 23, 24)") == dark
        assert browser.eval(CONTRAST) >= 4.5
        assert browser.errors == []


def test_help_imports_nothing_slow():
    code = "import sys, sibench.leaderboard.__main__; sys.exit(bool({'jax', 'mujoco', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_parse_says_where():
    problems: list[str] = []
    schema.parse(dict[schema.Line, tuple[int, ...]], {"a": [1, 2.5], "b\n": []}, "x", problems)
    assert problems == [
        "x: its name: 'b\\n'; allowed: 1 to 80 visible characters",
        "x.a[1]: 2.5; allowed: a whole number",
    ]


def test_lanes_of_successes_and_failures_may_coincide():
    def problems(*lanes):
        made = [
            SimpleNamespace(returns=r, lengths=n, returns_sha256=sub.returns_sha256(r), policy_sha256=policy)
            for r, n, policy in lanes
        ]
        return len(list(sub._twice(SimpleNamespace(cells=[SimpleNamespace(lanes=made)]))))

    success, failure = (0.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    assert problems((success, (400, 40, 60), None), (success, (400, 41, 60), None)) == 0
    assert problems((success, (400, 40, 60), None), (success, (400, 40, 60), None)) == 1
    assert problems((failure, (400,) * 3, None), (failure, (400,) * 3, None)) == 0
    assert problems((failure, (400,) * 3, "a"), (failure, (400,) * 3, "a")) == 1
    assert problems(((1.5, 2.5, 3.5), (9, 9, 9), None), ((1.5, 2.5, 3.5), (9, 9, 8), None)) == 1


def test_rare_successes_may_be_missed_by_a_replay(monkeypatch):
    monkeypatch.setattr(verify, "teachers", lambda card: [(None, 20)])
    monkeypatch.setattr(verify, "play", lambda policy, cell, seeds, of_data: np.zeros(len(seeds)))
    for claimed, passes in ((0.003, True), (0.1, False)):
        data = SimpleNamespace(id="can/bc-2-v1", num_episodes=1000, return_mean=claimed)
        check = verify._check_background(SimpleNamespace(background=data), np.arange(500, dtype=np.uint64), 0.01)
        assert check.passed == passes


def test_a_mixture_is_known_by_what_is_mixed(monkeypatch):
    before = sub.recipe_sha256.__wrapped__("hopper/mix-300-v1")
    assert before == sub.recipe_sha256("hopper/mix-300-v1") != sub.recipe_sha256("hopper/mix-400-v1")
    monkeypatch.setattr(Id, "num_experts", property(lambda id: 299))
    assert sub.recipe_sha256.__wrapped__("hopper/mix-300-v1") != before
