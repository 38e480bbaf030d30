"""Claims: each holds in a world like the paper's, fails in its contrary, and is not judged where nobody can tell."""

import math

import numpy as np
import pytest
import synthetic
from conftest import command

from sibench import judging, paper, stats, suites
from sibench.claims import Config
from sibench.errors import UserError
from sibench.judging import FAILS, HOLDS, NOT_JUDGED, NOT_RUN, SO_FAR, Need, inside
from sibench.stats import Interval
from sibench.suites import TASKS

SUITES = Config.suites
CLAIMS = {claim.id: claim for claim in paper.CLAIMS}
TESTED = [id for id, claim in CLAIMS.items() if not isinstance(claim.test, str)]


def world(folder, improvement, suites, **how):
    for suite in suites:
        synthetic.write(folder, suite, improvement, seeds=3, noise=0.002, **how)
    return judging.read(suites, folder), suites


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Like the paper's, and unlike it; for the claim that only suite `small` can tell, that."""
    root, contrary = tmp_path_factory.mktemp("worlds"), synthetic.unlike_paper
    noisy = {"training_noise": lambda cell: 0.002 if cell.method == "vfo-disc" else 0.0002}
    return {
        ("like", False): world(root / "like", synthetic.like_paper, SUITES),
        ("unlike", False): world(root / "unlike", contrary, SUITES, **noisy),
        ("like", True): world(root / "like", synthetic.like_paper, ("small",)),
        ("unlike", True): world(root / "unlike", contrary, ("small",)),
    }


@pytest.mark.parametrize("id", TESTED)
@pytest.mark.parametrize(("which", "word"), [("like", HOLDS), ("unlike", FAILS)])
def test_verdict(worlds, id, which, word):
    given = judging.verdict(CLAIMS[id].test, *worlds[which, id == "A"])
    assert given.word == (SO_FAR[word] if id == "A" else word), given  # of A's levels `small` has three
    assert given.numbers and "files" in given.evidence


@pytest.mark.parametrize("where", [("ant", "can"), ("halfcheetah", "ant", "can", "square", "lift-image")])
@pytest.mark.parametrize(("which", "word"), [("like", HOLDS), ("unlike", FAILS)])
def test_while_tasks_are_missing(worlds, where, which, word):
    """What is there speaks, and as all of it does."""
    told = {}
    for id in TESTED:
        found, suites = worlds[which, id == "A"]
        some = [result for result in found if result.task in where]
        needed = {task for need in CLAIMS[id].test.needs for task in need.tasks}
        told[id] = judging.verdict(CLAIMS[id].test, some, suites).word
        if needed <= set(where):
            assert told[id] == word, id
        elif len(needed & set(where)) < CLAIMS[id].test.least:
            assert told[id] == NOT_RUN, id
        elif word == FAILS and CLAIMS[id].test.of_each:
            assert told[id] == FAILS, id
        else:
            assert told[id] in (SO_FAR[word], NOT_JUDGED), id
    assert sum(one in (SO_FAR[word], word) for one in told.values()) > len(told) / 3


def test_what_is_there_so_far(tmp_path):
    """Of two tasks one that BC has learned; the other tells nothing, nor does a task with a cell missing."""
    gap = {"gap": lambda cell: 9.0 * (cell.task == "walker2d")}
    there = lambda cell: cell.task in ("hopper", "walker2d") or (cell.task, cell.dataset) == ("ant", "bc-1")  # noqa: E731
    synthetic.write(tmp_path, "sibench", synthetic.like_paper, keep=there, seeds=3, noise=0.002, **gap)
    found = judging.read(["sibench"], tmp_path)
    given = judging.verdict(CLAIMS["4.3k"].test, found, ["sibench"])
    assert given[:2] == ("holds so far", "on hopper") and given.evidence == "sibench/hopper/dilo-*.json, 10 files"
    poor = [result for result in found if result.task != "hopper"]
    assert judging.verdict(CLAIMS["4.3k"].test, poor, ["sibench"])[:2] == (NOT_RUN, "11 of 40 cells are there")


def test_what_cells_without_a_converged_bc_say_of_all_tasks(tmp_path):
    """No less than if they were missing."""
    gap = {"gap": lambda cell: 9.0 * (cell.task == "walker2d")}
    synthetic.write(tmp_path, "sibench", synthetic.like_paper, seeds=3, noise=0.002, **gap)
    given = judging.verdict(CLAIMS["4.3k"].test, judging.read(["sibench"], tmp_path), ["sibench"])
    assert given[:2] == ("holds so far", "on halfcheetah, hopper, ant")


def test_one_task_refutes_what_is_said_of_each_and_two_begin_a_mean(tmp_path):
    def told(id, *where):
        found = [result for result in judging.read(["sibench"], tmp_path) if result.task in where]
        return judging.verdict(CLAIMS[id].test, found, ["sibench"]).word

    synthetic.write(tmp_path, "sibench", synthetic.unlike_paper, seeds=3, noise=0.002)
    assert told("4.3l", "ant") == FAILS and told("4.3a", "ant") == NOT_RUN
    assert told("4.3a", "ant", "walker2d") == told("4.3m", "ant") == SO_FAR[FAILS]


def test_fewer_updates_than_the_papers_are_told(tmp_path):
    synthetic.write(tmp_path, "sibench", synthetic.unlike_paper, seeds=3, noise=0.002)
    found = judging.read(["sibench"], tmp_path)
    assert judging.verdict(CLAIMS["4.3e"].test, found, ["sibench"])[:2] == (FAILS, "")
    for result in found:
        result.raw["config"]["steps"] = 60_000
    given = judging.verdict(CLAIMS["4.3e"].test, found, ["sibench"])
    assert given[:2] == (SO_FAR[FAILS], "60 000 of 1 000 000 updates")


def test_what_is_so_in_every_cell_is_not_certain(tmp_path):
    synthetic.write(tmp_path, "sibench", seeds=2, noise=0.0)
    found = [one for one in judging.read(["sibench"], tmp_path) if one.task == "ant"]
    (measured,) = [claim.test.judge(found)[1] for claim in paper.VARIANCE if claim.id == "H.d"]
    num = sum(one.quality <= 0.9 and one.method in paper.VFO for one in found)
    assert measured == f"1.00 [{stats.wilson(num, num)[0]:.2f}, 1.00]" and num > 5


@pytest.mark.parametrize(("num", "truth"), [(0, True), (1, None), (4, False)])
def test_one_of_six_does_not_refute_that_it_is_rare(num, truth):
    told = judging.share("cells", [], lambda _: [True] * num + [False] * (6 - num), at_most=0.1).judge([])
    assert told == (truth, f"{num} of 6")


def test_three_rounds_say_nothing_of_twenty(tmp_path):
    synthetic.write(tmp_path, "self-improve", seeds=3, noise=0.002)
    found = judging.read(["self-improve"], tmp_path)
    assert judging.verdict(CLAIMS["4.6a"].test, found, ["self-improve"]).word == HOLDS
    for result in found:
        del result.raw["chain"][judging.ROUNDS - 1 :]
    given = judging.verdict(CLAIMS["4.6a"].test, found, ["self-improve"])
    assert given.word == NOT_JUDGED and given.why.startswith("9 rounds")


def test_few_episodes_during_training_say_nothing(tmp_path):
    synthetic.write(tmp_path, "sibench", seeds=3, noise=0.002)
    found = judging.read(["sibench"], tmp_path)
    assert judging.verdict(CLAIMS["H.a"].test, found, ["sibench"]).word == HOLDS
    for result in found:
        for lane in result.raw["lanes"]:
            lane["evaluations"][-1]["returns"] = lane["evaluations"][-1]["returns"][:5]
    for id in ("H.a", "H.b", "H.c"):
        assert judging.verdict(CLAIMS[id].test, found, ["sibench"]).word == NOT_JUDGED


def test_a_slope_needs_two_datasets(tmp_path):
    one = lambda cell: not cell.dataset.startswith("mix") or cell.dataset == "mix-600"  # noqa: E731
    synthetic.write(tmp_path, "bimodal", seeds=3, gap=lambda cell: 0.0 if one(cell) else 9.0)
    found = [result for result in judging.read(["bimodal"], tmp_path) if result.dataset == "mix-600"]
    assert paper.BIMODAL[3].id == "4.4d" and paper.BIMODAL[3].test.judge(found)[0] is None


def test_ranks_within_tasks():
    """By hand: three methods ranked alike on one task have 2 of 6 orders as correlated, and 1 of 3 is no proof."""
    rho, p = paper.ranked_alike(np.array([[0.1, 0.2, 0.3]]), np.array([[1.0, 2.0, 9.0]]))
    assert rho == pytest.approx(1) and p == pytest.approx(1 / 3, abs=0.02)
    many = np.arange(6.0)[None].repeat(3, 0)
    assert paper.ranked_alike(many, -many)[0] == pytest.approx(-1) and paper.ranked_alike(many, many)[1] < 0.001
    assert paper.ranked_alike(many + np.array([[0.0], [100.0], [200.0]]), many)[0] == pytest.approx(1)


def test_nothing_to_be_gained_is_not_judged(small_world, monkeypatch):
    monkeypatch.setattr(synthetic, "quality_of", lambda cell: 1.02)
    assert small_world().word == NOT_JUDGED


def test_ids_are_unique_and_every_claim_says_where():
    assert len(CLAIMS) == len(paper.CLAIMS)
    assert all(claim.where and claim.statement for claim in paper.CLAIMS)


def test_untested_claims_say_why():
    for id in CLAIMS.keys() - set(TESTED):
        assert judging.verdict(CLAIMS[id].test, [], SUITES) == (NOT_JUDGED, CLAIMS[id].test, "", "")


@pytest.fixture
def small_world(tmp_path):
    """Of one claim: VfO-disc beside AWR on walker2d."""

    def make(improvement=synthetic.like_paper, methods=("bc", "vfo-disc", "awr"), **how):
        keep = how.pop("keep", lambda cell: True)
        ours = lambda cell: cell.task == "walker2d" and cell.method in methods and keep(cell)  # noqa: E731
        synthetic.write(tmp_path, "sibench", improvement, keep=ours, **how)
        return judging.verdict(CLAIMS["4.3g"].test, judging.read(SUITES, tmp_path), SUITES)

    return make


def test_holds(small_world):
    given = small_world()
    assert given.word == HOLDS and not given.why
    assert given.evidence == "sibench/walker2d/{awr,vfo-disc}-*.json, 20 files"


def test_a_missing_cell_is_not_yet_run(small_world):
    given = small_world(keep=lambda cell: (cell.method, cell.dataset) != ("awr", "bc-5"))
    assert given[:2] == (NOT_RUN, "19 of 20 cells are there")


def test_without_bc_it_is_not_judged(small_world):
    given = small_world(methods=("vfo-disc", "awr"))
    assert given.word == NOT_JUDGED and "10 of 10 datasets" in given.why


def test_data_that_bc_has_not_learned_is_left_out(small_world):
    """bc-2 to bc-1000 have more than half of the headroom; what AWR does with bc-1 then counts for nothing."""

    def improvement(cell, quality, is_chain):
        return -5.0 if (cell.method, cell.dataset) == ("awr", "bc-1") else synthetic.like_paper(cell, quality)

    assert small_world(improvement).word == FAILS
    given = small_world(improvement, gap=lambda cell: 9.0 * (cell.dataset == "bc-1"))
    assert given.word == HOLDS and "1 of 10 datasets" in given.why and "18 files" in given.evidence


def test_too_little_headroom_left_is_not_judged(small_world):
    given = small_world(gap=lambda cell: 9.0 * (cell.dataset in ("bc-1", "bc-2")))
    assert given.word == NOT_JUDGED and "2 of 10 datasets" in given.why


@pytest.mark.parametrize("how", [{"noise": 0.3}, {"seeds": 1}])
def test_seeds_that_cannot_tell(small_world, how):
    given = small_world(**how)
    assert given.word == NOT_JUDGED and "cannot tell" in given.why and given.numbers


def test_bc_of_another_budget_does_not_count(tmp_path):
    synthetic.write(tmp_path, "temperature", seeds=3, noise=0.004)
    synthetic.write(tmp_path, "sibench-x0.1", seeds=3, keep=lambda cell: cell.method == "bc")
    found = judging.read(["temperature", "sibench-x0.1"], tmp_path)
    assert judging.verdict(CLAIMS["D.a"].test, found, ["temperature", "sibench-x0.1"]).word == HOLDS
    for result in found:
        if result.method == "bc":
            result.raw["config"]["steps"] //= 10
    assert judging.verdict(CLAIMS["D.a"].test, found, ["temperature", "sibench-x0.1"]).word == NOT_JUDGED


def test_suites_that_lack_a_method():
    given = judging.verdict(CLAIMS["4.3g"].test, [], ["quick"])
    assert given[:2] == (NOT_RUN, "not all of it is in quick")


def test_one_cell_in_two_suites_is_refused(tmp_path):
    for suite in ("sibench", "sibench-x0.1"):
        synthetic.write(tmp_path, suite, keep=lambda cell: cell.name == "bc-bc-1" and cell.task == "ant")
    with pytest.raises(UserError, match="is in both sibench and sibench-x0"):
        judging.read(["sibench", "sibench-x0.1"], tmp_path)
    with pytest.raises(UserError, match="unknown suite 'sibnech'; did you mean 'sibench'"):
        judging.read(["sibnech"], tmp_path)


@pytest.mark.parametrize(
    ("interval", "truth"),
    [
        ((0.1, 0.2), True),
        ((-0.1, 0.2), None),
        ((0.2, 0.6), None),
        ((-0.2, -0.1), False),
        ((0.5, 0.6), False),
        ((-1.0, 1.0), None),
        ((math.nan, math.nan), None),
    ],
)
def test_inside(interval, truth):
    assert inside(Interval(0.0, *interval, 5), 0.0, 0.5) is truth


def test_sequences_of_temperatures():
    assert [paper.longest(truths) for truths in ([], [True], [True, False, True, True], [False])] == [0, 1, 2, 0]


def test_need_reads_cells_and_results_alike(tmp_path):
    need = Need("mixture+temperature", ("sqil",), ("ant",), (1, 5), (("mixture", 0.9),))
    synthetic.write(tmp_path, "sqil", seeds=2)
    found = judging.read(["sqil"], tmp_path)
    own = need.of(found, "sqil", "ant")
    assert {result.dataset for result in own} == {"bc-1", "bc-5"}
    assert {result.settings["mixture"] for result in own} == {0.9} and len(own) == 10
    assert judging.cells([need], ["sqil"]) == {"ant": {("sqil", "ant", judging.name_of(result)) for result in own}}
    assert need.of(found, "sqil", "hopper") == []


def test_crossing_by_hand(tmp_path):
    """Down through 0 at a quarter of the way from 0.46 to 0.91."""
    made = {0.30: 0.5, 0.46: 0.1, 0.91: -0.3, 0.98: 0.2}

    def keep(cell):
        return (cell.task, cell.method) == ("hopper", "bc") and cell.dataset in ("bc-1", "bc-2", "bc-5", "bc-10")

    synthetic.write(tmp_path, "sibench", lambda cell, quality, _: made[quality], keep=keep, noise=0, seeds=2)
    results = judging.read(["sibench"], tmp_path)
    where, *ends = paper.crossing(results)
    np.testing.assert_allclose(where, 0.46 + 0.45 / 4)
    assert ends == [0.46, 0.91]
    where, *ends = paper.crossing([result._replace(episodes=result.episodes + 1) for result in results])
    assert (where == 0.98).all() and ends == [0.98, math.inf]
    where, *ends = paper.crossing([result._replace(episodes=result.episodes - 1) for result in results])
    assert (where == 0.30).all() and ends == [-math.inf, 0.30]


@pytest.mark.parametrize(("crossing", "word"), [(0.53, HOLDS), (0.75, NOT_JUDGED), (0.1, FAILS)])
def test_a_crossing_between_distant_data_refutes_nothing(tmp_path, crossing, word):
    """Hopper's ladder has nothing between 0.46 and 0.91, which are returns of 1550 and 3040."""

    def improvement(cell, quality, is_chain):
        return crossing - quality if cell.method == "vfo-bin" else 0.0

    synthetic.write(tmp_path, "sibench", improvement, keep=lambda cell: cell.task == "hopper", noise=0.001)
    given = judging.verdict(CLAIMS["4.6e"].test, judging.read(SUITES, tmp_path), SUITES)
    assert given.word == word and "on lines between data of" in given.numbers


def test_cells_that_share_seeds_make_no_spread_surer():
    rng = np.random.default_rng(0)
    pair = (rng.normal(size=5), rng.normal(0, 3, 5))
    once, often = paper.jackknife([pair]), paper.jackknife([pair] * 8)
    np.testing.assert_allclose(often, once)
    assert once.mean() == pytest.approx(np.log2(np.std(pair[0]) / np.std(pair[1])), abs=0.5) and once.std() > 0.1
    assert np.isnan(paper.jackknife([(pair[0][:2], pair[1][:2])])).all() and np.isnan(paper.jackknife([])).all()


def test_command(tmp_path):
    synthetic.write(tmp_path / "results", "small", seeds=3, noise=0.004)
    out = tmp_path / "claims.md"
    levels = {cell.dataset for cell in suites.suite("small").cells}
    shown = command(
        "sibench.claims", "--results", str(tmp_path / "results"), "--suites", "small", "--markdown", str(out)
    )
    assert shown.returncode == 0, shown.stderr
    assert (
        f"{len(CLAIMS)} statements" in shown.stdout
        and "holds so far A " in shown.stdout
        and f"{len(levels)} of 10 levels" in shown.stdout
    )
    rows = out.read_text().splitlines()
    assert len(rows) == 2 + len(CLAIMS) and all(row.count(" | ") == 6 for row in rows[2:])
    assert command("sibench.claims", "--suites", "smal").returncode == 2


def test_all_tasks_are_those_of_the_suites():
    assert set(paper.NOT_HOPPER) | {"hopper"} == set(TASKS)
