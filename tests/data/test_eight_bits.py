"""A label has 8 bits and 255 is void: what does not fit is refused, never cut to fit."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segattn.data.check import Facts, look
from segattn.data.files import FileSource, Pair, class_table, plain_table, to_classes
from segattn.data.source import Sample, Source


class Mine(FileSource):
    """A data set of one's own, with a label of 32 x 32 px that holds its last class."""

    title = "mine"
    things = ()

    def __init__(self, root, num_classes):
        self.classes = tuple(f"class{k}" for k in range(num_classes))
        Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(root / "a.png")
        super().__init__([Pair("a", root / "a.png", root / "a.png")])

    def read_label(self, pair):
        size = len(self.classes)
        table, stored = plain_table(size, first=0, void=()), np.full((32, 32), size - 1)
        return to_classes(pair.label, stored, table=table, hint=""), None


@pytest.mark.parametrize("num_classes", [256, 257, 300, 70_000])
def test_more_than_255_classes_are_refused(tmp_path, num_classes):
    with pytest.raises(ValueError, match=f"are {num_classes} classes, but a label has 8 bits"):
        Mine(tmp_path, num_classes)


def test_255_classes_are_kept(tmp_path):
    found = look(Mine(tmp_path, 255), 0)
    assert isinstance(found, Facts)
    assert found.cls.tolist() == [254]
    assert found.pixels[[254, 255]].tolist() == [32 * 32, 0]


@pytest.mark.parametrize(
    ("values", "size"),
    [
        *((({0: index}), 256) for index in (256, 299, 65_536, -1)),
        *(({-1: 255}, 256), ({256: 0}, 256), ({460: 3}, 460)),
    ],
)
def test_a_table_refuses_what_does_not_fit(values, size):
    with pytest.raises(ValueError, match=r"does not fit: classes are 0 to 254, 255 is void"):
        class_table(values, size=size)


def test_a_table_made_by_hand_does_not_wrap_either():
    table = np.arange(300, dtype=np.int16)
    with pytest.raises(ValueError, match=r"a\.png holds 256, 299, which is not a label"):
        to_classes(Path("a.png"), np.array([[7, 256, 299]]), table=table, hint="")


@pytest.mark.parametrize(
    ("image", "label"),
    [
        (np.zeros((4, 5, 3), np.uint8), np.full((4, 5), 299, np.uint16)),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.int64)),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.float32)),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), bool)),
        (np.zeros((4, 5, 3), np.float32), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 5), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 5, 4), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((3, 4, 5), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((5, 4, 3), np.uint8), np.zeros((4, 5), np.uint8)),
    ],
)
def test_a_sample_of_another_kind_is_refused(image, label):
    with pytest.raises(ValueError, match=r"a must be an image uint8 \[H, W, 3\] with a label"):
        Sample("a", image, label)


def test_the_check_names_a_reader_that_gives_another_kind():
    class Wide(Source):
        classes, names = ("a", "b"), ("first",)

        def load(self, index):
            return Sample("first", np.zeros((4, 5, 3), np.uint8), np.full((4, 5), 299, np.uint16))

    assert look(Wide(), 0) == [
        "first must be an image uint8 [H, W, 3] with a label uint8 [H, W], "
        "got uint8 [4, 5, 3] with uint16 [4, 5]"
    ]
