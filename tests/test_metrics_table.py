import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from label_maps import BINS, NUM_CLASSES, batch, update_arguments

from segattn.metrics import (
    REACHES,
    SizeBins,
    SizeStratifiedIoU,
    image_counts,
    object_frame,
    read_table,
    write_table,
)

IMAGES = [f"city/{number}" for number in range(6)]


def make_metric(*, num_bins=6, radius=4):
    radii = [radius * factor for factor in REACHES.values()]
    return SizeStratifiedIoU(NUM_CLASSES, num_bins=num_bins, radius=radii[0], other_radii=radii[1:])


def run_both(*, bins=BINS):
    """A metric and an object table of two batches of three images."""
    metric = make_metric(num_bins=bins.num_bins)
    frames = []
    for seed in range(2):
        preds, target, truth, predicted = batch(seed)
        metric.update(*update_arguments(preds, target, truth, predicted, bins=bins))
        names = IMAGES[3 * seed : 3 * seed + 3]
        frames.append(object_frame(metric.rows, truth=truth, prediction=predicted, images=names))
    return metric, pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("bins", [BINS, SizeBins(), SizeBins(stride=1, elongation=2)])
def test_counts_of_the_images_sum_to_the_states(bins):
    metric, frame = run_both(bins=bins)
    counts = image_counts(frame, images=IMAGES, num_classes=NUM_CLASSES, bins=bins)
    assert counts.shape == (6, NUM_CLASSES, 6, 4)
    assert counts.dtype == np.int64
    for column, name in enumerate(("tp", "area", "fp", "fp_far")):
        assert np.array_equal(counts[..., column].sum(0), getattr(metric, name).numpy()), name
        assert counts[..., column].sum() > 0


@pytest.mark.parametrize("reach", REACHES)
def test_counts_of_each_reach_are_those_of_a_metric_with_that_radius(reach):
    _, frame = run_both()
    counts = image_counts(
        frame, images=IMAGES, num_classes=NUM_CLASSES, bins=BINS, reach=reach
    ).sum(0)
    metric = make_metric(radius=4 * REACHES[reach])
    for seed in range(2):
        metric.update(*update_arguments(*batch(seed)))
    assert np.array_equal(counts[..., 2], metric.fp.numpy())
    assert np.array_equal(counts[..., 3], metric.fp_far.numpy())


def test_counts_belong_to_their_image():
    _, frame = run_both()
    settings = {"num_classes": NUM_CLASSES, "bins": BINS}
    order = [*IMAGES[::-1], "empty"]
    counts = image_counts(frame, images=order, **settings)
    assert (counts[-1] == 0).all()
    for n, name in enumerate(IMAGES[::-1]):
        alone = image_counts(frame[frame["image"] == name], images=[name], **settings)
        assert np.array_equal(alone[0], counts[n])


def test_frame_holds_objects_and_false_alarms():
    preds, target, truth, predicted = batch(0)
    metric = make_metric()
    metric.update(*update_arguments(preds, target, truth, predicted))
    frame = object_frame(metric.rows, truth=truth, prediction=predicted, images=["a", "b", "c"])
    objects = frame[frame["kind"] == "object"]
    assert objects["area"].tolist() == truth.area.tolist()
    assert objects["tp"].tolist() == metric.rows.tp.tolist()
    assert objects["image"].tolist() == ["abc"[n] for n in truth.image]
    assert objects["from_instance"].any()
    alarms = frame[frame["kind"] == "false_alarm"]
    far = (metric.rows.fp_far > 0).any(1)
    assert 0 < len(alarms) < len(predicted.cls)
    for column, reach in enumerate(REACHES):
        assert objects[f"fp{reach}"].tolist() == metric.rows.fp[:, column].tolist()
        assert alarms[f"fp_far{reach}"].tolist() == metric.rows.fp_far[far, column].tolist()
    assert alarms["width"].tolist() == predicted.width[far].tolist()
    assert (alarms[["tp", "fp", "fp_half", "fp_double"]] == 0).all(axis=None)
    assert (frame["frame_area"] == 56 * 80).all()
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "image": "str",
        "kind": "str",
        "cls": "int16",
        "area": "int32",
        "width": "float32",
        "border": "bool",
        "from_instance": "bool",
        **dict.fromkeys(["frame_area", "tp", "fp", "fp_half", "fp_double"], "int32"),
        **dict.fromkeys(["fp_far", "fp_far_half", "fp_far_double"], "int32"),
    }


def test_frame_refuses_what_does_not_fit():
    preds, target, truth, predicted = batch(0)
    metric = make_metric()
    metric.update(*update_arguments(preds, target, truth, predicted))
    with pytest.raises(ValueError, match="same update"):
        object_frame(metric.rows, truth=predicted, prediction=truth, images=["a", "b", "c"])
    with pytest.raises(ValueError, match="each of the 3 images, got 1"):
        object_frame(metric.rows, truth=truth, prediction=predicted, images=["a"])
    alone = SizeStratifiedIoU(NUM_CLASSES, num_bins=6, radius=4)
    alone.update(*update_arguments(preds, target, truth, predicted))
    with pytest.raises(ValueError, match="3 radii of REACHES, got 1"):
        object_frame(alone.rows, truth=truth, prediction=predicted, images=["a", "b", "c"])


@pytest.mark.parametrize("rows", [slice(None), slice(0)])
def test_table_survives_the_file(tmp_path, rows):
    _, frame = run_both()
    path = tmp_path / "objects.parquet"
    path.write_text("an older file")
    write_table(frame[rows], path)
    pd.testing.assert_frame_equal(read_table(path), frame[rows])
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    _, frame = run_both()
    path = tmp_path / "objects.parquet"
    write_table(frame, path)

    def fail(table, where, **_):
        where.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        write_table(frame[:1], path)
    assert len(read_table(path)) == len(frame)
    assert list(tmp_path.iterdir()) == [path]


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def _flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)


def _empty(path):
    path.write_bytes(b"")


def _age(path):
    table = pq.read_table(path)
    metadata = {key: b"0" for key in table.schema.metadata}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def _strip(path):
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)


def _drop_column(path):
    pq.write_table(pq.read_table(path).drop_columns(["width"]), path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "no whole object table"),
        (_flip_a_bit, "no whole object table"),
        (_empty, "no whole object table"),
        (_age, "version 2, got 0"),
        (_strip, "version 2, got none"),
        (_drop_column, r"lacks the columns \['width'\]"),
    ],
)
def test_damaged_table_is_refused(tmp_path, damage, message):
    path = tmp_path / "objects.parquet"
    write_table(run_both()[1], path)
    damage(path)
    with pytest.raises(ValueError, match=message) as refusal:
        read_table(path)
    assert str(path) in str(refusal.value)
    assert "test the checkpoint again" in str(refusal.value)


def test_missing_table_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "objects.parquet")


@pytest.mark.parametrize(
    ("images", "num_classes", "message"),
    [
        (IMAGES[:5], NUM_CLASSES, r"not in images: \['city/5'\]"),
        ([*IMAGES, IMAGES[0]], NUM_CLASSES, r"got twice: \['city/0'\]"),
        (IMAGES, NUM_CLASSES - 1, r"classes 0\.\.3, got 0\.\.4"),
    ],
)
def test_counts_refuse_another_data_set(images, num_classes, message):
    with pytest.raises(ValueError, match=message):
        image_counts(run_both()[1], images=images, num_classes=num_classes, bins=BINS)
