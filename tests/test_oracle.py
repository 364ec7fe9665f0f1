import numpy as np
import pytest
import torch
from label_maps import BINS, NUM_CLASSES, samples

from segattn.data.datamodule import collate
from segattn.metrics import find_objects, image_counts
from segattn.oracle import perfect_head, write_oracle
from segattn.runs import read_oracle

METRIC = {
    "stride": BINS.stride,
    "size_edges": list(BINS.size_edges),
    "elongation": BINS.elongation,
    "radius": 4.0,
    "min_area": 16,
}


def batches():
    for number, (labels, _, instances) in enumerate(samples(0, num_images=2)):
        item = {
            "image": torch.zeros(3, *labels.shape),
            "label": torch.from_numpy(labels).long(),
            "name": f"image-{number}",
            "objects": find_objects(labels, instances),
        }
        yield collate([item])


def test_a_cell_of_one_pixel_loses_nothing():
    target = next(batches())["label"]
    preds = perfect_head(target, num_classes=NUM_CLASSES, stride=1)
    valid = target != 255
    assert torch.equal(preds[valid], target[valid])


@pytest.mark.parametrize("size", [(32, 48), (30, 45)])
def test_by_hand_a_pole_thinner_than_half_a_cell_is_lost_and_a_block_of_cells_kept(size):
    target = torch.zeros(1, *size, dtype=torch.long)
    target[0, :, 10:12] = 1
    target[0, 8:24, 24:40] = 2
    preds = perfect_head(target, num_classes=3, stride=8)
    assert (preds != 1).all()
    assert (preds[0, 10:22, 26:38] == 2).all()
    target[0, :, 8:16] = 1
    assert (perfect_head(target, num_classes=3, stride=8)[0, :, 10:14] == 1).all()


def test_the_oracle_is_worst_for_small_objects_and_large_strides(tmp_path):
    write_oracle(batches(), tmp_path, num_classes=NUM_CLASSES, metric=METRIC, strides=(8, 1, 2))
    tables = read_oracle(tmp_path)
    assert list(tables) == [1, 2, 8]
    iou = {}
    for stride, frame in tables.items():
        counts = image_counts(
            frame, images=["image-0", "image-1"], num_classes=NUM_CLASSES, bins=BINS
        ).sum((0, 1))
        tp, area, fp, far = counts.reshape(3, 2, 4).sum(1).T
        iou[stride] = tp / (area + fp + far)
    assert (iou[1] == 1).all()
    assert (iou[2] > iou[8]).all()
    assert (np.diff(iou[8]) > 0).all()


def test_no_folder_is_no_oracle(tmp_path):
    assert read_oracle(tmp_path / "oracle") == {}
