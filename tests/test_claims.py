"""Claims: each holds on results like the paper's, fails on contrary ones, and is undecided where nobody can tell."""

import dataclasses
import functools
import math
import re

import numpy as np
import pytest
import synthetic
from conftest import command

from sibench.analysis import claims, measures, stats
from sibench.analysis.claims import FAILS, HOLDS, NOT_RUN, SO_FAR, UNDECIDED, Config, verdict
from sibench.analysis.measures import Need
from sibench.bench import suites
from sibench.core.errors import UserError

SUITES = Config.suites
CLAIMS = {claim.id: claim for claim in claims.CLAIMS}
TESTED = [id for id, claim in CLAIMS.items() if not isinstance(claim.test, str)]


@functools.cache
def world(paper: bool, suites: tuple[str, ...] = SUITES):
    """Return results of whole suites, like the paper's or contrary to them."""
    improvement = synthetic.like_paper if paper else synthetic.unlike_paper
    late = {} if paper or suites == ("small",) else {"training_noise": late_noise}
    return [result for suite in suites for result in synthetic.make(suite, improvement, seeds=3, noise=0.002, **late)]


def late_noise(cell):
    return 0.002 if cell.method == "vfo-disc" else 0.0002


def suites_of(id: str) -> tuple[str, ...]:
    """Return the suites that can tell: for claim A, `small` alone has a method with another terminal rule."""
    return ("small",) if id == "A" else SUITES


@pytest.mark.parametrize("id", TESTED)
@pytest.mark.parametrize(("paper", "word"), [(True, HOLDS), (False, FAILS)])
def test_opposite_results_give_opposite_verdicts(id, paper, word):
    judged = verdict(CLAIMS[id].test, world(paper, suites_of(id)), suites_of(id))
    assert judged.word == (SO_FAR[word] if id == "A" else word), judged  # `small` has three of the levels of A
    assert judged.numbers and "files" in judged.evidence


@pytest.mark.parametrize("names", [("ant", "can"), ("halfcheetah", "ant", "can", "square", "lift-image")])
@pytest.mark.parametrize(("paper", "word"), [(True, HOLDS), (False, FAILS)])
def test_verdicts_on_some_tasks_agree_with_those_on_all(names, paper, word):
    words = {}
    for id in TESTED:
        results = [result for result in world(paper, suites_of(id)) if result.task in names]
        test = CLAIMS[id].test
        needed = {task for need in test.needs for task in need.tasks}
        words[id] = verdict(test, results, suites_of(id)).word
        if needed <= set(names):
            assert words[id] == word, id
        elif len(needed & set(names)) < test.min_tasks:
            assert words[id] == NOT_RUN, id
        elif word == FAILS and test.on_each:
            assert words[id] == FAILS, id
        else:
            assert words[id] in (SO_FAR[word], UNDECIDED), id
    assert sum(reached in (SO_FAR[word], word) for reached in words.values()) > len(words) / 3


def small(improvement=synthetic.like_paper, **how):
    """Return made-up results of suite sibench with little noise."""
    return synthetic.make("sibench", improvement, **{"seeds": 3, "noise": 0.002} | how)


def test_tasks_that_are_incomplete_or_unconverged_are_left_out():
    def keep(cell):
        return cell.task in ("hopper", "walker2d") or (cell.task, cell.dataset) == ("ant", "bc-1")

    results = small(keep=keep, gap=lambda cell: 9.0 * (cell.task == "walker2d"))
    judged = verdict(CLAIMS["4.3k"].test, results, ["sibench"])
    assert judged[:2] == ("holds so far", "on hopper") and judged.evidence == "sibench/hopper/dilo-*.json, 10 files"
    without_hopper = [result for result in results if result.task != "hopper"]
    judged = verdict(CLAIMS["4.3k"].test, without_hopper, ["sibench"])
    assert judged[:2] == (NOT_RUN, "11 of 40 cells have been run")


def test_unconverged_task_leaves_a_verdict_so_far():
    results = small(gap=lambda cell: 9.0 * (cell.task == "walker2d"))
    judged = verdict(CLAIMS["4.3k"].test, results, ["sibench"])
    assert judged[:2] == ("holds so far", "on halfcheetah, hopper, ant")


def test_one_task_refutes_what_is_claimed_of_each_and_two_are_needed_for_a_mean():
    def word(id, *names):
        results = [result for result in small(synthetic.unlike_paper) if result.task in names]
        return verdict(CLAIMS[id].test, results, ["sibench"]).word

    assert word("4.3l", "ant") == FAILS and word("4.3a", "ant") == NOT_RUN
    assert word("4.3a", "ant", "walker2d") == word("4.3m", "ant") == SO_FAR[FAILS]


def test_fewer_updates_than_the_papers_make_a_verdict_so_far():
    results = small(synthetic.unlike_paper)
    assert verdict(CLAIMS["4.3e"].test, results, ["sibench"])[:2] == (FAILS, "")
    results = [synthetic.with_settings(result, steps=60_000) for result in results]
    judged = verdict(CLAIMS["4.3e"].test, results, ["sibench"])
    assert judged[:2] == (SO_FAR[FAILS], "60 000 of 1 000 000 updates")


def test_share_of_all_policies_has_an_interval():
    results = [result for result in small(seeds=2, noise=0.0) if result.task == "ant"]
    numbers = CLAIMS["H.d"].test.judge(results)[1]
    num = sum(result.quality <= 0.9 and result.method in claims.VFO for result in results)
    assert numbers == f"1.00 [{stats.wilson(num, num)[0]:.2f}, 1.00]" and num > 5


@pytest.mark.parametrize(("num", "truth"), [(0, True), (1, None), (4, False)])
def test_one_of_six_does_not_refute_rarely(num, truth):
    test = claims.share("cells", [], lambda: [True] * num + [False] * (6 - num), at_most=0.1)
    assert test.judge([]) == (truth, f"{num} of 6")


def test_few_rounds_do_not_decide_claims_about_twenty():
    results = synthetic.make("self-improve", seeds=3, noise=0.002)
    assert verdict(CLAIMS["4.6a"].test, results, ["self-improve"]).word == HOLDS
    results = [dataclasses.replace(result, rounds=result.rounds[: claims.MIN_ROUNDS - 1]) for result in results]
    judged = verdict(CLAIMS["4.6a"].test, results, ["self-improve"])
    assert judged.word == UNDECIDED and judged.why.startswith("9 rounds")


def with_late_episodes(result, num):
    """Return a result whose last evaluations during training have so many episodes."""
    seeds = []
    for seed in result.seeds:
        last = dataclasses.replace(seed.evaluations[-1], returns=seed.evaluations[-1].returns[:num])
        seeds.append(dataclasses.replace(seed, evaluations=(*seed.evaluations[:-1], last)))
    return dataclasses.replace(result, seeds=tuple(seeds))


def test_few_episodes_during_training_do_not_decide():
    assert verdict(CLAIMS["H.a"].test, small(), ["sibench"]).word == HOLDS
    results = [with_late_episodes(result, 5) for result in small()]
    for id in ("H.a", "H.b", "H.c"):
        judged = verdict(CLAIMS[id].test, results, ["sibench"])
        assert judged.word == UNDECIDED and "too few seeds or episodes" in judged.numbers


@pytest.mark.parametrize("id", ["H.b", "H.c"])
def test_cells_that_share_seeds_do_not_narrow_the_interval_of_a_spread(id):
    """Copies of a cell under other names tell nothing new: the jackknife leaves a seed out of all of them at once."""
    keep = lambda cell: (cell.task, cell.dataset) == ("ant", "bc-1")  # noqa: E731
    cells = small(keep=keep, seeds=5, noise=0.02)
    names = ("bc-1", "bc-2", "bc-5", "bc-10")
    copies = [dataclasses.replace(cell, dataset=name) for cell in cells for name in names]
    once, often = (CLAIMS[id].test.judge(results)[1] for results in (cells, copies))
    mean, low, high = map(float, re.findall(r"[+-]\d\.\d\d", once))
    assert once == often and low < mean - 0.1 and high > mean + 0.1


def test_slope_needs_two_datasets():
    results = [result for result in synthetic.make("bimodal", seeds=3) if result.dataset == "mix-600"]
    assert CLAIMS["4.4d"].test.judge(results)[0] is None


def test_ids_are_unique_and_every_claim_says_where():
    assert len(CLAIMS) == len(claims.CLAIMS) == 55
    assert all(claim.where and claim.statement for claim in claims.CLAIMS)
    assert {*claims.NOT_HOPPER, "hopper"} == {*suites.TASKS}


def test_claims_without_a_test_say_why():
    for id in CLAIMS.keys() - set(TESTED):
        assert verdict(CLAIMS[id].test, [], SUITES) == (UNDECIDED, CLAIMS[id].test, "", "")


def walker2d(improvement=synthetic.like_paper, methods=("bc", "vfo-disc", "awr"), keep=lambda cell: True, **how):
    """Return the verdict on one claim: VfO-disc beside AWR on walker2d."""
    ours = lambda cell: cell.task == "walker2d" and cell.method in methods and keep(cell)  # noqa: E731
    return verdict(CLAIMS["4.3g"].test, synthetic.make("sibench", improvement, keep=ours, **how), SUITES)


def test_complete_converged_cells_decide():
    judged = walker2d()
    assert judged.word == HOLDS and not judged.why
    assert judged.evidence == "sibench/walker2d/{awr,vfo-disc}-*.json, 20 files"


def test_missing_cell_is_not_run():
    judged = walker2d(keep=lambda cell: (cell.method, cell.dataset) != ("awr", "bc-5"))
    assert judged[:2] == (NOT_RUN, "19 of 20 cells have been run")


def test_results_without_bc_do_not_decide():
    judged = walker2d(methods=("vfo-disc", "awr"))
    assert judged.word == UNDECIDED and "10 of 10 datasets" in judged.why


def test_data_on_which_bc_has_not_converged_is_left_out():
    """What AWR does on bc-1 then counts for nothing; bc-2 to bc-1000 have more than half of the headroom."""

    def improvement(cell, quality, is_chain):
        return -5.0 if (cell.method, cell.dataset) == ("awr", "bc-1") else synthetic.like_paper(cell, quality)

    assert walker2d(improvement).word == FAILS
    judged = walker2d(improvement, gap=lambda cell: 9.0 * (cell.dataset == "bc-1"))
    assert judged.word == HOLDS and "1 of 10 datasets" in judged.why and "18 files" in judged.evidence


def test_less_than_half_of_the_headroom_does_not_decide():
    judged = walker2d(gap=lambda cell: 9.0 * (cell.dataset in ("bc-1", "bc-2")))
    assert judged.word == UNDECIDED and "2 of 10 datasets" in judged.why


def test_data_without_headroom_does_not_decide(monkeypatch):
    monkeypatch.setattr(synthetic, "quality_of", lambda cell: 1.02)
    assert walker2d().word == UNDECIDED


@pytest.mark.parametrize("how", [{"noise": 0.3}, {"seeds": 1}])
def test_noisy_or_single_seeds_do_not_decide(how):
    judged = walker2d(**how)
    assert judged.word == UNDECIDED and "cannot tell" in judged.why and judged.numbers


def test_bc_of_another_budget_does_not_count():
    names = ["temperature", "sibench-x0.1"]
    sweep = synthetic.make("temperature", seeds=3, noise=0.004)
    bc = synthetic.make("sibench-x0.1", seeds=3, keep=lambda cell: cell.method == "bc")
    assert verdict(CLAIMS["D.a"].test, sweep + bc, names).word == HOLDS
    bc = [synthetic.with_settings(result, steps=100_000) for result in bc]
    assert verdict(CLAIMS["D.a"].test, sweep + bc, names).word == UNDECIDED


def test_suites_that_lack_a_method_do_not_run_a_claim():
    judged = verdict(CLAIMS["4.3g"].test, [], ["quick"])
    assert judged[:2] == (NOT_RUN, "not all of its cells are in quick")


def test_one_cell_in_two_suites_is_refused(tmp_path):
    for suite in ("sibench", "sibench-x0.1"):
        synthetic.write(tmp_path, suite, keep=lambda cell: cell.name == "bc-bc-1" and cell.task == "ant")
    with pytest.raises(UserError, match="is in both sibench and sibench-x0"):
        claims.read(["sibench", "sibench-x0.1"], tmp_path)
    with pytest.raises(UserError, match="unknown suite 'sibnech'; did you mean 'sibench'"):
        claims.read(["sibnech"], tmp_path)


def test_need_covers_cells_and_selects_results_alike():
    need = Need("mixture+temperature", ("sqil",), ("ant",), (1, 5), (("mixture", 0.9),))
    results = synthetic.make("sqil", seeds=2)
    selected = need.select(results)
    assert {result.dataset for result in selected} == {"bc-1", "bc-5"}
    assert {result.settings["mixture"] for result in selected} == {0.9} and len(selected) == 10
    names = {("sqil", "ant", measures.cell_name(result)) for result in selected}
    assert claims.expected_cells([need], ["sqil"]) == {"ant": names}
    assert {result.task for result in need.select(results, "hopper")} == {"hopper"}


def test_crossing_by_hand():
    """Improvement falls through 0 a quarter of the way from 0.46 to 0.91."""
    improvement = {0.30: 0.5, 0.46: 0.1, 0.91: -0.3, 0.98: 0.2}

    def keep(cell):
        return (cell.task, cell.method) == ("hopper", "bc") and cell.dataset in ("bc-1", "bc-2", "bc-5", "bc-10")

    results = small(lambda cell, quality, _: improvement[quality], keep=keep, noise=0, seeds=2)
    where, *ends = measures.crossing(results)
    np.testing.assert_allclose(where, 0.46 + 0.45 / 4)
    assert ends == [0.46, 0.91]
    where, *ends = measures.crossing([synthetic.with_scores(result, result.score + 1) for result in results])
    assert (where == 0.98).all() and ends == [0.98, math.inf]
    where, *ends = measures.crossing([synthetic.with_scores(result, result.score - 1) for result in results])
    assert (where == 0.30).all() and ends == [-math.inf, 0.30]


@pytest.mark.parametrize(("crossing", "word"), [(0.53, HOLDS), (0.75, UNDECIDED), (0.1, FAILS)])
def test_crossing_between_distant_data_does_not_refute(crossing, word):
    """Hopper's ladder has nothing between 0.46 and 0.91, which are returns of 1550 and 3040."""

    def improvement(cell, quality, is_chain):
        return crossing - quality if cell.method == "vfo-bin" else 0.0

    results = small(improvement, keep=lambda cell: cell.task == "hopper", noise=0.001, seeds=5)
    judged = verdict(CLAIMS["4.6e"].test, results, SUITES)
    assert judged.word == word and "on lines between data of" in judged.numbers


@pytest.mark.parametrize(("num", "word"), [(2, UNDECIDED), (3, HOLDS)])
def test_wide_range_needs_three_neighbouring_temperatures(num, word):
    """Temperatures after the first `num` have wide intervals around zero."""
    good = claims.TEMPERATURES[:num]

    def improvement(cell, quality, is_chain):
        return 0.3 * (1 - quality) if dict(cell.settings).get("temperature") in good else 0.0

    names = ["temperature", "sibench"]
    results = synthetic.make("temperature", improvement, seeds=3, noise=0.01)
    results += small(lambda *_: 0.0, keep=lambda cell: cell.method == "bc")
    assert verdict(CLAIMS["D.a"].test, results, names).word == word


def test_command_prints_and_writes_all_verdicts(tmp_path):
    synthetic.write(tmp_path / "results", "small", seeds=3, noise=0.004)
    out = tmp_path / "claims.md"
    levels = {cell.dataset for cell in suites.suite("small").cells}
    flags = ("--results", str(tmp_path / "results"), "--suites", "small", "--markdown", str(out))
    shown = command("sibench.analysis.claims", *flags)
    assert shown.returncode == 0, shown.stderr
    assert f"{len(CLAIMS)} statements" in shown.stdout and "holds so far A " in shown.stdout
    assert f"{len(levels)} of 10 levels" in shown.stdout
    rows = out.read_text().splitlines()
    assert len(rows) == 2 + len(CLAIMS) and all(row.count(" | ") == 6 for row in rows)
    assert command("sibench.analysis.claims", "--suites", "smal").returncode == 2
    assert command("sibench.analysis.claims", "--results", str(tmp_path / "none")).returncode == 2
