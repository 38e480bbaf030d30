"""Every false, incomplete or malicious submission is refused, with a message that says what is wrong."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from submissions import all_seeds, read_results, replace_seeds, run, run_to_fail, seed_of

from sibench import tasks
from sibench.core import files
from sibench.core.ids import Id, parse_id
from sibench.data.collect import recipe_sha256
from sibench.leaderboard import submission as sub
from sibench.leaderboard import validation
from sibench.leaderboard.entry import from_results
from sibench.learning.results import SeedResult

pytest_plugins = ["submissions"]
pytestmark = pytest.mark.usefixtures("small_suites")


def raise_returns(value: dict) -> None:
    for seed in all_seeds(value):
        seed["returns"] = [each + 40 for each in seed["returns"]]


def copy_seed(value: dict, *names: str) -> None:
    for name in names:
        seed_of(value, 1, 2)[name] = seed_of(value, 0, 1)[name]


def rotate_seed(value: dict) -> None:
    returns = seed_of(value, 0, 1)["returns"]
    seed_of(value, 1, 2)["returns"] = returns[1:] + returns[:1]


def worsen_data(data: dict) -> None:
    data.update(return_mean=70.0, quality=tasks.quality("hopper", 70.0))


def drop_episodes(seed: dict, num: int) -> None:
    seed["returns"], seed["lengths"] = seed["returns"][:num], seed["lengths"][:num]


REFUSED = {
    "a dataset is missing": (lambda v: v["results"].pop(1), "results: hopper/bc-5-n5-v1 is missing"),
    "a dataset occurs twice": (
        lambda v: v["results"].append(v["results"][0]),
        "results[4].background.id: 'hopper/bc-1-n5-v1' again",
    ),
    "a dataset of another suite": (
        lambda v: v["results"][0]["background"].update(id="hopper/bc-2-n5-v1"),
        "results[0].background.id: 'hopper/bc-2-n5-v1'; not a dataset of suite tiny",
    ),
    "a seed occurs twice": (lambda v: seed_of(v).update(seed=1), "results[0].seeds: [1, 1, 2]; allowed, as in"),
    "selected seeds": (lambda v: seed_of(v, 2).update(seed=7), "results[2].seeds: [1, 2, 7]; allowed, as in"),
    "too few seeds": (
        lambda v: [result["seeds"].pop() for result in v["results"]],
        "results[3].seeds: 2 seeds; suite tiny needs 3",
    ),
    "too few episodes": (
        lambda v: [drop_episodes(seed, 7) for seed in all_seeds(v)],
        "results[0].seeds[0].returns: 7 episodes; suite tiny needs 8",
    ),
    "selected episodes": (
        lambda v: seed_of(v, 1)["returns"].append(3000.0) or seed_of(v, 1)["lengths"].append(900),
        "results[1].seeds[0].returns: 9 episodes; the first seed has 8",
    ),
    "no episodes": (lambda v: seed_of(v).update(returns=[]), "results[0].seeds[0].returns: 0 episodes"),
    "returns of another seed": (lambda v: copy_seed(v, "returns"), "results[1].seeds[2].returns: the same as"),
    "returns of another seed in another order": (rotate_seed, "results[1].seeds[2].returns: the same as"),
    "policy of another seed": (lambda v: copy_seed(v, "policy_sha256"), "no two seeds are the same"),
    "an episode without a step": (lambda v: seed_of(v)["lengths"].__setitem__(3, 0), "seeds[0].lengths: 0; an episode"),
    "another engine": (lambda v: v["results"][1].update(engine="my engine"), "results[1].engine: 'my engine'"),
    "another name": (lambda v: v["method"].update(name="AWR"), "its suite and its method's name make it 'tiny-awr'"),
    "data poorer than its recipe's": (
        lambda v: worsen_data(v["results"][1]["background"]),
        "results[1].background.return_mean: 70.0; hopper/bc-5-n5-v1 has 1",
    ),
    "one raised return": (lambda v: seed_of(v)["returns"].__setitem__(0, 3000.0), "score.mean: "),
    "wrong score": (lambda v: v["score"].update(mean=1.001 * v["score"]["mean"]), "score.mean: "),
    "wrong interval": (
        lambda v: v["task_scores"]["hopper"].update(low=0.999 * v["task_scores"]["hopper"]["low"]),
        "task_scores.hopper.low: ",
    ),
    "a task without a score": (
        lambda v: v["task_scores"].pop("hopper"),
        "task_scores: walker2d; needed: hopper, walker2d",
    ),
    "raised returns": (raise_returns, "score.mean: "),
    "impossible return": (
        lambda v: seed_of(v)["returns"].__setitem__(0, 1e6),
        "results[0].seeds[0].returns: 1000000.0; nothing beyond 3 times",
    ),
    "impossible length": (
        lambda v: seed_of(v)["lengths"].__setitem__(0, 1001),
        "results[0].seeds[0].lengths: 1001; an episode of hopper has 1 to 1000 steps",
    ),
    "fewer lengths than returns": (lambda v: seed_of(v)["lengths"].pop(), "seeds[0]: 8 returns, 7 lengths"),
    "impossible progress": (lambda v: seed_of(v).update(progress=[2.0] * 8), "seeds[0].progress: 8 numbers; allowed"),
    "a diverged seed with returns": (
        lambda v: seed_of(v).update(status="diverged"),
        "results[0].seeds[0]: diverged, but has returns",
    ),
    "a finished seed that diverged": (lambda v: seed_of(v).update(diverged_at=3), "seeds[0].diverged_at: 3; allowed"),
    "poorer quality of the data": (
        lambda v: v["results"][0]["background"].update(quality=0.1),
        "results[0].background.quality: 0.1; a return of",
    ),
    "data of another recipe": (
        lambda v: v["results"][0]["background"].update(recipe_sha256="0" * 64),
        "results[0].background.recipe_sha256: 000",
    ),
    "less data": (
        lambda v: v["results"][0]["background"].update(num_episodes=4),
        "results[0].background.num_episodes: 4; hopper/bc-1-n5-v1 has 5",
    ),
    "more demonstrations": (
        lambda v: v["results"][0]["expert"].update(num_episodes=11),
        "results[0].expert.num_episodes: 11; suite tiny allows 10",
    ),
    "another expert": (
        lambda v: v["results"][0]["expert"].update(id="walker2d/expert-v1"),
        "results[0].expert.id: 'walker2d/expert-v1'",
    ),
    "another version of the suite": (lambda v: v.update(suite_sha256="1" * 64), "suite_sha256: 111"),
    "unknown suite": (lambda v: v.update(suite="tinny"), "suite: unknown suite 'tinny'; did you mean 'tiny'?"),
    "suite without a board": (lambda v: v.update(suite="temperature"), "suite: suite temperature has no leaderboard"),
    "another folder": (
        lambda v: v["method"].update(name="Other") or v.update(id="tiny-other"),
        "id: 'tiny-other'; its folder is called 'tiny-vfo-bin'",
    ),
    "id of another suite": (lambda v: v.update(id="quick-vfo-bin"), "'quick-vfo-bin'; its suite and its method's name"),
    "id like a path": (lambda v: v.update(id="../tiny"), "id: '../tiny'; allowed: 3 to 80 of a-z"),
    "no commit": (lambda v: v["method"].update(commits=[]), "method.commits: none"),
    "a branch for a commit": (lambda v: v["method"].update(commits=["main"]), "method.commits[0]: 'main'; allowed: a"),
    "unknown privilege": (
        lambda v: v.update(privileges=["rewards"]),
        "privileges[0]: 'rewards'; allowed: 'background rewards', 'expert actions'",
    ),
    "a privilege twice": (lambda v: v.update(privileges=["expert actions"] * 2), "privileges: one is named twice"),
    "earlier format": (lambda v: v.update(format="sibench-submission-1"), "format: 'sibench-submission-1'; allowed"),
    "unknown field": (lambda v: seed_of(v).update(policy_path="../../etc"), "seeds[0].policy_path: unknown field"),
    "missing field": (lambda v: seed_of(v).pop("nll"), "results[0].seeds[0].nll: missing"),
    "text for a number": (
        lambda v: seed_of(v)["returns"].__setitem__(3, "9"),
        "results[0].seeds[0].returns[3]: '9'; allowed: a number",
    ),
    "true for a number": (lambda v: seed_of(v).update(seed=True), "seed: True; allowed: a whole number from 0 on"),
    "negative seed": (lambda v: seed_of(v).update(seed=-1), "seed: -1; allowed: a whole number from 0"),
    "huge number": (lambda v: seed_of(v).update(nll=10**400), "not strict JSON: 1000000000"),
    "script as an address": (
        lambda v: v["method"].update(paper="javascript:alert(1)"),
        "method.paper: 'javascript:alert(1)'; allowed: an https:// address or null",
    ),
    "control characters": (lambda v: v["method"].update(name="\x1b[2J"), "'\\x1b[2J'; allowed: 1 to 80 visible"),
    "right-to-left override": (lambda v: v["method"].update(name="a\u202eb"), "method.name: 'a\\u202eb'; allowed"),
    "too long a config": (lambda v: v["config"].update({f"setting {i}": "x" * 500 for i in range(50)}), "config: 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_forged_submission_is_refused(name, valid, changed, capsys):
    mutate, message = REFUSED[name]
    mutate(valid)
    output = run_to_fail(capsys, "validate", changed(json.dumps(valid)))
    assert message in output
    assert "\x1b" not in output and max(map(len, output.splitlines())) < 400


def test_all_problems_are_reported_at_once(valid, changed, capsys):
    seed_of(valid)["seed"], valid["suite_sha256"], valid["method"]["paper"] = -1, "x", 3
    output = run_to_fail(capsys, "validate", changed(json.dumps(valid)))
    assert "3 problems" in output
    assert all(part in output for part in ("seed: -1", "suite_sha256: 'x'", "method.paper: 3"))


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
def test_json_that_is_not_strict_is_refused(old, new, message, folder, changed, capsys):
    text = (folder / sub.FILE).read_text()
    assert message in run_to_fail(capsys, "validate", changed(text.replace(old, new, 1)))


def test_large_files_and_links_are_refused(folder, changed, capsys, monkeypatch, tmp_path):
    place = changed((folder / sub.FILE).read_text())
    monkeypatch.setitem(sub.MAX_BYTES, sub.FILE, 1000)
    assert "bytes; at most 1000 are read" in run_to_fail(capsys, "validate", place)
    monkeypatch.undo()
    (place / sub.FILE).rename(tmp_path / "elsewhere.json")
    (place / sub.FILE).symlink_to(tmp_path / "elsewhere.json")
    assert "not a regular file" in run_to_fail(capsys, "validate", place)
    assert "No such file" in run_to_fail(capsys, "validate", tmp_path / "nowhere")


scalars = (
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_replaced_part_is_refused_or_valid_but_never_a_crash(folder, data):
    value = json.loads((folder / sub.FILE).read_bytes())
    place, key = [value], 0
    while isinstance(place[key], dict | list) and place[key] and (place[key] is value or data.draw(st.booleans())):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = data.draw(anything)
    submission, problems = validation.check(value)
    assert problems or validation.check(files.from_json(sub.to_json(submission))) == (submission, [])


def test_diverged_seeds_of_a_whole_dataset_count_as_random(folder, results_folder, tmp_path):
    result, *others = read_results(results_folder, "vfo-bin")
    diverged = replace_seeds(result, lambda seed: SeedResult(seed.seed, "diverged", diverged_at=7))
    entry = from_results([diverged, *others])
    submission, _ = validation.read(entry.write(tmp_path))
    before, _ = validation.read(folder)
    assert submission.score.mean < before.score.mean
    assert sub.as_results(submission, "x")[0].score.tolist() == [0, 0, 0]


def test_result_without_provenance_is_refused(results_folder):
    result, *others = read_results(results_folder, "vfo-bin")
    with pytest.raises(ValueError, match="does not say how it was made"):
        from_results([replace(result, identity=None), *others])


def duplicates(*seeds) -> int:
    made = [SimpleNamespace(returns=r, lengths=n, policy_sha256=policy) for r, n, policy in seeds]
    submission: object = SimpleNamespace(results=[SimpleNamespace(seeds=made)])
    return len(list(validation._duplicate_problems(submission)))  # pyright: ignore[reportArgumentType]


def test_seeds_of_successes_and_failures_may_coincide_unless_lengths_do():
    success, failure = (0.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    assert duplicates((success, (400, 40, 60), None), (success, (400, 41, 60), None)) == 0
    assert duplicates((success, (400, 40, 60), None), (success, (400, 40, 60), None)) == 1
    assert duplicates((failure, (400,) * 3, None), (failure, (400,) * 3, None)) == 0
    assert duplicates((failure, (400,) * 3, "a"), (failure, (400,) * 3, "a")) == 1
    assert duplicates(((1.5, 2.5, 3.5), (9, 9, 9), None), ((1.5, 2.5, 3.5), (9, 9, 8), None)) == 1


def test_recipe_of_a_mixture_depends_on_its_share_of_experts(monkeypatch):
    before = recipe_sha256(parse_id("hopper/mix-300-v1"))
    assert before != recipe_sha256(parse_id("hopper/mix-400-v1"))
    monkeypatch.setattr(Id, "num_experts", property(lambda id: 299))
    assert recipe_sha256(parse_id("hopper/mix-300-v1")) != before


def test_validate_prints_score_and_level(folder, valid, capsys):
    run("validate", folder)
    score = valid["score"]
    shown = f"valid; score {score['mean']:+.2f}, 95 % {score['low']:+.2f} to {score['high']:+.2f}; self-reported"
    assert shown in capsys.readouterr().out
    assert score["low"] < score["mean"] < score["high"]


def test_score_is_recomputed_by_hand(valid):
    """Two datasets on each task: trapezoid weights are equal, so improvement over headroom is a plain ratio."""
    by_task: dict[str, list[dict]] = {}
    for result in valid["results"]:
        by_task.setdefault(result["background"]["id"].split("/")[0], []).append(result)
    for task, pair in by_task.items():
        gains = []
        for result in pair:
            means = [np.mean(seed["returns"]) for seed in result["seeds"] if seed["returns"]]
            diverged = [0.0] * (3 - len(means))
            gains.append(np.mean([*(tasks.quality(task, mean) for mean in means), *diverged]))
        qualities = np.array([result["background"]["quality"] for result in pair])
        expected = (np.array(gains) - qualities).sum() / (1 - qualities).sum()
        assert valid["task_scores"][task]["mean"] == pytest.approx(expected)
    assert valid["score"]["mean"] == pytest.approx(np.mean([score["mean"] for score in valid["task_scores"].values()]))
