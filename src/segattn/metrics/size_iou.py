"""The IoU of each class, by size and shape of the ground-truth object, as a torchmetrics Metric."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from segattn.metrics.functional import Counts, ObjectRows, fixed_ratio, object_rows

_TABLES = ("tp", "area", "fp", "fp_far", "n_obj", "sum_iou", "sum_rec")


class SizeStratifiedIoU(Metric):
    """IoU by class and bin of the ground-truth object, with every pixel counted exactly once.

    True positives and misses belong to the object they lie in. A false positive of class c belongs
    to the nearest object of class c if that lies within `radius` (an error of localisation), else
    to the bin of the predicted component it lies in (a false alarm of that size; COCO treats
    unmatched detections so, Lin et al. 2014, https://arxiv.org/abs/1405.0312). So the bins of a
    class sum to its row and column of the ordinary confusion matrix.

    The states are int64 sums: any order, batching or sharding of the images gives the same bits.
    `rows` holds the `ObjectRows` of the latest update (None after a reset), for the object table.

    Args:
        num_classes: C.
        num_bins: B, for example `SizeBins().num_bins`.
        radius: px, reach of an object over false positives around it; twice the stride is usual.
        other_radii: px, further reaches that `rows` counts too, to see what depends on the reach.
        ignore_index: Label of void pixels, which count nowhere.
        min_area: px; smaller objects are left out of the means over objects, not of the pixel sums.
        kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: If a number is out of range.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    tp: Tensor
    area: Tensor
    fp: Tensor
    fp_far: Tensor
    n_obj: Tensor
    sum_iou: Tensor
    sum_rec: Tensor
    n_images: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        num_bins: int,
        radius: float,
        other_radii: Sequence[float] = (),
        ignore_index: int = 255,
        min_area: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.radii = (radius, *other_radii)
        if num_classes < 1 or num_bins < 1 or min(self.radii) < 0:
            raise ValueError(
                "num_classes and num_bins must be 1 or more and radii 0 or more, "
                f"got {num_classes}, {num_bins} and {self.radii}"
            )
        self.num_classes = num_classes
        self.num_bins = num_bins
        self.ignore_index = ignore_index
        self.min_area = min_area
        self.rows: ObjectRows | None = None
        for name in _TABLES:
            zeros = torch.zeros(num_classes, num_bins, dtype=torch.int64)
            self.add_state(name, zeros, dist_reduce_fx="sum")
        self.add_state("n_images", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        ids: Tensor,
        obj_bin: Tensor,
        pred_ids: Tensor,
        pred_bin: Tensor,
    ) -> None:
        """Add a batch.

        Args:
            preds: [N, H, W], predicted class, any integer dtype, or float [N, C, H, W], logits.
            target: [N, H, W], class or `ignore_index`, any integer dtype.
            ids: int64 [N, H, W], ground-truth objects 0..K-1, -1 exactly where the target is void.
            obj_bin: int64 [K], bin of each object.
            pred_ids: int64 [N, H, W], components 0..P-1 of the predicted classes.
            pred_bin: int64 [P], bin of each component.

        Raises:
            ValueError: If shapes, classes, ids or bins do not fit together.
        """
        preds = self._decide(preds) if preds.is_floating_point() else preds.long()
        target = target.long()
        self._check_maps(preds, target=target, ids=ids, pred_ids=pred_ids)
        self._check_bins("ids", ids, bins=obj_bin, lowest=-1)
        self._check_bins("pred_ids", pred_ids, bins=pred_bin, lowest=0)
        rows = object_rows(
            preds,
            target=target,
            ids=ids,
            num_objects=len(obj_bin),
            pred_ids=pred_ids,
            num_predicted=len(pred_bin),
            radii=self.radii,
            ignore_index=self.ignore_index,
        )
        self._add(rows, obj_bin=obj_bin, pred_bin=pred_bin)
        self.n_images = self.n_images + len(target)
        self.rows = rows

    def compute(self) -> dict[str, Tensor]:
        """Scores of everything added so far, see `Counts.scores`."""
        return self.counts().scores()

    def counts(self) -> Counts:
        """The states as `Counts`, to merge bins or to save; not synchronised between processes."""
        return Counts(**{name: getattr(self, name) for name in _TABLES})

    def reset(self) -> None:
        """Forget everything added so far."""
        super().reset()
        self.rows = None

    def _add(self, rows: ObjectRows, *, obj_bin: Tensor, pred_bin: Tensor) -> None:
        counted = rows.area >= self.min_area
        cell = rows.cls * self.num_bins + obj_bin
        pred_cell = rows.pred_cls * self.num_bins + pred_bin
        fp, fp_far = rows.fp[:, 0], rows.fp_far[:, 0]
        added = {
            "tp": (cell, rows.tp),
            "area": (cell, rows.area),
            "fp": (cell, fp),
            "fp_far": (pred_cell, fp_far),
            "n_obj": (cell, counted.long()),
            "sum_iou": (cell, counted * fixed_ratio(rows.tp, rows.area + fp)),
            "sum_rec": (cell, counted * fixed_ratio(rows.tp, rows.area)),
        }
        for name, (index, values) in added.items():
            # Not in place: a state reset under inference_mode may not be changed outside of it.
            state = getattr(self, name)
            setattr(self, name, state.flatten().index_add(0, index, values).view_as(state))

    def _decide(self, logits: Tensor) -> Tensor:
        if logits.ndim != 4 or logits.shape[1] != self.num_classes:
            raise ValueError(
                f"logits must be [N, {self.num_classes}, H, W], got {list(logits.shape)}; "
                "pass predicted classes as integers"
            )
        return logits.max(1).indices  # several times as fast as argmax on a CPU

    def _check_maps(self, preds: Tensor, *, target: Tensor, ids: Tensor, pred_ids: Tensor) -> None:
        shapes = [list(tensor.shape) for tensor in (preds, target, ids, pred_ids)]
        if target.ndim != 3 or any(shape != shapes[1] for shape in shapes):
            raise ValueError(
                "preds, target, ids and pred_ids must share one shape [N, H, W], got "
                f"{shapes}; bring the prediction to the size of the labels, never the reverse"
            )
        valid = target != self.ignore_index
        for name, classes in (("preds", preds), ("target", target.masked_fill(~valid, 0))):
            low, high = _range(classes)
            if low < 0 or high >= self.num_classes:
                raise ValueError(
                    f"{name} must hold classes 0..{self.num_classes - 1}, got {low}..{high}; "
                    f"void pixels of the target must hold ignore_index={self.ignore_index}"
                )
        if not torch.equal(ids >= 0, valid):
            raise ValueError(
                "ids must be -1 exactly where target is void; find the objects in this very "
                f"target, with ignore_index={self.ignore_index}"
            )

    def _check_bins(self, name: str, ids: Tensor, *, bins: Tensor, lowest: int) -> None:
        low, high = _range(ids)
        if low < lowest or high >= len(bins):
            raise ValueError(
                f"{name} must hold {lowest}..{len(bins) - 1}, as there are {len(bins)} bins for "
                f"them, got {low}..{high}; number the objects through the batch, and find those "
                "of a prediction with ignore_index=None"
            )
        low, high = _range(bins)
        if low < 0 or high >= self.num_bins:
            raise ValueError(
                f"the bins of {name} must be 0..{self.num_bins - 1}, got {low}..{high}; "
                "num_bins must be that of the SizeBins"
            )


def _range(values: Tensor) -> tuple[int, int]:
    """Smallest and largest value; (0, -1), which fits any range, if there is none."""
    if values.numel() == 0:
        return 0, -1
    low, high = values.aminmax()
    return int(low), int(high)
