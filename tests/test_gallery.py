import runpy
import shutil
import sys

import numpy as np
import pytest
from tiny import EXPERIMENTS, tiny_config

from segattn import gallery
from segattn.analysis import compare, crops
from segattn.analysis.won_lost import GALLERY_FILE, object_differences
from segattn.data.source import Sample
from segattn.gallery import collect, crop_window
from segattn.metrics import write_table
from segattn.oracle import STRIDES
from segattn.runs import Run, load_runs, read_oracle
from segattn.train import build_data, train

SCRIPTS = EXPERIMENTS.parent / "scripts"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Experiment folder of two tiny runs, collected."""
    folder = tmp_path_factory.mktemp("finished")
    windows = ["protocol=sliding", "protocol.crop=[48,48]", "protocol.stride=[16,24]"]
    for head in ("fcn", "danet"):
        overrides = [f"head={head}", "head.channels=8", "experiment=two", *windows]
        run = train(tiny_config(folder, *overrides))
    collect(run.path.parent)
    return run.path.parent


def without_checkpoints(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("checkpoints", GALLERY_FILE))
    return copy


def test_crops_show_the_objects_of_the_table(finished):
    arrays = crops.read_gallery(finished)
    frame = object_differences(compare(load_runs(finished)), "danet", "fcn")
    known = frame.set_index(["image", "cls", "area"])["iou_a"]
    count = len(arrays["cls"])
    assert 2 <= count <= 8  # four images, each with at most one gain and one loss
    assert arrays["image"].shape == (count, 96, 96, 3)
    for k in range(count):
        key = (str(arrays["name"][k]), arrays["cls"][k], arrays["area"][k])
        assert arrays["iou_a"][k] in np.ravel(known.loc[key])
        own = arrays["label"][k][arrays["mask"][k]]
        assert (own == arrays["cls"][k]).mean() > 0.5  # the outline is generous
    assert arrays["pair"].tolist() == [["danet", "fcn"]] * count
    difference = arrays["iou_a"] - arrays["iou_b"]
    assert difference.max() == frame["difference"].max()
    assert difference.min() == frame["difference"].min()


def test_objects_are_numbered_as_the_table_lists_them(finished):
    """The true positives of every object, counted in the prediction that the test kept."""
    run = Run(finished / "danet-resnet18-scenes-s0")
    source = build_data(run.config).source("test")
    frame = object_differences(compare(load_runs(finished)), "danet", "fcn")
    table = run.objects()
    table = table[(table["kind"] == "object") & (table["area"] >= 16)]
    examples = run.examples()
    for index, prediction in enumerate(examples["predictions"]):
        sample = source.load(index)
        rows = frame[frame["image"] == sample.name].to_dict("records")
        counted = [(prediction[gallery._mask(sample, row)] == row["cls"]).sum() for row in rows]
        assert counted == table.loc[table["image"] == sample.name, "tp"].tolist()


def test_predictions_are_those_of_the_test(finished):
    run = Run(finished / "danet-resnet18-scenes-s0")
    source, examples = build_data(run.config).source("test"), run.examples()
    samples = {name: source.load(k) for k, name in enumerate(examples["names"].tolist())}
    predicted = gallery._predict(run, samples)
    for name, expected in zip(examples["names"].tolist(), examples["predictions"], strict=True):
        assert (predicted[name] == expected).mean() > 0.999


def test_the_oracle_is_written_once(finished):
    stamps = {path: path.stat().st_mtime_ns for path in (finished / "oracle").iterdir()}
    assert list(read_oracle(finished / "oracle")) == list(STRIDES)
    crop_stamp = (finished / GALLERY_FILE).stat().st_mtime_ns
    collect(finished)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert (finished / GALLERY_FILE).stat().st_mtime_ns > crop_stamp
    assert list(compare(load_runs(finished)).oracle) == list(STRIDES)


def test_an_oracle_of_other_images_is_made_anew(finished, tmp_path):
    copy = without_checkpoints(finished, tmp_path)
    path = copy / "oracle" / f"stride_{STRIDES[0]}.parquet"
    table = read_oracle(copy / "oracle")[STRIDES[0]]
    write_table(table[table["image"] != "test-00000"], path)
    collect(copy)
    assert read_oracle(copy / "oracle")[STRIDES[0]].equals(table)


def test_a_missing_checkpoint_is_said_and_the_oracle_is_still_there(finished, tmp_path, capsys):
    copy = without_checkpoints(finished, tmp_path)
    shutil.rmtree(copy / "oracle")
    collect(copy)
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("no crops of danet against fcn: no ")]
    assert "danet-resnet18-scenes-s0/checkpoints/last.ckpt and no " in line
    assert not (copy / GALLERY_FILE).exists()
    assert list(read_oracle(copy / "oracle")) == list(STRIDES)


def test_other_labels_than_those_of_the_test_are_refused():
    sample = Sample("a", np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8))
    with pytest.raises(ValueError, match=r"a is not labelled as it was.*4096 px, not 12"):
        gallery._mask(sample, {"object": 0, "area": 12})


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((80, 90, 100, 140), (45, 125, 80, 160)),  # twice the longer side, around the centre
        ((100, 104, 100, 104), (78, 126, 78, 126)),  # at least 48 px
        ((0, 4, 0, 4), (0, 48, 0, 48)),  # moved inside at a corner
        ((196, 200, 290, 300), (152, 200, 252, 300)),
        ((20, 170, 10, 20), (0, 200, 0, 300)),  # the image is smaller than the square
    ],
)
def test_the_window_is_a_square_inside_the_image(box, window):
    mask = np.zeros((200, 300), dtype=bool)
    mask[box[0] : box[1], box[2] : box[3]] = True
    rows, columns = crop_window(mask)
    assert (rows.start, rows.stop, columns.start, columns.stop) == window


def test_a_thin_object_keeps_its_outline_and_what_lies_outside_the_image_is_void():
    label = np.zeros((160, 300), dtype=np.uint8)
    label[5:155, 100] = 1
    sample = Sample("a", np.zeros((160, 300, 3), np.uint8), label)
    crop = gallery._crop(sample, mask=label == 1, predictions=[label, label])
    inside = crop["label"][:, 0] != 255
    assert 50 <= inside.sum() <= 52  # 160 of 300 rows
    assert (crop["image"][~inside] == 255).all()
    assert (crop["prediction_b"][~inside] == 255).all()
    rows = np.flatnonzero(crop["mask"].any(1))
    assert len(rows) == np.ptp(rows) + 1 >= 48  # no gap
    assert not crop["mask"][~inside].any()


def test_the_script_says_what_it_cannot_do(tmp_path, monkeypatch, capsys):
    main = runpy.run_path(str(SCRIPTS / "collect.py"))["main"]
    monkeypatch.setattr(sys, "argv", ["collect.py", str(tmp_path)])
    assert main() == 1
    assert capsys.readouterr().err.startswith(f"error: no run in {tmp_path} is finished")
