"""Main and auxiliary cross-entropy, and a watch over the sum."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from segattn.models.heads import HeadOutput
from segattn.training.advice import not_finite


class LossWatch:
    """Stops a training whose loss is not finite, without waiting for the device at every step.

    Args:
        every: Steps from one look to the next. Some follow a bad one; no checkpoint is among them,
            since the last step of an epoch has a look too.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self._unseen: list[tuple[Tensor, dict[str, Any]]] = []

    def add(self, loss: Tensor, *, last: bool, **where: Any) -> None:
        """Take the loss of a step, and look if it is time.

        Args:
            loss: Of the step, [].
            last: Whether the epoch ends with it.
            **where: What `not_finite` tells: epoch, step, names.

        Raises:
            UserError: A loss since the last look is not finite; the message tells the first one.
        """
        self._unseen.append((loss.detach(), where))
        if last or len(self._unseen) >= self.every:
            self.look()

    def look(self) -> None:
        """Look at the losses since the last look; raises as `add`."""
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
        # a batch without one labelled pixel has no mean: it gives 0, and gradients of 0. An `if`
        # would wait for the device in every step
        return torch.where(labelled, loss, 0.0)

    losses = {"loss_main": cross_entropy(output.logits)}
    losses |= {f"loss_{name}": cross_entropy(logits) for name, logits in output.aux.items()}
    auxiliary = sum(losses[f"loss_{name}"] for name in output.aux)
    return {"loss": losses["loss_main"] + aux_weight * auxiliary, **losses}
