import ast
from pathlib import Path

import jupytext
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def source(request):
    return request.param


def test_there_are_notebooks():
    assert NOTEBOOKS


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
