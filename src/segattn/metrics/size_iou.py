"""The IoU of classes and of their objects by size and shape, as a torchmetrics Metric."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from segattn.metrics.counts import COLUMNS, Rows, count, iou_scores, object_rows
from segattn.metrics.measures import BINS, Measures
from segattn.metrics.objects import Objects, find_objects


class SizeStratifiedIoU(Metric):
    """IoU by class, by group of classes, and by the size and the shape of the single object.

    True positives and misses belong to the object they lie in; a false positive of a class belongs
    to its nearest object within `radius`, else to the bin of the predicted component it lies in.
    Every pixel counts once: the sizes of a class, and its crowds, sum to its row and column of the
    confusion matrix.

    Counts are int64 sums: any order, batching or sharding of the images gives the same bits. The
    settings are a state too, so that metrics that differ in them never share or add their counts.
    `rows` holds the rows of the object table of the latest update, one entry an image.

    Example:
        >>> metric = SizeStratifiedIoU(2, size_edges=(2, 4))
        >>> label = torch.zeros(1, 8, 8, dtype=torch.int64)
        >>> label[0, 2:5, 2:5] = 1
        >>> metric.update(label, label)
        >>> round(float(metric.compute()["iou_size/medium"]), 2)
        1.0

    Args:
        num_classes: C.
        classes: Their names; None names them "0", "1", ...
        class_groups: See `Measures`.
        size_classes: See `Measures`; None scores every class in every bin.
        with_ids: See `Measures`.
        size_edges: px, see `Measures`.
        elongation: See `Measures`.
        radius: px, see `Measures`.
        ignore_index: Label of void pixels, which count nowhere; None without void pixels. Where it
            is a class, that class has no score and is in no mean.
        kwargs: Arguments of `torchmetrics.Metric`.

    Raises:
        ValueError: If a number is out of range, or a name is not a class or stands twice.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    settings: Tensor
    counts: Tensor
    n_images: Tensor

    def __init__(
        self,
        num_classes: int,
        *,
        classes: Sequence[str] | None = None,
        class_groups: Mapping[str, Sequence[str]] | None = None,
        size_classes: Mapping[str, Sequence[str]] | None = None,
        with_ids: Sequence[str] = (),
        size_edges: Sequence[float] = (32.0, 96.0),
        elongation: float = 5.0,
        radius: float = 16.0,
        ignore_index: int | None = 255,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        names = tuple(classes or map(str, range(num_classes)))
        if num_classes < 1 or len(names) != num_classes:
            raise ValueError(f"classes must name each of {num_classes} classes, got {len(names)}")
        if num_classes > 255 == ignore_index:
            raise ValueError("class 255 would be void; set ignore_index to another number, or None")
        everything = {name: names for name in BINS}
        self.measures = Measures(
            names,
            class_groups=dict(class_groups or {}),
            size_classes=everything if size_classes is None else dict(size_classes),
            with_ids=with_ids,
            size_edges=size_edges,
            elongation=elongation,
            radius=radius,
        )
        self.ignore_index = ignore_index
        self.rows: list[Rows] = []
        self._with_ids = np.isin(names, list(with_ids))
        shape = (num_classes, len(COLUMNS), 3)
        digest = hashlib.sha256(repr((self.measures.plain(), ignore_index)).encode()).digest()
        # NaN equals nothing: in a MetricCollection each metric counts for itself, and has its rows
        settings = torch.tensor([*digest, math.nan])
        self.add_state("settings", settings, dist_reduce_fx=_shared_settings)
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("n_images", torch.tensor(0), dist_reduce_fx="sum")

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        instances: Tensor | None = None,
        *,
        objects: Sequence[Objects] | None = None,
    ) -> None:
        """Add a batch of N images.

        Args:
            preds: [N, H, W], predicted class, any integer dtype, or float [N, C, H, W], logits of
                all classes, also where there are two.
            target: [N, H, W], class or `ignore_index`, any integer dtype.
            instances: [N, H, W], ids of single objects, 0 for pixels without an id. These form
                the 8-connected components of their class.
            objects: The objects of each image, where they are found already, instead of instances.

        Raises:
            ValueError: If dtypes, shapes or classes do not fit together.
        """
        if preds.is_floating_point():
            if preds.shape[1:2] != (len(self.measures.classes),) or preds.isnan().any():
                raise ValueError(
                    f"preds must be integers, or logits [N, {len(self.measures.classes)}, H, W] "
                    f"without NaN, got {preds.dtype} {list(preds.shape)}"
                )
            preds = preds.max(1).indices
        maps, labels, ids = self._arrays(preds, target, instances)
        if objects is None:
            objects = [
                find_objects(label, of_image, ignore_index=self.ignore_index)
                for label, of_image in zip(labels, ids, strict=True)
            ]
        elif instances is not None or not _are_of(objects, labels, void=self.ignore_index):
            raise ValueError(
                "objects must come from each target with the same ignore_index, and replace "
                "instances"
            )
        self.rows = [
            object_rows(
                *images,
                with_ids=self._with_ids,
                radius=self.measures.radius,
                ignore_index=self.ignore_index,
            )
            for images in zip(maps, labels, objects, strict=True)
        ]
        added = sum(count(rows, self.measures)[0] for rows in self.rows)
        # not in place: a state reset under inference_mode may not be changed outside of it
        self.counts = self.counts + torch.as_tensor(added, device=self.counts.device)
        self.n_images = self.n_images + len(target)

    def compute(self) -> dict[str, Tensor]:
        """Scores by name, float64 in 0..1, see `iou_scores`."""
        _shared_settings(torch.stack([self.settings, self._defaults["settings"]]))  # type: ignore[list-item]
        scores = iou_scores(self.counts.cpu().numpy(), self.measures)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in scores.items()}

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot the scores of `compute`, or a list of them over time; no IoU of single classes."""
        listed = val if isinstance(val, Sequence) else [self.compute() if val is None else val]
        shown = [{k: v for k, v in s.items() if not k.startswith("iou/")} for s in listed]
        return self._plot(shown if len(shown) > 1 else shown[0], ax)

    def set_dtype(self, dst_type: Any) -> "SizeStratifiedIoU":
        """Do nothing: counts stay integers in a model of any precision."""
        return self

    def reset(self) -> None:
        """Forget everything added so far."""
        super().reset()
        self.rows = []

    def _arrays(self, preds: Tensor, target: Tensor, instances: Tensor | None) -> list[Any]:
        """The maps as arrays on the CPU, whatever the device; [None, ...] without instances."""
        given = [preds, target] if instances is None else [preds, target, instances]
        found = [f"{str(tensor.dtype)[6:]} {list(tensor.shape)}" for tensor in given]
        if target.ndim != 3 or any(
            tensor.shape != target.shape or not kind.startswith(("int", "uint"))
            for tensor, kind in zip(given, found, strict=True)
        ):
            raise ValueError(
                "preds, target and instances must be integers and share one shape [N, H, W], got "
                f"{', '.join(found)}; read labels as they are stored, never scaled or resized"
            )
        arrays = [tensor.cpu().numpy() for tensor in given]
        last, valid = len(self.measures.classes) - 1, arrays[1][arrays[1] != self.ignore_index]
        for name, classes in (("preds", arrays[0]), ("target", valid)):
            if classes.size and (classes.min() < 0 or classes.max() > last):
                raise ValueError(
                    f"{name} must hold classes 0..{last}, got {classes.min()}..{classes.max()}; "
                    f"void pixels of the target hold {self.ignore_index}"
                )
        return arrays if len(arrays) == 3 else [*arrays, [None] * len(arrays[0])]


def _are_of(objects: Sequence[Objects], labels: NDArray[np.integer], *, void: int | None) -> bool:
    """Whether the classes of the objects make up the label maps."""
    return len(objects) == len(labels) and all(
        np.array_equal(np.append(found.cls, -1 if void is None else void)[found.ids], label)
        for found, label in zip(objects, labels, strict=True)
    )


def _shared_settings(settings: Tensor) -> Tensor:
    """The settings of metrics that are merged; the last number of each is NaN."""
    if not torch.equal(settings[:-1, :-1], settings[1:, :-1]):
        raise ValueError("metrics of different settings cannot share or add their counts")
    return settings[0]
