import ast
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))
FIXTURE = Path(__file__).parent / "fixture" / "runs"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def source(request):
    return request.param


@pytest.fixture(scope="module")
def executed():
    """Cells of every notebook, run on the fixture; one kernel, as importing torch takes seconds."""
    coarse = "from segattn.analysis import html; html._DPI = 30"
    cells = [nbformat.v4.new_code_cell(coarse, metadata={"notebook": ""})]
    for path in NOTEBOOKS:
        cells.append(nbformat.v4.new_code_cell("%reset -f"))
        cells += jupytext.read(path).cells
        for cell in cells:
            cell.metadata.setdefault("notebook", path.stem)
    node = nbformat.v4.new_notebook(cells=cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGATTN_RUNS", str(FIXTURE))
        NotebookClient(node, timeout=120, kernel_name="python3", allow_errors=True).execute()
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    return {p.stem: [c for c in code if c.metadata["notebook"] == p.stem] for p in NOTEBOOKS}


def test_there_are_notebooks():
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03"]


def test_notebook_runs_and_every_cell_shows_something(source, executed):
    _, *cells = executed[source.stem]
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    assert not [cell.source for cell in cells if not cell.outputs and "=" not in cell.source]
    shown = sum(_page(cell).count("<img") + _page(cell).count("<table") for cell in cells)
    assert shown + sum("image/png" in o.get("data", {}) for o in outputs) > 0


def _page(cell):
    """What a reader sees of a cell who has no widgets."""
    return "".join(o.data.get("text/html", "") for o in cell.outputs if "data" in o)


def test_the_fixture_is_small_and_names_no_machine():
    files = [path for path in FIXTURE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 400_000
    texts = [path.read_text() for path in files if path.suffix in (".yaml", ".json", ".jsonl")]
    assert len(texts) == 16
    assert not [text for text in texts if "/home" in text or "/root" in text or "/tmp" in text]


def test_pair_is_in_sync(source):
    text, paired = jupytext.read(source), nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert [(c.cell_type, c.source) for c in text.cells] == [
        (c.cell_type, c.source) for c in paired.cells
    ], f"run: jupytext --sync {source}"


def test_notebook_has_no_outputs_and_stable_ids(source):
    paired = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    code = [cell for cell in paired.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert [cell.id for cell in paired.cells] == [str(n) for n in range(len(paired.cells))]


def test_notebook_holds_no_logic(source):
    logic = ast.FunctionDef | ast.ClassDef | ast.For | ast.While | ast.If | ast.Try
    tree = ast.parse(source.read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, logic)]
