import math

import numpy as np
import pandas as pd
import pytest
import torch
from label_maps import NUM_CLASSES, assemble, label_map, prediction, samples, update_arguments
from PIL import Image
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from segattn.metrics import (
    GROUPS,
    REACHES,
    SizeBins,
    SizeStratifiedIoU,
    image_counts,
    object_frame,
)
from segattn.metrics.axes import Axis
from segattn.metrics.instance_iou import instance_iou

SIZES = {name: GROUPS[name] for name in ("small", "medium", "large")}


def measure(triples, *, num_classes=NUM_CLASSES, stride=4):
    """A metric of such triples (labels, predicted labels, instances) and the object table."""
    radii = [2 * stride * factor for factor in REACHES.values()]
    metric = SizeStratifiedIoU(num_classes, num_bins=6, radius=radii[0], other_radii=radii[1:])
    item = assemble(triples)
    metric.update(*update_arguments(*item, bins=SizeBins(stride=stride)))
    images = [str(number) for number in range(len(triples))]
    return metric, object_frame(metric.rows, truth=item[2], prediction=item[3], images=images)


# The ordinary IoU.


def random_maps(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, NUM_CLASSES, (2, 40, 56))
    labels[rng.random(labels.shape) < 0.1] = 255
    predicted = np.where(rng.random(labels.shape) < 0.5, labels, 0)
    noise = rng.integers(0, NUM_CLASSES, labels.shape)
    predicted = np.where((predicted == 255) | (rng.random(labels.shape) < 0.3), noise, predicted)
    return [(one, other, None) for one, other in zip(labels, predicted, strict=True)]


@pytest.mark.parametrize("triples", [random_maps(0), random_maps(1), samples(2)])
def test_states_and_class_iou_are_those_of_torchmetrics(triples):
    metric, _ = measure(triples)
    preds, target = assemble(triples)[:2]
    confusion = MulticlassConfusionMatrix(NUM_CLASSES, ignore_index=255)(preds, target)
    hits = confusion.diagonal()
    assert torch.equal(metric.tp.sum(1), hits)
    assert torch.equal(metric.area.sum(1), confusion.sum(1))
    assert torch.equal((metric.fp + metric.fp_far).sum(1), confusion.sum(0) - hits)
    # Every class is there, so that no convention for absent classes enters.
    assert (confusion.sum(1) > 0).all()
    for average, name in ((None, "class_iou"), ("macro", "miou")):
        jaccard = MulticlassJaccardIndex(NUM_CLASSES, average=average, ignore_index=255)
        torch.testing.assert_close(metric.compute()[name].float(), jaccard(preds, target))


# L9: scale.


def doubled(triples):
    return [tuple(part.repeat(2, 0).repeat(2, 1) for part in triple) for triple in triples]


@pytest.mark.parametrize("stride", [2, 4])
def test_doubling_the_image_the_stride_and_the_radius_changes_no_size_bin(stride):
    rng = np.random.default_rng(stride)
    maps = [label_map(rng, shape=(128, 256)) for _ in range(3)]
    triples = [(labels, prediction(labels, rng), ids) for labels, ids in maps]
    once, table = measure(triples, stride=stride)
    twice, big_table = measure(doubled(triples), stride=2 * stride)
    # Not the thin bins: 2 * EDT - 1 is 1 px for bars 1 and 2 px wide, so doubling may turn a bar.
    before, after = once.counts().merge(SIZES), twice.counts().merge(SIZES)
    assert (before.area.sum(0) > 0).all()
    assert torch.equal(after.area, 4 * before.area)
    assert torch.equal(after.tp, 4 * before.tp)
    assert torch.equal(after.totals[:, 2:].sum(1), 4 * before.totals[:, 2:].sum(1))
    scores = [counts.scores()["iou"] for counts in (before, after)]
    assert torch.equal(scores[0].isnan(), scores[1].isnan())
    assert (scores[1] - scores[0]).abs().nan_to_num().max() < 0.005

    settings = {"num_classes": NUM_CLASSES, "bins": Axis("fraction", (0.001, 0.01, 0.1))}
    images = [str(number) for number in range(3)]
    small = image_counts(table, images=images, **settings)
    large = image_counts(big_table, images=images, **settings)
    assert np.array_equal(large[..., :2], 4 * small[..., :2])


# L10: Cityscapes.

CAR, GROUP_ONLY, TRAILER, ROAD = 26, 31, 30, 7


def cityscapes():
    """The evaluation script and its label ids -> train ids, uint8 [256], 255 = not evaluated."""
    script = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    train_id = np.full(256, 255, np.uint8)
    for label in script.labels:
        if label.id >= 0 and not label.ignoreInEval:
            train_id[label.id] = label.trainId
    return script, train_id


def street(rng, *, things):
    """Label ids and instance ids of a street, uint8 and uint16 [128, 256], as Cityscapes has them.

    A pixel without an instance of its own holds its label as instance id, groups included.
    """
    y, x = np.indices((128, 256))
    labels = np.select([y < 40, y < 80], [23, 11], ROAD).astype(np.uint8)  # sky, building, road
    labels[30:100, 60:63] = 17  # pole
    labels[60:90, 100:150] = CAR  # a group of cars
    labels[10:40, 5:50] = GROUP_ONLY  # trains, never an instance
    labels[110:120, 0:256] = 3  # void: the own car
    instances = labels.astype(np.uint16)
    for number in range(14):
        cy, cx, reach = rng.integers(0, 128), rng.integers(0, 256), rng.integers(1, 25)
        disc = ((y - cy) / rng.uniform(0.3, 2)) ** 2 + (x - cx) ** 2 <= reach**2
        label = TRAILER if number % 7 == 0 else rng.choice(things)
        labels[disc], instances[disc] = label, 1000 * label + number
    return labels, instances


def block_noise(labels, rng, *, evaluated):
    """A prediction: labels with 8 x 8 blocks of other classes, never of one that is not scored."""
    wrong = np.repeat(np.repeat(rng.choice(evaluated, (16, 32)), 8, 0), 8, 1)
    noisy = np.repeat(np.repeat(rng.random((16, 32)) < 0.3, 8, 0), 8, 1)
    return np.where(noisy | ~np.isin(labels, evaluated), wrong, labels).astype(np.uint8)


def official_scores(script, maps, folder, monkeypatch):
    # numpy 2.4 dropped in1d: https://github.com/mcordts/cityscapesScripts/pull/196
    monkeypatch.setattr(np, "in1d", lambda a, b, **k: np.isin(a, b, **k), raising=False)
    monkeypatch.setattr(script.args, "quiet", True)
    monkeypatch.setattr(script.args, "JSONOutput", False)
    paths = []
    for number, (labels, instances, predicted) in enumerate(maps):
        stem = f"{folder}/{number}"
        Image.fromarray(labels).save(f"{stem}_labelIds.png")
        Image.fromarray(instances).save(f"{stem}_instanceIds.png")
        Image.fromarray(predicted).save(f"{stem}_prediction.png")
        paths.append((f"{stem}_prediction.png", f"{stem}_labelIds.png"))
    predicted, truth = (list(column) for column in zip(*paths, strict=True))
    return script.evaluateImgLists(predicted, truth, script.args)


@pytest.mark.parametrize("seed", range(2))
def test_iou_and_iiou_are_those_of_cityscapes(tmp_path, monkeypatch, seed):
    script, train_id = cityscapes()
    rng = np.random.default_rng(seed)
    evaluated = np.flatnonzero(train_id < 255)
    average = script.args.avgClassSize
    sizes = {script.name2label[name].id: size for name, size in average.items()}
    sizes = {label: size for label, size in sizes.items() if train_id[label] < 255}
    things = [label for label in sizes if label != GROUP_ONLY]
    maps = [street(rng, things=things) for _ in range(4)]
    maps = [(*pair, block_noise(pair[0], rng, evaluated=evaluated)) for pair in maps]
    official = official_scores(script, maps, tmp_path, monkeypatch)

    triples = []
    for labels, instances, predicted in maps:
        own = (instances > 1000) & (train_id[labels] < 255)
        ids = np.where(own, instances, 0).astype(np.int64)
        triples.append((train_id[labels], train_id[predicted], ids))
    metric, table = measure(triples, num_classes=19, stride=8)
    iou = metric.compute()["class_iou"].numpy()
    expected = [official["classScores"][script.id2label[label].name] for label in evaluated]
    assert np.array_equal(iou[train_id[evaluated]], expected, equal_nan=True)
    assert len(np.unique(iou[~np.isnan(iou)])) > 10

    scores = instance_iou(table, average_size={train_id[k]: size for k, size in sizes.items()})
    for label in things:
        theirs = official["classInstScores"][script.id2label[label].name]
        assert math.isclose(scores[train_id[label]], theirs, rel_tol=0, abs_tol=1e-12)
        assert 0 < theirs < 1
    # Without an instance there is nothing to find; Cityscapes counts 0 there for a false positive.
    assert math.isnan(scores[train_id[GROUP_ONLY]])
    assert official["classInstScores"]["train"] == 0


# iIoU, by hand.


def rows(*, tp, area, **columns):
    defaults = {"cls": 1, "from_instance": True, "fp": 0, "fp_far": 0}
    return pd.DataFrame({"tp": tp, "area": area} | defaults | columns)


def test_iiou_counts_each_instance_alike_and_each_false_positive_once():
    tp, area = [5, 900, 0], [10, 1000, 70]
    clean = instance_iou(rows(tp=tp, area=area), average_size={1: 250})
    assert clean == pytest.approx({1: 1.4 / 3})
    # One average instance of false positives, near and far, weighs as much as an instance.
    false = rows(tp=tp, area=area, fp=[0, 150, 0], fp_far=[0, 0, 100])
    assert instance_iou(false, average_size={1: 250}) == pytest.approx({1: 1.4 / 4})
    false = rows(tp=tp, area=area, fp=[0, 150, 0], fp_far=[0, 0, 100], cls=[1, 1, 2])
    scores = instance_iou(false, average_size={1: 100, 2: 100})
    assert scores == pytest.approx({1: 1.4 / (2 + 1.5), 2: 0})


def test_iiou_leaves_out_groups_but_not_their_false_positives():
    found = rows(tp=[9, 0], area=[10, 50], fp=[0, 20], from_instance=[True, False])
    assert instance_iou(found, average_size={1: 20}) == pytest.approx({1: 0.9 / 2})
    assert math.isnan(instance_iou(found.iloc[1:], average_size={1: 20})[1])
    assert math.isnan(instance_iou(found, average_size={4: 20})[4])


@pytest.mark.parametrize("size", [0, -3, math.nan])
def test_iiou_refuses_an_average_size_that_is_no_area(size):
    with pytest.raises(ValueError, match="average_size must hold positive areas"):
        instance_iou(rows(tp=[1], area=[2]), average_size={1: 5, 2: size})
