"""Facts of the training labels: counted by hand here, and counted once there."""

import numpy as np
import pytest
from folder_files import label_of, write_folder

from segattn.data import build_source
from segattn.data import size_facts as facts
from segattn.data.folder import Folder

CLASSES = {
    "classes": {
        "wall": 0,
        "window": {"value": 1, "thing": True},
        "pole": {"value": 2, "thing": True},
    },
    "ignore": [255],
}


def sources(root, **knobs):
    given = {"root": str(root), "classes": CLASSES, **knobs}
    return {split: build_source("folder", split, **given) for split in ("train", "val", "test")}


def test_bins_and_groups_are_those_of_the_training_labels(tmp_path):
    root = write_folder(tmp_path, counts=(60, 1, 1))
    measures = facts.measures_of(sources(root, size_edges=[9.5, 10.5]).get, radius=4)
    # windows of 10 x 10 px in every label, and of (6 to 10) x 6; poles of 30 x 4, which are thin
    assert np.sqrt((label_of(0)[24:34, 6:16] == 1).sum()) == 10
    assert measures.size_edges == (9.5, 10.5)
    bins = {name: list(members) for name, members in measures.size_classes.items()}
    assert bins == {"small": ["window"], "medium": ["window"], "large": ["pole"], "thin": ["pole"]}
    groups = {name: list(members) for name, members in measures.class_groups.items()}
    assert groups == {"small": ["window"], "thin": ["pole"]}  # the median window has 8.9 px


def test_terciles_part_the_training_objects(tmp_path):
    root = write_folder(tmp_path, counts=(60, 1, 1))
    low, high = facts.measures_of(sources(root, size_edges="terciles").get, radius=4).size_edges
    sizes = [np.sqrt((6 + n % 5) * 6) for n in range(60)] + 60 * [10] + 60 * [np.sqrt(120)]
    assert (low, high) == tuple(np.quantile(sizes, [1 / 3, 2 / 3]).round(1))


def test_labels_are_counted_once_until_one_changes(tmp_path, monkeypatch):
    root = write_folder(tmp_path)
    found = facts.measures_of(sources(root).get, radius=4)
    counted = []
    load = Folder.load

    def counting(self, index):
        counted.append(index)
        return load(self, index)

    monkeypatch.setattr(Folder, "load", counting)
    again = facts.measures_of(sources(root).get, radius=4)
    assert again.plain() == found.plain()
    assert not counted
    (root / "labels/train/photo 1.png").touch()
    facts.measures_of(sources(root).get, radius=4)
    assert len(counted) == 8
    facts.measures_of(sources(root, size=[20, 24]).get, radius=4)
    assert len(counted) == 16


def test_a_home_that_cannot_be_written_to_costs_time_alone(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    root = write_folder(tmp_path / "data")
    assert facts.measures_of(sources(root).get, radius=4).size_edges == (32, 96)


@pytest.mark.parametrize("split", ["train", "test"])
def test_numbered_classes_are_counted_once_too(tmp_path, monkeypatch, split):
    root = write_folder(tmp_path)
    first = build_source("folder", split, root=str(root))
    monkeypatch.setattr("segattn.data.folder.count_values", None)
    assert build_source("folder", split, root=str(root)).classes == first.classes
