"""The loop: lanes that do not know of each other, runs that can be killed, results that say what happened."""

import dataclasses
import functools
import json
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from conftest import REPO, WELL
from learners import FILES, dataset, equal, module, small, take, variants

from sibench import algorithm, policies, tasks, train
from sibench.algorithm import Spec, run
from sibench.batches import make_data, sample, sample_openings, sample_pairs
from sibench.errors import UserError
from sibench.lanes import NEVER, Program, lanes_of

SPEC = Spec(3, 2)


# --- what a lane draws ------------------------------------------------------------------------------------------------


def test_batches_are_of_the_lanes_own_dataset():
    """Two datasets end to end: every draw of a lane is a true step of its own, and all of them are drawn."""
    datasets = [dataset(), dataset(lengths=(4, 2, 6), seed=5)]
    data = make_data(datasets, dataset(seed=1), [1, 0], ["background rewards"])
    for lane, own in enumerate([datasets[1], datasets[0]]):
        source = data.background._replace(stretch=take(data.background.stretch, lane))
        steps = own.transitions()
        whole = np.concatenate([steps[n].reshape(len(own.actions), -1) for n in ("obs", "action", "next_obs")], 1)
        batch = sample(source, 500, jax.random.key(lane))
        drawn = np.concatenate([batch.obs, batch.action, batch.next_obs], 1)
        match = (drawn[:, None] == whole[None]).all(-1)
        assert match.any(1).all() and match.any(0).all()
        index = match.argmax(1)
        np.testing.assert_array_equal(batch.reward, own.rewards[index])
        np.testing.assert_array_equal(batch.terminal, own.terminal[index])

        batch, later = sample_pairs(source, 500, jax.random.key(lane))
        index = (np.asarray(batch.obs)[:, None] == steps["obs"][None]).all(-1).argmax(1)
        ends = own.offsets[1:] - 1
        assert set(index) == set(range(len(own.actions))) - set(ends)
        np.testing.assert_array_equal(later, steps["next_obs"][index + 1])

        opening = np.asarray(sample_openings(source, 200, jax.random.key(lane)))
        first = own.observations[own.offsets[:-1] + np.arange(own.num_episodes)]
        match = (opening[:, None] == first[None]).all(-1)
        assert match.any(1).all() and match.any(0).all()


def toy_program(config, lanes, datasets=None, name="vfo", privileges=()):
    datasets = datasets or [dataset(), dataset(lengths=(4, 2, 6), seed=5)]
    backgrounds = [config.dataset.index(lane.dataset) for lane in lanes]
    data = make_data(datasets, dataset(seed=1), backgrounds, privileges)
    return Program(module(name).make, config, SPEC, lanes, data)


def chunks(config, lanes, num=100, dead=None, **toys):
    """States of all lanes after some updates, the mean metrics, and where they first were not finite."""
    program = toy_program(config, lanes, **toys)
    return program.chunk("update", program.init(), 0, num, dead)


def test_a_lane_does_not_know_its_neighbours(monkeypatch):
    """100 updates next to lanes of other seeds, datasets and temperatures, and alone: on a CPU the same to the bit."""
    monkeypatch.setattr(jax, "jit", functools.partial(jax.jit, compiler_options=WELL))
    config = small("vfo", dataset=("a", "b"), seeds=2, sweep=("temperature", "0.5", "2"))
    lanes = lanes_of(config)
    assert len(lanes) == 8 and len(set(lanes)) == 8
    together, _, _ = chunks(config, lanes)
    for index in (0, 3, 6):
        alone, _, _ = chunks(config, lanes[index : index + 1])
        assert equal(take(alone, 0), take(together, index))
    assert not equal(take(together, 0).policy, take(together, 1).policy)


@pytest.mark.parametrize("name", [file.stem for file in FILES if file.stem != "vfo"])
def test_no_methods_lanes_know_their_neighbours(name):
    config = small(name, dataset=("a", "b"), seeds=1)
    lanes = lanes_of(config)
    privileges = module(name).make(config, SPEC).privileges
    together, _, _ = chunks(config, lanes, 3, name=name, privileges=privileges)
    alone, _, _ = chunks(config, lanes[1:], 3, name=name, privileges=privileges)
    for a, b in zip(jax.tree.leaves(take(alone, 0)), jax.tree.leaves(take(together, 1)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert not equal(take(together, 0).policy, take(together, 1).policy)


def test_a_swept_value_is_the_setting():
    """A lane of a sweep learns what a run with that setting learns."""
    swept = small("vfo", dataset=("a", "b"), seeds=1, sweep=("temperature", "0.5", "2"))
    plain = small("vfo", dataset=("a", "b"), seeds=1, temperature=2.0)
    many, _, _ = chunks(swept, lanes_of(swept)[:2])
    one, _, _ = chunks(plain, lanes_of(plain)[:1])
    for a, b in zip(jax.tree.leaves(take(many, 1)), jax.tree.leaves(take(one, 0)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_lanes_side_by_side_are_lanes_in_turn(monkeypatch):
    """What an accelerator runs, `vmap`, gives what a CPU runs, `map`, after 100 updates up to rounding."""
    config = small("vfo", dataset=("a", "b"), seeds=2, sweep=("temperature", "0.5", "2"))
    in_turn, _, _ = chunks(config, lanes_of(config))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    side_by_side, _, _ = chunks(config, lanes_of(config))
    assert not equal(in_turn, side_by_side)
    for a, b in zip(jax.tree.leaves(in_turn), jax.tree.leaves(side_by_side), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [4, 5])
def test_lanes_are_sharded_over_devices(seeds):
    """Four devices of one host give what one gives; ten lanes are three on each and one on the last."""
    code = f"""
        import sys
        sys.path.insert(0, "tests")
        import jax, numpy as np
        from learners import small
        from sibench.lanes import lanes_of
        from test_train import chunks, toy_program
        config = small("vfo", dataset=("a", "b"), seeds={seeds})
        program = toy_program(config, lanes_of(config))
        within = jax.tree.leaves(program._init(program._lanes, program._data))[0]
        states, _, _ = chunks(config, lanes_of(config))
        leaf = states.policy.params["params"]["MLP_0"]["Dense_0"]["kernel"]
        print(jax.device_count(), len(within.sharding.device_set), *np.asarray(leaf, np.float64)[:, :3, :2].ravel())
    """
    flags = "--xla_force_host_platform_device_count=4"
    lines = []
    for environment in (os.environ, os.environ | {"XLA_FLAGS": flags}):
        code = "\n".join(line.strip() for line in code.splitlines())
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=REPO, env=environment, capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, result.stderr
        lines.append(result.stdout.split())
    assert lines[0][:2] == ["1", "1"] and lines[1][:2] == ["4", "4"]
    one, four = (np.array(line[2:], float).reshape(2 * seeds, 3, 2) for line in lines)
    np.testing.assert_allclose(four, one, rtol=1e-4, atol=1e-6)
    assert all(np.abs(one[i] - one[j]).max() > 1e-3 for i in range(2 * seeds) for j in range(i))


def test_a_lane_that_diverges_is_found():
    config = small("bc", dataset=("a", "b"), seeds=1, sweep=("learning_rate", "0.001", "1e30"))
    _, _, bad = chunks(config, lanes_of(config)[:2], name="bc")
    assert bad[0] == NEVER and bad[1] < 100


def test_a_lane_that_has_diverged_stands_still():
    config = small("vfo", dataset=("a", "b"), seeds=1)
    dead = np.array([False, True])
    before, _, _ = chunks(config, lanes_of(config), num=0)
    after, _, bad = chunks(config, lanes_of(config), num=3, dead=dead)
    assert equal(take(after, 1), take(before, 1)) and not equal(take(after, 0), take(before, 0))
    assert (bad == NEVER).all()


# --- whole runs -------------------------------------------------------------------------------------------------------

TINY = {"seeds": 2, "steps": 20, "evals": 2, "eval_episodes": 3, "final_episodes": 3, "log_every": 7, "demos": 2}
TINY |= {"checkpoint_every": 5, "expert": "expert-n2", "build": True, "engine": "c"}


@pytest.fixture(scope="module", autouse=True)
def datasets(tmp_path_factory):
    """One place for the datasets of this module."""
    root = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIBENCH_DATA", str(root))
        yield root


NUMBERS = {
    "awr": ([14.0901, 13.9303], [34.29, 58.37]),
    "bc": ([13.8697, 14.0564], [56.23, 51.79]),
    "bco": ([14.0804, 13.9319], [42.46, 33.3]),
    "dilo": ([14.0836, 13.9322], [32.44, 57.31]),
    "nce": ([15.7423, 22.28], [12.45, 26.68]),
    "smodice": ([14.0102, 14.6569], [44.81, 50.57]),
    "sqil": ([14.0828, 13.9308], [41.49, 61.44]),
    "vfo": ([14.0206, 14.7226], [44.12, 47.72]),
}
"""Of each lane of such a run: nats of held-out actions, and the mean return."""
DECAYED = {name: {"schedule": "cosine", "weight_decay": 0.1} for name in ("bc", "vfo")}
"""As suites set them; the others keep a constant rate and nothing decays."""


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_a_run_leaves_a_result_and_policies(name, tmp_path):
    config = small(name, out=tmp_path, **TINY | DECAYED.get(name, {}))
    (file,) = train.train(config, module(name).make)
    result = json.loads(file.read_bytes())
    assert result["algorithm"].startswith(name) and result["task"] == "hopper-v1" and result["engine"] == "c"
    assert result["dataset"]["id"] == "hopper/random-n5-v1" and result["expert"]["demos"] == 2
    assert [lane["seed"] for lane in result["lanes"]] == [0, 1]
    for lane in result["lanes"]:
        assert lane["status"] == "finished" and len(lane["returns"]) == 3 and len(lane["evaluations"]) == 2
        where = file.parent / f"random-n5-seed-{lane['seed']}"
        assert policies.read_description(where / "policy")["weights_sha256"] == lane["policy_sha256"]
        assert policies.load(where / "policy").obs_dim == 11
        rows = [json.loads(line) for line in (where / "metrics.jsonl").read_text().splitlines()]
        assert [row["updates"] for row in rows] == sorted(row["updates"] for row in rows)
        assert all(np.isfinite(value) for row in rows for value in row.values())
    assert result["lanes"][0]["returns"] != result["lanes"][1]["returns"]
    numbers = [lane["nll"] for lane in result["lanes"]], [np.mean(lane["returns"]) for lane in result["lanes"]]
    moved = f"{name} makes other numbers of the same settings: raise sibench.__version__, and no older result is fresh"
    for number, known, tolerance in zip(numbers, NUMBERS[name], (1e-3, 0.1), strict=True):
        np.testing.assert_allclose(number, known, rtol=0, atol=tolerance, err_msg=moved)
    before = file.read_bytes()
    assert train.train(config, module(name).make) == [file] and file.read_bytes() == before


def test_sweeps_and_datasets_make_cells(tmp_path):
    config = small("vfo", out=tmp_path, **TINY | {"dataset": ("random-n5", "expert-n2"), "seeds": 1})
    config = dataclasses.replace(config, sweep=("temperature", "0.5", "2"))
    files = train.train(config, module("vfo").make)
    assert [file.name for file in files] == [
        f"result-{data}-temperature-{value}.json" for data in ("random-n5", "expert-n2") for value in ("0.5", "2")
    ]
    results = [json.loads(file.read_bytes()) for file in files]
    assert [result["config"]["temperature"] for result in results] == [0.5, 2.0, 0.5, 2.0]
    assert len({result["dataset"]["content_sha256"] for result in results}) == 2


def test_steps_are_held_out_of_one_dataset_at_a_time(tmp_path, monkeypatch):
    """Frames are large. Each lane is judged by those of its own dataset."""
    events, held_out, final = [], train.held_out, train.Run.final

    def play(task, card):
        events.append((card["id"], played := held_out(task, card)))
        return played

    def judge(run, index, policy, teacher):
        events.append((run.datasets[run.lanes[index].dataset].card["id"], teacher))
        return final(run, index, policy, teacher)

    monkeypatch.setattr(train, "held_out", play)
    monkeypatch.setattr(train.Run, "final", judge)
    names = ("random-n5", "random-n6")
    train.train(small("bc", out=tmp_path, **TINY | {"dataset": names, "seeds": 2}), module("bc").make)
    (one, first), (two, second) = events[0], events[3]
    assert one != two and first.teacher_nll and second.teacher_nll and first is not second
    assert [(id, teacher is first, teacher is second) for id, teacher in events] == [
        *[(one, True, False)] * 3,
        *[(two, False, True)] * 3,
    ]

    paired = small("bc", out=tmp_path / "paired", **TINY | {"dataset": names[:1] * 2, "seeds": 2})
    (file,) = train.train(dataclasses.replace(paired, paired=True), module("bc").make)
    assert [lane["seed"] for lane in json.loads(file.read_bytes())["lanes"]] == [0, 1]


def test_a_diverged_lane_is_a_row_of_the_result(tmp_path, capsys):
    config = small("bc", out=tmp_path, **TINY | {"seeds": 1})
    config = dataclasses.replace(config, sweep=("learning_rate", "0.001", "1e30"))
    good, bad = (json.loads(file.read_bytes()) for file in train.train(config, module("bc").make))
    assert good["lanes"][0]["status"] == "finished"
    assert bad["lanes"][0]["status"] == "diverged" and bad["lanes"][0]["diverged_at"] < 20
    assert "returns" not in bad["lanes"][0]
    assert "random-n5-learning_rate-1e+30-seed-0: diverged at update" in capsys.readouterr().out


def test_an_accelerator_evaluates_all_lanes_together(tmp_path, monkeypatch):
    """And gives what a CPU gives of one after the other, but where rounding draws another action."""
    config = small("bc", out=tmp_path, **TINY | {"dataset": ("random-n5", "expert-n2"), "eval_episodes": 9})
    run = train.Run(config, module("bc").make)
    run.states, run.diverged[1] = run.program.init(), 3
    in_turn = run.evaluate(7)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    together = run.evaluate(7)
    for row in run.evaluations:
        assert [returns and len(returns) for returns in row["returns"]] == [9, None, 9, 9]
    first, second = (np.array([r for r in row["returns"] if r]) for row in run.evaluations)
    assert (np.abs(first - second) < 0.02).mean() > 0.6 and len(np.unique(first)) > 20
    assert np.isnan(together).tolist() == np.isnan(in_turn).tolist() == [False, True, False, False]


def test_another_loss_is_another_run(tmp_path):
    """A method's file that has changed, wherever it is, is not taken for the one that made what is there."""
    source = (REPO / "algorithms" / "bc.py").read_text()
    assert source.count("return -log_prob.mean()") == 1
    config = small("bc", out=tmp_path, **TINY)
    for changed, mutant in enumerate((source, source.replace("-log_prob", "log_prob"))):
        (tmp_path / "mine.py").write_text(mutant)
        make = runpy.run_path(str(tmp_path / "mine.py"))["make"]
        if changed:
            with pytest.raises(UserError, match=r"holds a run with method_sha256=.*choose another --out"):
                train.train(config, make)
        else:
            train.train(config, make)


# --- killed -----------------------------------------------------------------------------------------------------------

ARGS = [
    "--task",
    "hopper",
    "--dataset",
    "random-n5",
    "--build",
    "--expert",
    "expert-n2",
    "--demos",
    "2",
    "--seeds",
    "2",
]
ARGS += ["--steps", "600", "--evals", "6", "--eval-episodes", "2", "--final-episodes", "4", "--hidden", "16", "16"]
ARGS += ["--disc-steps", "100", "--reward", "disc", "--log-every", "20", "--checkpoint-every", "40", "--engine", "c"]


def start(out, *more) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "algorithms/vfo.py", *ARGS, "--out", str(out), *more],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(out, resumed: bool = True) -> tuple[dict, str, bytes]:
    """The result without what may differ between runs, the metrics of a lane, the weights of a policy."""
    process = start(out)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert ("resumed at update" in said) == resumed, said
    folder = out / "hopper" / "vfo-disc-random-n5"
    result = json.loads((folder / "result-random-n5.json").read_bytes())
    lane = folder / "random-n5-seed-1"
    free = ("seconds", "command")
    kept = {name: value for name, value in result.items() if name not in free}
    kept["config"].pop("out")
    return kept, (lane / "metrics.jsonl").read_text(), (lane / "policy.safetensors").read_bytes()


def test_progress_says_how_fast_and_how_long(tmp_path, capsys):
    train.train(small("bc", out=tmp_path, **TINY | {"steps": 40, "evals": 4}), module("bc").make)
    said = capsys.readouterr().out
    started = r"2 lanes on 1 of 1 devices; first update [\d.]+ s after the command, [\d.]+ s of it to compile"
    assert said.count("to compile") == 1 and re.search(started, said)
    lines = re.findall(r"policy_loss .* return .* updates/s .* min left", said)
    assert len(lines) == 4


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return finish(tmp_path_factory.mktemp("undisturbed"), resumed=False)


def checkpoints(out):
    return sorted((out / "hopper" / "vfo-disc-random-n5" / "checkpoints").glob("[0-9]*"), key=lambda p: int(p.name))


def wait_for_checkpoint(process, out, num=1, timeout=120.0) -> bool:
    """Until there is a newer checkpoint than now, and `num` in all; False if the run was over before."""
    until, before = time.monotonic() + timeout, checkpoints(out)[-1:]
    while time.monotonic() < until and process.poll() is None:
        if len(checkpoints(out)) >= num and checkpoints(out)[-1:] != before:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_keeps_what_was_learnt(number, undisturbed, tmp_path):
    process = start(tmp_path)
    assert wait_for_checkpoint(process, tmp_path)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "run the same command again" in said and "Traceback" not in said
    assert finish(tmp_path) == undisturbed


def test_a_flipped_bit_is_refused_and_the_state_before_is_used(undisturbed, tmp_path):
    process = start(tmp_path)
    assert wait_for_checkpoint(process, tmp_path, 2)
    process.kill()
    process.wait()
    data = max((checkpoints(tmp_path)[-1] / "state").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    assert finish(tmp_path) == undisturbed


@pytest.mark.parametrize("cut", [True, False])
def test_final_episodes_that_were_tampered_with_are_played_again(undisturbed, tmp_path, cut):
    """Of a run that was killed between its last lane and its result."""
    assert finish(tmp_path, resumed=False) == undisturbed
    folder = tmp_path / "hopper" / "vfo-disc-random-n5"
    (folder / "result-random-n5.json").unlink()
    file = folder / "random-n5-seed-0" / "final.json"
    content = file.read_bytes()
    assert b'"returns"' in content
    file.write_bytes(content[:40] if cut else content.replace(b'"num_nonfinite": 0', b'"num_nonfinite": 1'))
    assert finish(tmp_path) == undisturbed


def kill_and_resume(undisturbed, tmp_path, kills):
    """Every second one at any moment, its start and what it compiles included; the others about a checkpoint."""
    rng = random.Random(0)
    for kill in range(kills):
        process = start(tmp_path)
        if kill % 2 == 0:
            wait_for_checkpoint(process, tmp_path)
        time.sleep(rng.uniform(0, 8 if kill % 2 else 0.5))
        process.kill()
        process.wait()
    assert finish(tmp_path) == undisturbed
    assert not list(tmp_path.rglob("*.tmp"))


def test_killed_and_resumed(undisturbed, tmp_path):
    kill_and_resume(undisturbed, tmp_path, 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_20_times_and_resumed(undisturbed, tmp_path):
    for trial in range(5):
        kill_and_resume(undisturbed, tmp_path / str(trial), 4)
        shutil.rmtree(tmp_path / str(trial))


# --- the command line -------------------------------------------------------------------------------------------------


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
        (["--task", "hopper", "--dataset", "random", "--seeds", "0"], "at least 1 is needed"),
        (["--task", "hopper", "--dataset", "random", "--sweep", "temprature", "1"], "did you mean 'temperature'?"),
        (
            ["--task", "hopper", "--dataset", "random", "--sweep", "temperature", "0"],
            "temperature=0.0; it must be above 0",
        ),
        (["--task", "hopper", "--dataset", "random", "--sweep", "temperature", "1", "1.0"], "all different"),
        (["--task", "hopper", "--dataset", "random", "random"], "named twice"),
        (["--task", "hopper", "--dataset", "random", "--seed", "99999999999"], "it must lie between 0 and 2147483643"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_end_with_2_and_one_message(args, message, tmp_path):
    result = program("vfo", *args, "--out", str(tmp_path))
    assert result.returncode == 2, result.stdout + result.stderr
    said = re.sub(r"[\s│]+", " ", result.stdout + result.stderr)  # without the frame that tyro draws
    assert message in said and "Traceback" not in said


def test_help_says_what_a_flag_means():
    shown = program("dilo", "--help").stdout
    assert "kappa" in shown and "--temperature" in shown and "(VfO, appendix B)" in shown


def test_tuned_settings_lie_under_the_command_line(monkeypatch):
    seen = []
    monkeypatch.setattr(train, "train", lambda config, make: seen.append(config.temperature))
    monkeypatch.setitem(algorithm.TUNED, "hopper", {"vfo": {"temperature": 3.0}})
    for task, more in (("hopper", []), ("walker2d", []), ("hopper", ["--temperature", "5"])):
        monkeypatch.setattr(sys, "argv", ["vfo.py", "--task", task, "--dataset", "random", *more])
        run(module("vfo").Config, None)
    assert seen == [3.0, 1.0, 5.0]


def test_what_is_tuned_is_there():
    for task, of_methods in algorithm.TUNED.items():
        assert task in tasks.names()
        for method, settings in of_methods.items():
            config = module(method or "bc").Config(task=task, dataset=("expert",), **settings)
            assert all(getattr(config, name) == value for name, value in settings.items())
    assert algorithm.tuned("vfo", "can") == {"hidden": (1024, 1024), "weight_decay": 0.1, "temperature": 0.1}
    assert algorithm.tuned("bc", "hopper") == {}


def test_weight_decay_leaves_the_statistics_alone():
    config = small("bc", weight_decay=0.1, learning_rate=0.1)
    data = make_data([dataset()], dataset(seed=1), [0])
    learner = module("bc").make(config, SPEC)
    own = data._replace(background=data.background._replace(stats=take(data.background.stats, 0)))
    own = own._replace(background=own.background._replace(stretch=take(data.background.stretch, 0)))
    state = learner.init(own, jax.random.key(0))
    after, _ = learner.update(state, own, jax.random.key(1))
    for name in ("mean", "std"):
        before, now = (s.policy.params["params"]["encoder"][name] for s in (state, after))
        np.testing.assert_array_equal(before, now)


def test_a_demonstration_too_many_is_refused(tmp_path):
    config = small("vfo", out=tmp_path, **TINY | {"demos": 3})
    with pytest.raises(UserError, match="demos=3"):
        train.train(config, module("vfo").make)


def test_loggers_that_are_not_installed_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="EXTRAS=log"):
        train.train(small("bc", out=tmp_path, wandb="project", **TINY), module("bc").make)


def test_tensorboard_gets_every_lane(tmp_path):
    pytest.importorskip("tensorboardX")
    train.train(small("bc", out=tmp_path, tensorboard=True, **TINY), module("bc").make)
    assert len(list(tmp_path.rglob("random-n5-seed-*/events.*"))) == 2


def test_wandb_gets_the_settings_and_every_lane(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="make setup EXTRAS=log")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    kept, log = {}, wandb.Run.log
    monkeypatch.setattr(wandb.Run, "log", lambda run, row: (kept.update(run.config, **row), log(run, row)))
    train.train(small("bc", out=tmp_path / "out", wandb="project", **TINY), module("bc").make)
    assert kept["settings"]["steps"] == kept["updates"] == 20
    assert {f"random-n5-seed-{seed}/policy_loss" for seed in (0, 1)} <= kept.keys()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_variants_have_names_of_their_own():
    names = [module(name).make(small(name, **changes), SPEC).name for name, changes in variants() if changes]
    assert {"vfo-disc", "smodice-chi2", "nce-privileged", "nce-value"} <= set(names)
