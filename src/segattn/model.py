"""Segmenter: an smp encoder, a head, and upsampling to the image."""

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn import functional

from segattn.arguments import check_choice
from segattn.heads import HeadOutput, build_head

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def check_encoder(*, name: str, depth: int, output_stride: int) -> None:
    """Raise ValueError for an unknown encoder, or a stride that the depth cannot give."""
    if not name.startswith("tu-"):  # timm's names are checked when they are built
        check_choice("encoder", name, smp.encoders.get_encoder_names())
    if output_stride not in (8, 16, 32) or 2**depth < output_stride:
        raise ValueError(
            f"encoder.output_stride must be 8, 16 or 32 and at most 2 ** encoder.depth = "
            f"{2**depth}, got {output_stride}"
        )


def build_encoder(
    name: str, *, depth: int = 5, output_stride: int = 8, weights: str | None = None
) -> nn.Module:
    """An smp encoder whose last map has the given stride, without the stages it does not use.

    Args:
        name: Any encoder name of segmentation-models-pytorch, timm's as "tu-...".
        depth: Number of stages, 1 to 5; the native stride is 2 ** depth.
        output_stride: 8, 16 or 32; below the native stride, the last stages are dilated.
        weights: Pretrained weights by smp's name, e.g. "imagenet"; None starts from scratch.

    Raises:
        ValueError: Unknown encoder or weights, or a stride that the depth cannot give.
    """
    check_encoder(name=name, depth=depth, output_stride=output_stride)
    try:
        encoder = smp.encoders.get_encoder(
            name,
            depth=depth,
            # 32 means "no dilation" to smp; asking for it keeps families that cannot dilate usable
            output_stride=output_stride if output_stride < 2**depth else 32,
            weights=weights,
        )
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"encoder {name!r}: {error}") from error
    _drop_unused(encoder)
    return encoder


def _drop_unused(encoder: nn.Module) -> None:
    """Drop the modules that do not reach the last map, such as layer4 at depth 3.

    smp keeps them, which would count 10.6 of ResNet-18's 11.3 M parameters at depth 3 for nothing.
    What is unused is read off the gradients, so that it holds for every encoder family.
    """
    training = encoder.training
    encoder.eval()  # batch norm must not see the probe
    probe = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.enable_grad():  # a checkpoint may be loaded under no_grad
        encoder(probe)[-1].sum().backward()
    used = {id(p) for p in encoder.parameters() if p.grad is not None}
    _replace_unused(encoder, used)
    encoder.zero_grad(set_to_none=True)
    encoder.train(training)


def _replace_unused(module: nn.Module, used: set[int]) -> None:
    for name, child in module.named_children():
        parameters = list(child.parameters())
        if parameters and not any(id(p) in used for p in parameters):
            setattr(module, name, _Unused())
        else:
            _replace_unused(child, used)


class _Unused(nn.Module):
    """Stands for a stage whose output nobody reads; some encoders call it with extra arguments."""

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return x


class Segmenter(nn.Module):
    """Encoder, head and bilinear upsampling; takes images as they are stored.

    Normalisation is part of the model, so that a checkpoint carries it.

    Args:
        num_classes: Number of classes.
        head: `name` and the knobs of `build_head`.
        encoder: `name`, `depth`, `output_stride`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, num_classes: int, head: dict[str, Any], encoder: dict[str, Any]) -> None:
        super().__init__()
        built: Any = build_encoder(**encoder)
        self.encoder: nn.Module = built
        self.stride = int(built.output_stride)
        self.head = build_head(in_channels=built.out_channels[-1], num_classes=num_classes, **head)
        self.register_buffer("mean", _channel_values(IMAGENET_MEAN), persistent=False)
        self.register_buffer("std", _channel_values(IMAGENET_STD), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] to the encoder's last map [B, C, h, w]."""
        x = (images.float() / 255 - self.mean) / self.std
        # smp's encoders want sides divisible by the stride; what is padded is cut off again
        pad_h, pad_w = -x.shape[2] % self.stride, -x.shape[3] % self.stride
        x = functional.pad(x, (0, pad_w, 0, pad_h)).contiguous(memory_format=torch.channels_last)
        return self.encoder(x)[-1]

    def forward(self, images: Tensor) -> HeadOutput:
        """Images uint8 [B, 3, H, W], any H and W, to logits float32 [B, num_classes, H, W]."""
        output = self.head(self.features(images))
        size = images.shape[2:]
        aux = {
            name: upsample(logits, stride=self.stride, size=size)
            for name, logits in output.aux.items()
        }
        return HeadOutput(upsample(output.logits, stride=self.stride, size=size), aux)


def upsample(logits: Tensor, *, stride: int, size: Sequence[int]) -> Tensor:
    """Bilinear upsampling by `stride`, cut to `size`; equal to `functional.interpolate`.

    As two matrix products: the backward pass is 2.4 times as fast on a CPU (loss included) and
    deterministic on CUDA, where interpolate's is not.

    Args:
        logits: [B, C, h, w].
        stride: Factor.
        size: (H, W), at most (h * stride, w * stride).

    Returns:
        float32 [B, C, H, W].
    """
    rows = _bilinear_weights(logits.shape[2], stride, like=logits)[: size[0]]
    columns = _bilinear_weights(logits.shape[3], stride, like=logits)[: size[1]]
    with torch.autocast(logits.device.type, enabled=False):
        return rows @ (logits.float().contiguous() @ columns.T)


def _bilinear_weights(length: int, stride: int, *, like: Tensor) -> Tensor:
    """[length * stride, length]: how much of each cell an upsampled pixel holds."""
    cells = torch.eye(length, device=like.device)[None]
    return functional.interpolate(cells, scale_factor=stride, mode="linear")[0].T


def _channel_values(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)
