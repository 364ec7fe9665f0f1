"""PSP: pyramid pooling in the common scaffold."""

import torch
from torch import Tensor, nn

from segattn.models.precision import autocast_off, widened
from segattn.models.scaffold import conv_norm_relu, scaffold

_BINS = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """Pyramid pooling module (PSPNet, CVPR 2017, arXiv 1612.01105, section 3.2).

    The map is averaged over 1x1, 2x2, 3x3 and 6x6 regions, which overlap by a cell if its side is
    not a multiple. Each result passes a 1x1 convolution to channels / 4, batch norm and ReLU, and
    is enlarged bilinearly with aligned corners, as in the authors' PyTorch code.

    Deviations: the mean of the whole map has a bias instead of batch norm, which has one value per
    channel and image there and cannot train on one image. A 1x1 convolution brings features and
    regions back to `channels`, before the 3x3 of the scaffold.

    Args:
        channels: C; each of the four kinds of regions gets C / 4 channels (at least 1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = max(channels // 4, 1)
        self.whole = nn.Sequential(nn.Conv2d(channels, width, kernel_size=1), nn.ReLU())
        self.regions = nn.ModuleList(
            conv_norm_relu(channels, width, kernel_size=1) for _ in _BINS[1:]
        )
        self.merge = conv_norm_relu(channels + len(_BINS) * width, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H, W]."""
        maps = [x]
        for bins, reduce in zip(_BINS, (self.whole, *self.regions), strict=True):
            means, shares = zip(*(_matrices(n, bins, like=x) for n in x.shape[2:]), strict=True)
            maps.append(_resize(reduce(_resize(x, *means)), *shares))
        return self.merge(torch.cat(maps, dim=1))


def _matrices(length: int, bins: int, *, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the matrices that average the parts of an axis and that interpolate between them.

    Products with them equal adaptive_avg_pool and interpolate. But they can be exported for any
    size, and on CUDA their backward passes add in a fixed order.

    Returns:
        [bins, length] and [length, bins].
    """
    cell, part = (torch.arange(n, device=like.device) for n in (length, bins))
    first, end = part * length // bins, -(-(part + 1) * length // bins)
    inside = (cell >= first[:, None]) & (cell < end[:, None])
    place = cell * (bins - 1) / cell[-1:].clamp(min=1)
    return inside / (end - first)[:, None], (1 - (place[:, None] - part).abs()).clamp(min=0)


def _resize(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    wide = widened(x).contiguous()
    with autocast_off(x.device):
        return (rows.to(wide) @ (wide @ columns.T.to(wide))).to(x.dtype)


head = scaffold(PyramidPooling)
