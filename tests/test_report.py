import html
import os
import re
import runpy
import sys
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from simulated_runs import edit_result, simulate, write_unfinished

from segattn.analysis import compare, display, report, verdict_tables
from segattn.analysis.remote import RunsError
from segattn.runs import load_runs

ROOT = Path(__file__).parents[1]
HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = simulate(
        tmp_path_factory.mktemp("runs"),
        heads={"fcn": {}, "fla": {"lamp": 0.1}, "<b>": {}},
        data={"title": f"scenes & {HOSTILE}", "groups": {"a<i>": ["bus"]}},
    )
    write_unfinished(folder / "fla-9", state="failed", error=f"[bold] {HOSTILE}")
    return folder


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    path = report.write_report(runs, tmp_path_factory.mktemp("out"))
    return path.read_text(encoding="utf-8")


def test_page_holds_the_numbers_of_the_tables(page, runs):
    comparison = compare(load_runs(runs))
    for frame in (display.heads(comparison), display.differences(comparison)):
        for cell in frame.to_numpy().ravel():
            assert html.escape(str(cell)) in page
    assert "not separated" in page


def test_page_needs_no_network(page):
    assert not re.search(r"<(script|link|iframe|object|embed)\b", page)
    sources = re.findall(r"""\b(?:src|srcset|poster)\s*=\s*["']?([^"'\s>]{5})""", page)
    assert len(sources) > 5
    assert set(sources) == {"data:"}
    assert not re.search(r"@import|url\(", page)


def test_page_escapes_what_it_prints(page):
    assert "<script" not in page
    assert "<i>" not in page.split("<body>")[1]
    assert page.count("&lt;script&gt;alert(") >= 3  # title, subject, error
    assert "&lt;b&gt;" in page


def test_page_says_where_its_runs_are(page, runs):
    assert f"The runs are those of {runs}." in page
    assert f"Made by: python scripts/report.py {runs}" in page


def test_page_lists_runs_that_are_not_in_it(page):
    assert "fla-9: failed" in page


def test_page_shows_no_warnings(page):
    assert "Warning" not in page
    assert "site-packages" not in page


def test_page_folds_code_and_fits_a_phone(page):
    assert page.count("<details>") == page.count("<summary>code") > 5
    assert '<meta name="viewport"' in page
    assert page.count("<table") == page.count('<div class="scroll"><table')


def test_page_links_to_its_sections(page):
    links = re.findall(r'<a href="#([^"]+)">', page.split("</nav>")[0])
    assert len(links) > 10
    assert links == re.findall(r'<h2 id="([^"]+)">', page)


def test_files_and_summary(runs, tmp_path, capsys, monkeypatch):
    # the page itself is made once, in the fixture above: starting a kernel takes seconds
    monkeypatch.setattr(report, "_execute", lambda notebook, folder: EMPTY_NOTEBOOK)
    monkeypatch.setattr(sys, "argv", ["report.py", str(runs), "--out", str(tmp_path)])
    runpy.run_path(str(ROOT / "scripts" / "report.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == str(tmp_path / "report.html")
    assert f"fla-9: failed ([bold] {HOSTILE})" in printed.replace("\n", " ")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"oracle.md", "within_class.csv", "size_curves.png"} <= names
    assert "verdicts.md" not in names  # fcn and fla alone have conditions, but no whole claim
    assert {"heads.csv", "heads.md", "size_iou.png", "examples.png", "report.html"} <= names


@pytest.fixture
def two_experiments(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_execute", lambda notebook, folder: EMPTY_NOTEBOOK)
    heads = {"channel_nl": {}, "spatial_nl": {"lamp": 0.1}}
    for name in ("one", "other"):
        simulate(tmp_path / "runs" / name, heads=heads, seeds=range(4))
        for run in load_runs(tmp_path / "runs" / name):
            edit_result(run.path, experiment=f"<{name}>")
    return tmp_path / "runs"


def test_several_experiments_get_a_report_each_and_one_page_over_them(two_experiments, tmp_path):
    path = report.write_report(two_experiments, tmp_path / "out")
    assert path == tmp_path / "out" / "report.html"
    page = path.read_text(encoding="utf-8")
    for name in ("one", "other"):
        assert f'<a href="{name}/report.html">&lt;{name}&gt;</a>' in page
        assert (tmp_path / "out" / name / "report.html").exists()
    assert page.count(">SUPPORTED</td>") == 2  # H2, which these runs test, on both
    assert "2 of 2" in page
    across = (tmp_path / "out" / "across.md").read_text(encoding="utf-8")
    comparisons = [compare(load_runs(two_experiments / name)) for name in ("one", "other")]
    assert across == display.to_markdown(verdict_tables.across(comparisons))
    assert (tmp_path / "out" / "forest.png").exists()


def test_experiments_of_one_name_are_refused(two_experiments, tmp_path):
    (two_experiments / "again").mkdir()
    (two_experiments / "one").rename(two_experiments / "again" / "other")
    with pytest.raises(ValueError, match=r"several folders are called \['other'\]"):
        report.write_report(two_experiments, tmp_path / "out")


EMPTY_NOTEBOOK = report.nbformat.v4.new_notebook()


def test_script_names_the_command_when_nothing_is_finished(tmp_path, monkeypatch):
    write_unfinished(tmp_path / "fcn-0", state="running")
    monkeypatch.setattr(sys, "argv", ["report.py", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"error: .*make ablation"):
        runpy.run_path(str(ROOT / "scripts" / "report.py"), run_name="__main__")
    assert not (tmp_path / "report").exists()


def test_newest_folder_with_a_result_is_found(tmp_path, monkeypatch):
    monkeypatch.delenv("SEGATTN_RUNS", raising=False)
    with pytest.raises(ValueError, match=r"no finished run below .*make ablation"):
        report.find_runs_folder(tmp_path)
    for age, name in enumerate(("new", "old")):
        simulate(tmp_path / name, heads={"fcn": {}}, seeds=(0,), num_images=2)
        os.utime(tmp_path / name / "fcn-0" / "result.json", (1e9 - age, 1e9 - age))
    write_unfinished(tmp_path / "newer" / "fcn-0", state="running")
    assert report.find_runs_folder(tmp_path) == tmp_path / "new"
    monkeypatch.setenv("SEGATTN_RUNS", str(tmp_path / "old"))
    assert report.find_runs_folder(tmp_path) == tmp_path / "old"


def test_a_training_goes_before_a_newer_evaluation(tmp_path, monkeypatch):
    monkeypatch.delenv("SEGATTN_RUNS", raising=False)
    simulate(tmp_path / "one-evaluated", heads={"fcn": {}}, seeds=(0,), num_images=2)
    assert report.find_runs_folder(tmp_path) == tmp_path / "one-evaluated"
    simulate(tmp_path / "one", heads={"fcn": {}}, seeds=(0,), num_images=2)
    os.utime(tmp_path / "one" / "fcn-0" / "result.json", (1e9, 1e9))
    assert report.find_runs_folder(tmp_path) == tmp_path / "one"


def test_a_notebook_names_a_folder_that_it_can_show(tmp_path, monkeypatch):
    monkeypatch.delenv("SEGATTN_RUNS", raising=False)
    with pytest.raises(RunsError, match=r"for example tests/fixture/runs\.$"):
        report.find_runs_folder(tmp_path, example="tests/fixture/runs")


def test_a_folder_of_the_checkout_is_found_from_any_folder(tmp_path, monkeypatch):
    """Jupyter runs a notebook in notebooks/, not where SEGATTN_RUNS was set."""
    simulate(tmp_path / "runs" / "one", heads={"fcn": {}}, seeds=(0,), num_images=2)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr(report, "CHECKOUT", tmp_path)
    monkeypatch.setenv("SEGATTN_RUNS", "runs/one")
    assert report.find_runs_folder() == tmp_path / "runs" / "one"


def test_heads_can_be_chosen():
    fixture = ROOT / "tests" / "fixture" / "runs"
    chosen = load_runs(fixture, heads=["spatial_nl"])
    assert [run.path.name[:13] for run in chosen] == ["spatial_nl-re"] * 2
    assert compare(chosen).heads == ["spatial_nl"]
    with pytest.raises(ValueError, match=r"unknown head of the runs in .*'fla'; .*'channel_nl', "):
        load_runs(fixture, heads=["spatial_nl", "fla"])


def test_a_variable_without_runs_or_with_several_experiments_says_what_to_set(
    tmp_path, monkeypatch
):
    for name in ("one", "other"):
        simulate(tmp_path / name, heads={"fcn": {}}, seeds=(0,), num_images=2)
    for given, message in (
        (tmp_path / "none", "no finished run. Run `make ablation`"),
        (tmp_path, f"Set it to one: {tmp_path}/one, {tmp_path}/other"),
    ):
        monkeypatch.setenv("SEGATTN_RUNS", str(given))
        with pytest.raises(RunsError, match=re.escape(message)):
            report.find_runs_folder()


def test_a_notebook_shows_the_message_without_a_traceback(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SEGATTN_RUNS", str(tmp_path))
    shell = InteractiveShell()
    shell.run_cell("from segattn.analysis import report; report.find_runs_folder()")
    printed = capsys.readouterr().out
    assert "make ablation" in printed
    assert "Traceback" not in printed
    assert len(printed.splitlines()) == 1


def test_runs_of_wandb_are_fetched(tmp_path, monkeypatch):
    def fetch(address):
        assert address == "wandb:me/heads"
        simulate(tmp_path / "fetched", heads={"fcn": {}}, seeds=(0,), num_images=2)
        return tmp_path

    monkeypatch.setattr(report.remote, "fetch_runs", fetch)
    monkeypatch.setenv("SEGATTN_RUNS", "wandb:me/heads")
    assert report.find_runs_folder() == tmp_path / "fetched"


def test_a_package_without_its_checkout_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "CHECKOUT", tmp_path)
    with pytest.raises(ValueError, match="pip install -e"):
        report.notebook_path()
