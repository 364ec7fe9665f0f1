import io
from pathlib import Path

import ipyevents
import jupytext
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image
from tiny import EXPERIMENTS, tiny_config

from segattn.analysis import attention_explorer
from segattn.analysis.remote import RunsError
from segattn.base.runs import Run
from segattn.training.train import train

FIXTURE = Path(__file__).parents[1] / "fixture" / "runs"
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
    with pytest.raises(
        RunsError, match=r"no run below .* `make ablation-smoke`.* tests/fixture/runs"
    ):
        attention_explorer.attention_runs(tmp_path)
    assert attention_explorer.attention_runs(FIXTURE)


@pytest.fixture
def explorer(monkeypatch):
    """Of runs what `explore` displays: the picture, controls by name, clicks, and the views."""
    views, clicks = [], []

    class Recorded(ipyevents.Event):
        def __init__(self, **options):
            super().__init__(**options)
            clicks.append(self)

    def fake_display(content, display_id=False):
        views.append(content)
        return type("View", (), {"update": staticmethod(views.append)})

    monkeypatch.setattr(ipyevents, "Event", Recorded)
    monkeypatch.setattr(attention_explorer, "display", fake_display)

    def start(runs):
        attention_explorer.explore(runs)
        picture, controls = views.pop(0).children
        return picture, {c.description: c for c in controls.children}, clicks[0], views

    return start


def test_sliders_show_the_pixel_they_stand_at(finished, explorer):
    picture, controls, _, views = explorer([finished])
    assert [c.max for c in list(controls.values())[1:]] == [1, 63, 95]
    assert controls["run"].value == finished
    before = picture.value
    controls["row"].value = 63 - controls["row"].value
    first, view = views
    assert first.data.count("<img") == 2
    assert view.data != first.data
    assert picture.value != before


def click(event, x, y):
    """As the browser tells it."""
    content = {"event": "click", "dataX": x, "dataY": y}
    data = {"method": "custom", "content": content}
    event._handle_msg({"content": {"data": data}, "buffers": []})


def test_click_asks_about_the_pixel_under_it_once(finished, explorer):
    picture, controls, event, views = explorer([finished])
    assert (event.source, event.watched_events) == (picture, ["click"])
    click(event, x=70, y=20)
    assert (controls["row"].value, controls["column"].value) == (20, 70)
    assert len(views) == 2  # the first, and one for both sliders
    expected = attention_explorer.pixel_view(finished, image=0, row=20, column=70)
    assert views[-1].data == expected
    shown = np.asarray(Image.open(io.BytesIO(picture.value)).convert("RGB"))
    assert shown.shape == (64, 96, 3)
    assert (shown[20, [67, 73]] == 255).all()  # the ring
    controls["column"].value = 5
    assert len(views) == 3
    click(event, x=96, y=64)  # a browser rounds up
    assert (controls["row"].value, controls["column"].value) == (63, 95)


def test_first_run_is_one_whose_attention_differs_by_pixel(explorer):
    runs = attention_explorer.attention_runs(FIXTURE)
    assert runs[0].config["head"]["name"] == "channel_nl"
    _, controls, _, _ = explorer(runs)
    assert controls["run"].value.config["head"]["name"] == "spatial_nl"


def test_notebook_runs(finished, monkeypatch):
    notebook = jupytext.read(NOTEBOOK)
    monkeypatch.setenv("SEGATTN_RUNS", str(finished.path.parent))
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pages = ["".join(o.get("data", {}).get("text/html", "") for o in c.outputs) for c in code]
    assert "block.spatial" in pages[0]
    assert [page.count("<img") for page in pages] == [0, 1, 1, 0, 2]
    assert "No run here has full attention" in pages[3]
