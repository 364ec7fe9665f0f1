"""Segmenter: an encoder, a head, and upsampling to the image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from segattn.models.encoder_weights import IMAGENET, Normalisation, normalisation
from segattn.models.encoders import build_encoder
from segattn.models.heads import build_head
from segattn.models.inference import Resized, check_images
from segattn.models.scaffold import HeadOutput
from segattn.models.upsampling import upsample


class Segmenter(nn.Module):
    """Encoder, head and bilinear upsampling; takes images as they are stored.

    Normalisation is part of the model and of its checkpoints. A new model has the mean and
    deviation that the encoder's pretrained weights were trained with; see `normalise`.

    Args:
        num_classes: Number of classes.
        head: `name` and the knobs of `build_head`.
        encoder: `name`, `depth`, `output_stride`, and `multi_grid` unless it is null.

    Attributes:
        stride: px per cell of the encoder's last map.
        size_multiple: Both sides of the encoder's input are padded to a multiple of it, in px.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, num_classes: int, head: dict[str, Any], encoder: dict[str, Any]) -> None:
        super().__init__()
        built: Any = build_encoder(**encoder)
        self.encoder: nn.Module = built
        self.stride = int(built.output_stride)
        self.size_multiple = int(built.size_multiple)
        _, *stages, last = built.out_channels
        built_head = build_head(
            in_channels=last, num_classes=num_classes, stage_channels=stages, **head
        )
        self.head: nn.Module = built_head
        self.num_maps = 1 + built_head.num_earlier
        self.align_corners = built_head.align_corners
        for key, values in zip(("mean", "std"), normalisation(encoder["name"]), strict=True):
            self.register_buffer(key, _channel_values(values))

    def normalise(self, values: Normalisation) -> None:
        """Set another mean and deviation, for images in [0, 1]."""
        self.mean.copy_(_channel_values(values[0]))
        self.std.copy_(_channel_values(values[1]))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Add ImageNet's mean and deviation to published weights and older checkpoints."""
        for key, values in zip(("mean", "std"), IMAGENET, strict=True):
            state_dict.setdefault(prefix + key, _channel_values(values))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def features(self, images: Tensor) -> list[Tensor]:
        """Map images uint8 [B, 3, H, W] to the maps that the head reads, the last [B, C, h, w].

        Raises:
            UserError: The images have another dtype or shape.
        """
        if isinstance(images, Resized):
            images = images.as_subclass(Tensor)
        else:
            check_images(images)
        x = (images.float() / 255 - self.mean) / self.std
        # padding is cut off after upsampling
        pad_h, pad_w = -x.shape[2] % self.size_multiple, -x.shape[3] % self.size_multiple
        x = functional.pad(x, (0, pad_w, 0, pad_h)).contiguous(memory_format=torch.channels_last)
        return self.encoder(x)[-self.num_maps :]

    def forward(self, images: Tensor) -> HeadOutput:
        """Map images uint8 [B, 3, H, W] of any size to logits float32 [B, num_classes, H, W]."""
        *earlier, last = self.features(images)
        output = self.head(last, *earlier)

        def full(logits: Tensor) -> Tensor:
            # logits may be larger than the features; torch.export has symbols here, hence int
            stride = int(self.stride * last.shape[2] // logits.shape[2])
            return upsample(
                logits, stride=stride, size=images.shape[2:], align_corners=self.align_corners
            )

        aux = {name: full(logits) for name, logits in output.aux.items()}
        return HeadOutput(full(output.logits), aux)


def _channel_values(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)
