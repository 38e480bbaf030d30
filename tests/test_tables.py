"""Generated tables: complete, and made from the code alone."""

import re

import pytest
import synthetic

from sibench import tasks
from sibench.analysis import stats, tables
from sibench.core.errors import UserError
from sibench.learning.methods import variants


def column(table: str, index: int) -> list[str]:
    return [line.split(" | ")[index].strip("|` ") for line in table.splitlines()[2:]]


def test_methods_are_all_on_the_board_with_privileges_and_papers():
    table = tables.methods()
    names = ", ".join(column(table, 1)).split(", ")
    assert sorted(names) == sorted(variants())
    rows = dict(zip(column(table, 1), table.splitlines()[2:], strict=True))
    assert "**background rewards**" in rows["awr, awr-absorbing"] and "**expert actions**" in rows["sqil"]
    assert "**expert actions** (nce-privileged only)" in rows["nce-inverse, nce-value, nce-privileged"]
    assert "expert observations" in rows["dilo"] and "expert observations" not in rows["bc"]
    assert "https://arxiv.org/abs/2406.08805" in rows["dilo"] and "arxiv" not in rows["bc"]


def test_datasets_have_the_measured_quality_of_every_level():
    table = tables.datasets()
    assert column(table, 0) == [name for name in tasks.names() if not tasks.observes_pixels(name)]
    rows = dict(zip(column(table, 0), table.splitlines()[2:], strict=True))
    assert len(re.findall(r"-?\d\.\d\d", rows["hopper"])) == 10 and len(re.findall(r"-?\d\.\d\d", rows["lift"])) == 8
    assert f"| {tasks.ladder()['hopper']['bc-1']['quality']:.2f} |" in rows["hopper"]


def test_update_replaces_what_stands_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- generated: suites -->\nstale\n<!-- /generated -->\nafter\n")
    tables.main(tables.Config("update", (str(page),)))
    expected = f"before\n<!-- generated: suites -->\n{tables.suites()}\n<!-- /generated -->\nafter\n"
    assert page.read_text() == expected
    with pytest.raises(UserError, match="unknown table 'suits'; did you mean 'suites'"):
        tables.generate("suits")


def test_scores_are_signed_shares_with_intervals():
    results = synthetic.make("small", seeds=3)
    head, _, *lines = tables.scores(results).splitlines()
    assert head == "| | method | score | 95 % | above BC | harmful cells | seeds | detectable |"
    for row, line in zip(stats.summarise(results), lines, strict=True):
        assert line.startswith(f"| {row.rank} | {row.method} | {row.score.mean:+.2f} | ")
        assert re.search(r"\| [+-]\d\.\d\d to [+-]\d\.\d\d \|", line)


def test_levels_mark_datasets_on_which_bc_has_not_converged():
    results = synthetic.make("small", seeds=2, gap=lambda cell: 9.0 * (cell.dataset == "bc-5"))
    head, _, *lines = tables.levels(results).splitlines()
    assert "hopper bc-5, 0.91 (BC not converged) | hopper bc-20, 1.0 |" in head
    assert len(lines) == len({result.method for result in results})
    assert all(re.fullmatch(r"\| [a-z-]+( \| [+-]\d\.\d\d){6} \|", line) for line in lines)


def test_levels_tell_swept_settings_apart():
    lines = tables.levels(synthetic.make("small-temperature", seeds=2)).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == [
        f"| vfo-bin temperature={value}" for value in ("0.1", "0.3", "1", "3", "10")
    ]
