"""FLA: the fully attentional block, in the scaffold or wired as in the published code."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segattn.models.attention import Implementation, full_attention
from segattn.models.blocks import AttentionBlock, new_gamma
from segattn.models.channel_maps import choose_channels, gram, scaled_features
from segattn.models.scaffold import Head, HeadOutput, classifier, conv_norm_relu, scaffold

_NUM_AUXILIARY = 2


class FullBlock(AttentionBlock):
    """Fully attentional block (FLA, arXiv 2112.04108, section 3.2).

    The context of the columns is Linear(mean of x over W), the context of the rows is Linear(mean
    of x over H). Both are 1x1 convolutions along one axis, so any H and W are accepted. The 3x3
    convolution that closes the published block is the scaffold's.

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
        self.gamma = new_gamma(gamma_start)

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

    def columns(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and context of the columns of one image: [w, C, h] and [C, h]."""
        return x[0].permute(2, 0, 1), self.column_context(x.mean(3))[0]

    def rows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and context of the rows of one image: [h, C, w] and [C, w]."""
        return x[0].permute(1, 0, 2), self.row_context(x.mean(2))[0]

    def maps(self, x: Tensor, cells: Tensor) -> dict[str, Tensor]:
        """Return the maps in the cells' columns and rows, and for some channels in all of them."""
        columns, column_context = self.columns(x)
        rows, row_context = self.rows(x)
        channels, shown = choose_channels(gram(x))
        in_columns = slice_maps(columns[cells[:, 1]], column_context)[:, channels][..., channels]
        in_rows = slice_maps(rows[cells[:, 0]], row_context)[:, channels][..., channels]
        over_columns = slice_maps(columns[:, shown], column_context)[..., channels]
        over_rows = slice_maps(rows[:, shown], row_context)[..., channels]
        return {
            "channels": channels,
            "shown": shown[:, None],
            "channel_maps": scaled_features(x, shown[:, None]),
            "column_maps": in_columns,
            "row_maps": in_rows,
            "over_columns": over_columns.permute(1, 2, 0),
            "over_rows": over_rows.permute(1, 2, 0),
        }


def slice_maps(features: Tensor, context: Tensor) -> Tensor:
    """Return softmax(F G^T) of every slice: [S, C, L] and [C, L] to [S, C, C].

    F may hold only some of the channels; the result then holds their rows of the map.
    """
    return torch.softmax(features @ context.T, dim=-1)


class FLANetHead(Head):
    """The published wiring of FLANet (arXiv 2112.04108, code Ilareina/FullyAttentional).

    Two 3x3 -> block -> 3x3, beside the encoder's last map; both are enlarged to twice the
    resolution and merged by a 3x3 before the classifier. Each of the two encoder maps before the
    last has an auxiliary classifier behind a 3x3 of channels / 8, which runs only in training.
    The paper's inner width is 512; the head has several times the parameters of the scaffold.
    Logits are upsampled with aligned corners.

    Deviation: weights start as PyTorch draws them; the published code redraws every convolution
    with a standard deviation 3 ** 0.5 as large, which the batch norms undo at the start.

    Args:
        in_channels: Channels of the encoder's last map.
        num_classes: Number of classes.
        channels: Inner width.
        dropout: Channel dropout before each classifier, in [0, 1].
        stage_channels: Channels of the encoder's maps before the last, fine to coarse. Only the
            last two maps get an auxiliary classifier, and only if they have channels.
        **knobs: The knobs of `FullBlock`.
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
        **knobs: Any,
    ) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            conv_norm_relu(in_channels, channels), conv_norm_relu(channels, channels)
        )
        self.block = FullBlock(channels, **knobs)
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
        """Map [B, in_channels, h, w] to logits at (2 h, 2 w).

        Args:
            features: The encoder's last map.
            *earlier: The `num_earlier` maps before it. They are read only in training, where they
                give the auxiliary logits, also at twice their resolution.
        """
        attended = self.refine(self.block(self.reduce(features)))
        both = torch.cat([features, attended.to(features.dtype)], dim=1)
        logits = self.classify(self.merge(self.enlarge(both)))
        if not self.training:
            return HeadOutput(logits)
        stages = zip(self.aux.items(), earlier, strict=True)
        return HeadOutput(logits, {name: aux(self.enlarge(x)) for (name, aux), x in stages})


head = scaffold(FullBlock, published=FLANetHead)
