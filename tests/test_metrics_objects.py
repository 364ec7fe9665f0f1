import pickle

import numpy as np
import pytest
import torch
from label_maps import NUM_CLASSES, label_map
from pytorch_lightning.utilities import move_data_to_device
from scipy import ndimage

from segattn.metrics import GROUPS, SizeBins, find_objects, stack_objects


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
    assert not objects.from_instance.any()


@pytest.mark.parametrize("seed", range(3))
def test_geometry_is_that_of_each_object_alone(seed):
    labels, instances = label_map(np.random.default_rng(seed))
    objects = find_objects(labels, instances)
    assert objects.from_instance.any()
    for k, area in enumerate(objects.area):
        mask = np.pad(objects.ids == k, 1)
        assert area == mask.sum() > 0
        assert (labels[objects.ids == k] == objects.cls[k]).all()
        distance = ndimage.distance_transform_edt(mask)
        assert objects.width[k] == pytest.approx(2 * distance.max() - 1, rel=1e-5)
        rows, columns = np.nonzero(objects.ids == k)
        at_frame = rows.min() == 0 or columns.min() == 0
        at_frame |= rows.max() == labels.shape[0] - 1 or columns.max() == labels.shape[1] - 1
        assert objects.border[k] == at_frame


def test_instance_ids_join_parts_and_split_neighbours():
    labels = np.array([[1, 1, 2, 1, 1, 255, 1]])
    instances = np.array([[7, 7, 7, 0, 7, 7, 0]])
    objects = find_objects(labels, instances)
    first, same_id_other_class, component = objects.ids[0, [0, 2, 3]]
    assert objects.ids.tolist() == [
        [first, first, same_id_other_class, component, first, -1, objects.ids[0, 6]]
    ]
    assert len(set(objects.ids.ravel()) - {-1}) == len(objects.cls) == 4
    assert objects.from_instance[[first, same_id_other_class, component]].tolist() == [1, 1, 0]
    assert objects.area[first] == 3


def test_every_side_of_the_frame_is_a_border():
    objects = find_objects(np.arange(9).reshape(3, 3))
    assert objects.cls[~objects.border].tolist() == [4]


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
    assert len(objects.cls) == len(objects.area) == len(objects.width) == len(objects.border) == 0


@pytest.mark.parametrize(
    ("labels", "instances", "message"),
    [
        (np.zeros((2, 2, 2), int), None, "share one shape"),
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "share one shape"),
        (np.full((2, 2), -1), None, "labels must be 0 or more, got -1"),
        (np.zeros((2, 2), int), np.full((2, 2), -4), "got -4"),
    ],
)
def test_maps_that_do_not_fit_are_refused(labels, instances, message):
    with pytest.raises(ValueError, match=message):
        find_objects(labels, instances)


def test_bins_at_their_edges():
    bins = SizeBins(size_edges=[4, 12])
    assert hash(bins) == hash(SizeBins())
    area = [1, 32**2 - 1, 32**2, 96**2 - 1, 96**2, 500, 499]
    width = [1, 31, 32, 95, 96, 10, 10]
    assert bins.assign(area, width).tolist() == [0, 0, 2, 2, 4, 1, 0]
    assert SizeBins(stride=16).assign([32**2], [32]).tolist() == [0]
    assert bins.num_bins == 6 == len({joint for group in GROUPS.values() for joint in group})


@pytest.mark.parametrize(
    "settings",
    [
        {"size_edges": (12, 4)},
        {"size_edges": (0, 4)},
        {"size_edges": (4,)},
        {"stride": 0},
        {"elongation": -1},
    ],
)
def test_bins_that_make_no_sense_are_refused(settings):
    with pytest.raises(ValueError, match="got"):
        SizeBins(**settings)


def test_batch_numbers_the_objects_through():
    maps = [label_map(np.random.default_rng(seed)) for seed in range(3)]
    images = [find_objects(labels, instances) for labels, instances in maps]
    batch = stack_objects(images)
    assert batch.ids.dtype == torch.int64
    start = 0
    for n, image in enumerate(images):
        shifted = np.where(image.ids < 0, -1, image.ids + start)
        assert np.array_equal(batch.ids[n].numpy(), shifted)
        mine = batch.image == n
        assert mine.sum() == len(image.cls)
        for name in ("cls", "area", "width", "border", "from_instance"):
            assert np.array_equal(getattr(batch, name)[mine].numpy(), getattr(image, name))
        start += len(image.cls)
    bins = SizeBins()
    assert batch.bins(bins).tolist() == bins.assign(batch.area, batch.width).tolist()


def test_batch_travels_by_pickle_and_by_lightning():
    batch = stack_objects([find_objects(np.eye(4, dtype=np.uint8))])
    copy = pickle.loads(pickle.dumps(batch))
    assert torch.equal(copy.ids, batch.ids)
    moved = move_data_to_device({"objects": batch}, torch.device("meta"))["objects"]
    assert {tensor.device.type for tensor in vars(moved).values()} == {"meta"}


def test_images_of_different_size_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 2\), \(2, 3\)"):
        stack_objects([find_objects(np.zeros((2, w), int)) for w in (2, 3)])
