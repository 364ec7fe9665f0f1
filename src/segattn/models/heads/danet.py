"""DANet: the dual block in the common scaffold, or the wiring of the paper."""

from typing import Any, Literal

from torch import Tensor, nn

from segattn.models.attention import Energy, Implementation
from segattn.models.heads.blocks import ChannelBlock, DualBlock, SpatialBlock
from segattn.models.heads.scaffold import Head, HeadOutput, ScaffoldHead, classifier, conv_norm_relu


class DANetHead(Head):
    """The published wiring of DANet (arXiv 1809.02983, figure 2): two branches, summed.

    Each branch is 3x3 -> attention -> 3x3 and has a classifier of its own, which is trained with
    the auxiliary loss and answers only in training. The paper's inner width is in_channels / 4.
    Logits are upsampled with aligned corners, as in the published code.
    """

    align_corners = True

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        channels: int,
        dropout: float,
        energy: Energy,
        gamma_start: float = 0.0,
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        shared: dict[str, Any] = {"gamma_start": gamma_start, "implementation": implementation}
        blocks = {
            "spatial": SpatialBlock(channels, **shared),
            "channel": ChannelBlock(channels, energy=energy, **shared),
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
        """[B, in_channels, h, w] to logits, and in training the two branches' own logits."""
        maps = {name: branch(features) for name, branch in self.branches.items()}
        logits = self.classify(maps["spatial"] + maps["channel"])
        if not self.training:
            return HeadOutput(logits)
        return HeadOutput(logits, {name: self.aux[name](maps[name]) for name in maps})


def danet(
    *,
    in_channels: int,
    num_classes: int,
    channels: int = 64,
    dropout: float = 0.1,
    energy: Energy = "published",
    gamma_start: float = 0.0,
    implementation: Implementation = "auto",
    wiring: Literal["scaffold", "published"] = "scaffold",
) -> Head:
    """Dual non-local head.

    Args:
        in_channels: Channels of the encoder's last map.
        num_classes: Number of classes.
        channels: Inner width.
        dropout: Channel dropout before each classifier, in [0, 1].
        energy: Sign of the channel energies, see `channel_attention`.
        gamma_start: Value of gamma before training, in [0, 1].
        implementation: Form of the attention, see `segattn.models.attention`.
        wiring: "scaffold" puts both attentions behind one 3x3 reduction, so that the ablation
            compares blocks; "published" is `DANetHead`, with about twice the parameters.
    """
    sizes: dict[str, Any] = {
        "in_channels": in_channels,
        "num_classes": num_classes,
        "channels": channels,
    }
    knobs: dict[str, Any] = {
        "energy": energy,
        "gamma_start": gamma_start,
        "implementation": implementation,
    }
    if wiring == "published":
        return DANetHead(**sizes, dropout=dropout, **knobs)
    block = DualBlock(channels, **knobs)
    return ScaffoldHead(block, **sizes, dropout=dropout)
