"""CamVid's reader: both image formats, and every kind of damage named."""

import re
from functools import partial

import numpy as np
import pytest
import readers
from camvid_files import write_camvid
from PIL import Image

from segattn.data import build_source

load_all = partial(readers.load_all, "camvid")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_reads_pairs_and_maps_void(tmp_path, suffix):
    root = write_camvid(tmp_path / "CamVid", suffix=suffix)
    samples = load_all(root)
    assert [sample.name for sample in samples] == [f"0001TP_train{i:03d}" for i in range(6)]
    stored = np.array(Image.open(root / "trainannot" / "0001TP_train000.png"))
    assert np.array_equal(samples[0].label, np.where(stored == 11, 255, stored))
    assert samples[0].image.shape == (64, 96, 3)
    assert samples[0].instances is None
    labels = np.concatenate([sample.label.ravel() for sample in samples])
    assert set(np.unique(labels)) == {*range(11), 255}


def test_scale_halves_image_and_label(tmp_path):
    root = write_camvid(tmp_path)
    full, half = load_all(root)[0], load_all(root, scale=0.5)[0]
    assert half.image.shape == (32, 48, 3)
    assert np.array_equal(half.label, full.label[1::2, 1::2])


def test_damage_is_named(tmp_path):
    root = write_camvid(tmp_path)
    image, label = root / "train/0001TP_train002.png", root / "trainannot/0001TP_train002.png"
    intact = {path: path.read_bytes() for path in (image, label)}

    def expect(message):
        with pytest.raises(ValueError, match=message):
            load_all(root)
        for path, content in intact.items():
            path.write_bytes(content)

    label.unlink()
    expect(f"missing: {re.escape(str(label))}; .*check_data")
    image.unlink()
    expect(r"trainannot/0001TP_train002\.png has no image of its name and 1 more problem;")
    image.unlink()
    label.unlink()
    expect(r"0001TP_train002 is in .*train\.txt but has no image")
    extra, double = root / "train/0001TP_more.png", root / "train/0001TP_train002.jpg"
    extra_label = root / "trainannot/0001TP_more.png"
    for path in (extra, extra_label):
        path.write_bytes(intact[label])
    expect(r"0001TP_more is not in .*train\.txt")
    extra.unlink()
    extra_label.unlink()
    double.write_bytes(intact[image])
    expect(r"0001TP_train002\.jpg is one of 2 samples named '0001TP_train002'")
    double.unlink()
    image.write_bytes(intact[image][:100])
    expect(f"cannot read {re.escape(str(image))}.*copy it again")
    image.write_text("not an image")
    expect(f"cannot read {re.escape(str(image))}")
    Image.fromarray(np.full((64, 96), 12, np.uint8)).save(label)
    expect(f"{re.escape(str(label))} holds 12, which is no label. Labels are 0 to 10")
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(label)
    expect(f"{re.escape(str(label))} is a RGB image.*annot folders")
    Image.fromarray(np.full((64, 96, 3), 200, np.uint8)).quantize(4).save(label)
    expect(f"{re.escape(str(label))} is a picture with a palette of its own")
    Image.fromarray(np.full((64, 96), 256, np.uint16)).save(label)
    expect(f"{re.escape(str(label))} is a I;16 image; labels are one channel of 8-bit")
    Image.fromarray(np.zeros((64, 96), np.uint16)).save(image)  # as they may be
    Image.fromarray(np.zeros((64, 95), np.uint8)).save(label)
    expect(f"{re.escape(str(label))} is 95 x 64, its image .*is 96 x 64")
    assert len(load_all(root)) == 6


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"no folder .*nowhere.*data\.root"):
        load_all(tmp_path / "nowhere")
    root = write_camvid(tmp_path / "CamVid")
    for path in (root / "val").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"val holds no \.png or \.jpg or \.jpeg file"):
        load_all(root, "val")
    with pytest.raises(ValueError, match=r"data\.scale must be in \(0, 1\], got 2"):
        load_all(root, scale=2)
    with pytest.raises(ValueError, match="needs 'root'"):
        build_source("camvid", "train")


def test_blocks_are_runs_of_15_frames_of_one_video(tmp_path):
    root = write_camvid(tmp_path)
    source = build_source("camvid", "test", root=str(root))
    source.names = [f"0001TP_{i:06d}" for i in range(47)] + [f"Seq05VD_f{i:05d}" for i in range(8)]
    assert source.blocks() == [0] * 15 + [1] * 15 + [2] * 17 + [3] * 8
    assert build_source("camvid", "train", root=str(root)).blocks() == [0] * 6


@pytest.mark.parametrize("prefix", ["/home/a b/CamVid/", "D:\\data\\", "/donnees/", "./"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", " \n\n"])
def test_lists_of_any_editor_are_read_by_file_name(tmp_path, prefix, encoding, end):
    root = write_camvid(tmp_path)
    names = [f"0001TP_train{i:03d}.png" for i in range(6)]
    lines = [f"{prefix}train/{n} {prefix}trainannot/{n}".replace("/", "\\") for n in names]
    content = end.join(lines if "\\" in prefix else [s.replace("\\", "/") for s in lines]) + end
    (root / "train.txt").write_bytes(content.encode(encoding))
    assert build_source("camvid", "train", root=str(root)).problems == []


def test_an_image_too_large_for_pillow_is_named(tmp_path, monkeypatch):
    root = write_camvid(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"0001TP_train000\.png is too large .*smaller images"):
        load_all(root)
