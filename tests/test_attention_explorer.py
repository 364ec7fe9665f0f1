import jupytext
import numpy as np
import pytest
from nbclient import NotebookClient
from tiny import EXPERIMENTS, tiny_config

from segattn.analysis import attention_explorer
from segattn.runs import Run
from segattn.train import train

NOTEBOOK = EXPERIMENTS.parent / "notebooks" / "03_attention_maps.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tiny run of danet with checkpoint, examples and attention."""
    return train(tiny_config(tmp_path_factory.mktemp("finished"), "head=danet"))


def test_any_pixel_comes_from_the_checkpoint_and_else_the_nearest_that_is_kept(finished, tmp_path):
    kept = finished.attention()
    row, column = kept["pixels"][1, 2]
    same = attention_explorer.pixel_attention(finished, image=1, row=row, column=column)
    np.testing.assert_allclose(
        same["block.spatial/rows"][0, 0], kept["block.spatial/rows"][1, 2], atol=1e-3
    )
    copy = Run(tmp_path)
    for path in (finished.attention_path, finished.examples_path):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    nearest = attention_explorer.pixel_attention(copy, image=1, row=row + 1, column=column)
    assert nearest["pixels"].tolist() == [[[row, column]]]
    assert (nearest["block.spatial/rows"][0, 0] == kept["block.spatial/rows"][1, 2]).all()
    assert nearest["block.channel/affinity"].shape == (1, 8, 8)


def test_pixel_that_is_not_there_is_a_sentence(finished):
    view = attention_explorer.pixel_view(finished, image=0, row=9999, column=0)
    assert "lies outside the image" in view
    view = attention_explorer.pixel_view(finished, image=2, row=0, column=0)
    assert "keeps 2 images, so there is no 2" in view


def test_folder_without_attention_says_what_to_run(tmp_path):
    (tmp_path / "fcn").mkdir()
    (tmp_path / "fcn" / "config.yaml").write_text("{}")
    with pytest.raises(ValueError, match=r"no run below .* `make ablation-quick`"):
        attention_explorer.attention_runs(tmp_path)


def test_sliders_show_the_pixel_they_stand_at(finished, monkeypatch):
    widgets = pytest.importorskip("ipywidgets")
    shown, views = [], []

    def fake_display(content, display_id=False):
        shown.append(content)
        return type("View", (), {"update": staticmethod(views.append)})

    monkeypatch.setattr(attention_explorer, "display", fake_display)
    attention_explorer.explore([finished])
    box, first = shown
    assert isinstance(box, widgets.VBox)
    assert first.data.count("<img") == 2
    run, image, row, column = box.children
    assert (run.value, image.max, row.max, column.max) == (finished, 1, 63, 95)
    row.value = 63 - row.value
    (view,) = views
    assert view.data != first.data


def test_without_ipywidgets_the_kept_pixels_stand_there(finished, monkeypatch):
    shown = []
    monkeypatch.setattr(attention_explorer, "find_spec", lambda name: None)
    monkeypatch.setattr(attention_explorer, "display", shown.append)
    attention_explorer.explore([finished])
    (page,) = shown
    assert "No sliders: pip install ipywidgets" in page.data
    assert page.data.count("<img") == 2


def test_notebook_runs(finished, monkeypatch):
    notebook = jupytext.read(NOTEBOOK)
    monkeypatch.setenv("SEGATTN_RUNS", str(finished.path.parent))
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pages = ["".join(o.get("data", {}).get("text/html", "") for o in c.outputs) for c in code]
    assert "block.spatial" in pages[0]
    assert [page.count("<img") for page in pages] == [0, 1, 1, 0, 2]
    assert "No run here has full attention" in pages[3]
