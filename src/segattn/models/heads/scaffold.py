"""What a head is and returns, and the scaffold that all heads of the ablation share."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class HeadOutput:
    """Logits of a head.

    Attributes:
        logits: [B, num_classes, h, w]; mostly at the resolution of the features.
        aux: Logits of auxiliary classifiers by name, each [B, num_classes, its own h, w]; only in
            training.
    """

    logits: Tensor
    aux: dict[str, Tensor] = field(default_factory=dict)


class Head(nn.Module):
    """Maps features to a `HeadOutput`, and says what the `Segmenter` must know.

    Attributes:
        num_earlier: How many of the encoder's maps before the last one `forward` takes after it,
            fine to coarse.
        align_corners: How its logits are brought to the size of the image, see `upsample`.
    """

    num_earlier: int = 0
    align_corners: bool = False


def conv_norm_relu(
    in_channels: int, out_channels: int, *, kernel_size: int = 3, rate: int = 1
) -> nn.Sequential:
    """Convolution of dilation `rate` without bias, batch norm, ReLU; keeps H and W."""
    padding = kernel_size // 2 * rate
    sizes = in_channels, out_channels, kernel_size
    return nn.Sequential(
        nn.Conv2d(*sizes, padding=padding, dilation=rate, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def classifier(in_channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Channel dropout and a 1x1 convolution to the classes."""
    return nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(in_channels, num_classes, kernel_size=1))


class ScaffoldHead(Head):
    """3x3 reduce -> block -> 3x3 -> dropout -> 1x1: one scaffold in which only the block changes.

    Args:
        block: Attention, [B, channels, h, w] to the same shape; `nn.Identity()` gives FCN.
        in_channels: Channels of the encoder's last map.
        num_classes: Number of classes.
        channels: Inner width.
        dropout: Channel dropout before the classifier, in [0, 1].
    """

    def __init__(
        self,
        block: nn.Module,
        *,
        in_channels: int,
        num_classes: int,
        channels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.reduce = conv_norm_relu(in_channels, channels)
        self.block = block
        self.refine = conv_norm_relu(channels, channels)
        self.classify = classifier(channels, num_classes, dropout)

    def forward(self, features: Tensor) -> HeadOutput:
        """[B, in_channels, h, w] to logits [B, num_classes, h, w]."""
        return HeadOutput(self.classify(self.refine(self.block(self.reduce(features)))))


def scaffold(block_class: Callable[..., nn.Module]) -> Callable[..., Head]:
    """A head builder for a block class; the block's keyword arguments become the head's knobs."""

    def build(
        *,
        in_channels: int,
        num_classes: int,
        channels: int = 64,
        dropout: float = 0.1,
        **knobs: Any,
    ) -> Head:
        return ScaffoldHead(
            block_class(channels, **knobs),
            in_channels=in_channels,
            num_classes=num_classes,
            channels=channels,
            dropout=dropout,
        )

    own = list(inspect.signature(build).parameters.values())[:-1]
    block = inspect.signature(block_class).parameters.values()
    knobs = [p for p in block if p.kind is p.KEYWORD_ONLY]
    # the true signature instead of **knobs, so that a typo can be named with its choices
    build.__signature__ = inspect.Signature([*own, *knobs])  # type: ignore[attr-defined]
    return build
