"""CS NL: channel, then spatial attention (compared in the FLA paper, arXiv 2112.04108)."""

from typing import Any

from torch import nn

from segattn.models.attention import Energy, Implementation
from segattn.models.heads.channel_nl import ChannelBlock
from segattn.models.heads.spatial_nl import SpatialBlock
from segattn.models.scaffold import scaffold


class SeriesBlock(nn.Sequential):
    """Channel attention, then spatial attention."""

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


head = scaffold(SeriesBlock)
