"""From label maps to integer counts per object, and from counts to scores.

H, W = height and width; K = objects of an image; C = classes; the last axis of an array of counts
is `COLUMNS`. Everything is counted in pixels, as integers: sums are the same in any order.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.spatial import cKDTree

from segattn.metrics.measures import BINS, SIZES, Measures
from segattn.metrics.objects import Objects, find_objects

COLUMNS = ("all", *BINS)
"""Where a row of the object table is counted: with its class, and in its bins."""

Rows = dict[str, NDArray[Any]]
Counts = NDArray[np.int64]


def object_rows(
    prediction: NDArray[np.integer],
    label: NDArray[np.integer],
    truth: Objects,
    *,
    with_ids: NDArray[np.bool_],
    radius: float,
    ignore_index: int | None,
) -> Rows:
    """What a prediction did to each object of an image, then its false alarms.

    A false positive belongs to the nearest object of its class within `radius`. Those without one
    are a false alarm, which is sorted by the size of the predicted component that it is part of, as
    COCO sorts unmatched detections (Lin et al. 2014, https://arxiv.org/abs/1405.0312).

    Args:
        prediction: [H, W], class of each pixel.
        label: [H, W], class or `ignore_index`.
        truth: The objects of `label`.
        with_ids: [C], classes whose single objects have ids in this data set; one of them without
            an id is a crowd that nobody could tell apart.
        radius: px.
        ignore_index: Void pixels, which count nowhere, as predictions of this class do not.

    Returns:
        Columns of equal length: cls, area (px, of the object or the predicted component), width
        (px), crowd (bool), alarm (bool), tp and fp (px; tp of an alarm is 0), and edge_area,
        edge_tp and edge_fp, the same counts of the pixels near an outline, see `near_outline`.
    """
    num_objects = len(truth.cls)
    hit = prediction == label
    tp = np.bincount(truth.ids[hit & (truth.ids >= 0)], minlength=num_objects)
    wrong = ~hit & (label != ignore_index)
    owner = _nearest_objects(prediction, label, truth.ids, wrong, radius=radius)
    found = find_objects(prediction, ignore_index=None)
    true_edge, edge = near_outline(label), near_outline(prediction)
    extra = hit & edge & ~true_edge & (truth.ids >= 0)  # in the predicted edge alone

    def false(chosen: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
        """False positives among the wrong pixels `chosen`, by object and by component."""
        near, far = owner[(owner >= 0) & chosen], found.ids[wrong][(owner < 0) & chosen]
        by_object = np.bincount(near, minlength=num_objects)
        return [by_object, np.bincount(far, minlength=len(found.cls))]

    (fp, far), (edge_fp, edge_far) = false(np.ones_like(owner, bool)), false(edge[wrong])
    edge_fp += np.bincount(truth.ids[extra], minlength=num_objects)
    alarms = (far > 0) & (found.cls != ignore_index)
    none = np.zeros(alarms.sum(), np.int64)
    edges = {
        "edge_area": true_edge & (truth.ids >= 0),
        "edge_tp": hit & edge & true_edge & (truth.ids >= 0),
    }
    return {
        "cls": np.concatenate([truth.cls, found.cls[alarms]]),
        "area": np.concatenate([truth.area, found.area[alarms]]),
        "width": np.concatenate([truth.width, found.width[alarms]]),
        "crowd": np.concatenate([with_ids[truth.cls] & ~truth.has_id, none > 0]),
        "alarm": np.concatenate([np.zeros(num_objects, bool), none == 0]),
        "tp": np.concatenate([tp, none]),
        "fp": np.concatenate([fp, far[alarms]]),
        **{
            name: np.concatenate([np.bincount(truth.ids[chosen], minlength=num_objects), none])
            for name, chosen in edges.items()
        },
        "edge_fp": np.concatenate([edge_fp, edge_far[alarms]]),
    }


def near_outline(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels of a label map within 2 % of its diagonal of another class or of the frame.

    The bands of Boundary IoU (Cheng et al., CVPR 2021), in the distance of their code: a square of
    2 d + 1 px around the pixel, d being at least 1 px.
    """
    side = 2 * max(1, round(0.02 * float(np.hypot(*labels.shape)))) + 1
    given = labels.astype(np.int32)
    low = minimum_filter(given, side, mode="constant", cval=-1)
    return np.asarray(low != maximum_filter(given, side, mode="constant", cval=-1))


def _nearest_objects(
    prediction: NDArray[np.integer],
    label: NDArray[np.integer],
    ids: NDArray[np.int32],
    wrong: NDArray[np.bool_],
    *,
    radius: float,
) -> NDArray[np.int64]:
    """Object of each false positive, in the order of `wrong`, or -1."""
    owner = np.full(int(wrong.sum()), -1, np.int64)
    claimed, where = prediction[wrong], np.argwhere(wrong)
    outline = _outline(label)  # the nearest pixel of a class is on its outline
    reach = np.nextafter(radius, np.inf)  # the tree's own bound is exclusive
    for cls in np.unique(claimed):
        pixels = np.argwhere(outline & (label == cls))
        if len(pixels):
            asking = np.flatnonzero(claimed == cls)
            _, nearest = cKDTree(pixels).query(where[asking], distance_upper_bound=reach)
            near = nearest < len(pixels)
            owner[asking[near]] = ids[tuple(pixels[nearest[near]].T)]
    return owner


def _outline(label: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels with another label beside, above or below them."""
    outline = np.zeros(label.shape, bool)
    below, beside = label[1:] != label[:-1], label[:, 1:] != label[:, :-1]
    outline[1:] |= below
    outline[:-1] |= below
    outline[:, 1:] |= beside
    outline[:, :-1] |= beside
    return outline


def count(
    rows: Rows, measures: Measures, *, group: NDArray[np.intp] | int = 0, num_groups: int = 1
) -> Counts:
    """Sum rows by class and column.

    Args:
        rows: What `object_rows` returns.
        measures: Sorts them.
        group: The group of each row, 0..G-1, for example its image.
        num_groups: G.

    Returns:
        int64 [G, C, 5, 3]: tp, pixels of the ground truth, false positives.
    """
    group = np.broadcast_to(group, rows["cls"].shape)
    counts = np.zeros((num_groups, len(measures.classes), len(COLUMNS), 3), np.int64)
    values = np.stack([rows["tp"], rows["area"] * ~rows["alarm"], rows["fp"]], axis=1)
    size = 1 + measures.size(rows["area"])
    thin = measures.thin(rows["area"], rows["width"])
    single = ~rows["crowd"]
    for column, chosen in ((0, slice(None)), (size[single], single), (4, single & thin)):
        index: Any = (group[chosen], rows["cls"][chosen], column)
        np.add.at(counts, index, values[chosen])
    return counts


def iou_scores(counts: NDArray[Any], measures: Measures) -> dict[str, NDArray[np.float64]]:
    """Every score of `measures` by its name, from counts [..., C, 5, 3] to [...], each 0..1.

    `miou` and `iou/<class>` are the ordinary ones. `iou_group/<group>` is the mean over the group's
    classes; `iou_size/<size>` and `iou_shape/thin` are means, over the fixed classes of the bin, of
    the IoU in it. A class without a pixel (in a bin: without ground truth) is left out of a mean;
    a score without any class is NaN.
    """
    tp, area, fp = np.moveaxis(counts.astype(np.float64), -1, 0)
    iou = np.divide(tp, area + fp, out=np.full(tp.shape, np.nan), where=area + fp > 0)
    of_class, of_bin = iou[..., 0], np.where(area > 0, iou, np.nan)[..., 1:]
    scores = {"miou": _mean(of_class)}
    for label, name in enumerate(measures.classes):
        scores[f"iou/{name}"] = of_class[..., label]
    for group, names in measures.class_groups.items():
        scores[f"iou_group/{group}"] = _mean(of_class[..., measures.labels(names)])
    for bin_, names in measures.size_classes.items():
        scores[bin_name(bin_)] = _mean(of_bin[..., measures.labels(names), BINS.index(bin_)])
    return scores


def bin_name(bin_: str) -> str:
    """The name of the score of a bin."""
    return f"iou_size/{bin_}" if bin_ in SIZES else f"iou_shape/{bin_}"


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis without NaN; NaN where nothing is left."""
    present = ~np.isnan(values)
    total = np.where(present, values, 0).sum(-1)
    number = present.sum(-1)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)
