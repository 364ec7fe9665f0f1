"""The page as a reader sees it, in Chromium."""

from pathlib import Path

import browser
import pytest
from simulated_runs import edit_result, simulate

from segattn.analysis import report
from segattn.base.runs import load_runs

pytestmark = pytest.mark.skipif(
    browser.CHROMIUM is None,
    reason="no Chromium to open the report in: apt-get install chromium",
)
FIXTURE = Path(__file__).parents[1] / "fixture" / "runs"

# elements past the right edge that no box of their own scrolls
_CUT_OFF = """[...document.body.querySelectorAll('*')].filter(e =>
  e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.wide, pre')).length"""
_UNSEEN = "[...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).length"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    (path,) = report.write_report(FIXTURE, tmp_path_factory.mktemp("out"))
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser.chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_fits_is_silent_and_shows_its_pictures(page, made, width):
    page.complaints.clear()
    page.requests.clear()
    page.open(made.as_uri(), width=width)
    assert page.evaluate("document.querySelectorAll('.wide img').length") >= 4
    assert page.evaluate(_UNSEEN) == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(_CUT_OFF) == 0
    assert page.complaints == []
    assert {url for url in page.requests if not url.startswith("data:")} == {made.as_uri()}


def test_the_answer_is_on_the_first_screen(page, made):
    page.open(made.as_uri(), width=1440)
    top = "document.querySelector('{}').getBoundingClientRect().top"
    assert page.evaluate(top.format(".wide img")) < 200
    assert page.evaluate(top.format("ul li")) < 900


def test_a_page_that_breaks_the_rules_is_noticed(page, tmp_path):
    """The checks above would see a script error, a request and a table without a box."""
    bad = tmp_path / "bad.html"
    cells = "<td>wide</td>" * 200
    bad.write_text(
        '<img src="missing.png"><script>console.error("no")</script>'
        f"<table><tr>{cells}</tr></table>"
    )
    page.complaints.clear()
    page.requests.clear()
    page.open(bad.as_uri(), width=390)
    assert any("no" in text for text in page.complaints)
    assert any(url.endswith("missing.png") for url in page.requests)
    assert [page.evaluate(js) > 0 for js in (_CUT_OFF, _UNSEEN)] == [True] * 2


# no spaces: a head's name ends at the first; each would change the page's title if it ran
MARKUP = ("<img/src=x/onerror=document.title='ran'>", "</ul><script>document.title='ran'</script>")


def test_names_that_hold_markup_are_shown_as_text(page, tmp_path):
    folder = simulate(tmp_path / "runs", heads={"fcn": {}, "fla": {}}, num_images=12)
    for run in load_runs(folder):
        result = run.result
        head = result["head"]["name"].replace("fla", MARKUP[0])
        edit_result(run.path, head={"name": head}, data=result["data"] | {"title": MARKUP[1]})
    (made,) = report.write_report(folder, tmp_path / "out")
    page.open(made.as_uri(), width=1440)
    shown = page.evaluate("document.body.innerText")
    assert all(text in shown for text in MARKUP)
    assert page.evaluate("document.title") != "ran"
    assert page.evaluate("document.querySelectorAll('script, [onerror]').length") == 0
