"""The IoU of classes and of their objects by size and shape, as a torchmetrics Metric."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from segattn.metrics.counts import COLUMNS, Rows, count, iou_scores, object_rows
from segattn.metrics.measures import BINS, Measures
from segattn.metrics.objects import Objects, find_objects


class SizeStratifiedIoU(Metric):
    """IoU by class, by group of classes, and by the size and the shape of the single object.

    True positives and misses belong to the object they lie in; a false positive of a class belongs
    to its nearest object within `radius`, else to the bin of the predicted component it lies in.
    Every pixel counts once: the sizes of a class sum to its row and column of the confusion matrix.

    The one state is an int64 sum: any order, batching or sharding of the images gives the same
    bits. `rows` holds the rows of the object table of the latest update, one entry an image.

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
        ignore_index: Label of void pixels, which count nowhere.
        kwargs: Of `torchmetrics.Metric`.

    Raises:
        ValueError: If a number is out of range or a name is no class.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

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
        ignore_index: int = 255,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        names = tuple(classes or map(str, range(num_classes)))
        if num_classes < 1 or len(names) != num_classes:
            raise ValueError(f"classes must name each of {num_classes} classes, got {len(names)}")
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
            preds: [N, H, W], predicted class, any integer dtype, or float [N, C, H, W], logits.
            target: [N, H, W], class or `ignore_index`, any integer dtype.
            instances: [N, H, W], ids of single objects, 0 where there is none. Pixels of a class
                without an id form its 8-connected components.
            objects: The objects of each image, where they are found already.

        Raises:
            ValueError: If shapes or classes do not fit together.
        """
        preds = preds.max(1).indices if preds.is_floating_point() else preds
        self._check(preds, target, instances)
        # objects are found on the CPU: one copy of the maps, whatever the device
        maps, labels = preds.cpu().numpy(), target.cpu().numpy()
        if objects is None:
            ids = [None] * len(labels) if instances is None else instances.cpu().numpy()
            objects = [
                find_objects(label, of_image, ignore_index=self.ignore_index)
                for label, of_image in zip(labels, ids, strict=True)
            ]
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
        scores = iou_scores(self.counts.cpu().numpy(), self.measures)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in scores.items()}

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Bars of the scores that are no single class; figure and axes, as torchmetrics gives them.

        Args:
            val: Of `compute`; None computes now.
            ax: Matplotlib axes; None makes some.
        """
        import matplotlib.pyplot as plt

        scores = self.compute() if val is None else val
        shown = {k: float(v) for k, v in scores.items() if not k.startswith("iou/")}
        figure, ax = plt.subplots() if ax is None else (ax.get_figure(), ax)
        ax.barh(list(shown), list(shown.values()))
        ax.set(xlim=(0, 1), xlabel="IoU")
        ax.invert_yaxis()
        return figure, ax

    def reset(self) -> None:
        """Forget everything added so far."""
        super().reset()
        self.rows = []

    def _check(self, preds: Tensor, target: Tensor, instances: Tensor | None) -> None:
        maps = [preds, target] if instances is None else [preds, target, instances]
        shapes = [list(tensor.shape) for tensor in maps]
        if target.ndim != 3 or any(shape != shapes[1] for shape in shapes):
            raise ValueError(
                f"preds, target and instances must share one shape [N, H, W], got {shapes}; bring "
                "the prediction to the size of the labels, never the reverse"
            )
        void = target == self.ignore_index
        for name, classes in (("preds", preds), ("target", target.masked_fill(void, 0))):
            low, high = (int(v) for v in classes.aminmax()) if classes.numel() else (0, 0)
            if low < 0 or high >= len(self.measures.classes):
                raise ValueError(
                    f"{name} must hold classes 0..{len(self.measures.classes) - 1}, got "
                    f"{low}..{high}; void pixels of the target hold {self.ignore_index}"
                )
