"""Image files of a user: found, and read as RGB whatever their mode."""

import numpy as np
import pytest
from photo_files import write
from PIL import Image

from segattn.evaluation.images import find_photos, read_photo


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    array = np.zeros((6, 8, 3), np.uint8)
    array[:, 4:] = 255
    suffix = ".jpg" if mode in ("CMYK", "YCbCr") else ".tif" if mode == "PA" else ".png"
    options = {"quality": 100} if suffix == ".jpg" else {}
    path = tmp_path / f"a{suffix}"
    image = Image.fromarray(array).convert("P" if mode == "PA" else mode)
    (image.convert("PA") if mode == "PA" else image).save(path, **options)
    got = read_photo(path)
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - array).max() <= 2


def test_transparent_parts_are_white(tmp_path):
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[:, 0, 3] = 255
    rgba[:, 1, 3] = 51
    write(tmp_path / "a.png", rgba)
    assert np.array_equal(read_photo(tmp_path / "a.png")[0, :, 0], [0, 204, 255])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_over_their_range(tmp_path, suffix):
    values = np.array([[0, 128, 257, 32768, 65535]], np.uint16)
    write(tmp_path / f"a{suffix}", values)
    got = read_photo(tmp_path / f"a{suffix}")
    assert np.array_equal(got[0, :, 0], [0, 0, 1, 128, 255])
    assert got.shape == (1, 5, 3)


def test_images_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    array = np.zeros((8, 16, 3), np.uint8)
    array[:, :8] = 255
    write(tmp_path / "a.png", array, exif=exif)
    got = read_photo(tmp_path / "a.png")
    assert got.shape == (16, 8, 3)
    assert got[:8].min() == 255
    assert got[8:].max() == 0


def test_only_images_are_found_and_links_not_entered(tmp_path):
    for name in ("b.JPG", "a.png", "x/c.bmp"):
        write(tmp_path / "in" / name)
    write(tmp_path / "far" / "d.png")
    (tmp_path / "in" / "linked.png").symlink_to(tmp_path / "far" / "d.png")
    (tmp_path / "in" / "round").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "folder.png").symlink_to(tmp_path / "far")
    (tmp_path / "in" / "table.csv").write_text("")
    write(tmp_path / "in" / ".hidden" / "e.png")
    photos, ignored = find_photos(tmp_path / "in")
    assert list(map(str, photos)) == ["a.png", "b.JPG", "linked.png", "x/c.bmp"]
    assert list(map(str, ignored)) == ["folder.png", "round", "table.csv"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no image"):
        find_photos(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"no folder .*nowhere; set images"):
        find_photos(tmp_path / "nowhere")
