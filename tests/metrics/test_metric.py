import numpy as np
import pytest
import torch
from label_maps import NUM_CLASSES, label_map
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from segattn.metrics import Measures, SizeStratifiedIoU, find_objects, image_counts
from segattn.metrics.table import read_table, table_of, write_table

EDGES = (3.0, 6.0)


@pytest.fixture
def batch():
    """Labels, instance ids and predictions that agree with the labels on most pixels."""
    rng = np.random.default_rng(0)
    maps = [label_map(np.random.default_rng(seed)) for seed in range(4)]
    labels, instances = (
        torch.from_numpy(np.stack(m).astype(np.int64)) for m in zip(*maps, strict=True)
    )
    wrong = torch.from_numpy(rng.random(labels.shape) < 0.3)
    noise = torch.from_numpy(rng.integers(0, NUM_CLASSES, labels.shape))
    preds = torch.where(wrong | (labels == 255), noise, labels)
    return preds, labels, instances


def metric(**options):
    return SizeStratifiedIoU(NUM_CLASSES, size_edges=EDGES, radius=2.0, **options)


def scored(*maps, **options):
    one = metric(**options)
    one.update(*maps)
    return one


def test_every_pixel_counts_once(batch):
    """The sizes of a class sum to its row and column of the ordinary confusion matrix."""
    preds, labels, _ = batch
    counts = scored(*batch).counts
    assert torch.equal(counts[:, 1:4].sum(1), counts[:, 0])
    confusion = MulticlassConfusionMatrix(NUM_CLASSES, ignore_index=255)(preds, labels)
    tp = confusion.diag()
    expected = torch.stack([tp, confusion.sum(1), confusion.sum(0) - tp], dim=1)
    assert torch.equal(counts[:, 0], expected)


def test_miou_is_that_of_torchmetrics(batch):
    preds, labels, _ = batch
    expected = MulticlassJaccardIndex(NUM_CLASSES, ignore_index=255)(preds, labels)
    assert float(scored(*batch).compute()["miou"]) == pytest.approx(float(expected), rel=1e-6)


def test_false_positives_belong_to_the_nearest_object_of_their_class(batch):
    """Against a search over all pairs of pixels, which has no outline and no tree."""
    preds, labels, instances = (m.numpy() for m in batch)
    one = scored(*batch)
    for rows, pred, label, ids in zip(one.rows, preds, labels, instances, strict=True):
        truth = find_objects(label, ids)
        least, most = np.zeros((2, len(truth.cls)), int)
        far = 0
        for y, x in np.argwhere((pred != label) & (label != 255)):
            at = np.argwhere(label == pred[y, x])
            square = ((at - (y, x)) ** 2).sum(1) if len(at) else np.array([1e9])
            if square.min() > 4:
                far += 1
                continue
            nearest = list({truth.ids[tuple(p)] for p in at[square == square.min()]})
            most[nearest] += 1  # of equally near objects any will do
            least[nearest] += len(nearest) == 1
        alarms = rows["alarm"]
        owned = rows["fp"][~alarms]
        assert (least <= owned).all()
        assert (owned <= most).all()
        assert (rows["fp"][alarms].sum(), rows["fp"].sum()) == (far, owned.sum() + far)


def test_a_false_alarm_has_the_size_of_what_was_predicted():
    labels = torch.zeros(1, 40, 40, dtype=torch.int64)
    preds = labels.clone()
    preds[0, 5:15, 5:15] = 1  # class 1 is nowhere
    counts = scored(preds, labels).counts
    assert counts[1, :4, 2].tolist() == [100, 0, 0, 100]  # 10 px is large here


def test_batches_and_order_do_not_matter(batch):
    whole, parts = scored(*batch), metric()
    for k in (2, 0, 3, 1):
        parts.update(*(m[k : k + 1] for m in batch))
    assert torch.equal(whole.counts, parts.counts)
    assert parts.n_images == 4


def test_objects_may_be_handed_over(batch):
    preds, labels, instances = batch
    found = [find_objects(*m) for m in zip(labels.numpy(), instances.numpy(), strict=True)]
    one = metric()
    one.update(preds, labels, objects=found)
    assert torch.equal(one.counts, scored(*batch).counts)


def test_logits_and_integers_of_any_kind(batch):
    preds, *others = batch
    logits = torch.nn.functional.one_hot(preds, NUM_CLASSES).permute(0, 3, 1, 2).float()
    assert torch.equal(scored(logits, *others).counts, scored(*batch).counts)
    assert torch.equal(scored(preds.byte(), *others).counts, scored(*batch).counts)


def test_scores_are_named_and_their_classes_fixed(batch):
    names = [f"c{k}" for k in range(NUM_CLASSES)]
    sets = {"small": ["c0", "c1"], "thin": ["c2"]}
    one = scored(*batch, classes=names, class_groups={"large": ["c0", "c3"]}, size_classes=sets)
    scores = one.compute()
    expected = ["miou", *(f"iou/{n}" for n in names), "iou_group/large"]
    assert list(scores) == [*expected, "iou_size/small", "iou_shape/thin"]
    tp, area, fp = one.counts[:2, 1].double().unbind(-1)
    assert float(scores["iou_size/small"]) == pytest.approx(float((tp / (area + fp)).mean()))
    of_classes = [float(scores[f"iou/{n}"]) for n in ("c0", "c3")]
    assert float(scores["iou_group/large"]) == pytest.approx(np.mean(of_classes))


def test_iou_of_each_class_is_that_of_torchmetrics(batch):
    preds, labels, _ = batch
    expected = MulticlassJaccardIndex(NUM_CLASSES, average="none", ignore_index=255)(preds, labels)
    scores = scored(*batch).compute()
    found = [float(scores[f"iou/{k}"]) for k in range(NUM_CLASSES)]
    assert found == pytest.approx(expected.tolist(), rel=1e-6)


def test_every_pixel_counts_once_in_sizes_and_crowds(batch):
    names = [str(k) for k in range(NUM_CLASSES)]
    one = scored(*batch, classes=names, with_ids=names[1:3])
    crowds = np.zeros((NUM_CLASSES, 3), int)
    for rows in one.rows:
        values = np.stack([rows["tp"], rows["area"] * ~rows["alarm"], rows["fp"]], 1)
        np.add.at(crowds, rows["cls"][rows["crowd"]], values[rows["crowd"]])
    assert crowds.any()
    assert np.array_equal(one.counts[:, 1:4].sum(1).numpy() + crowds, one.counts[:, 0].numpy())


def test_a_crowd_counts_for_its_class_alone():
    labels = torch.zeros(1, 20, 20, dtype=torch.int64)
    labels[0, 2:10, 2:10] = 1
    labels[0, 12:18, 12:18] = 1
    instances = torch.zeros_like(labels)
    instances[0, 2:10, 2:10] = 5
    names = [str(k) for k in range(NUM_CLASSES)]
    counts = scored(labels, labels, instances, classes=names, with_ids=["1"]).counts
    assert counts[1, 0, 1] == 64 + 36
    assert counts[1, 1:4, 1].sum() == 64


def test_more_test_images_bring_no_class_into_a_mean():
    """A rare class that one more image shows is in the set or not, whatever the images are."""
    few = torch.zeros(1, 12, 12, dtype=torch.int64)
    few[0, :5, :5] = 1
    more = few.clone()
    more[0, 7:10, 7:10] = 2
    sets = {"medium": ["1"]}
    names = [str(k) for k in range(NUM_CLASSES)]
    one = scored(few, few, classes=names, size_classes=sets)
    one.update(torch.where(more == 2, 0, more), more)
    assert float(one.compute()["iou_size/medium"]) == 1


def test_the_object_table_gives_the_same_counts(batch, tmp_path):
    one = scored(*batch)
    names = [f"image {k}" for k in range(4)]
    write_table(table_of(dict(zip(names, one.rows, strict=True))), tmp_path / "o.parquet")
    counts = image_counts(read_table(tmp_path / "o.parquet"), one.measures, images=names)
    assert counts.shape == (4, NUM_CLASSES, 5, 3)
    assert np.array_equal(counts.sum(0), one.counts.numpy())


def test_a_reset_forgets(batch):
    one = scored(*batch)
    one.reset()
    assert (int(one.counts.sum()), one.rows) == (0, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size_edges": (4, 2)}, "increasing"),
        ({"class_groups": {"large": ["bus"]}}, r"large holds \['bus'\]"),
        ({"size_classes": {"huge": ["a"]}}, "the bins are small, medium, large, thin"),
    ],
)
def test_measures_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Measures(("a", "b"), **options)


@pytest.mark.parametrize("change", ["cut", "version", "columns"])
def test_a_damaged_table_is_named(batch, tmp_path, change):
    path = tmp_path / "objects.parquet"
    table = table_of({"a": scored(*batch).rows[0]})
    write_table(table, path)
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif change == "version":
        table.to_parquet(path)
    else:
        table.drop(columns="crowd").to_parquet(path)
    with pytest.raises(ValueError, match=r"objects\.parquet .*test the checkpoint again"):
        read_table(path)
