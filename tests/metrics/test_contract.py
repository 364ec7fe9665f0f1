"""The metric keeps the contract of torchmetrics."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from counted import batches, counted, metric, same
from label_maps import NUM_CLASSES
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassJaccardIndex

from segattn.metrics import SizeStratifiedIoU

COPIES = {
    "clone": lambda metric: metric.clone(),
    "deepcopy": copy.deepcopy,
    "pickle": lambda metric: pickle.loads(pickle.dumps(metric)),
}


def square(side, *, missed=1, size=128):
    """One square of class 1 of which some rows are missed: preds and target."""
    target = torch.zeros(1, size, size, dtype=torch.int64)
    target[0, 40 : 40 + side, 40 : 40 + side] = 1
    preds = target.clone()
    preds[0, 40 : 40 + missed] = 0
    return preds, target


SETTINGS = [
    {"size_edges": (16, 48)},
    {"elongation": 1},
    {"radius": 0},
    {"ignore_index": 0},
    {"ignore_index": None},
    {"classes": ("a", "b")},
    {"classes": ("0", "1"), "with_ids": ("1",)},
    {"class_groups": {"large": ["1"]}},
    {"size_classes": {"small": ["1"]}},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_metrics_of_other_settings_keep_their_own_counts_in_a_collection(settings):
    """Also where their counts are equal after the first batch, which is when they are grouped."""

    def make():
        return {"first": SizeStratifiedIoU(2), "other": SizeStratifiedIoU(2, **settings)}

    together, alone = MetricCollection(make()), make()
    for batch in (square(8), square(24), square(60)):
        together.update(*batch)
        for one in alone.values():
            one.update(*batch)
    for name, one in alone.items():
        assert same(together[name], one)
        assert str(together[name].compute()) == str(one.compute())


def test_a_collection_keeps_rows_and_stands_beside_other_metrics():
    together = MetricCollection([metric(), MulticlassJaccardIndex(NUM_CLASSES, ignore_index=255)])
    two = MetricCollection({"a": metric(), "b": metric()})
    for batch in batches():
        together.update(*batch[:2])
        two.update(*batch[:2])
        of_batch = counted(*batch[:2]).rows
        for one in (two["a"], two["b"]):
            assert one.rows[0]["tp"].tolist() == of_batch[0]["tp"].tolist()
    scores = together.compute()
    expected = float(scores["MulticlassJaccardIndex"])
    assert float(scores["miou"]) == pytest.approx(expected, rel=1e-6)
    copied = together.clone(prefix="val/")
    assert float(copied.compute()["val/miou"]) == float(scores["miou"])
    together.reset()
    assert int(together["SizeStratifiedIoU"].counts.sum()) == 0


def test_metrics_of_other_settings_are_never_merged():
    first, other = SizeStratifiedIoU(2), SizeStratifiedIoU(2, size_edges=(16, 48))
    more = SizeStratifiedIoU(3)
    for one in (first, other):
        one.update(*square(24))
    before = first.counts.clone()
    for wrong in (other, other.metric_state, more):
        with pytest.raises(ValueError, match="different settings cannot share or add"):
            first.merge_state(wrong)
        assert torch.equal(first.counts, before)
    for one in (first, other):
        one.persistent(True)
    other.load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match="different settings cannot share or add"):
        other.compute()
    other = SizeStratifiedIoU(2, size_edges=(16, 48))
    forced = MetricCollection({"a": first.clone(), "b": other}, compute_groups=[["a", "b"]])
    forced.update(*square(24))
    with pytest.raises(ValueError, match="different settings cannot share or add"):
        forced.compute()


def test_merged_states_and_synced_processes_are_sums():
    whole, parts = metric(), [counted(*batch) for batch in batches()]
    for batch in batches():
        whole.update(*batch)
    merged = parts[0].clone()
    for part in parts[1:]:
        merged.merge_state(part)
    assert same(whole, merged)
    states = iter(
        [[getattr(p, name) for p in parts] for name in ("settings", "counts", "n_images")]
    )
    synced = parts[0].clone()
    synced.sync(dist_sync_fn=lambda *_, **__: next(states), distributed_available=lambda: True)
    assert same(whole, synced)
    assert synced.counts.dtype == torch.int64
    synced.unsync()
    assert same(synced, parts[0])


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_counts_on_by_itself(way):
    first, second, third = batches()
    original = counted(*first)
    copied = COPIES[way](original)
    assert same(original, copied)
    copied.update(*second)
    assert same(original, counted(*first))
    original.update(*second)
    assert same(original, copied)
    assert str(original.compute()) == str(copied.compute())
    original.merge_state(copied)
    original.update(*third)
    assert original.n_images == 5


def test_forward_gives_the_batch_and_accumulates():
    one, whole = metric(), metric()
    for batch in batches():
        whole.update(*batch)
        assert str(one(*batch)) == str(counted(*batch).compute())
        assert len(one.rows) == 1
    assert same(one, whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_counts_stay_integers_in_a_model_of_any_precision(dtype):
    """3000 squares hold more pixels than float16 can count."""
    model = nn.Module()
    model.metric, expected = SizeStratifiedIoU(2), SizeStratifiedIoU(2)
    model.to(dtype)
    model.metric.set_dtype(dtype)
    for way in ("half", "bfloat16", "double", "float"):
        getattr(model, way)()
        getattr(model.metric, way)()
    MetricCollection({"one": model.metric}).set_dtype(dtype)
    for _ in range(3):
        model.metric.update(*square(60, size=512))
        expected.update(*square(60, size=512))
    assert same(model.metric, expected)
    assert model.metric.counts.dtype == torch.int64
    assert str(model.metric.compute()) == str(expected.compute())
    model.metric.reset()
    assert model.metric.counts.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_logits_of_any_precision(dtype):
    """Of equal logits the first class counts, as in float32."""
    preds, *others = batches(1)[0]
    logits = nn.functional.one_hot(preds, NUM_CLASSES).permute(0, 3, 1, 2)
    assert same(counted(logits.to(dtype), *others), counted(preds, *others))
    ties = torch.zeros(1, NUM_CLASSES, *preds.shape[1:], dtype=dtype)
    assert same(counted(ties, *others), counted(torch.zeros_like(preds), *others))


def test_before_and_without_images_there_are_no_scores():
    one = metric()
    with pytest.warns(UserWarning, match="compute.* method"):
        assert all(np.isnan(float(value)) for value in one.compute().values())
    for shape in ((0, 8, 8), (2, 0, 8), (2, 8, 0)):
        empty = torch.zeros(shape, dtype=torch.int64)
        one.update(empty, empty)
        assert (int(one.counts.sum()), len(one.rows)) == (0, shape[0])
    one.update(torch.zeros(0, NUM_CLASSES, 8, 8), torch.zeros(0, 8, 8, dtype=torch.int64))
    assert all(np.isnan(float(value)) for value in one.compute().values())
    batch = batches(1)[0]
    one.update(*batch)
    assert torch.equal(one.counts, counted(*batch).counts)


@pytest.mark.parametrize("ignored", [0, 2, NUM_CLASSES - 1])
def test_an_ignored_class_has_no_score_and_is_in_no_mean(ignored):
    preds, target, _ = batches(1)[0]
    target = torch.where(target == 255, ignored, target)
    scores = counted(preds, target, ignore_index=ignored).compute()
    assert np.isnan(float(scores[f"iou/{ignored}"]))
    expected = MulticlassJaccardIndex(NUM_CLASSES, ignore_index=ignored)(preds, target)
    assert float(scores["miou"]) == pytest.approx(float(expected), rel=1e-6)
    others = [float(v) for k, v in scores.items() if re.fullmatch(r"iou/\d", k)]
    assert float(scores["miou"]) == pytest.approx(np.nanmean(others))


@pytest.mark.parametrize("ignored", [-1, -100, 300, NUM_CLASSES])
def test_any_number_may_be_void(ignored):
    preds, target, instances = batches(1)[0]
    moved = torch.where(target == 255, ignored, target)
    assert torch.equal(
        counted(preds, moved, instances, ignore_index=ignored).counts,
        counted(preds, target, instances).counts,
    )


def test_without_void_every_pixel_counts():
    preds, target, _ = batches(1)[0]
    target = torch.where(target == 255, 1, target)
    one = counted(preds, target, ignore_index=None)
    assert int(one.counts[:, 0, 1].sum()) == target.numel()
    with pytest.raises(ValueError, match=r"target must hold classes 0\.\.4, got 0\.\.255"):
        one.update(preds, batches(1)[0][1])


def test_more_than_255_classes_need_another_void():
    with pytest.raises(ValueError, match="class 255 would be void; set ignore_index"):
        SizeStratifiedIoU(256)
    one = SizeStratifiedIoU(300, ignore_index=-1)
    label = torch.full((1, 8, 8), 255)
    label[:, 4:] = 299
    one.update(label, label)
    assert one.counts[[255, 299], 0, 0].tolist() == [32, 32]


def test_a_plot_takes_what_compute_and_forward_gave():
    one = metric(class_groups={"large": ["1"]})
    values = [one(*batch) for batch in batches()]
    for val in (None, values[0], values, values[:1]):
        _, axes = one.plot(val)
        named = {text.get_text() for text in axes.get_legend().get_texts()}
        assert named == {name for name in one.compute() if not name.startswith("iou/")}
    empty = metric().plot({"miou": torch.tensor(float("nan"))})
    assert len(empty) == 2
