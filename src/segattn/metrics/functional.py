"""From label maps to integer counts per object, and from counts to scores.

N, H, W = images, height, width; M = false-positive pixels; K = ground-truth objects of the batch;
P = predicted components of the batch; R = radii of the attribution; C = classes; B = bins. All
counts are int64, because float32 stops counting pixels at 2^24, and int64 sums are the same in any
order and on any device.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

FIXED_POINT = 1 << 30
"""Scale of the summed object scores: integers keep their mean independent of the order too."""


@dataclass(frozen=True)
class ObjectRows:
    """What a prediction did to each object of a batch, in valid pixels; all int64.

    Attributes:
        cls: [K], class of the ground-truth object.
        area: [K], its pixels.
        tp: [K], those predicted as its class.
        fp: [K, R], false-positive pixels it owns within each radius, see `nearest_owner`.
        pred_cls: [P], class of the predicted component.
        fp_far: [P, R], its false-positive pixels without an owner there: false alarms.
    """

    cls: Tensor
    area: Tensor
    tp: Tensor
    fp: Tensor
    pred_cls: Tensor
    fp_far: Tensor


@dataclass(frozen=True)
class Counts:
    """Summed counts per class and bin; all int64 [C, B] except `totals`.

    Attributes:
        tp: Pixels of the objects predicted as their class.
        area: Pixels of the objects.
        fp: False-positive pixels owned by the objects.
        fp_far: False alarms, in the bin of the predicted component.
        n_obj: Objects large enough to count in the object means.
        sum_iou: Sum over those of floor(2^30 * tp / (area + fp)).
        sum_rec: Sum over those of floor(2^30 * tp / area).
        totals: int64 [C, 4], tp, area, fp and fp_far of the class. None if each pixel is in one
            column, so that the columns sum to it; `merge` fills it, since its groups may overlap.
    """

    tp: Tensor
    area: Tensor
    fp: Tensor
    fp_far: Tensor
    n_obj: Tensor
    sum_iou: Tensor
    sum_rec: Tensor
    totals: Tensor | None = None

    def merge(self, groups: Mapping[str, Sequence[int]]) -> "Counts":
        """Sum bins: one column per group, in the order of `groups`; class scores stay the same.

        Args:
            groups: Bins of each group by name, for example `GROUPS`.
        """

        def columns(table: Tensor) -> Tensor:
            return torch.stack([table[:, list(group)].sum(1) for group in groups.values()], dim=1)

        return Counts(
            tp=columns(self.tp),
            area=columns(self.area),
            fp=columns(self.fp),
            fp_far=columns(self.fp_far),
            n_obj=columns(self.n_obj),
            sum_iou=columns(self.sum_iou),
            sum_rec=columns(self.sum_rec),
            totals=self._class_totals(),
        )

    def scores(self) -> dict[str, Tensor]:
        """Scores in 0..1, float64; NaN, never 0, where there is no ground truth to score.

        Returns:
            [C, B]: `iou`, the primary score; `iou_near`, without false alarms; `recall` and
            `iou_lower`, which bound `iou` under every other rule that assigns false positives to
            bins; `obj_iou` and `obj_recall`, means over objects; `support_px` and `support_obj`,
            int64 pixels and objects; `orphan_fp`, int64 false positives in cells without ground
            truth, which no bin mean sees.
            [C]: `class_iou`, the ordinary IoU; `far_rate`, share of false alarms in the prediction.
            [B]: `miou_per_bin` and `recall_per_bin`, means over the classes in the bin.
            []: `miou`.
        """
        tp, area, fp, far = self._class_totals().unbind(1)
        charged = self.fp + self.fp_far
        present = self.area > 0
        iou = _ratio(self.tp, self.area + charged, where=present)
        recall = _ratio(self.tp, self.area, where=present)
        class_iou = _ratio(tp, area + fp + far)
        return {
            "iou": iou,
            "iou_near": _ratio(self.tp, self.area + self.fp, where=present),
            "recall": recall,
            "iou_lower": _ratio(self.tp, self.area + (fp + far)[:, None], where=present),
            "obj_iou": _ratio(self.sum_iou, self.n_obj * FIXED_POINT),
            "obj_recall": _ratio(self.sum_rec, self.n_obj * FIXED_POINT),
            "support_px": self.area,
            "support_obj": self.n_obj,
            "orphan_fp": charged.masked_fill(present, 0),
            "class_iou": class_iou,
            "far_rate": _ratio(far, tp + fp + far),
            "miou_per_bin": iou.nanmean(0),
            "recall_per_bin": recall.nanmean(0),
            "miou": class_iou.nanmean(),
        }

    def _class_totals(self) -> Tensor:
        if self.totals is not None:
            return self.totals
        return torch.stack([self.tp, self.area, self.fp, self.fp_far], dim=-1).sum(1)


def _ratio(part: Tensor, whole: Tensor, *, where: Tensor | None = None) -> Tensor:
    defined = whole > 0 if where is None else where
    return torch.where(defined, part.double() / whole.double(), torch.nan)


def fixed_ratio(part: Tensor, whole: Tensor) -> Tensor:
    """floor(2^30 * part / whole), int64, elementwise; 0 where `whole` is 0."""
    return part * FIXED_POINT // whole.clamp(min=1)


def object_rows(
    preds: Tensor,
    *,
    target: Tensor,
    ids: Tensor,
    num_objects: int,
    pred_ids: Tensor,
    num_predicted: int,
    radii: Sequence[float],
    ignore_index: int = 255,
) -> ObjectRows:
    """Count, for every object of a batch, what it covers and what was predicted there.

    Args:
        preds: int64 [N, H, W], predicted class, 0 or more.
        target: int64 [N, H, W], class or `ignore_index`.
        ids: int64 [N, H, W], ground-truth object, -1 where the target is void.
        num_objects: K.
        pred_ids: int64 [N, H, W], component of the prediction, 0..P-1 everywhere.
        num_predicted: P.
        radii: px, R reaches of an object over false positives around it. The nearest object is the
            same for all of them, so that one search serves all.
        ignore_index: Label of void pixels, which count nowhere.
    """
    # void pixels count in a spare first entry
    spare, hit = ids.flatten() + 1, (preds == target).flatten()
    fp_index, owner, distance = nearest_owner(
        preds, target=target, ids=ids, radius=max(radii), ignore_index=ignore_index
    )
    component = pred_ids.flatten()[fp_index]
    within = [distance <= radius * radius for radius in radii]
    return ObjectRows(
        cls=ids.new_zeros(num_objects + 1).scatter_(0, spare, target.flatten())[1:],
        area=torch.bincount(spare, minlength=num_objects + 1)[1:],
        tp=torch.bincount(spare * hit, minlength=num_objects + 1)[1:],
        fp=_count_columns([owner[near] for near in within], length=num_objects),
        pred_cls=ids.new_zeros(num_predicted).scatter_(0, pred_ids.flatten(), preds.flatten()),
        fp_far=_count_columns([component[~near] for near in within], length=num_predicted),
    )


def _count_columns(columns: Sequence[Tensor], *, length: int) -> Tensor:
    """How often each of 0..length-1 stands in each column: int64 [length, len(columns)]."""
    return torch.stack([torch.bincount(column, minlength=length) for column in columns], dim=1)


def nearest_owner(
    preds: Tensor, *, target: Tensor, ids: Tensor, radius: float, ignore_index: int = 255
) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest object of the predicted class for every false-positive pixel.

    The distance is Euclidean and exact, from pixel centre to the nearest pixel centre of the object
    in the same image; of equally near ones the smaller (dy, dx) wins. Rows are searched outwards
    from the pixel's own, until no other row can hold a nearer one; in a row, the nearest pixel of a
    class is at the end of a run of that class, which a binary search finds.

    Args:
        preds: int64 [N, H, W], predicted class, 0 or more.
        target: int64 [N, H, W], class or `ignore_index`.
        ids: int64 [N, H, W], ground-truth object, -1 where the target is void.
        radius: px, largest distance of an owner.
        ignore_index: Label of void pixels: never false positive, never owned.

    Returns:
        Flat index of each false-positive pixel, int64 [M] ascending; its owner, int64 [M], -1 where
        no object is within reach; the squared distance to it, int64 [M], 2^62 without an owner.
    """
    target = target.long().masked_fill(target == ignore_index, -1)
    fp_index = ((target >= 0) & (preds != target)).flatten().nonzero().squeeze(1)
    owner, distance = torch.full_like(fp_index, -1), torch.full_like(fp_index, 1 << 62)
    todo = _within_reach(preds, target=target, fp_index=fp_index, radius=radius)

    reach, limit, objects = math.floor(radius), math.floor(radius * radius), ids.flatten()
    row_stride = target.shape[2] + reach + 1
    starts, ends = _runs(target, reach=reach)
    at = _keys(preds, index=fp_index[todo], reach=reach)
    for step in range(reach + 1):
        for dy in sorted({-step, step}):
            dx = _nearest_in_row(at + dy * row_stride, starts=starts, ends=ends, reach=reach)
            squared, best = dx * dx + dy * dy, distance[todo]
            # The smaller dy wins a tie: a row above beats every row before it, one below none.
            closer = (squared <= limit) & (squared <= best if dy < 0 else squared < best)
            hit = todo[closer]
            distance[hit] = squared[closer]
            owner[hit] = objects[fp_index[hit] + dy * target.shape[2] + dx[closer]]
        unsettled = distance[todo] >= (step + 1) ** 2
        todo, at = todo[unsettled], at[unsettled]
    return fp_index, owner, distance


def _keys(classes: Tensor, *, index: Tensor, reach: int) -> Tensor:
    """Class, image, row and column of the pixels at flat `index` as one number, in this order.

    Each row and each image ends in a gap as wide as the reach, so that the nearest key in a row is
    the nearest pixel of the class there, or else out of reach.
    """
    num_images, height, width = classes.shape
    image, row, column = torch.unravel_index(index, classes.shape)
    plane = classes.flatten()[index] * num_images + image
    return (plane * (height + reach) + row) * (width + reach + 1) + column


def _runs(target: Tensor, *, reach: int) -> tuple[Tensor, Tensor]:
    """Ascending keys of the first pixels of all runs of a class in a row, and of the last ones.

    Padded: `ends[k]` is of the run before the one of `starts[k]`, and there is always one.
    """
    change = target[..., 1:] != target[..., :-1]
    first, last = (F.pad(change, side, value=True) for side in ([1, 0], [0, 1]))
    starts, ends = (
        _keys(target, index=mask.flatten().nonzero().squeeze(1), reach=reach).sort().values
        for mask in (first, last)
    )
    return F.pad(starts, [0, 1], value=1 << 60), F.pad(ends, [1, 0], value=-1 << 60)


def _nearest_in_row(at: Tensor, *, starts: Tensor, ends: Tensor, reach: int) -> Tensor:
    """Signed distance from each key to the nearest in a run, the left of two; reach + 1 if far."""
    following = torch.searchsorted(starts, at, right=True)
    left = (at - ends[following]).clamp(0, reach + 1)  # 0 inside of a run
    right = (starts[following] - at).clamp(max=reach + 1)
    return torch.where(left <= right, -left, right)


def _within_reach(preds: Tensor, *, target: Tensor, fp_index: Tensor, radius: float) -> Tensor:
    """Which false positives may have an owner: some pixel of their class in the 3 x 3 cells around.

    A cell is at least as wide as the reach, so no owner is lost; far ones are spared the scan.
    """
    cell = max(math.floor(radius), 8)
    num_images, height, width = target.shape
    num_classes = int(torch.maximum(target, preds).max()) + 1 if target.numel() else 1
    rows = torch.arange(height, device=target.device) // cell
    columns = torch.arange(width, device=target.device) // cell
    grid = (-(-height // cell), -(-width // cell))
    # Void (-1) lands in the spare last plane.
    occupied = torch.zeros(num_images, num_classes + 1, *grid, device=target.device)
    images = torch.arange(num_images, device=target.device)[:, None, None]
    occupied[images, target, rows[:, None], columns] = 1
    occupied = F.max_pool2d(occupied, kernel_size=3, stride=1, padding=1)
    image, row, column = torch.unravel_index(fp_index, target.shape)
    wanted = preds.flatten()[fp_index]
    return occupied[image, wanted, rows[row], columns[column]].nonzero().squeeze(1)
