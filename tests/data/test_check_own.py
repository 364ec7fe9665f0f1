"""check_data.py on data of one's own: a draft of classes.yaml, a picture, a line for each fault."""

import numpy as np
import pytest
import yaml
from coco_files import rectangle, write_coco
from folder_files import COLOURS, store, write_folder
from PIL import Image
from tiny import call_script

from segattn.data import build_source
from segattn.data.check_shown import painted


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = call_script(monkeypatch, "check_data.py", *words, "--jobs", "1")
        return code, capsys.readouterr().out

    return call


def test_a_draft_of_colours_is_all_that_a_check_needs(tmp_path, run):
    root = write_folder(tmp_path / "data", "no splits", form="colours", counts=(40, 0, 0))
    words = ["data=folder", f"data.root={root}"]
    code, _ = run(*words)
    assert code == 1
    code, output = run(*words, "--write-classes")
    assert (code, "drafted" in output) == (0, True)
    draft = yaml.safe_load((root / "classes.yaml").read_text())
    assert {tuple(entry["colour"]) for entry in draft["classes"].values()} == set(COLOURS.values())
    assert next(iter(draft["classes"])) == "colour_000000"  # the most frequent
    code, output = run(*words)
    assert code == 0
    with Image.open("runs/check_data.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 400
    assert "OK" in output.splitlines()[-1]
    code, _ = run(*words, "--write-classes")
    assert "classes.yaml exists; delete it for a new draft" in code


def test_a_draft_of_indices_takes_255_for_void(tmp_path, run):
    root = write_folder(tmp_path / "data")
    file = tmp_path / "mine.yaml"
    code, _ = run("data=folder", f"data.root={root}", f"data.classes={file}", "--write-classes")
    draft = yaml.safe_load(file.read_text())
    assert code == 0
    assert {entry["value"] for entry in draft["classes"].values()} == {0, 1, 2}
    assert draft["ignore"] == [255]
    assert not (root / "classes.yaml").exists()


def test_every_fault_is_named_in_one_run(tmp_path, run):
    root = write_folder(tmp_path / "data")
    store(np.zeros((9, 9), np.uint8), root / "labels/train/photo 1.png")
    store(np.full((40, 48), 7, np.uint8), root / "labels/val/photo 8.png")
    (root / "labels/test/photo 12.png").unlink()
    (root / "Images/train/photo 2.jpg").write_text("no picture")
    named = "data.classes={classes:{a:0,b:1,c:2},ignore:[255]}"
    code, output = run("data=folder", f"data.root={root}", named)
    lines = [line for line in output.splitlines() if line.startswith("problem")]
    assert code == 1
    for part in ("photo 1.png is 9 x 9", "photo 8.png holds 7 (1920 px)", "photo 2.jpg"):
        assert sum(part in line for line in lines) == 1
    assert sum("missing: " in line and "photo 12.png" in line for line in lines) == 1
    assert len(lines) == 4
    assert "so all are scored by size" in output


def test_annotations_are_checked_and_drawn(tmp_path, run):
    def harm(content):
        content["annotations"][0]["segmentation"] = []
        content["annotations"][4]["segmentation"] = [rectangle(90, 1, 99, 9)]

    root = write_coco(tmp_path / "data", change=harm)
    words = ["data=coco", f"data.root={root}", "data.train=train.json", "data.test=test.json"]
    code, output = run(*words)
    assert code == 1
    assert "annotation 1 has no polygon" in output
    assert "annotation 5 has a polygon outside its image" in output
    code, _ = run(*words, "--write-classes")
    draft = yaml.safe_load((root / "classes.yaml").read_text())
    assert list(draft["classes"]) == ["car", "left_door", "right_door"]


def test_val_that_is_test_is_read_once(tmp_path, run):
    root = write_folder(tmp_path / "data", counts=(8, 0, 3))
    _, output = run("data=folder", f"data.root={root}", "data.val=test")
    assert "val, test" in output
    assert "OK with" in output.splitlines()[-1]


def test_the_picture_of_a_label(tmp_path):
    root = write_folder(tmp_path, form="colours", instances=True)
    classes = {name: COLOURS[value] for value, name in enumerate(("wall", "window", "pole"))}
    given = {"classes": {k: list(v) for k, v in classes.items()}, "ignore": [[255, 255, 255]]}
    source = build_source("folder", "train", root=str(root), classes=given)
    picture = painted(source.load(0), source)
    assert tuple(picture[0, 0]) == COLOURS[0]
    assert tuple(picture[20, 31]) == COLOURS[2]
    assert tuple(picture[7, 7]) == COLOURS[1]
    assert tuple(picture[4, 5]) == (255, 255, 255)  # the outline of an object
    assert tuple(picture[0, 47]) == (255, 255, 255)  # void
