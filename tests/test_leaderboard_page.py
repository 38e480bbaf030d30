"""The page shows what was submitted, contains no markup of strangers, and works in a real browser."""

import json
import re
from pathlib import Path

import chromium
import numpy as np
import pytest
from chromium import Chromium
from submissions import MARKUP, read_results, write_results

from sibench.bench import suites
from sibench.core import files
from sibench.leaderboard import render, replay
from sibench.leaderboard import submission as sub
from sibench.leaderboard.entry import from_results

pytest_plugins = ["submissions"]
pytestmark = pytest.mark.usefixtures("small_suites")

browser = pytest.mark.skipif(chromium.PROGRAM is None, reason="no Chromium on this machine: apt-get install chromium")


@pytest.fixture(scope="module")
def page(folder, results_folder, tmp_path_factory) -> Path:
    """A page of results, a submission of the same results, and one with markup wherever there is text."""
    entry = from_results(read_results(results_folder, "vfo-bin"))
    entry.name, entry.about, entry.config = MARKUP, MARKUP, {MARKUP: MARKUP}
    entry.privileges = ["expert actions"]
    entry.paper = "https://example.org/"
    entry.write(folder.parent)
    files.write_atomic(folder.parent / "tiny-broken" / sub.FILE, b"{}")
    out = tmp_path_factory.mktemp("site") / "index.html"
    (warning,) = render.render(folder.parent, (results_folder,), out)
    assert "tiny-broken" in warning
    return out


def data_of(page: Path) -> dict:
    (data,) = re.findall(r'id="data">(.*?)</script>', page.read_text())
    return json.loads(data)


def board(page: Path) -> dict:
    """The data of the only board of a page."""
    (only,) = data_of(page)["boards"]
    return only


def test_page_has_no_markup_of_strangers_and_loads_nothing(page):
    text = page.read_text()
    assert MARKUP not in text and "<img" not in text
    assert text.count("<script") == 2 and text.count("</script>") == 2
    assert "default-src 'none'" in text and not re.search(r"(src|href)=[\"']?http|@import|url\((?!#)", text)


def test_page_has_the_nll_of_method_bc_and_behaviour_policy(page, results_folder):
    entries = {entry["id"]: entry["results"] for entry in board(page)["entries"]}
    bc_nll = {shown["id"]: shown["nll"] for shown in entries["tiny-bc"]}
    checked = 0
    for result in suites.read_suite("tiny", results_folder):
        (shown,) = [one for one in entries[f"tiny-{result.method}"] if one["id"] == result.background.id]
        assert shown["bc_nll"] == bc_nll[result.background.id] and shown["teacher_nll"] == result.teacher_nll
        if np.isfinite(result.nll).all():
            assert shown["nll"] == pytest.approx(result.nll.mean())
            checked += 1
    assert checked > 3


def test_settings_on_a_board_are_those_of_methods_with_results_here(page, results_folder):
    facts = dict(board(page)["facts"])
    assert (facts["updates"], facts["hidden units"], facts["batch size"]) == ("10,000", "64 × 64", "64")
    assert facts["from"] == f"{results_folder}/tiny, submissions" and facts["BC converged on"] == "4 of 4 datasets"


def test_last_folder_with_complete_results_counts(results_folder, tmp_path):
    """New results replace those of the repository as soon as a method is complete."""
    live, out = tmp_path / "live", tmp_path / "index.html"
    write_results(live)
    assert render.render(tmp_path / "none", (results_folder, live), out) == []
    assert dict(board(out)["facts"])["from"] == f"{live}/tiny"
    (live / "tiny" / "hopper" / "bc-bc-1-n5.json").unlink()
    (warning,) = render.render(tmp_path / "none", (results_folder, live), out)
    assert "hopper/bc-1-n5-v1 is missing" in warning
    assert {entry["id"] for entry in board(out)["entries"]} == {"tiny-bc", "tiny-awr", "tiny-vfo-bin"}
    assert dict(board(out)["facts"])["from"] == ", ".join(sorted([f"{results_folder}/tiny", f"{live}/tiny"]))
    (live / "tiny" / "hopper" / "bc-bc-1-n5.json").write_text("{}")
    assert "is not a result" in render.render(tmp_path / "none", (live,), tmp_path / "none.html")[0]


@pytest.mark.parametrize("name", ["BC", "AWR"])
def test_submission_cannot_take_the_name_of_a_method_with_results_here(name, results_folder, tmp_path):
    """Whether it is the reference, which all are compared with, or another; without those results it may."""
    out, id = tmp_path / "index.html", f"tiny-{name.lower()}"
    assert render.render(tmp_path / "submissions", (results_folder,), out) == []
    before = board(out)
    stranger = from_results(read_results(results_folder, "vfo-bin"))
    stranger.name = name
    stranger.write(tmp_path / "submissions")
    (warning,) = render.render(tmp_path / "submissions", (results_folder,), out)
    assert warning.startswith(f"leaving out the submission {id}: ") and "other results of that name" in warning
    assert board(out) == before
    assert render.render(tmp_path / "submissions", (), out) == []
    assert [entry["id"] for entry in board(out)["entries"]] == [id]


# --- in a browser -----------------------------------------------------------------------------------------------------


def names(browser: Chromium) -> list[str]:
    return browser.eval("[...document.querySelectorAll('.board tbody th a')].map((link) => link.textContent)")


def until_num_methods(browser: Chromium, num: int) -> None:
    browser.until(f"document.querySelectorAll('.board tbody th').length == {num}")


@pytest.fixture
def desktop(page):
    """A browser with the page open; whatever a test does, it raises no error and loads nothing."""
    with Chromium() as browser:
        browser.look(1280, 900)
        browser.open(page)
        yield browser
        assert browser.errors == []
        assert {url.split("#")[0] for url in browser.requests} == {page.as_uri()}


@browser
def test_strangers_markup_is_shown_as_text(desktop):
    assert names(desktop) == [MARKUP, "vfo-bin", "awr", "bc"]
    assert desktop.eval("document.querySelectorAll('img, main script, b').length") == 0


@browser
def test_scores_are_shares_with_a_sign(desktop, page):
    first = board(page)["entries"][0]["score"]
    shown = desktop.eval("document.querySelector('.board tbody td:nth-of-type(2)').textContent").replace("−", "-")
    assert shown == f"{first['mean']:+.2f}{first['low']:+.2f} to {first['high']:+.2f}"
    assert "only as trustworthy as the maintainers who issue it" in desktop.eval("document.body.textContent")


@browser
def test_every_method_has_a_figure_on_every_task_in_one_frame(desktop):
    assert desktop.eval("document.querySelectorAll('figure svg').length") == 4 * 2
    captions = desktop.eval("[...document.querySelectorAll('figcaption a')].map((link) => link.textContent)")
    assert captions == 2 * [MARKUP, "vfo-bin", "awr", "bc"]
    zeros = desktop.eval("[...document.querySelectorAll('figure .zero')].map((line) => line.getAttribute('y1'))")
    assert len(set(zeros)) == 1
    desktop.click("figure:nth-of-type(3) a")
    desktop.until("location.hash == '#/method/tiny-awr'")
    desktop.eval("history.back()")
    until_num_methods(desktop, 4)


@browser
def test_columns_sort_the_board(desktop):
    head = ".board thead th:nth-of-type({}) button"
    desktop.click(head.format(2))
    assert names(desktop) == [MARKUP, "awr", "bc", "vfo-bin"]
    assert desktop.eval("document.querySelector('[aria-sort=ascending]').textContent") == "Method"
    desktop.click(head.format(2))
    assert names(desktop) == ["vfo-bin", "bc", "awr", MARKUP]
    desktop.click(head.format(3))
    assert names(desktop)[2:] == ["awr", "bc"]
    desktop.click(head.format(3))
    assert names(desktop)[:2] == ["bc", "awr"]


@browser
def test_filters_narrow_the_board(desktop):
    desktop.click("input[type=search]")
    desktop.type("VFO")
    assert names(desktop) == ["vfo-bin"]
    assert desktop.eval("document.querySelector('output').textContent") == "1 of 4 methods"
    desktop.type(" zzz")
    assert names(desktop) == [] and "No method matches" in desktop.eval("document.body.textContent")
    desktop.eval("location.reload()")
    desktop.until("document.readyState == 'complete'")
    until_num_methods(desktop, 4)
    choose = "((s) => (s.value = '{}', s.dispatchEvent(new Event('change'))))(document.querySelector('select'))"
    desktop.eval(choose.format("none"))
    assert names(desktop) == ["vfo-bin", "bc"]
    desktop.eval(choose.format("expert actions"))
    assert names(desktop) == [MARKUP]


@browser
def test_page_of_a_method_shows_its_seeds_and_settings(desktop):
    desktop.click(".board tbody th a")
    desktop.until("location.hash.startsWith('#/method/tiny-img')")
    desktop.until("document.querySelectorAll('figure svg').length == 2")
    assert desktop.eval("document.querySelector('h1').textContent") == MARKUP
    assert desktop.eval("document.activeElement.tagName") == "H1"
    assert desktop.eval("document.querySelectorAll('circle.seed').length") == 12
    assert MARKUP in desktop.eval("document.querySelector('.list:last-of-type').textContent")
    assert desktop.eval("document.querySelector('main a[href^=https]').href") == "https://example.org/"
    desktop.eval("history.back()")
    until_num_methods(desktop, 4)
    desktop.eval("location.hash = '#/method/tiny-awr'")  # one of whose seeds diverged
    desktop.until("document.querySelectorAll('circle.seed').length == 11")
    assert desktop.eval("document.querySelectorAll('circle.dead').length") == 1


@browser
def test_verified_entry_has_a_badge_and_a_table_of_checks(page, tmp_path):
    data = data_of(page)
    (entry,) = [one for one in data["boards"][0]["entries"] if one["id"] == "tiny-awr"]
    check = replay.Check("hopper/bc-1-n5-v1, seed 0", 1234.5, 1230.0, 20.0, p=0.5, min_p=0.001)
    entry |= {"level": replay.LEVELS[1], "verification": {"checks": [vars(check)], "episodes": 40, "key": "5" * 64}}
    (tmp_path / "index.html").write_text(render.page(data))
    with Chromium() as browser:
        browser.open(tmp_path / "index.html", "#/method/tiny-awr")
        assert "re-evaluated" in browser.eval("document.querySelector('.badge.good').textContent")
        cells = "[...document.querySelectorAll('[aria-label=Verification] tbody tr *')].map((cell) => cell.textContent)"
        assert browser.eval(cells) == [check.subject, "1234.5", "1230.0", "20.0", "0.500"]
        assert "--key " + "5" * 64 in browser.eval("document.body.textContent")
        assert browser.errors == []


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
def test_page_fits_a_phone_and_has_enough_contrast(page, dark, fragment):
    with Chromium() as browser:
        browser.look(360, 740, dark=dark, phone=True)
        browser.open(page, fragment)
        assert browser.eval("document.documentElement.scrollWidth") == 360
        assert (browser.eval("getComputedStyle(document.documentElement).backgroundColor") == "rgb(22, 23, 24)") == dark
        assert browser.eval(CONTRAST) >= 4.5
        assert browser.errors == []
