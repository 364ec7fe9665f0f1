"""Predictions of a folder: right pixels in the right files, and nothing of the user's touched."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from photo_files import photo, write
from PIL import Image
from tiny import EXPERIMENTS, call_script
from tiny_checkpoint import write_checkpoint

from segattn.base.commandline import read_words
from segattn.config.compose import compose_part
from segattn.data.cityscapes import LABEL_IDS, Cityscapes
from segattn.data.palette import voc_palette
from segattn.evaluation.predict import predict_folder
from segattn.models.inference import Protocol
from segattn.training.checkpoint import load_task


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("run") / "last.ckpt")


@pytest.fixture(scope="module")
def cityscapes_checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    return write_checkpoint(path, classes=Cityscapes.classes)


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def expected(checkpoint, array, protocol=None):
    task = load_task(checkpoint, device=torch.device("cpu"))
    return task.label_map(array, protocol=protocol or Protocol())


def test_writes_indices_with_palette_overlay_and_legend(tmp_path, checkpoint):
    images, out = tmp_path / "in", tmp_path / "out"
    write(images / "a.png")
    write(images / "deep" / "er" / "b.v2.tif", photo(41, 53, seed=1))
    write(images / "deep" / "c.webp", photo(40, 30, seed=2), lossless=True)
    (images / "notes.txt").write_text("mine")
    (images / ".DS_Store").write_text("")
    before = content(images)
    outcome = predict_folder(checkpoint, images=images, out=out)
    assert (outcome.num_done, outcome.problems) == (3, [])
    assert outcome.ignored == [Path("notes.txt")]
    assert content(images) == before
    assert sorted(content(out)) == [
        *("labels/a.png", "labels/deep/c.png", "labels/deep/er/b.v2.png"),
        *("overlays/a.jpg", "overlays/deep/c.jpg", "overlays/deep/er/b.v2.jpg"),
        "predictions.json",
    ]
    for name, array in (
        ("a", photo()),
        ("deep/er/b.v2", photo(41, 53, seed=1)),
        ("deep/c", photo(40, 30, seed=2)),
    ):
        with Image.open(out / "labels" / f"{name}.png") as label:
            assert label.mode == "P"
            indices = np.asarray(label)
            colours = np.asarray(label.convert("RGB"))
        assert len(np.unique(indices)) > 1
        assert np.array_equal(indices, expected(checkpoint, array))
        assert np.array_equal(colours, np.array(voc_palette(3), dtype=np.uint8)[indices])
        overlay = np.asarray(Image.open(out / "overlays" / f"{name}.jpg")).astype(int)
        assert overlay.shape == array.shape
        blend = (array.astype(int) + colours) // 2
        assert np.abs(overlay.mean((0, 1)) - blend.mean((0, 1))).max() < 4
    legend = json.loads((out / "predictions.json").read_text())
    assert legend["protocol"] == "whole"
    assert legend["checkpoint"] == str(checkpoint)
    assert legend["classes"][1] == {"value": 1, "name": "b", "colour": [128, 0, 0]}


def test_same_call_goes_on_and_another_is_refused(tmp_path, checkpoint):
    images, out = tmp_path / "in", tmp_path / "out"
    write(images / "a.png")
    predict_folder(checkpoint, images=images, out=out)
    first = content(out)
    (out / "labels" / "a.png").unlink()
    (out / ".predictions-1.json").write_text("half")
    predict_folder(checkpoint, images=images, out=out)
    assert {k: v for k, v in content(out).items() if k[0] != "."} == first
    with pytest.raises(ValueError, match=r"is of other predictions.*name another out folder"):
        predict_folder(checkpoint, images=images, out=out, protocol={"flip": True})
    other = tmp_path / "other"
    write(other / "labels" / "a.png")
    mine = content(other)
    with pytest.raises(ValueError, match="holds other files; name a new or empty folder"):
        predict_folder(checkpoint, images=images, out=other)
    assert content(other) == mine


def test_protocol_is_the_checkpoints_own_unless_changed(tmp_path):
    own = {"name": "sliding", "crop": [16, 16], "stride": [8, 8]}
    checkpoint = write_checkpoint(tmp_path / "last.ckpt", protocol=own)
    write(tmp_path / "in" / "a.png")

    def run(out, protocol=None):
        predict_folder(checkpoint, images=tmp_path / "in", out=tmp_path / out, protocol=protocol)
        legend = json.loads((tmp_path / out / "predictions.json").read_text())
        return legend["protocol"], np.asarray(Image.open(tmp_path / out / "labels" / "a.png"))

    label, indices = run("own")
    assert label == "sliding 16x16, stride 8x8"
    assert np.array_equal(indices, expected(checkpoint, photo(), Protocol(**own)))
    assert not np.array_equal(indices, expected(checkpoint, photo()))
    assert run("flip", {"flip": True})[0] == "sliding 16x16, stride 8x8, flip"
    whole = compose_part(["protocol=whole"], folder=EXPERIMENTS)["protocol"]
    label, indices = run("whole", whole)
    assert label == "whole"
    assert np.array_equal(indices, expected(checkpoint, photo()))


def test_protocol_words_are_those_of_the_config():
    knobs = ["protocol.crop=[64,32]", "protocol.flip=true", "protocol.scales=[0.5, 1]"]
    said = {"crop": [64, 32], "flip": True, "scales": [0.5, 1]}
    assert compose_part(knobs, folder=EXPERIMENTS) == {"protocol": said}
    words = ["protocol=sliding", "protocol.flip=true"]
    assert compose_part(words, folder=EXPERIMENTS)["protocol"]["flip"] is True
    with pytest.raises(ValueError, match=r"unknown protocol 'slide'.*sliding.*whole"):
        compose_part(["protocol=slide"], folder=EXPERIMENTS)
    with pytest.raises(ValueError, match=r"cannot read 'protocol\.crop=\[64'.* a list \[1,2\]"):
        compose_part(["protocol.crop=[64"], folder=EXPERIMENTS)


def test_words_are_checked():
    assert read_words(["a=1=2", "b=x"], needed=("a",), optional=("b",)) == {"a": "1=2", "b": "x"}
    for words, message in (
        (["c=1"], "cannot read 'c=1'; arguments are key=value, of a, b"),
        (["a"], "cannot read 'a'"),
        (["a=1", "a=2"], "a stands twice"),
        (["a="], "a has no value"),
        (["b=1"], "missing a=..."),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            read_words(words, needed=("a",), optional=("b",))


def test_cityscapes_files_are_what_the_server_takes(tmp_path, cityscapes_checkpoint):
    images, out = tmp_path / "in", tmp_path / "out"
    frames = ("berlin/berlin_000000_000019", "bonn/bonn_000003_000019")
    for seed, frame in enumerate(frames):
        write(images / f"{frame}_leftImg8bit.png", photo(seed=seed))
    predict_folder(cityscapes_checkpoint, images=images, out=out, format="cityscapes")
    names = ["labels/berlin_000000_000019_pred.png", "labels/bonn_000003_000019_pred.png"]
    assert sorted(content(out)) == [*names, "predictions.json"]
    for seed, name in enumerate(names):
        with Image.open(out / name) as image:
            assert image.mode == "L"
            stored = np.asarray(image)
        indices = expected(cityscapes_checkpoint, photo(seed=seed))
        assert np.array_equal(stored, np.array(LABEL_IDS)[indices])
    legend = json.loads((out / "predictions.json").read_text())["classes"]
    assert (legend[13]["value"], legend[13]["name"]) == (26, "car")


def test_cityscapes_needs_its_classes_and_names(tmp_path, checkpoint, cityscapes_checkpoint):
    images, out = tmp_path / "in", tmp_path / "out"
    name = "berlin_000000_000019_leftImg8bit.png"
    write(images / name)
    with pytest.raises(ValueError, match=r"needs the 19 classes of Cityscapes; .*has 3: a, b, c"):
        predict_folder(checkpoint, images=images, out=out, format="cityscapes")
    write(images / "other" / name)
    with pytest.raises(ValueError, match="would write the same prediction"):
        predict_folder(cityscapes_checkpoint, images=images, out=out, format="cityscapes")
    write(images / "holiday.png")
    with pytest.raises(ValueError, match=r"holiday\.png is not named CITY_SEQUENCE_FRAME_left"):
        predict_folder(cityscapes_checkpoint, images=images, out=out, format="cityscapes")
    with pytest.raises(ValueError, match=r"unknown format 'voc'.*cityscapes.*png"):
        predict_folder(cityscapes_checkpoint, images=images, out=out, format="voc")
    assert not out.exists()


@pytest.mark.parametrize(
    "damage", ["text", "empty", "half", "weights", "number", "head", "pickle", "folder"]
)
def test_what_is_no_checkpoint_is_named(tmp_path, checkpoint, damage):
    path = tmp_path / "x.ckpt"
    stored = torch.load(checkpoint, weights_only=True)
    if damage == "text":
        path.write_text("not a checkpoint")
    elif damage == "empty":
        path.touch()
    elif damage == "half":
        path.write_bytes(checkpoint.read_bytes()[:5000])
    elif damage == "weights":
        torch.save(stored["state_dict"], path)
    elif damage == "number":
        torch.save(torch.zeros(3), path)
    elif damage == "head":
        stored["hyper_parameters"]["head"]["name"] = "fla"
        torch.save(stored, path)
    elif damage == "pickle":
        torch.save({"state_dict": print}, path)
    else:
        path.mkdir()
    message = (
        "no checkpoint" if damage == "folder" else r"x\.ckpt is not a checkpoint of this version"
    )
    with pytest.raises(ValueError, match=message):
        load_task(path, device=torch.device("cpu"))


def test_script_predicts_reports_and_exits(tmp_path, checkpoint, monkeypatch, capsys):
    write(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "bad.png").write_text("")
    (tmp_path / "in" / "list.txt").write_text("")

    run = partial(call_script, monkeypatch, "predict.py")
    words = [f"checkpoint={checkpoint}", f"images={tmp_path / 'in'}"]
    knobs = ["protocol=sliding", "protocol.crop=[16,16]", "protocol.stride=[8,8]"]
    assert run(*words, f"out={tmp_path / 'out'}", *knobs) == 1
    printed = capsys.readouterr()
    assert printed.out == "not images, left out: 1 (list.txt)\npredicted 1 image\n"
    assert re.fullmatch(
        r"failed: cannot read .*bad\.png: the file is empty; copy it again\n", printed.err
    )
    legend = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert legend["protocol"] == "sliding 16x16, stride 8x8"
    (tmp_path / "in" / "bad.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path / "in" / "phone.png", exif=exif)
    assert run(*words, f"out={tmp_path / 'new'}") == 0
    assert "1 of the images have an EXIF orientation" in capsys.readouterr().out
    assert run(*words) == "error: missing out=..."
    assert run(*words, "out=x", "flip=true").startswith("error: cannot read 'flip=true'")
    assert run("checkpoint=nowhere", *words[1:], f"out={tmp_path / 'no'}").startswith(
        "error: no checkpoint nowhere"
    )
