"""The files of a prediction: which are read, which are named, and nothing of the user's touched."""

from pathlib import PurePath

import numpy as np
import pytest
import torch
from photo_files import photo, write
from PIL import Image, ImageOps
from tiny_checkpoint import write_checkpoint

from segattn.evaluation.predict import find_photos, predict_folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("run") / "last.ckpt")


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("out", ["in", "in/out", ".", "link"])
def test_out_and_images_must_lie_apart(tmp_path, checkpoint, out):
    write(tmp_path / "in" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(ValueError, match="overlap; name an out folder beside it"):
        predict_folder(checkpoint, images=tmp_path / "in", out=tmp_path / out)
    assert sorted(content(tmp_path / "in")) == ["a.png"]


def test_images_that_share_a_name_are_refused_before_anything_is_written(tmp_path, checkpoint):
    images, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.png", "b.png", "sub/B.png", "sub/b.jpg"):
        write(images / name)
    message = r"sub/B\.png and sub/b\.jpg would write the same prediction"
    with pytest.raises(ValueError, match=message):
        predict_folder(checkpoint, images=images, out=out)
    assert not out.exists()


def test_images_are_found_also_behind_links(tmp_path):
    for name in ("b.JPG", "a.png", "x/c.bmp"):
        write(tmp_path / "in" / name)
    write(tmp_path / "far" / "d.png")
    (tmp_path / "in" / "linked.png").symlink_to(tmp_path / "far" / "d.png")
    (tmp_path / "in" / "round").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "far")
    (tmp_path / "in" / "table.csv").write_text("")
    write(tmp_path / "in" / ".hidden" / "e.png")
    photos, ignored = find_photos(tmp_path / "in")
    assert list(map(str, photos)) == ["a.png", "b.JPG", "linked.png", "more/d.png", "x/c.bmp"]
    assert list(map(str, ignored)) == ["table.csv"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no image"):
        find_photos(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"no folder .*nowhere; set images"):
        find_photos(tmp_path / "nowhere")


def test_each_of_many_files_is_looked_at_a_few_times(tmp_path, monkeypatch):
    """The work grows with the number of files, not with its square."""
    for number in range(200):
        (tmp_path / f"{number:04}.png").touch()
        (tmp_path / f"{number:04}.txt").touch()
    hashed, plain = [], PurePath.__hash__
    monkeypatch.setattr(PurePath, "__hash__", lambda path: hashed.append(path) or plain(path))
    photos, ignored = find_photos(tmp_path)
    assert (len(photos), len(ignored)) == (200, 200)
    assert len(hashed) <= 10 * 400


def test_a_label_map_lies_as_its_image_is_stored(tmp_path, checkpoint):
    """Also a photograph's that viewers turn; they turn the overlay too."""
    images, out, array = tmp_path / "in", tmp_path / "out", photo(seed=3)
    write(images / "1.png", array)
    for turn in (3, 6):
        exif = Image.Exif()
        exif[0x0112] = turn
        write(images / f"{turn}.png", array, exif=exif)
    assert predict_folder(checkpoint, images=images, out=out).num_turned == 2
    upright = np.asarray(Image.open(out / "labels" / "1.png"))
    assert len(np.unique(upright)) > 1
    for turn in (1, 3, 6):
        assert np.array_equal(np.asarray(Image.open(out / "labels" / f"{turn}.png")), upright)
        overlay = Image.open(out / "overlays" / f"{turn}.jpg")
        assert overlay.getexif().get(0x0112, 1) == turn
        shown = ImageOps.exif_transpose(overlay).size
        assert shown == ImageOps.exif_transpose(Image.open(images / f"{turn}.png")).size


def test_bad_files_are_named_and_the_others_done(tmp_path, checkpoint):
    images, out = tmp_path / "in", tmp_path / "out"
    good = write(images / "good.png")
    (images / "cut.png").write_bytes(good.read_bytes()[:200])
    (images / "text.jpg").write_text("no image")
    (images / "empty.webp").write_bytes(b"")
    pages = [Image.fromarray(photo(seed=seed)) for seed in range(3)]
    pages[0].save(images / "pages.tif", save_all=True, append_images=pages[1:])
    write(images / "float.tif", np.zeros((4, 4), np.float32))
    write(images / "int.tif", np.zeros((4, 4), np.int32))
    outcome = predict_folder(checkpoint, images=images, out=out)
    assert outcome.num_done == 1
    assert sorted(content(out / "labels")) == ["good.png"]
    names = ("cut.png", "empty.webp", "float.tif", "int.tif", "pages.tif", "text.jpg")
    assert len(outcome.problems) == len(names)
    for name, problem in zip(names, outcome.problems, strict=True):
        assert str(images / name) in problem
    assert "has pixels of 32 bits (mode F), whose range is not known" in outcome.problems[2]
    assert "holds 3 images; store each as a file of its own" in outcome.problems[4]


def test_too_large_for_pillow_is_a_bad_file(tmp_path, checkpoint, monkeypatch):
    write(tmp_path / "in" / "a.png")
    write(tmp_path / "in" / "b.png", photo(4, 5))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    outcome = predict_folder(checkpoint, images=tmp_path / "in", out=tmp_path / "out")
    assert (outcome.num_done, len(outcome.problems)) == (1, 1)
    assert "a.png is too large" in outcome.problems[0]


def test_too_large_for_the_gpu_is_a_bad_file(tmp_path, checkpoint, monkeypatch):
    write(tmp_path / "in" / "a.png")

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("segattn.training.task.predict", full)
    outcome = predict_folder(checkpoint, images=tmp_path / "in", out=tmp_path / "out")
    assert outcome.problems[0].endswith("needs more memory than the GPU has; try protocol=sliding")
