import shutil
from pathlib import Path

import jupytext
import numpy as np
import pytest
import torch
import yaml
from nbclient import NotebookClient
from tiny import EXPERIMENTS, tiny_config

from segattn.analysis import attention_explorer
from segattn.analysis.remote import RunsError
from segattn.base.errors import UserError
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
    for path in (finished.attention_path, finished.examples_path, finished.config_path):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    nearest = attention_explorer.pixel_attention(copy, image=1, row=row + 1, column=column)
    assert nearest["pixels"].tolist() == [[[row, column]]]
    assert (nearest["block.spatial/rows"][0, 0] == kept["block.spatial/rows"][1, 2]).all()
    assert nearest["block.channel/affinity"].shape == (1, 8, 8)


def test_pixel_that_is_not_there_is_a_sentence(finished):
    view = attention_explorer.pixel_view(finished, image=0, row=9999, column=0)
    assert "lies outside the image" in view
    view = attention_explorer.pixel_view(finished, image=2, row=0, column=0)
    assert "keeps images 0 to 1, got image 2" in view
    for row, column in ((-1, 0), (64, 0), (0, 96)):  # of a run without a checkpoint too
        (kept,) = attention_explorer.attention_runs(FIXTURE / "channel_nl-resnet18-scenes-s0")
        for run in (finished, kept):
            with pytest.raises(UserError, match="lies outside the image of 64 x 96"):
                attention_explorer.pixel_attention(run, image=0, row=row, column=column)


def test_folder_without_attention_says_what_to_run(tmp_path):
    (tmp_path / "fcn").mkdir()
    (tmp_path / "fcn" / "config.yaml").write_text("{}")
    with pytest.raises(
        RunsError, match=r"no run below .* `make ablation-smoke`.* tests/fixture/runs"
    ):
        attention_explorer.attention_runs(tmp_path)
    assert attention_explorer.attention_runs(FIXTURE)


def test_first_run_of_a_head_is_that_of_its_lowest_seed(tmp_path):
    """By number: s10 stands before s2 in a folder."""
    for head, seed in (("spatial_nl", 2), ("spatial_nl", 10), ("channel_nl", 1), ("channel_nl", 0)):
        folder = tmp_path / f"{head}-s{seed}"
        shutil.copytree(FIXTURE / f"{head}-resnet18-scenes-s0", folder)
        config = yaml.safe_load((folder / "config.yaml").read_text()) | {"seed": seed}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    runs = attention_explorer.attention_runs(tmp_path)
    names = [run.path.name for run in runs]
    assert names == ["channel_nl-s0", "channel_nl-s1", "spatial_nl-s2", "spatial_nl-s10"]
    assert "spatial_nl-s2<" in attention_explorer.figures_of(runs, "spatial")
    assert "spatial_nl-s10<" not in attention_explorer.figures_of(runs, "spatial")


@pytest.mark.parametrize("tested", ["best", "last"])
def test_any_pixel_comes_from_the_weights_that_were_tested(finished, tmp_path, tested):
    copy = Run(tmp_path / "run")
    shutil.copytree(finished.path, copy.path)
    broken = torch.load(copy.checkpoint_path, weights_only=True)
    weights = broken["state_dict"]
    shutil.copy(copy.checkpoint_path, copy.best_path)
    config = copy.config | {"callbacks": {"best": tested == "best"}}
    copy.config_path.write_text(yaml.safe_dump(config))
    for name in weights:
        weights[name] = weights[name] * 0 if weights[name].is_floating_point() else weights[name]
    torch.save(broken, copy.checkpoint_path if tested == "best" else copy.best_path)
    one, other = (
        attention_explorer.pixel_attention(run, image=0, row=9, column=9)
        for run in (finished, copy)
    )
    np.testing.assert_array_equal(one["block.spatial/rows"], other["block.spatial/rows"])
    assert attention_explorer.overview([copy])["any pixel"].tolist() == ["yes"] * 2


def test_notebook_runs(finished, monkeypatch):
    notebook = jupytext.read(NOTEBOOK)
    monkeypatch.setenv("SEGATTN_RUNS", str(finished.path.parent))
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pages = ["".join(o.get("data", {}).get("text/html", "") for o in c.outputs) for c in code]
    assert "block.spatial" in pages[0]
    assert [page.count("<img") for page in pages] == [0, 1, 1, 0, 2]
    assert "No run here has full attention" in pages[3]
