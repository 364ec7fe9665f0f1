"""Main and auxiliary cross-entropy."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from segattn.heads import HeadOutput


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

    def cross_entropy(logits: Tensor) -> Tensor:
        # a batch without one labelled pixel has no mean: it gives 0, with a gradient of 0
        if not torch.any(target != ignore_index):
            return logits.sum() * 0.0
        return functional.cross_entropy(
            logits, target, weight=class_weights, ignore_index=ignore_index
        )

    losses = {"loss_main": cross_entropy(output.logits)}
    losses |= {f"loss_{name}": cross_entropy(logits) for name, logits in output.aux.items()}
    auxiliary = sum((losses[f"loss_{name}"] for name in output.aux), start=torch.tensor(0.0))
    return {"loss": losses["loss_main"] + aux_weight * auxiliary.to(target.device), **losses}
