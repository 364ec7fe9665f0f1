"""HRNet as an encoder with one map."""

from typing import Any

import torch
from torch import Tensor, nn

from segattn.models.upsampling import upsample


class HRNetEncoder(nn.Module):
    """HRNetV2 (arXiv 1904.04514, section 3): all branches in one map at stride 4.

    Branches are upsampled to the finest one and concatenated: 48 + 96 + 192 + 384 = 720 channels
    for HRNet-W48. Upsampling is bilinear with align_corners=False, as in the authors' segmentation
    code (its first version, and ALIGN_CORNERS: False in the published configs). Aligned corners
    would shift coarse branches against fine ones by up to half a coarse cell.

    Deviation: inside the network, branches are fused after nearest-neighbour upsampling, as in the
    ImageNet network that timm has weights of; the segmentation code fuses bilinearly.

    Args:
        encoder: smp's encoder of timm's HRNet without widened branches.
        depth: 3, 4 or 5: the coarsest branch is at stride 2 ** depth.
    """

    output_stride = 4

    def __init__(self, encoder: Any, *, depth: int) -> None:
        super().__init__()
        self.branches = encoder
        self.size_multiple = 2**depth
        self.out_channels = [3, sum(encoder.out_channels[2:])]
        for stage in range(depth, 5):  # timm passes the input of an identity on
            setattr(encoder.model, f"stage{stage}", nn.Identity())
            transitions = nn.ModuleList(nn.Identity() for _ in range(depth - 1))
            setattr(encoder.model, f"transition{stage - 1}", transitions)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map [B, 3, H, W] to itself and the map [B, C, H / 4, W / 4]."""
        first, *others = self.branches(x)[2:]
        full = [
            upsample(branch, stride=2**i, size=first.shape[2:]).to(first.dtype)
            for i, branch in enumerate(others, start=1)
        ]
        return [x, torch.cat([first, *full], dim=1)]
