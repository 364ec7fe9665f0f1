"""Image files are read as RGB whatever their mode."""

import numpy as np
import pytest
from photo_files import write
from PIL import Image

from segattn.data.files import read_indices
from segattn.data.images import orientation, read_image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    array = np.zeros((6, 8, 3), np.uint8)
    array[:, 4:] = 255
    suffix = ".jpg" if mode in ("CMYK", "YCbCr") else ".tif" if mode == "PA" else ".png"
    options = {"quality": 100} if suffix == ".jpg" else {}
    path = tmp_path / f"a{suffix}"
    image = Image.fromarray(array).convert("P" if mode == "PA" else mode)
    (image.convert("PA") if mode == "PA" else image).save(path, **options)
    got = read_image(path)
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - array).max() <= 2


def test_transparent_parts_are_white(tmp_path):
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[:, 0, 3] = 255
    rgba[:, 1, 3] = 51
    write(tmp_path / "a.png", rgba)
    assert np.array_equal(read_image(tmp_path / "a.png")[0, :, 0], [0, 204, 255])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_over_their_range(tmp_path, suffix):
    values = np.array([[0, 128, 257, 32768, 65535]], np.uint16)
    write(tmp_path / f"a{suffix}", values)
    got = read_image(tmp_path / f"a{suffix}")
    assert np.array_equal(got[0, :, 0], [0, 0, 1, 128, 255])
    assert got.shape == (1, 5, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif", ".mpo"])
@pytest.mark.parametrize("turn", range(9))
def test_pixels_are_read_as_stored(tmp_path, suffix, turn):
    """Pillow turns TIFF by itself, and no other format."""
    array = np.zeros((48, 96, 3), np.uint8)
    array[:24, :64] = 255  # no turn leaves it as it is
    exif = Image.Exif()
    exif[0x0112] = turn
    path = write(tmp_path / f"a{suffix}", array, exif=exif, quality=95)
    got = read_image(path).astype(int)
    assert got.shape == array.shape
    assert np.abs(got - array).mean() < 3
    assert orientation(path) == max(turn, 1)
    if suffix in (".png", ".tif"):
        write(path, array[..., 0], exif=exif)
        assert np.array_equal(read_indices(path, hint=""), array[..., 0])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nothing", b"Exif\0\0II*\0\x08\0\0\0\x01", b"II", b"\0" * 40]
)
def test_damaged_exif_of_an_intact_image_is_no_orientation(tmp_path, suffix, exif):
    path = write(tmp_path / f"a{suffix}", exif=exif)
    assert (orientation(path), read_image(path).shape) == (1, (20, 28, 3))


def test_an_animated_label_is_refused(tmp_path):
    frames = [Image.fromarray(np.full((4, 5), k, np.uint8)) for k in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"a\.png holds 3 images; store each as a file of its own"):
        read_indices(tmp_path / "a.png", hint="")


def test_an_unread_profile_is_no_fault(tmp_path):
    """Cameras and editors leave colour profiles larger than Pillow allows a text to be."""
    profile = np.random.default_rng(0).bytes(2 * 2**20)
    path = write(tmp_path / "a.png", icc_profile=profile)
    assert read_image(path).shape == (20, 28, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty; copy it again"),
        (b"no image", "Pillow does not know the format"),
        ("half", r"it is damaged \(.*\); copy it again"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_reason(tmp_path, content, reason):
    path = write(tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:300] if content == "half" else content)
    with pytest.raises(ValueError, match=rf"cannot read .*a\.png: {reason}"):
        read_image(path)
    with pytest.raises(ValueError, match="No such file or directory"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("mode", ["L", "1", "I;16", "I"])
def test_labels_of_other_tools_are_read_where_their_values_fit(tmp_path, mode):
    values = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    image = Image.fromarray(values.astype(np.uint16) if "16" in mode else values)
    if mode in ("1", "I"):
        image = Image.fromarray(values * 255 if mode == "1" else values).convert(mode)
    image.save(tmp_path / "a.tif")
    found = read_indices(tmp_path / "a.tif", hint="")
    assert found.dtype == np.uint8
    assert np.array_equal(found, values)
