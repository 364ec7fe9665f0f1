"""Scores of other papers from the object table, against their definitions."""

import numpy as np
import pandas as pd
import pytest
import torch
from label_maps import NUM_CLASSES, label_map
from scipy.ndimage import binary_erosion

from segattn.metrics import Measures, SizeStratifiedIoU, neighbour_scores, read_table, write_table
from segattn.metrics.counts import near_outline
from segattn.metrics.table import EDGES, table_of


def test_by_hand():
    """Two images with a bus each, and lamps in one of them."""
    rows = [("a", 1, 100, 80, 20), ("b", 1, 300, 60, 0), ("b", 2, 100, 50, 50)]
    columns = ["image", "cls", "area", "tp", "fp"]
    frame = pd.DataFrame(rows, columns=columns).assign(width=9.0, crowd=False, alarm=False)
    alarm = {"image": "a", "cls": 2, "area": 30, "tp": 0, "fp": 30, "width": 3.0}
    frame = pd.concat([frame, pd.DataFrame([alarm | {"crowd": False, "alarm": True}])])
    measures = Measures(("road", "bus", "lamp"), size_classes={"small": ("bus", "lamp")})
    found = neighbour_scores(frame, measures, images=["a", "b"])
    bus_a, bus_b, lamp_b = 80 / 120, 60 / 300, 50 / 150  # the alarm in a: no lamp is there
    image = [bus_a, (bus_b + lamp_b) / 2]
    assert found["miou_image"] == pytest.approx(np.mean(image))
    assert found["miou_class"] == pytest.approx(((bus_a + bus_b) / 2 + lamp_b) / 2)
    # the lowest 10 to 90 % of two images are one image
    assert found["miou_image_worst"] == pytest.approx(0.9 * min(image) + 0.1 * np.mean(image))
    worst_bus = 0.9 * bus_b + 0.1 * (bus_a + bus_b) / 2
    assert found["miou_class_worst"] == pytest.approx((worst_bus + lamp_b) / 2)
    # a bus has 200 px on average: the small one counts twice, the large one 2 / 3
    hit, missed = 2 * 80 + 60 * 2 / 3, 2 * 20 + 240 * 2 / 3
    bus, lamp = hit / (hit + missed + 20), 50 / (100 + 80)
    assert found["iiou"] == pytest.approx((bus + lamp) / 2)
    assert np.isnan(found["boundary_iou"])  # a table without these columns
    nothing = neighbour_scores(frame[:0], measures, images=["a"])
    assert np.isnan(list(nothing.values())).all()


@pytest.mark.parametrize("shape", [(48, 40), (160, 120)])
def test_boundary_iou_is_that_of_eroded_masks(shape, tmp_path):
    """Cheng et al.: a mask without its erosion by d steps of 3 x 3, beside frames too."""
    rng = np.random.default_rng(0)
    labels = [np.resize(label_map(np.random.default_rng(k))[0], shape) for k in range(3)]
    wrong = [rng.random(shape) < 0.1 for _ in labels]
    maps = [
        np.where(w | (m == 255), rng.integers(0, NUM_CLASSES, shape), m)
        for m, w in zip(labels, wrong, strict=True)
    ]
    one = SizeStratifiedIoU(NUM_CLASSES)
    one.update(*(torch.from_numpy(np.stack(m).astype(np.int64)) for m in (maps, labels)))
    names = [f"{k}" for k in range(3)]
    write_table(table_of(dict(zip(names, one.rows, strict=True))), tmp_path / "o.parquet")
    table = read_table(tmp_path / "o.parquet")
    found = neighbour_scores(table, one.measures, images=names)
    steps = max(1, round(0.02 * float(np.hypot(*shape))))
    ious = []
    for cls in range(NUM_CLASSES):
        both = either = 0
        for label, predicted in zip(labels, maps, strict=True):
            bands = [
                (m == cls) & ~binary_erosion(m == cls, np.ones((3, 3)), iterations=steps)
                for m in (label, predicted)
            ]
            valid = label != 255
            both += (bands[0] & bands[1] & valid).sum()
            either += ((bands[0] | bands[1]) & valid).sum()
        ious += [both / either] if either else []
    assert found["boundary_iou"] == pytest.approx(np.mean(ious))
    assert (table["edge_tp"] <= table["edge_area"]).all()


def test_the_whole_of_a_small_image_is_near_an_outline():
    assert near_outline(np.zeros((2, 2), np.uint8)).all()
    assert near_outline(np.zeros((9, 9), np.uint8)).sum() == 81 - 49


def test_tables_without_the_bands_are_read(tmp_path):
    import pyarrow.parquet as pq

    one = SizeStratifiedIoU(2)
    one.update(torch.zeros(1, 8, 8, dtype=torch.int64), torch.zeros(1, 8, 8, dtype=torch.int64))
    write_table(table_of({"a": one.rows[0]}), tmp_path / "o.parquet")
    whole = pq.read_table(tmp_path / "o.parquet")
    pq.write_table(whole.drop_columns(list(EDGES)), tmp_path / "o.parquet")
    found = read_table(tmp_path / "o.parquet")
    assert list(found) == ["image", "cls", "area", "width", "crowd", "alarm", "tp", "fp"]
