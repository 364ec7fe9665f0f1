"""Attention blocks: the parameters around the equations of `segattn.models.attention`.

Every block is built from its number of channels and maps [B, C, H, W] to the same shape as
gamma * attention(x) + x. Gamma starts at `gamma_start`: 0, as published, makes a fresh block the
identity, which learns only as fast as gamma grows. Under autocast on CUDA a block's products are in
the dtype of autocast; elsewhere in that of its weights. Energies and maps are never less than
float32: energies are not divided by a square root and reach the hundreds, where bfloat16 is off by
a whole unit in the exponent of the softmax.
"""

from typing import Any

import torch
from torch import Tensor, nn

from segattn.models.attention import (
    Energy,
    Implementation,
    channel_attention,
    full_attention,
    spatial_attention,
)
from segattn.models.precision import autocast_off, keeps_half


class AttentionBlock(nn.Module):
    """x + gamma * attention(x); subclasses say what the attention is.

    Attributes:
        shares: None, or a list to which every pass adds, for each of its images, the norm of
            gamma * attention over the norm of x, [B]: how much the attention has to say. 0 for a
            block that training has switched off.
    """

    shares: list[Tensor] | None = None

    def attention(self, x: Tensor, residual: Tensor) -> Tensor:
        """What the block is: the residual and gamma times the attention of x, [B, C, H, W]."""
        raise NotImplementedError

    def attend(self, x: Tensor, residual: Tensor) -> Tensor:
        """As `attention`; measured where somebody wants its share."""
        result = self.attention(x, residual)
        if self.shares is not None:
            added, given = (y.float().flatten(1).norm(dim=1) for y in (result - residual, x))
            self.shares.append(added / given.clamp_min(1e-12))
        return result

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H, W] in the dtype of the weights."""
        if keeps_half(x):
            return self.attend(x, residual=x)
        with autocast_off(x.device):
            x = x.to(next(self.parameters()).dtype)
            return self.attend(x, residual=x)


class ChannelBlock(AttentionBlock):
    """Channel non-local block (CAM of DANet, arXiv 1809.02983, section 3.3).

    Args:
        channels: C; the block has no weights that depend on it.
        energy: Sign of the energies, see `channel_attention`.
        gamma_start: Value of gamma before training.
        implementation: Form of the attention, see `segattn.models.attention`.
    """

    def __init__(
        self,
        channels: int,
        *,
        energy: Energy = "published",
        gamma_start: float = 0.0,
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        self.energy, self.implementation = energy, implementation
        self.gamma = nn.Parameter(torch.full((1,), float(gamma_start)))

    def attention(self, x: Tensor, residual: Tensor) -> Tensor:
        """See the base class."""
        return channel_attention(
            x,
            gamma=self.gamma,
            residual=residual,
            energy=self.energy,
            implementation=self.implementation,
        )


class SpatialBlock(AttentionBlock):
    """Spatial non-local block (PAM of DANet, arXiv 1809.02983, section 3.2).

    Args:
        channels: C; queries and keys have C / 8 channels (at least 1), as published.
        gamma_start: Value of gamma before training.
        implementation: Form of the attention, see `segattn.models.attention`.
    """

    def __init__(
        self,
        channels: int,
        *,
        gamma_start: float = 0.0,
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        self.implementation = implementation
        self.query = nn.Conv2d(channels, max(channels // 8, 1), kernel_size=1)
        self.key = nn.Conv2d(channels, max(channels // 8, 1), kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.full((1,), float(gamma_start)))

    def attention(self, x: Tensor, residual: Tensor) -> Tensor:
        """See the base class."""
        return spatial_attention(
            self.query(x),
            self.key(x),
            self.value(x),
            gamma=self.gamma,
            residual=residual,
            implementation=self.implementation,
        )


class DualBlock(AttentionBlock):
    """Dual NL, DANet's idea: spatial and channel attention in parallel, one residual."""

    def __init__(
        self,
        channels: int,
        *,
        energy: Energy = "published",
        gamma_start: float = 0.0,
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        shared: dict[str, Any] = {"gamma_start": gamma_start, "implementation": implementation}
        self.spatial = SpatialBlock(channels, **shared)
        self.channel = ChannelBlock(channels, energy=energy, **shared)

    def attention(self, x: Tensor, residual: Tensor) -> Tensor:
        """See the base class."""
        return self.channel.attend(x, residual=self.spatial.attend(x, residual))


class SeriesBlock(nn.Sequential):
    """CS NL: channel, then spatial attention (compared in the FLA paper, arXiv 2112.04108)."""

    def __init__(
        self,
        channels: int,
        *,
        energy: Energy = "published",
        gamma_start: float = 0.0,
        implementation: Implementation = "auto",
    ) -> None:
        shared: dict[str, Any] = {"gamma_start": gamma_start, "implementation": implementation}
        super().__init__(
            ChannelBlock(channels, energy=energy, **shared), SpatialBlock(channels, **shared)
        )


class FullBlock(AttentionBlock):
    """Fully attentional block (FLA, arXiv 2112.04108, section 3.2).

    The context of the columns is Linear(mean of x over W), that of the rows Linear(mean over H);
    both are 1x1 convolutions along one axis, so any H and W are accepted. The 3x3 convolution
    that closes the published block is the scaffold's.

    Args:
        channels: C.
        published_batch_mixing: Mix the images of a batch as the published code does, see
            `full_attention`.
        gamma_start: Value of gamma before training.
        implementation: Form of the attention, see `segattn.models.attention`.
    """

    def __init__(
        self,
        channels: int,
        *,
        published_batch_mixing: bool = False,
        gamma_start: float = 0.0,
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        self.published_batch_mixing = published_batch_mixing
        self.implementation = implementation
        self.column_context = nn.Conv1d(channels, channels, kernel_size=1)
        self.row_context = nn.Conv1d(channels, channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.full((1,), float(gamma_start)))

    def attention(self, x: Tensor, residual: Tensor) -> Tensor:
        """See the base class."""
        return full_attention(
            x,
            self.column_context(x.mean(3)),
            self.row_context(x.mean(2)),
            gamma=self.gamma,
            residual=residual,
            published_batch_mixing=self.published_batch_mixing,
            implementation=self.implementation,
        )


Learned = ChannelBlock | SpatialBlock | FullBlock
"""Blocks with a gamma of their own."""


def learned_blocks(head: nn.Module) -> dict[str, Learned]:
    """The blocks of a head that have a gamma of their own, by their names in it."""
    return {name: block for name, block in head.named_modules() if isinstance(block, Learned)}
