"""ASPP: atrous spatial pyramid pooling in the common scaffold."""

import torch
from torch import Tensor, nn

from segattn.models.scaffold import conv_norm_relu, scaffold


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling (DeepLabV3, arXiv 1706.05587, section 3.3).

    A 1x1 convolution, three 3x3 convolutions of different dilation and the mean of the map stand
    side by side, each with `channels`, batch norm and ReLU; a 1x1 convolution merges the five.

    Deviation: the mean of the map has a bias instead of batch norm, which has one value per channel
    and image there and cannot train on one image.

    Args:
        channels: C.
        rate: Dilations are rate, 2 * rate and 3 * rate. The paper has 6, 12 and 18 on maps of 33
            cells (513 px at stride 16) and twice that at stride 8: the largest is half a side. A
            3x3 convolution whose dilation is beyond the map is a 1x1 convolution. The default is
            about half a side of the built-in scenes, 8 x 16 cells; take 12 for 513 px at stride 8.
    """

    def __init__(self, channels: int, *, rate: int = 2) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                conv_norm_relu(channels, channels, kernel_size=1),
                *(conv_norm_relu(channels, channels, rate=k * rate) for k in (1, 2, 3)),
            ]
        )
        self.whole = nn.Sequential(nn.Conv2d(channels, channels, kernel_size=1), nn.ReLU())
        self.merge = conv_norm_relu(5 * channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H, W]."""
        maps = [branch(x) for branch in self.branches]
        whole = self.whole(x.mean((2, 3), keepdim=True)).expand_as(maps[0])
        return self.merge(torch.cat([*maps, whole], dim=1))


head = scaffold(AtrousPyramid)
