"""CamVid's reader: both image formats, scales, and the lists of any editor."""

import itertools
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


def test_images_may_have_16_bits_and_labels_not(tmp_path):
    root = write_camvid(tmp_path)
    image, label = root / "train/0001TP_train002.png", root / "trainannot/0001TP_train002.png"
    Image.fromarray(np.zeros((64, 96), np.uint16)).save(image)
    assert len(load_all(root)) == 6
    Image.fromarray(np.full((64, 96), 256, np.uint16)).save(label)
    with pytest.raises(ValueError, match=rf"{label} is a I;16 image; labels are one channel of 8"):
        load_all(root)


def test_several_problems_are_counted(tmp_path):
    root = write_camvid(tmp_path)
    (root / "train/0001TP_train002.png").unlink()
    with pytest.raises(ValueError, match=r"has no image of its name and 1 more problem;"):
        load_all(root)


def test_missing_folders_are_named(tmp_path):
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


def test_lists_of_any_editor_are_read_by_file_name(tmp_path):
    root = write_camvid(tmp_path)
    names = [f"0001TP_train{i:03d}.png" for i in range(6)]
    encodings = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1")
    prefixes, ends = ("/home/a b/données/", "D:\\data\\", "./"), ("\n", "\r\n", "\r", " \n\n")
    for prefix, encoding, end in itertools.product(prefixes, encodings, ends):
        lines = [f"{prefix}train/{n} {prefix}trainannot/{n}" for n in names]
        content = end.join(line.replace("/", "\\") if ":" in line else line for line in lines)
        (root / "train.txt").write_bytes((content + end).encode(encoding))
        source = build_source("camvid", "train", root=str(root))
        assert source.problems == [], (prefix, encoding, end)


def test_an_image_too_large_for_pillow_is_named(tmp_path, monkeypatch):
    root = write_camvid(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"0001TP_train000\.png is too large .*smaller images"):
        load_all(root)
