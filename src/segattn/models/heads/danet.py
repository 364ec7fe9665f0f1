"""DANet: spatial and channel attention in parallel, in the scaffold or wired as in the paper."""

from typing import Any

from torch import Tensor, nn

from segattn.models.attention import Energy, Implementation
from segattn.models.blocks import AttentionBlock
from segattn.models.heads.channel_nl import ChannelBlock
from segattn.models.heads.spatial_nl import SpatialBlock
from segattn.models.scaffold import Head, HeadOutput, classifier, conv_norm_relu, scaffold


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
        return self.channel(x, self.spatial(x, residual))


class DANetHead(Head):
    """The published wiring of DANet (arXiv 1809.02983, figure 2): two branches, summed.

    Each branch is 3x3 -> attention -> 3x3. Its own classifier, which runs only in training, is
    trained with the auxiliary loss. The paper's inner width is in_channels / 4. The head has about
    twice the parameters of the scaffold. Logits are upsampled with aligned corners, as in the
    published code.
    """

    align_corners = True

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        channels: int,
        dropout: float,
        energy: Energy = "published",
        **knobs: Any,
    ) -> None:
        super().__init__()
        blocks = {
            "spatial": SpatialBlock(channels, **knobs),
            "channel": ChannelBlock(channels, energy=energy, **knobs),
        }
        self.branches = nn.ModuleDict(
            {
                name: nn.Sequential(
                    conv_norm_relu(in_channels, channels), block, conv_norm_relu(channels, channels)
                )
                for name, block in blocks.items()
            }
        )
        self.aux = nn.ModuleDict(
            {name: classifier(channels, num_classes, dropout) for name in blocks}
        )
        self.classify = classifier(channels, num_classes, dropout)

    def forward(self, features: Tensor) -> HeadOutput:
        """Map [B, in_channels, h, w] to logits, in training also to the logits of both branches."""
        maps = {name: branch(features) for name, branch in self.branches.items()}
        logits = self.classify(maps["spatial"] + maps["channel"])
        if not self.training:
            return HeadOutput(logits)
        return HeadOutput(logits, {name: self.aux[name](maps[name]) for name in maps})


head = scaffold(DualBlock, published=DANetHead)
