import math

import numpy as np
import pandas as pd
import pytest
from label_maps import BINS, NUM_CLASSES, batch, update_arguments

from segattn.metrics import REACHES, SizeBins, SizeStratifiedIoU, image_counts, object_frame
from segattn.metrics.axes import Axis, half_octaves, quantile_edges, weighted_median

IMAGES = ["a", "b", "c"]


def object_table(seed=0):
    item = batch(seed)
    radii = [4 * factor for factor in REACHES.values()]
    metric = SizeStratifiedIoU(NUM_CLASSES, num_bins=6, radius=radii[0], other_radii=radii[1:])
    metric.update(*update_arguments(*item))
    return object_frame(metric.rows, truth=item[2], prediction=item[3], images=IMAGES)


def geometry(area, width, frame_area=1):
    return pd.DataFrame({"area": area, "width": width, "frame_area": frame_area})


def test_each_quantity_is_its_formula():
    frame = geometry([1024, 64], [32, 4], 10240)
    expected = {"size": [4, 1], "width": [4, 0.5], "elongation": [1, 4], "fraction": [0.1, 0.00625]}
    for quantity, numbers in expected.items():
        values = Axis(quantity, (1,)).values(frame)
        assert values.dtype == np.float64
        assert values.tolist() == numbers, quantity
    assert Axis("size", (1,), stride=1).values(frame).tolist() == [32, 8]
    assert Axis("width", (1,), stride=2).values(frame).tolist() == [16, 2]


@pytest.mark.parametrize("quantity", ["size", "width", "elongation", "fraction"])
def test_a_bin_holds_the_values_from_its_edge_to_the_next(quantity):
    frame = object_table()
    values = Axis(quantity, (1,)).values(frame)
    # Edges that are values themselves: an object on an edge is in the upper bin.
    edges = np.unique(values)[[3, 12, 14]]
    axis = Axis(quantity, edges)
    bins = axis.of(frame)
    assert bins.dtype == np.int64
    assert axis.num_bins == 4
    low, high = np.array([0, *edges])[bins], np.array([*edges, np.inf])[bins]
    assert ((low <= values) & (values < high)).all()
    assert (bins[np.isin(values, edges)] > 0).all()
    assert set(bins) == {0, 1, 2, 3}


@pytest.mark.parametrize("bins", [SizeBins(), BINS, SizeBins(stride=3, size_edges=(2.5, 7))])
def test_size_axis_sorts_every_object_as_the_joint_bins_do(bins):
    area = np.arange(1, 20001)
    frame = pd.concat([object_table(), geometry(area, np.ones(len(area)))])
    joint = bins.of(frame)
    assert np.array_equal(Axis("size", bins.size_edges, stride=bins.stride).of(frame), joint // 2)
    assert set(joint // 2) == {0, 1, 2}


@pytest.mark.parametrize("elongation", [5, 4, 8.8, math.pi])
def test_elongation_axis_sorts_every_object_as_the_joint_bins_do(elongation):
    width = (2 * np.sqrt(np.arange(1, 5001)) - 1).astype(np.float32)
    on_the_edge = np.round(elongation * width.astype(np.float64) ** 2)
    frames = [geometry((on_the_edge + step).clip(1), width) for step in (-1, 0, 1)]
    frame = pd.concat([object_table(), *frames])
    thin = SizeBins(elongation=elongation).of(frame) % 2
    assert np.array_equal(Axis("elongation", (elongation,)).of(frame), thin)
    assert 0.1 < thin.mean() < 0.9
    three = Axis("elongation", (1, elongation, 40)).of(frame)
    assert np.array_equal(three >= 2, thin == 1)


def axes(frame):
    size = Axis("size", (1,), stride=2).values(frame)
    return {
        "one edge": Axis("size", (3,), stride=2),
        "size": Axis("size", (4, 8), stride=2),
        "size curve": Axis("size", half_octaves(0.5, 16), stride=2),
        "width": Axis("width", (1, 3), stride=2),
        "elongation": Axis("elongation", (2, 4, 8)),
        "fraction": Axis("fraction", (0.0033, 0.03)),
        "terciles": Axis("size", quantile_edges(size[frame["area"] >= 16]), stride=2),
    }


@pytest.mark.parametrize("reach", REACHES)
def test_every_axis_of_one_table_counts_the_same_pixels(reach):
    frame = object_table()
    settings = {"images": IMAGES, "num_classes": NUM_CLASSES, "reach": reach}
    expected = image_counts(frame, bins=BINS, **settings).sum(2)
    assert (expected.sum((0, 1)) > 0).all()
    for name, axis in axes(frame).items():
        counts = image_counts(frame, bins=axis, **settings)
        assert counts.shape == (3, NUM_CLASSES, axis.num_bins, 4)
        assert np.array_equal(counts.sum(2), expected), name
        assert (counts.sum((0, 1, 3)) > 0).sum() > 1, name


def test_labels_name_every_bin():
    assert Axis("size", (4, 12)).labels == ["< 4", "4 to 12", ">= 12"]
    assert Axis("elongation", (5,)).labels == ["< 5", ">= 5"]
    assert Axis("fraction", (0.0033, 0.03)).labels == ["< 0.0033", "0.0033 to 0.03", ">= 0.03"]
    curve = Axis("size", half_octaves(1, 1024), stride=1)
    assert len(set(curve.labels)) == curve.num_bins
    assert curve.labels[:2] == ["< 1", "1 to 1.414"]


def test_axes_with_equal_settings_are_equal():
    assert Axis("size", [4, 12]) == Axis("size", (4.0, 12.0))
    assert len({Axis("size", [4, 12]), Axis("size", (4, 12)), Axis("width", (4, 12))}) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantity": "height"}, r"quantity must be one of \['size', .*got 'height'"),
        ({"edges": (12, 4)}, r"increasing positive numbers, got \(12\.0, 4\.0\)"),
        ({"edges": (4, 4)}, "increasing positive"),
        ({"edges": (0, 4)}, "increasing positive"),
        ({"edges": (4, math.nan)}, "increasing positive"),
        ({"edges": ()}, "one or more"),
        ({"stride": 0}, "stride must be positive, got 0"),
    ],
)
def test_an_axis_without_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Axis(**({"quantity": "size", "edges": (4, 12)} | arguments))


def test_half_octaves_double_every_second_edge():
    edges = half_octaves(0.5, 16)
    assert (edges[0], edges[-1]) == (0.5, 16)
    assert len(edges) == 11
    assert edges[2::2] == tuple(2 * edge for edge in edges[:-2:2])
    assert np.allclose(np.divide(edges[1:], edges[:-1]), math.sqrt(2))
    assert half_octaves(1, 15.9)[-1] < 15.9
    assert half_octaves(3, 3) == (3,)
    for k in range(1, 30):
        assert len(half_octaves(3, 3 * 2 ** (k / 2))) == k + 1


def test_quantile_edges_share_the_objects_out():
    values = np.random.default_rng(0).permutation(np.geomspace(1, 500, 300))
    for num_bins in (2, 3, 5):
        edges = quantile_edges(values, num_bins=num_bins)
        assert len(edges) == num_bins - 1
        counts = np.bincount(np.digitize(values, edges))
        assert (counts == 300 // num_bins).all()
    assert quantile_edges(values) == quantile_edges(values, num_bins=3)


def test_repeated_quantiles_are_no_axis():
    edges = quantile_edges([1] * 90 + [2] * 10)
    with pytest.raises(ValueError, match="take fewer bins"):
        Axis("size", edges)


def test_weighted_median_is_the_median_over_pixels():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=40), rng.integers(1, 9, size=40)
    weights[0] += 1 - weights.sum() % 2
    assert weighted_median(values, weights) == np.median(np.repeat(values, weights))
    specks = np.concatenate([values, np.full(500, -9.0)])
    light = np.concatenate([1000 * weights, np.ones(500)])
    assert weighted_median(specks, light) == weighted_median(values, weights)
    assert np.median(specks) == -9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: half_octaves(0, 4), "got 0 and 4"),
        (lambda: half_octaves(4, 2), "got 4 and 2"),
        (lambda: quantile_edges([]), "got none"),
        (lambda: quantile_edges([1, 2], num_bins=1), "num_bins must be 2 or more, got 1"),
        (lambda: weighted_median([], []), "got none"),
        (lambda: weighted_median([1, 2], [1]), "got 1 from .* for 2 values"),
        (lambda: weighted_median([1, 2], [0, 0]), "not all 0"),
        (lambda: weighted_median([1, 2], [2, -1]), "from -1"),
    ],
)
def test_statistics_without_objects_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
