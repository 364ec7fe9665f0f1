import numpy as np
import pytest
from label_maps import NUM_CLASSES, label_map
from scipy import ndimage

from segattn.metrics import find_objects


@pytest.mark.parametrize("seed", range(3))
def test_components_are_those_of_scipy_per_class(seed):
    labels, _ = label_map(np.random.default_rng(seed))
    objects = find_objects(labels)
    assert np.array_equal(objects.ids < 0, labels == 255)
    num_expected = 0
    for cls in range(NUM_CLASSES):
        expected, count = ndimage.label(labels == cls, np.ones((3, 3)))
        num_expected += count
        pairs = np.unique(np.stack([expected, objects.ids])[:, labels == cls], axis=1)
        assert pairs.shape[1] == count == len(np.unique(pairs[1]))
    assert len(objects.cls) == num_expected
    assert not objects.has_id.any()


@pytest.mark.parametrize("seed", range(3))
def test_geometry_is_that_of_each_object_alone(seed):
    labels, instances = label_map(np.random.default_rng(seed))
    objects = find_objects(labels, instances)
    assert objects.has_id.any()
    for k, area in enumerate(objects.area):
        mask = np.pad(objects.ids == k, 1)
        assert area == mask.sum() > 0
        assert (labels[objects.ids == k] == objects.cls[k]).all()
        distance = ndimage.distance_transform_edt(mask)
        blocks = ndimage.minimum_filter(distance, size=2)  # inside 2 x 2 pixels
        assert objects.width[k] == pytest.approx(distance.max() + blocks.max(), rel=1e-5)


@pytest.mark.parametrize("width", range(1, 10))
@pytest.mark.parametrize("length", [12, 25, 60])
@pytest.mark.parametrize("turned", [False, True])
def test_a_bar_measures_its_sides(length, width, turned):
    """No rounding of even widths, and at the frame as inside it: area / width^2 is a / b."""
    label = np.full((length + 4, width + 4), 255)
    label[2 : 2 + length, 2 : 2 + width] = 1
    for shown in (label, label[2 : 2 + length, 2 : 2 + width]):
        objects = find_objects(shown.T if turned else shown)
        assert (objects.width[0], objects.area[0]) == (width, length * width)


def test_a_disc_is_as_wide_as_its_diameter():
    y, x = np.mgrid[:41, :41]
    disc = np.where((y - 20) ** 2 + (x - 20) ** 2 <= 15.5**2, 1, 255)
    assert find_objects(disc).width[0] == pytest.approx(31, rel=0.06)


def test_instance_ids_join_parts_and_split_neighbours():
    labels = np.array([[1, 1, 2, 1, 1, 255, 1]])
    instances = np.array([[7, 7, 7, 0, 7, 7, 0]])
    objects = find_objects(labels, instances)
    first, same_id_other_class, component = objects.ids[0, [0, 2, 3]]
    assert objects.ids.tolist() == [
        [first, first, same_id_other_class, component, first, -1, objects.ids[0, 6]]
    ]
    assert len(set(objects.ids.ravel()) - {-1}) == len(objects.cls) == 4
    assert objects.has_id[[first, same_id_other_class, component]].tolist() == [1, 1, 0]
    assert objects.area[first] == 3


def test_diagonal_pole_is_one_object():
    objects = find_objects(np.where(np.eye(20, dtype=bool), 3, 255))
    assert (objects.area.tolist(), objects.width.tolist()) == ([20], [1])


def test_every_pixel_of_a_prediction_belongs_to_an_object():
    predicted = find_objects(np.array([[255, 3, 3]]), ignore_index=None)
    assert predicted.ids.min() == 0
    assert sorted(predicted.cls) == [3, 255]


def test_label_dtype_does_not_matter():
    labels, instances = label_map(np.random.default_rng(0))
    expected = find_objects(labels, instances)
    for dtype in (np.int16, np.uint32, np.int64):
        got = find_objects(labels.astype(dtype), instances.astype(dtype))
        assert np.array_equal(got.ids, expected.ids)
        assert np.array_equal(got.cls, expected.cls)
    assert (expected.ids.dtype, expected.cls.dtype, expected.area.dtype, expected.width.dtype) == (
        np.int32,
        np.int64,
        np.int64,
        np.float32,
    )


def test_a_map_of_void_has_no_objects():
    objects = find_objects(np.full((4, 5), 255), np.ones((4, 5), int))
    assert (objects.ids == -1).all()
    assert len(objects.cls) == len(objects.area) == len(objects.width) == 0


@pytest.mark.parametrize(
    ("labels", "instances", "message"),
    [
        (np.zeros((2, 2, 2), int), None, "share one shape"),
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "share one shape"),
        (np.full((2, 2), -1), None, "labels must be 0 or more and below .*, got -1"),
        (np.zeros((2, 2), int), np.full((2, 2), -4), "got -4"),
    ],
)
def test_maps_that_do_not_fit_are_refused(labels, instances, message):
    with pytest.raises(ValueError, match=message):
        find_objects(labels, instances)
