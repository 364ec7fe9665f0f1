"""FLA: the fully attentional block in the common scaffold, or the wiring of the published code."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segattn.models.attention import Implementation
from segattn.models.heads.blocks import FullBlock
from segattn.models.heads.scaffold import Head, HeadOutput, ScaffoldHead, classifier, conv_norm_relu

_NUM_AUXILIARY = 2


class FLANetHead(Head):
    """The published wiring of FLANet (arXiv 2112.04108, code Ilareina/FullyAttentional).

    Two 3x3 -> block -> 3x3, beside the encoder's last map; both are enlarged to twice the
    resolution and merged by a 3x3 before the classifier. Each of the two encoder maps before the
    last has an auxiliary classifier behind a 3x3 of channels / 8, which answers only in training.
    The paper's inner width is 512. Logits are upsampled with aligned corners.

    Deviation: weights start as PyTorch draws them; the published code redraws every convolution
    with a standard deviation 3 ** 0.5 as large, which the batch norms undo at the start.

    Args:
        in_channels: Channels of the encoder's last map.
        num_classes: Number of classes.
        channels: Inner width.
        dropout: Channel dropout before each classifier, in [0, 1].
        stage_channels: Channels of the encoder's maps before the last, fine to coarse. A stage that
            has none gets no auxiliary classifier, and neither do those before the last two.
        published_batch_mixing: See `FullBlock`.
        gamma_start: Value of gamma before training, in [0, 1].
        implementation: Form of the attention, see `segattn.models.attention`.
    """

    align_corners = True

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        channels: int,
        dropout: float,
        stage_channels: Sequence[int] = (),
        published_batch_mixing: bool = False,
        gamma_start: float = 0.0,
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            conv_norm_relu(in_channels, channels), conv_norm_relu(channels, channels)
        )
        self.block = FullBlock(
            channels,
            published_batch_mixing=published_batch_mixing,
            gamma_start=gamma_start,
            implementation=implementation,
        )
        self.refine = conv_norm_relu(channels, channels)
        self.enlarge = nn.Upsample(scale_factor=2)
        self.merge = conv_norm_relu(in_channels + channels, channels)
        self.classify = classifier(channels, num_classes, dropout)
        width = max(channels // 8, 1)
        stages = [(f"stage{i}", size) for i, size in enumerate(stage_channels, start=1) if size]
        self.aux = nn.ModuleDict(
            {
                name: nn.Sequential(
                    conv_norm_relu(size, width), classifier(width, num_classes, dropout)
                )
                for name, size in stages[-_NUM_AUXILIARY:]
            }
        )
        self.num_earlier = len(self.aux)

    def forward(self, features: Tensor, *earlier: Tensor) -> HeadOutput:
        """The last map [B, in_channels, h, w] to logits at (2 h, 2 w).

        Args:
            features: The encoder's last map.
            *earlier: The `num_earlier` maps before it; read in training only, where they give the
                auxiliary logits, also at twice their resolution.
        """
        attended = self.refine(self.block(self.reduce(features)))
        both = torch.cat([features, attended.to(features.dtype)], dim=1)
        logits = self.classify(self.merge(self.enlarge(both)))
        if not self.training:
            return HeadOutput(logits)
        stages = zip(self.aux.items(), earlier, strict=True)
        return HeadOutput(logits, {name: aux(self.enlarge(x)) for (name, aux), x in stages})


def fla(
    *,
    in_channels: int,
    num_classes: int,
    channels: int = 64,
    dropout: float = 0.1,
    stage_channels: Sequence[int] = (),
    published_batch_mixing: bool = False,
    gamma_start: float = 0.0,
    implementation: Implementation = "auto",
    wiring: Literal["scaffold", "published"] = "scaffold",
) -> Head:
    """Fully attentional head.

    Args:
        in_channels: Channels of the encoder's last map.
        num_classes: Number of classes.
        channels: Inner width.
        dropout: Channel dropout before each classifier, in [0, 1].
        stage_channels: See `FLANetHead`, which alone reads earlier maps.
        published_batch_mixing: Mix the images of a batch as the published code does, see
            `full_attention`.
        gamma_start: Value of gamma before training, in [0, 1].
        implementation: Form of the attention, see `segattn.models.attention`.
        wiring: "scaffold" is the scaffold of all heads, so that the ablation compares blocks;
            "published" is `FLANetHead`, with several times the parameters.
    """
    sizes: dict[str, Any] = {
        "in_channels": in_channels,
        "num_classes": num_classes,
        "channels": channels,
    }
    knobs: dict[str, Any] = {
        "published_batch_mixing": published_batch_mixing,
        "gamma_start": gamma_start,
        "implementation": implementation,
    }
    if wiring == "published":
        return FLANetHead(**sizes, dropout=dropout, stage_channels=stage_channels, **knobs)
    return ScaffoldHead(FullBlock(channels, **knobs), **sizes, dropout=dropout)
