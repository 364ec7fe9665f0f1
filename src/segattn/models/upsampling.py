"""Bilinear upsampling by a whole factor."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from segattn.models.precision import autocast_off


def upsample(
    logits: Tensor, *, stride: int, size: Sequence[int], align_corners: bool = False
) -> Tensor:
    """Upsample by `stride` and cut to `size`, as `functional.interpolate` does up to rounding.

    Two matrix products: their backward pass is 2.4 times as fast on a CPU (loss included), and on
    CUDA it does not add in random order, as that of interpolate does.

    Args:
        logits: [B, C, h, w].
        stride: Factor.
        size: (H, W), at most (h * stride, w * stride).
        align_corners: Whether the centres of the corner cells are those of the corner pixels, as
            in the published codes of DANet and FLANet; else a cell covers stride x stride px.

    Returns:
        float32 [B, C, H, W].
    """
    rows, columns = (
        _bilinear_weights(length, stride, like=logits, align_corners=align_corners)[:end]
        for length, end in zip(logits.shape[2:], size, strict=True)
    )
    with autocast_off(logits.device):
        return rows @ (logits.float().contiguous() @ columns.T)


def _bilinear_weights(length: int, stride: int, *, like: Tensor, align_corners: bool) -> Tensor:
    """[length * stride, length]: how much of each cell an upsampled pixel holds."""
    cells = torch.eye(length, device=like.device)[None]
    return functional.interpolate(
        cells, scale_factor=stride, mode="linear", align_corners=align_corners
    )[0].T
