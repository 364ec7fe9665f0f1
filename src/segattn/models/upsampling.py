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

    It is done as two matrix products. Their backward pass is 2.4 times as fast on a CPU (loss
    included), and on CUDA it adds in a fixed order; the one of `interpolate` does not.

    Args:
        logits: [B, C, h, w].
        stride: Factor.
        size: (H, W), at most (h * stride, w * stride).
        align_corners: If true, corner cells and corner pixels have the same centres, as in the
            published codes of DANet and FLANet. If false, a cell covers stride x stride px.

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
    """Return the weight of each cell in each upsampled pixel, [length * stride, length]."""
    cells = torch.eye(length, device=like.device)[None]
    return functional.interpolate(
        cells, scale_factor=stride, mode="linear", align_corners=align_corners
    )[0].T
