"""A run on data of one's own: train, resume, evaluate, predict, report."""

import json

from folder_files import write_folder
from PIL import Image
from tiny import EXPERIMENTS, call_script, own_overrides

from segattn.config.compose import compose_config
from segattn.evaluation.evaluate import evaluate
from segattn.training.train import train

CLASSES = "{wall:0,window:{value:1,thing:true},pole:{value:2,thing:true}},ignore:[255]"


def words(root, folder, *more):
    return own_overrides(
        folder,
        "data=folder",
        f"data.root={root}",
        f"data.classes={{classes:{CLASSES}}}",
        "data.title=facades",
        "data.size_edges=terciles",
        "data.size=[32,32]",
        *more,
    )


def test_from_a_folder_to_predictions(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "data", "no splits", counts=(40, 0, 0), instances=True)
    run = train(compose_config(words(root, tmp_path), folder=EXPERIMENTS))
    result = run.result
    assert result["data"]["title"] == "facades"
    assert result["metric"]["size_edges"][0] > 0
    assert result["metric"]["with_ids"] == ["window", "pole"]
    drawn = json.loads(run.data_path.read_text())
    names = [name for split in drawn.values() for name in split["names"]]
    assert sorted(names) == sorted(f"photo {i}" for i in range(40))
    assert result["images"] == drawn["test"]["names"]
    again = evaluate(run.checkpoint_path, [], folder=EXPERIMENTS)
    assert again.result["scores"] == result["scores"]
    given = {"checkpoint": run.checkpoint_path, "images": root / "images", "out": tmp_path / "out"}
    assert call_script(monkeypatch, "predict.py", *(f"{k}={v}" for k, v in given.items())) == 0
    written = sorted((tmp_path / "out/labels").iterdir())
    assert len(written) == 40
    with Image.open(written[0]) as label:
        assert label.size == (48, 40)  # at the size of the photo, in the colours of the data
    legend = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [c["colour"] for c in legend["classes"]] == result["data"]["palette"]


def test_val_that_is_test_is_marked_when_it_chooses(tmp_path):
    root = write_folder(tmp_path / "data", counts=(8, 3, 0))
    more = ["data.val=test", "callbacks=best"]
    run = train(compose_config(words(root, tmp_path, *more), folder=EXPERIMENTS))
    assert run.result["training"]["chosen_on_test"]
