"""What the metric and the finder of objects would count wrongly is refused, in one line."""

import numpy as np
import pytest
import torch
from counted import batches, counted, metric, same
from label_maps import NUM_CLASSES, label_map
from torch import nn

from segattn.metrics import Measures, SizeStratifiedIoU, find_objects

P, T, I = batches(1)[0]  # noqa: E741
LOGITS = torch.randn(1, NUM_CLASSES, *T.shape[1:], generator=torch.Generator().manual_seed(0))
OBJECTS = [find_objects(T[0].numpy(), I[0].numpy())]
OTHERS = [find_objects(batches(2)[1][1][0].numpy())]
KINDS = "must be integers and share one shape"
CASES = {
    "target of floats": ((P, T.float()), {}, KINDS),
    "target divided by 255": ((P, T.float() / 255), {}, KINDS),
    "target in half precision": ((P, T.half()), {}, KINDS),
    "target in bfloat16": ((P, T.bfloat16()), {}, KINDS),
    "target of booleans": ((P, T > 0), {}, KINDS),
    "preds of booleans": ((P > 0, T), {}, KINDS),
    "complex preds": ((P.to(torch.complex64), T), {}, KINDS),
    "one-hot preds": ((nn.functional.one_hot(P, NUM_CLASSES).permute(0, 3, 1, 2), T), {}, KINDS),
    "one-hot target": ((P, nn.functional.one_hot(T % 5, NUM_CLASSES)), {}, KINDS),
    "target with a channel": ((P, T[:, None]), {}, KINDS),
    "no batch": ((P[0], T[0]), {}, KINDS),
    "another size": ((P[:, 1:], T), {}, KINDS),
    "another number of images": ((torch.cat([P, P]), T), {}, KINDS),
    "instances of booleans": ((P, T, I > 0), {}, KINDS),
    "instances of floats": ((P, T, I.float()), {}, KINDS),
    "instances of another size": ((P, T, I[:, 1:]), {}, KINDS),
    "negative instances": ((P, T, I - 1), {}, "instance ids must be 0"),
    "binary logits": ((LOGITS[:, 0], T), {}, r"logits \[N, 5, H, W\] without NaN"),
    "logits of one class": ((LOGITS[:, :1], T), {}, r"logits \[N, 5, H, W\] without NaN"),
    "logits of fewer classes": ((LOGITS[:, :4], T), {}, r"logits \[N, 5, H, W\] without NaN"),
    "logits of more classes": ((torch.cat([LOGITS, LOGITS], 1), T), {}, r"logits \[N, 5"),
    "logits with classes last": ((LOGITS.permute(0, 2, 3, 1), T), {}, r"logits \[N, 5"),
    "logits that are NaN": ((LOGITS * float("nan"), T), {}, r"logits \[N, 5, H, W\] without NaN"),
    "a class that is none": ((P + 5, T), {}, r"preds must hold classes 0\.\.4, got 5\.\.9"),
    "a negative class": ((P - 1, T), {}, r"preds must hold classes 0\.\.4, got -1"),
    "void in preds": ((T, T), {}, r"preds must hold classes 0\.\.4, got 0\.\.255"),
    "another void": ((P, torch.where(T == 255, -1, T)), {}, r"target must hold .* got -1\.\.4"),
    "objects and instances": ((P, T, I), {"objects": OBJECTS}, "objects must come from each"),
    "objects of another image": ((P, T), {"objects": OTHERS}, "objects must come from each"),
    "objects of no image": ((P, T), {"objects": []}, "objects must come from each"),
    "objects of two images": ((P, T), {"objects": OBJECTS * 2}, "objects must come from each"),
    "objects of another void": (
        (P, T),
        {"objects": [find_objects(T[0].numpy(), ignore_index=0)]},
        "objects must come from each",
    ),
    "objects of a crop": (
        (P, T),
        {"objects": [find_objects(T[0, 1:].numpy())]},
        "objects must come from each",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_refused_in_one_line_and_counts_nothing(case):
    maps, options, message = CASES[case]
    one = metric()
    with pytest.raises(ValueError, match=message) as caught:
        one.update(*maps, **options)
    assert "\n" not in str(caught.value)
    assert (int(one.counts.sum()), int(one.n_images), one.rows) == (0, 0, [])


@pytest.mark.parametrize("target", [torch.uint8, torch.int32, torch.uint16, torch.uint64])
@pytest.mark.parametrize("preds", [torch.uint8, torch.int8, torch.int16, torch.uint32])
def test_integers_of_any_kind(preds, target):
    """No kind of integer wraps when it meets another."""
    assert same(counted(P.to(preds), T.to(target), I.to(target)), counted(P, T, I))


@pytest.mark.parametrize("dtype", [np.uint64, np.int64, np.int32, np.uint16, np.uint8])
def test_instance_ids_of_any_size(dtype):
    """Numbered anew, the ids of several classes give the same objects."""
    labels, instances = label_map(np.random.default_rng(0))
    top = np.iinfo(dtype).max
    large = np.where(instances > 0, top - instances.astype(dtype), 0).astype(dtype)
    small = np.where(instances > 0, instances.max() + 1 - instances, 0)
    got, expected = find_objects(labels, large), find_objects(labels, small)
    assert np.array_equal(got.ids, expected.ids)
    assert np.array_equal(got.area, expected.area)
    assert len(np.unique(got.cls[got.has_id])) > 1


def test_one_id_in_two_classes_is_two_objects_also_where_it_is_large():
    labels = np.array([[0, 0, 2, 2]])
    for number in (1, 2**31, 2**62, 2**63 - 1):
        found = find_objects(labels, np.full((1, 4), number))
        assert found.cls.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("labels", "instances"),
    [
        (np.zeros((4, 4)), None),
        (np.zeros((4, 4), bool), None),
        (np.zeros((4, 4), int), np.zeros((4, 4))),
        (np.zeros((4, 4), int), np.ones((4, 4), bool)),
        (torch.zeros(4, 4, dtype=torch.int64), None),
        (np.zeros((4, 4), int), torch.zeros(4, 4, dtype=torch.int64)),
    ],
)
def test_objects_of_what_is_no_label_map_are_refused(labels, instances):
    with pytest.raises(ValueError, match="must be numpy arrays of integers"):
        find_objects(labels, instances)


def test_labels_beyond_32_bits_are_refused():
    for value in (2**31 - 1, 2**31, 2**32, 2**32 + 1):
        with pytest.raises(ValueError, match=f"got 0 to {value}"):
            find_objects(np.array([[0, value]]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ("a", "a")}, r"classes names a class twice"),
        ({"class_groups": {"g": ["a", "a"]}}, r"g names a class twice"),
        ({"size_classes": {"small": ["b", "b"]}}, r"small names a class twice"),
        ({"with_ids": ["b", "b"]}, r"with_ids names a class twice"),
        (
            {"class_groups": {"large": ["bus"]}, "size_classes": {"large": ["a"]}},
            r"large holds \['bus'\]",
        ),
        ({"size_edges": (32,)}, "two increasing positive numbers"),
        ({"size_edges": (8, 32, 96)}, "two increasing positive numbers"),
        ({"size_edges": (float("nan"), 96)}, "two increasing positive numbers"),
        ({"elongation": float("nan")}, "elongation positive"),
        ({"radius": float("nan")}, "radius 0 or more"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Measures(**{"classes": ("a", "b"), **options})
    with pytest.raises(ValueError, match=message):
        SizeStratifiedIoU(2, **{"classes": ("a", "b"), **options})


def test_measures_as_plain_values_are_the_same_again():
    measures = Measures(
        ("a", "b"), {"g": ("a",)}, {"small": ("b",)}, with_ids=("b",), size_edges=(1 / 3, 2)
    )
    plain = measures.plain()
    assert plain["size_edges"] == [1 / 3, 2]
    assert Measures(**plain).plain() == plain
