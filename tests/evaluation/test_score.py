"""Predictions that other code made: the same numbers as a run of ours that predicts the same."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ade20k_files import write_ade20k
from camvid_files import write_camvid
from cityscapes_files import write_cityscapes
from PIL import Image
from tiny import EXPERIMENTS, tiny_overrides
from voc_files import write_voc

from segattn.base.runs import load_runs
from segattn.config.compose import compose_config
from segattn.data import build_source
from segattn.data.camvid import CamVid
from segattn.data.datamodule import image_tensor
from segattn.data.palette import voc_palette
from segattn.evaluation.evaluate import evaluate
from segattn.evaluation.predict import predict_folder
from segattn.evaluation.score import score_predictions
from segattn.training.checkpoint import load_task
from segattn.training.train import train

WRITERS = {
    "ade20k": write_ade20k,
    "camvid": write_camvid,
    "cityscapes": write_cityscapes,
    "voc": write_voc,
}


def score(folder, data, root, out, **options):
    overrides = [f"data={data}", f"data.root={root}"]
    return score_predictions(folder, overrides, folder=EXPERIMENTS, out=out, **options)


def as_picture(indices, palette):
    """A palette image that shows each index in its colour."""
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette(np.array(palette, np.uint8).tobytes())
    return image


def perfect(source, folder, *, values, ending=""):
    """The labels as a prediction, in the values that the data set's files have or in indices."""
    folder.mkdir(parents=True)
    for index, name in enumerate(source.names):
        label = source.load(index).label.astype(int)
        label[label == 255] = 0
        Image.fromarray(np.array(values)[label].astype(np.uint8)).save(
            folder / f"{name}{ending}.png"
        )
    return folder


@pytest.mark.parametrize(
    ("data", "ending"), [("ade20k", ""), ("cityscapes", "_pred"), ("cityscapes", "_leftImg8bit")]
)
@pytest.mark.parametrize("values", ["official", "classes"])
def test_official_ids_and_indices_are_read(tmp_path, data, ending, values):
    root = WRITERS[data](tmp_path / "data")
    source = build_source(data, "test", root=str(root))
    stored = source.values if values == "official" else range(len(source.classes))
    folder = perfect(source, tmp_path / "p", values=stored, ending=ending)
    run = score(folder, data, root, tmp_path / "out", values=values, name="theirs")
    assert run.path.name == f"theirs-{data}-s0"
    assert run.result["scores"]["miou"] == 1
    assert np.trace(run.result["confusion"]) == np.sum(run.result["confusion"])


def write_turned(root, turn):
    """CamVid with sides that are not multiples of the stride, and an EXIF orientation."""
    write_camvid(root, suffix=".jpg", size=(60, 90))
    exif = Image.Exif()
    exif[0x0112] = turn
    for path in root.rglob("*.jpg"):
        Image.open(path).save(path, exif=exif, quality=95)
    return root


def balance(checkpoint, source):
    """Change the biases so that a network that has learned nothing predicts several classes."""
    stored = torch.load(checkpoint, weights_only=True)
    images = [image_tensor(source.load(k).image)[None] for k in range(len(source.names))]
    task = load_task(checkpoint, device=torch.device("cpu"))
    with torch.no_grad():
        means = [task(image).logits.mean((0, 2, 3)) for image in images]
    stored["state_dict"]["model.head.classify.1.bias"] -= torch.stack(means).mean(0)
    torch.save(stored, checkpoint)


@pytest.mark.filterwarnings("ignore:.* images here and .* officially")
@pytest.mark.parametrize(
    ("data", "turn", "images", "options"),
    [
        *(("camvid", turn, "test", {}) for turn in (1, 3, 6)),
        *(("cityscapes", 1, "leftImg8bit/val", {"format": f}) for f in ("png", "cityscapes")),
        ("voc", 1, "VOCdevkit/VOC2012/JPEGImages", {}),  # two sizes, palettes and void
    ],
)
def test_our_predictions_scored_as_files_give_our_numbers(
    tmp_path, capsys, data, turn, images, options
):
    """Through predict.py, whose legend says what its values mean."""
    camvid = partial(write_turned, turn=turn)
    root = (camvid if data == "camvid" else WRITERS[data])(tmp_path / "data")
    overrides = [f"data={data}", f"data.root={root}", "loader.eval_batch_size=1"]
    small = [o for o in tiny_overrides(tmp_path) if not o.startswith("data.")]
    encoder = ["encoder=test_resnet", "encoder.weights=null", "encoder.multi_grid=null"]
    training = ["encoder.depth=3", "encoder.output_stride=8", "augment.crop=[32,48]"]
    config = compose_config([*small, *overrides, *encoder, *training], folder=EXPERIMENTS)
    trained = train(config)
    balance(trained.checkpoint_path, build_source(data, "test", root=str(root)))
    run = evaluate(trained.checkpoint_path, [], folder=EXPERIMENTS, out=tmp_path / "runs" / "own")
    assert np.count_nonzero(np.sum(run.result["confusion"], 0)) > 1
    predict_folder(trained.checkpoint_path, images=root / images, out=tmp_path / "p", **options)
    out = tmp_path / "runs" / "own"
    scored = score(tmp_path / "p" / "labels", data, root, out, name="files")
    ours = {k: v for k, v in run.result["scores"].items() if not k.startswith("block_share")}
    assert scored.result["scores"] == ours
    assert scored.result["confusion"] == run.result["confusion"]
    assert scored.objects().equals(run.objects())
    assert ("3 test images have an EXIF" in capsys.readouterr().out) == (turn > 1)
    assert [other.result["head"]["name"] for other in load_runs(out)] == ["fcn", "files"]


@pytest.fixture
def camvid(tmp_path):
    root = write_camvid(tmp_path / "data")
    source = build_source("camvid", "test", root=str(root))
    return root, perfect(source, tmp_path / "p", values=range(11)), source.names


def test_a_missing_prediction_is_an_error(camvid, tmp_path):
    root, folder, names = camvid
    (folder / f"{names[1]}.png").unlink()
    with pytest.raises(
        ValueError, match=rf"no PNG for 1 of 3 test images, such as {names[1]}\.png"
    ):
        score(folder, "camvid", root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overrides", "options", "told"),
    [
        (["head=fla"], {}, "head=fla has no effect on given predictions"),
        ([], {"name": "a/b"}, "name must be a plain name"),
        ([], {"seed": -1}, "seed at least 0"),
    ],
)
def test_what_has_no_effect_is_refused_before_anything_is_read(tmp_path, overrides, options, told):
    with pytest.raises(ValueError, match=told):
        score_predictions(tmp_path, overrides, folder=EXPERIMENTS, out=tmp_path / "o", **options)


def test_two_predictions_of_an_image_are_refused_and_links_followed(camvid, tmp_path):
    root, folder, names = camvid
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "here").symlink_to(folder)
    run = score(tmp_path / "linked", "camvid", root, tmp_path / "out", name="linked")
    assert run.result["scores"]["miou"] == 1
    (folder / "colours").mkdir()
    shutil.copy(folder / f"{names[0]}.png", folder / "colours")
    with pytest.raises(ValueError, match=rf"are both of {names[0]}; keep one of them"):
        score(folder, "camvid", root, tmp_path / "out")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda a: a + 11, "which is not a label. values=official means"),
        (lambda a: a[:-2], "is 96 x 62, its image .* is 96 x 64; they must be equal"),
        (lambda a: np.stack([a] * 3, -1), "is a RGB image"),
        (lambda a: a.astype(np.uint16) + 256, "is a I;16 image; labels are one channel of 8-bit"),
        (lambda a: as_picture(a, CamVid.palette).quantize(16), "is a picture with a palette of"),
        (lambda a: as_picture(a, CamVid.palette[::-1]), "is a picture with a palette of its own"),
        (lambda a: a.astype(np.float32), "is a F image"),
    ],
)
def test_a_wrong_file_is_named(camvid, tmp_path, damage, message):
    root, folder, names = camvid
    path = (folder / f"{names[0]}.png").rename(folder / f"{names[0]}.old")
    damaged = damage(np.asarray(Image.open(path)))
    image = damaged if isinstance(damaged, Image.Image) else Image.fromarray(damaged)
    image.save(path.with_suffix(".png"), format="TIFF" if image.mode == "F" else "PNG")
    with pytest.raises(ValueError, match=rf"{names[0]}\.png .*{message}"):
        score(folder, "camvid", root, tmp_path / "out")


@pytest.mark.parametrize(
    "palette", [CamVid.palette, voc_palette(11), [(k,) * 3 for k in range(11)]]
)
def test_palettes_that_show_the_classes_are_read(camvid, tmp_path, palette):
    root, folder, names = camvid
    for name in names:
        path = folder / f"{name}.png"
        as_picture(np.asarray(Image.open(path)), palette).save(path)
    assert score(folder, "camvid", root, tmp_path / "out").result["scores"]["miou"] == 1


def write_legend(folder, classes):
    entries = [{"name": name, "value": value} for value, name in classes]
    (folder / "predictions.json").write_text(json.dumps({"classes": entries}))


def test_the_legend_of_the_folder_counts_before_that_of_its_parent(camvid, tmp_path, monkeypatch):
    """By the names of the classes: their order may differ."""
    root, folder, names = camvid
    turned = [(10 - k, name) for k, name in enumerate(CamVid.classes)]
    write_legend(tmp_path, turned[:3])
    write_legend(folder, enumerate(CamVid.classes))
    assert score(folder, "camvid", root, tmp_path / "one").result["scores"]["miou"] == 1
    for name in names:
        Image.fromarray(10 - np.asarray(Image.open(folder / f"{name}.png"))).save(
            folder / f"{name}.png"
        )
    write_legend(folder, turned)
    assert score(folder, "camvid", root, tmp_path / "two").result["scores"]["miou"] == 1
    (folder / "predictions.json").rename(tmp_path / "predictions.json")
    monkeypatch.chdir(folder)  # the folder above a relative one
    assert score(Path(), "camvid", root, tmp_path / "three").result["scores"]["miou"] == 1


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (enumerate(CamVid.classes[:-1]), "each class of camvid .*; different: bicyclist$"),
        (enumerate(("bus", *CamVid.classes[1:])), "each class of camvid .*; different: bus, sky$"),
        ([(3, name) for name in CamVid.classes], "different: two have one value$"),
        ([(300, name) for name in CamVid.classes], "different: two have one value$"),
        ([("x", name) for name in CamVid.classes], "is not of scripts/predict.py"),
        ([(300 + k, name) for k, name in enumerate(CamVid.classes)], "does not fit: classes are"),
    ],
)
def test_a_legend_of_other_classes_is_refused(camvid, tmp_path, classes, message):
    root, folder, _ = camvid
    write_legend(folder, classes)
    with pytest.raises(ValueError, match=message):
        score(folder, "camvid", root, tmp_path / "out")
    (folder / "predictions.json").write_text('{"license": "mine"}')
    with pytest.raises(
        ValueError, match=r"is not of scripts/predict\.py \(KeyError\('classes'\)\)"
    ):
        score(folder, "camvid", root, tmp_path / "out")


def test_nothing_is_called_done_before_its_evidence_is_there(camvid, tmp_path, monkeypatch):
    root, folder, _ = camvid

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segattn.evaluation.score.write_table", full)
    with pytest.raises(OSError, match="No space left"):
        score(folder, "camvid", root, tmp_path / "out", name="a")
    left = {path.name for path in (tmp_path / "out" / "a-camvid-s0").iterdir()}
    assert left == {"config.yaml"}


def test_another_folder_does_not_take_the_place_of_a_result(camvid, tmp_path):
    root, folder, _ = camvid
    score(folder, "camvid", root, tmp_path / "out", name="a")
    shutil.copytree(folder, tmp_path / "other")
    with pytest.raises(ValueError, match="holds something else; give another name="):
        score(tmp_path / "other", "camvid", root, tmp_path / "out", name="a")
    result = tmp_path / "out" / "a-camvid-s0" / "result.json"
    assert json.loads(result.read_text())["predictions"] == str(folder)
