"""What a head is and returns, and the scaffold that all heads of the ablation share."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

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
    """Build a convolution of dilation `rate` without bias, batch norm, ReLU; keeps H and W."""
    padding = kernel_size // 2 * rate
    sizes = in_channels, out_channels, kernel_size
    return nn.Sequential(
        nn.Conv2d(*sizes, padding=padding, dilation=rate, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def classifier(in_channels: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Build channel dropout and a 1x1 convolution to the classes."""
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
        """Map [B, in_channels, h, w] to logits [B, num_classes, h, w]."""
        return HeadOutput(self.classify(self.refine(self.block(self.reduce(features)))))


def scaffold(
    block_class: Callable[..., nn.Module], *, published: type[Head] | None = None
) -> Callable[..., Head]:
    """Return a head builder for a block class.

    The block's keyword arguments become the head's knobs, beside `channels` (inner width) and
    `dropout` (before each classifier, in [0, 1]).

    Args:
        block_class: Builds the block from its number of channels and its keyword arguments.
        published: The wiring of the paper, a head with the same knobs. It is built for a knob
            `wiring` of "published"; "scaffold", the default, compares blocks alone.
    """

    def build(
        *,
        in_channels: int,
        num_classes: int,
        channels: int = 64,
        dropout: float = 0.1,
        **knobs: Any,
    ) -> Head:
        sizes: dict[str, Any] = {
            "in_channels": in_channels,
            "num_classes": num_classes,
            "channels": channels,
            "dropout": dropout,
        }
        if knobs.pop("wiring", "scaffold") == "published" and published:
            return published(**sizes, **knobs)
        knobs.pop("stage_channels", None)
        return ScaffoldHead(block_class(channels, **knobs), **sizes)

    parameters = inspect.signature(build).parameters
    own = [p for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    block = inspect.signature(block_class).parameters.values()
    own += [p for p in block if p.kind is p.KEYWORD_ONLY]
    if published:
        stages = inspect.signature(published).parameters.get("stage_channels")
        wiring = Literal["scaffold", "published"]
        own += [stages] if stages else []
        own += [own[0].replace(name="wiring", default="scaffold", annotation=wiring)]
    # the true signature instead of **knobs, so that an unknown knob is reported with the choices
    build.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    return build
