import numpy as np
import pytest

from segattn.data import training_objects as module
from segattn.data.source import Sample
from segattn.data.training_objects import training_objects


class Bars:
    """Scenes with one square of 40 px, one bar of 2 x 30 px, a speck and no third class."""

    classes = ("ground", "square", "bar", "absent")

    def __init__(self, count):
        self.names = [f"{index}" for index in range(count)]
        self.loaded = []

    def load(self, index):
        self.loaded.append(index)
        label = np.zeros((64, 96), np.uint8)
        label[4:44, 4:44] = 1
        label[4:6, 60:90] = 2
        label[60, 80] = 1
        return Sample(self.names[index], np.zeros((64, 96, 3), np.uint8), label)


def test_typical_geometry_is_a_median_over_pixels_and_quantiles_leave_out_specks():
    found = training_objects(Bars(3), min_area=16)
    assert found["images"] == 3
    assert found["classes"]["square"] == {
        "objects": 6,  # the speck is one, and does not move the median
        "pixels": 3 * 1601,
        "size": 40.0,
        "elongation": pytest.approx(1600 / 39**2),
    }
    assert found["classes"]["bar"]["size"] == pytest.approx(60**0.5)
    assert found["classes"]["bar"]["elongation"] > 5
    assert found["classes"]["absent"] is None
    sizes = np.sqrt([64 * 96 - 1661, 1600, 60])
    np.testing.assert_allclose(
        found["size_terciles"], np.quantile(np.repeat(sizes, 3), [1 / 3, 2 / 3])
    )


def test_a_large_split_is_sampled_evenly(monkeypatch):
    monkeypatch.setattr(module, "MAX_IMAGES", 3)
    source = Bars(9)
    assert training_objects(source, min_area=16)["images"] == 3
    assert source.loaded == [0, 4, 8]
