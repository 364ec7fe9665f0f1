"""Attention blocks: the parameters around the equations of `segattn.attention`.

Every block is built from its number of channels and maps [B, C, H, W] to the same shape as
gamma * attention(x) + x, with gamma = 0 at the start: a fresh block is the identity. Under
autocast the attention itself stays in float32: energies are not divided by a square root and reach
the hundreds, where bfloat16 is off by a whole unit in the exponent of the softmax.
"""

import torch
from torch import Tensor, nn

from segattn.attention import Energy, channel_attention, full_attention, spatial_attention


class AttentionBlock(nn.Module):
    """x + attend(x) in float32; subclasses say what `attend` is."""

    def attend(self, x: Tensor) -> Tensor:
        """Gamma * attention, without the residual; [B, C, H, W] to [B, C, H, W]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H, W], float32."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            return x + self.attend(x)


class ChannelBlock(AttentionBlock):
    """Channel non-local block (CAM of DANet, arXiv 1809.02983, section 3.3).

    Args:
        channels: C; the block has no weights that depend on it.
        energy: Sign of the energies, see `channel_attention`.
    """

    def __init__(self, channels: int, *, energy: Energy = "published") -> None:
        super().__init__()
        self.energy = energy
        self.gamma = nn.Parameter(torch.zeros(1))

    def attend(self, x: Tensor) -> Tensor:
        """See the base class."""
        return self.gamma * channel_attention(x, energy=self.energy)


class SpatialBlock(AttentionBlock):
    """Spatial non-local block (PAM of DANet, arXiv 1809.02983, section 3.2).

    Args:
        channels: C; queries and keys have C / 8 channels (at least 1), as published.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, max(channels // 8, 1), kernel_size=1)
        self.key = nn.Conv2d(channels, max(channels // 8, 1), kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def attend(self, x: Tensor) -> Tensor:
        """See the base class."""
        return self.gamma * spatial_attention(self.query(x), self.key(x), self.value(x))


class DualBlock(AttentionBlock):
    """Dual NL, DANet's idea: spatial and channel attention in parallel, one residual."""

    def __init__(self, channels: int, *, energy: Energy = "published") -> None:
        super().__init__()
        self.spatial = SpatialBlock(channels)
        self.channel = ChannelBlock(channels, energy=energy)

    def attend(self, x: Tensor) -> Tensor:
        """See the base class."""
        return self.spatial.attend(x) + self.channel.attend(x)


class SeriesBlock(nn.Sequential):
    """CS NL: channel, then spatial attention (compared in the FLA paper, arXiv 2112.04108)."""

    def __init__(self, channels: int, *, energy: Energy = "published") -> None:
        super().__init__(ChannelBlock(channels, energy=energy), SpatialBlock(channels))


class FullBlock(AttentionBlock):
    """Fully attentional block (FLA, arXiv 2112.04108, section 3.2).

    The context of the columns is Linear(mean of x over W), that of the rows Linear(mean over H);
    both are 1x1 convolutions along one axis, so any H and W are accepted. The 3x3 convolution
    that closes the published block is the scaffold's.

    Args:
        channels: C.
        published_batch_mixing: Mix the images of a batch as the published code does, see
            `full_attention`.
    """

    def __init__(self, channels: int, *, published_batch_mixing: bool = False) -> None:
        super().__init__()
        self.published_batch_mixing = published_batch_mixing
        self.column_context = nn.Conv1d(channels, channels, kernel_size=1)
        self.row_context = nn.Conv1d(channels, channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def attend(self, x: Tensor) -> Tensor:
        """See the base class."""
        columns, rows = self.column_context(x.mean(3)), self.row_context(x.mean(2))
        mixing = self.published_batch_mixing
        return self.gamma * full_attention(x, columns, rows, published_batch_mixing=mixing)
