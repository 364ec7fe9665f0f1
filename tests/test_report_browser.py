from pathlib import Path

import browser
import numpy as np
import pytest
from simulated_runs import edit_result, simulate

from segattn.analysis import report
from segattn.metrics import write_table
from segattn.runs import load_runs

pytestmark = pytest.mark.skipif(
    browser.CHROMIUM is None,
    reason="no Chromium to open the report in: apt-get install chromium",
)
FIXTURE = Path(__file__).parent / "fixture" / "runs"
WIDTHS = {"phone": 390, "laptop": 1280, "projector": 1920}

# elements past the right edge that no box of their own scrolls
_CUT_OFF = """[...document.body.querySelectorAll('*')].filter(e =>
  e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, figure, pre')).length"""
_UNSEEN = "[...document.images].filter(i => !i.complete || !i.naturalWidth || !i.alt).length"
_DEAD_LINKS = """[...document.links].filter(a =>
  a.hash && !document.getElementById(a.hash.slice(1))).length"""


@pytest.fixture(scope="module", autouse=True)
def pages_alone():
    """No table and figure files beside the pages: no page shows them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_write_figures", lambda comparison, out: None)
        patch.setattr(
            report.catalogue,
            "write_tables",
            lambda comparison, out: out.mkdir(parents=True, exist_ok=True),
        )
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return report.write_report(FIXTURE, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser.chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module", params=WIDTHS)
def opened(request, page, made):
    page.complaints.clear()
    page.requests.clear()
    page.open(made.as_uri(), width=WIDTHS[request.param])
    return page


def count(page, selector):
    return page.evaluate(f"document.querySelectorAll({selector!r}).length")


def test_tables_figures_and_links_are_there(opened):
    assert count(opened, "table") > 10
    assert count(opened, "figure img") > 7
    assert opened.evaluate(_UNSEEN) == 0
    assert opened.evaluate("document.links.length") > 10
    assert opened.evaluate(_DEAD_LINKS) == 0


def test_the_console_is_silent_and_nothing_is_asked_of_the_network(opened, made):
    assert opened.complaints == []
    assert {url for url in opened.requests if not url.startswith("data:")} == {made.as_uri()}


def test_the_page_does_not_scroll_sideways(opened):
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.evaluate(_CUT_OFF) == 0


def test_text_grows_with_the_window(page, made):
    sizes = {}
    for name, width in WIDTHS.items():
        page.open(made.as_uri(), width=width)
        sizes[name] = page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)")
    assert sizes["phone"] >= 16
    assert sizes["projector"] >= 1.3 * sizes["laptop"]


def test_figures_grow_with_the_text(page, made):
    """The forest plot, which is narrower than the page, keeps its size in rem."""
    sizes = {}
    for name in ("laptop", "projector"):
        page.open(made.as_uri(), width=WIDTHS[name])
        shown = page.evaluate("document.querySelector('figure img').clientWidth")
        root = page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)")
        sizes[name] = (shown, shown / root)
    assert sizes["projector"][0] >= 1.3 * sizes["laptop"][0]
    assert sizes["projector"][1] == pytest.approx(sizes["laptop"][1], rel=0.02)


def test_a_phone_shows_the_first_value_of_every_row(page, made):
    """Right of the columns that say which row it is."""
    page.open(made.as_uri(), width=390)
    ends = """[...document.querySelectorAll('.scroll')].map(box => [...box.querySelectorAll(
      'tbody tr:first-child td')].find(td => /\\d \\[|TESTED|INCONCLUSIVE/.test(td.innerText)))
      .filter(td => td).map(td => td.getBoundingClientRect().right)"""
    assert len(page.evaluate(ends)) > 8
    assert max(page.evaluate(ends)) <= 390


def test_wide_tables_scroll_in_their_box_on_a_phone(page, made):
    page.open(made.as_uri(), width=390)
    wider = "[...document.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth)"
    assert page.evaluate(f"{wider}.length") > 3
    first = "document.querySelector('.scroll td:first-child').getBoundingClientRect().left"
    page.evaluate("document.querySelectorAll('.scroll').forEach(b => b.scrollLeft = 80)")
    assert page.evaluate(first) >= 0  # the name of the row stays in sight


def test_a_tap_enlarges_a_figure_on_a_phone(page, made):
    page.open(made.as_uri(), width=390)
    width = "document.querySelector('figure img').clientWidth"
    assert page.evaluate(width) <= 390
    page.evaluate("document.querySelector('figure img').click()")
    assert page.evaluate(width) > 2 * 390
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_page_that_breaks_the_rules_is_noticed(page, tmp_path):
    """The checks above would see a script error, a request and a table without a box."""
    bad = tmp_path / "bad.html"
    cells = "<td>wide</td>" * 200
    bad.write_text(
        '<img src="missing.png"><a href="#nowhere">x</a><script>console.error("no")</script>'
        f"<table><tr>{cells}</tr></table>"
    )
    page.complaints.clear()
    page.requests.clear()
    page.open(bad.as_uri(), width=390)
    assert any("no" in text for text in page.complaints)
    assert any(url.endswith("missing.png") for url in page.requests)
    assert [page.evaluate(js) > 0 for js in (_CUT_OFF, _UNSEEN, _DEAD_LINKS)] == [True] * 3


def test_the_overview_links_to_every_report(page, tmp_path, monkeypatch):
    empty = report.nbformat.v4.new_notebook()
    monkeypatch.setattr(report, "_execute", lambda notebook, folder: empty)
    for name in ("one", "other"):
        simulate(tmp_path / "runs" / name, heads={"fcn": {}}, seeds=(0,), num_images=4)
        for run in load_runs(tmp_path / "runs" / name):
            edit_result(run.path, experiment=name)
    made = report.write_report(tmp_path / "runs", tmp_path / "out")
    page.open(made.as_uri(), width=390)
    links = page.evaluate("[...document.links].map(a => a.href)")
    assert links == [
        (tmp_path / "out" / name / "report.html").as_uri() for name in ("one", "other")
    ]


# no spaces: a head's name ends at the first; each would change the page's title if it ran
MARKUP = {
    "script": "<script>document.title='ran'</script>",
    "image": "<img/src=x/onerror=document.title='ran'>",
    "end": "</td></table></ul><h2>gone</h2><script>document.title='ran'</script>",
}


def hostile_runs(folder):
    """Two heads whose names, classes, images, experiment and data set hold markup."""
    simulate(folder, heads={"fcn": {}, "fla": {"lamp": 0.1}}, seeds=(0, 1), num_images=12)
    classes = dict(zip(("road", "bus", "lamp"), MARKUP.values(), strict=True))
    for run in load_runs(folder):
        result, objects = run.result, run.objects()
        names = {name: f"{MARKUP['image']}{name}" for name in result["images"]}
        write_table(objects.assign(image=objects["image"].map(names)), run.objects_path)
        np.savez(run.examples_path, **run.examples() | {"names": list(names.values())[:2]})
        data = result["data"]
        groups = {f"{MARKUP['end']}{k}": [classes[c] for c in v] for k, v in data["groups"].items()}
        known = result["train_objects"]
        head = result["head"]["name"].replace("fla", MARKUP["image"])
        edit_result(
            run.path,
            images=list(names.values()),
            experiment=MARKUP["end"],
            data=data | {"classes": [*classes.values()], "groups": groups, "title": MARKUP["end"]},
            train_objects=known | {"classes": {classes[c]: v for c, v in known["classes"].items()}},
            head=result["head"] | {"name": head},
            environment=result["environment"] | {"device": MARKUP["script"]},
        )
    return folder


def test_names_that_hold_markup_are_shown_as_text(page, tmp_path):
    made = report.write_report(hostile_runs(tmp_path / "runs"), tmp_path / "out")
    page.complaints.clear()
    page.requests.clear()
    page.open(made.as_uri(), width=1280)
    shown = page.evaluate("document.body.innerText")
    for text in MARKUP.values():
        assert text in shown
    assert page.evaluate("document.title") != "ran"
    assert count(page, "script") == count(page, "[onerror]") == 0
    assert page.evaluate("[...document.images].every(i => i.src.startsWith('data:image/png'))")
    assert "gone" not in page.evaluate("[...document.querySelectorAll('h2')].map(h => h.innerText)")
    assert page.complaints == []
    assert {url for url in page.requests if not url.startswith("data:")} == {made.as_uri()}
