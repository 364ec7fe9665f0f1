"""Main and auxiliary cross-entropy, its mean over many batches, and a watch over it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from segattn.base.distributed import summed
from segattn.models.scaffold import HeadOutput
from segattn.training.advice import not_finite


class LossMean:
    """The mean loss over all labelled pixels of many batches, on all processes.

    It sums before it divides, so neither the size of a batch nor the number of processes changes it
    by more than rounding.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weight: Tensor | float = 0.0

    def add(self, losses: dict[str, Tensor], weight: Tensor) -> None:
        """Add a batch.

        Args:
            losses: Mean losses of the batch by name, each [].
            weight: What each mean was divided by, [], see `label_weight`.
        """
        for name, loss in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + loss.detach() * weight
        self._weight = self._weight + weight

    def compute(self) -> dict[str, float]:
        """Return the means by name and start anew; NaN where no pixel was labelled.

        Every process has to call it.
        """
        *sums, weight = summed(torch.stack([*self._sums.values(), torch.as_tensor(self._weight)]))
        means = dict(zip(self._sums, (torch.stack(sums) / weight).tolist(), strict=True))
        self._reset()
        return means


class LossWatch:
    """Stops a training whose loss is not finite, without waiting for the device at every step.

    Args:
        every: Steps from one check to the next. Up to this many steps may follow a bad loss, but
            no checkpoint is saved in between: the last step of an epoch checks too.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self._unseen: list[tuple[Tensor, dict[str, Any]]] = []

    def add(self, loss: Tensor, *, last: bool, **where: Any) -> None:
        """Keep the loss of a step, and check all kept ones if it is time.

        Args:
            loss: Loss of the step, [].
            last: Whether the step is the last one of its epoch.
            **where: Arguments of `not_finite`: epoch, step, names.

        Raises:
            UserError: A loss since the last check is not finite; the message names the first one.
        """
        self._unseen.append((loss.detach(), where))
        if last or len(self._unseen) >= self.every:
            self.look()

    def look(self) -> None:
        """Check the losses since the last check; raises the same error as `add`."""
        unseen, self._unseen = self._unseen, []
        losses = torch.stack([loss for loss, _ in unseen]).tolist() if unseen else []
        for loss, (_, where) in zip(losses, unseen, strict=True):
            if not math.isfinite(loss):
                raise not_finite(loss, **where)


def inverse_sqrt_weights(frequencies: Sequence[float]) -> list[float]:
    """Class weights 1 / sqrt(frequency); their scale cancels in the weighted mean of the loss.

    Args:
        frequencies: Share of each class in the training pixels; a class that never occurs there
            counts as much as the rarest that does.
    """
    rarest = min(f for f in frequencies if f > 0)
    return [max(f, rarest) ** -0.5 for f in frequencies]


def label_weight(target: Tensor, class_weights: Tensor | None, *, ignore_index: int) -> Tensor:
    """Return the sum of the class weights of all labelled pixels, float32 [].

    The mean of a weighted cross-entropy is divided by it. Without class weights it is the number of
    labelled pixels.

    Args:
        target: int64 [B, H, W].
        class_weights: [C] or None.
        ignore_index: Label of pixels without a class.
    """
    labelled = target != ignore_index
    if class_weights is None:
        return labelled.sum().float()
    return (class_weights[target.where(labelled, 0)] * labelled).sum()


def segmentation_loss(
    output: HeadOutput,
    target: Tensor,
    *,
    aux_weight: float,
    class_weights: Tensor | None,
    ignore_index: int,
) -> dict[str, Tensor]:
    """Cross-entropy of the logits, and of each auxiliary classifier times `aux_weight`.

    Args:
        output: Logits [B, C, H, W] at the size of the target.
        target: int64 [B, H, W]; `ignore_index` does not count.
        aux_weight: Weight of each auxiliary loss.
        class_weights: [C] or None.
        ignore_index: Label of pixels without a class.

    Returns:
        "loss", the sum; "loss_main"; "loss_<name>" per auxiliary classifier, unweighted.
    """
    labelled = (target != ignore_index).any()

    def cross_entropy(logits: Tensor) -> Tensor:
        loss = functional.cross_entropy(
            logits, target, weight=class_weights, ignore_index=ignore_index
        )
        # a batch without a labelled pixel has no mean: its loss and gradients are 0. An `if` would
        # wait for the device in every step
        return torch.where(labelled, loss, 0.0)

    losses = {"loss_main": cross_entropy(output.logits)}
    losses |= {f"loss_{name}": cross_entropy(logits) for name, logits in output.aux.items()}
    auxiliary = sum(losses[f"loss_{name}"] for name in output.aux)
    return {"loss": losses["loss_main"] + aux_weight * auxiliary, **losses}
