"""Evaluation protocols: whole images or sliding windows, at several scales, mirrored.

Published results use more than one forward pass, and a number means nothing without its protocol:
`Protocol.label` goes into every result.

| protocol | DANet's MultiEvalModule         | CCNet's evaluate.py | here                    |
|----------|---------------------------------|---------------------|-------------------------|
| windows  | the last is cut off and padded  | the last moves back | the last moves back     |
| averaged | sums exp(logits)                | mean logits         | mean logits, or softmax |
| mirrored | adds logits, before exp         | mean logits         | as windows              |
| scales   | of the data set's base size     | of the image        | of the image            |
| resizing | bilinear, corners aligned       | linear spline       | bilinear, not aligned   |
| small    | padded with the mean colour     | the same            | the same                |

exp(logits) without a sum over classes gives the pass with the largest logits the most weight, so
it is not offered. Aligned corners would shift every object by up to half a pixel between scales.
https://github.com/junfu1115/DANet, https://github.com/speedinghzl/CCNet
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from segattn.base.arguments import check_choice
from segattn.base.errors import UserError
from segattn.data.transforms import PAD_COLOUR

Model = Callable[[Tensor], Tensor]
Name = Literal["whole", "sliding"]
Average = Literal["logits", "probabilities"]


@dataclass(frozen=True)
class Protocol:
    """How an image becomes a prediction; lists from YAML become tuples.

    Attributes:
        name: "whole" gives the model the image at once, "sliding" gives it windows.
        crop: (height, width) of a window in px; only for "sliding".
        stride: (rows, columns) from one window to the next in px, at most `crop`.
        scales: Factors on the sides of the image, each in [0.01, 10], in ascending order.
        flip: Whether the mirror image is averaged too.
        average: What is averaged over overlapping windows, scales and mirror images.

    Raises:
        UserError: A value out of its range, or one that would have no effect.
    """

    name: Name = "whole"
    crop: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    average: Average = "logits"

    def __post_init__(self) -> None:
        check_choice("protocol.name", self.name, get_args(Name))
        check_choice("protocol.average", self.average, get_args(Average))
        if not isinstance(self.flip, bool):
            raise UserError(f"protocol.flip must be true or false, got {self.flip!r}")
        # the class is frozen; sorted scales give one label per protocol
        object.__setattr__(self, "scales", tuple(sorted(_scales(self.scales))))
        if self.name == "sliding":
            object.__setattr__(self, "crop", _pair("crop", self.crop))
            object.__setattr__(self, "stride", _pair("stride", self.stride))
            self._refuse_gaps()
        else:
            self._refuse_idle_knobs()

    def _refuse_gaps(self) -> None:
        assert self.crop is not None
        assert self.stride is not None
        if self.stride[0] > self.crop[0] or self.stride[1] > self.crop[1]:
            raise UserError(
                f"protocol.stride {list(self.stride)} is larger than protocol.crop "
                f"{list(self.crop)}, which leaves pixels without a prediction; lower the stride"
            )

    def _refuse_idle_knobs(self) -> None:
        for knob in ("crop", "stride"):
            if getattr(self, knob) is not None:
                raise UserError(
                    f"protocol.{knob} has no effect on whole images; "
                    "set protocol.name to sliding, or leave it out"
                )
        if self.average == "probabilities" and not self.flip and self.scales == (1.0,):
            raise UserError(
                "protocol.average=probabilities has no effect on one pass over the whole image; "
                "add protocol.flip or protocol.scales, or leave it out"
            )

    @property
    def label(self) -> str:
        """A description that is unique to the protocol; "whole" is the default."""
        parts = ["whole"]
        if self.crop is not None and self.stride is not None:
            parts = ["sliding {}x{}".format(*self.crop), "stride {}x{}".format(*self.stride)]
        if self.scales != (1.0,):
            parts.append("scales " + " ".join(str(s).removesuffix(".0") for s in self.scales))
        if self.flip:
            parts.append("flip")
        if self.average == "probabilities":
            parts.append("mean probabilities")
        return ", ".join(parts)


def build_protocol(values: Mapping[str, Any]) -> Protocol:
    """Build a protocol from plain values of a config or a checkpoint.

    Raises:
        UserError: An unknown key (the message lists the choices), or a bad value, see `Protocol`.
    """
    for key in values:
        check_choice("key of protocol", key, [field.name for field in fields(Protocol)])
    return Protocol(**values)


def _scales(values: Any) -> list[float]:
    listed = list(values) if isinstance(values, list | tuple) else []
    if not listed or not all(_is_number(s) and 0.01 <= s <= 10 for s in listed):
        raise UserError(f"protocol.scales must be a list of numbers in [0.01, 10], got {values!r}")
    if len(set(listed)) < len(listed):
        raise UserError(f"protocol.scales names a scale twice: {values!r}; leave one out")
    return [float(scale) for scale in listed]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _pair(knob: str, values: Any) -> tuple[int, int]:
    listed = list(values) if isinstance(values, list | tuple) else []
    if len(listed) != 2 or not all(type(side) is int and side > 0 for side in listed):
        raise UserError(
            f"protocol.{knob} must be two whole numbers of pixels, [rows, columns], for sliding "
            f"windows; got {values!r}"
        )
    return listed[0], listed[1]


class Resized(Tensor):
    """Float32 pixels in 0 to 255, resized by `predict`; a model takes no other floats."""


def check_images(images: Tensor) -> None:
    """Raise UserError unless images are uint8 [B, 3, H, W]; reads no values, so no GPU sync."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise UserError(
            "images must be uint8 [B, 3, H, W] in 0 to 255, which the model normalises itself; got "
            f"{images.dtype} {list(images.shape)}"
        )


def predict(
    model: Model, images: Tensor, *, protocol: Protocol, mirrored: Sequence[int] | None = None
) -> Tensor:
    """Return logits of every pixel. One pass over whole images is exactly `model(images)`.

    Memory holds one result and one forward pass; with several scales, also the result of the
    largest scale before and after resizing.

    Args:
        model: Maps images [B, 3, h, w], uint8 or `Resized`, to new logits float32 [B, C, h, w],
            which may be changed in place.
        images: uint8 [B, 3, H, W].
        protocol: Says what passes through the model and how it is averaged.
        mirrored: Class that each class becomes in a mirror image; None if no class changes.

    Returns:
        float32 [B, C, H, W]; mean logits or mean probabilities, see `protocol.average`.

    Raises:
        UserError: The images have another dtype or shape.
    """
    check_images(images)
    height, width = images.shape[2:]
    total: Tensor | None = None
    for scale in protocol.scales:
        # rounded as in DANet; at least one pixel
        size = max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)
        scores = _one_scale(model, _resize(images, size), protocol, mirrored)
        scores = _resize(scores, (height, width))
        total = scores if total is None else total.add_(scores)
        del scores  # free it before the next scale
    assert total is not None  # a protocol has a scale
    return total if len(protocol.scales) == 1 else total.div_(len(protocol.scales))


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bilinearly without antialiasing, as published; `x` itself at its own size."""
    if x.shape[2:] == size:
        return x
    x = x if x.is_floating_point() else x.float()
    return functional.interpolate(x, size, mode="bilinear", align_corners=False)


def _one_scale(
    model: Model, images: Tensor, protocol: Protocol, mirrored: Sequence[int] | None
) -> Tensor:
    if protocol.crop is None or protocol.stride is None:
        return _one_pass(model, images, protocol, mirrored)
    return _sliding(model, images, protocol, mirrored, crop=protocol.crop, stride=protocol.stride)


def _sliding(
    model: Model,
    images: Tensor,
    protocol: Protocol,
    mirrored: Sequence[int] | None,
    *,
    crop: tuple[int, int],
    stride: tuple[int, int],
) -> Tensor:
    """Average over the windows that hold a pixel."""
    height, width = images.shape[2:]
    padded = _pad_to(images, crop)
    tops, lefts = (
        window_starts(length, crop=side, stride=step)
        for length, side, step in zip(padded.shape[2:], crop, stride, strict=True)
    )
    total: Tensor | None = None
    counts = torch.zeros(height, width, device=images.device)
    for top in tops:
        for left in lefts:
            # a slice of the unpadded total ends at its border
            window = (..., slice(top, top + crop[0]), slice(left, left + crop[1]))
            scores = _one_pass(model, padded[window], protocol, mirrored)
            if total is None:
                total = scores.new_zeros(*scores.shape[:2], height, width)
            part = total[window]
            part += scores[..., : part.shape[2], : part.shape[3]]
            counts[window] += 1
    assert total is not None  # an image has a window
    return total.div_(counts)


def window_starts(length: int, *, crop: int, stride: int) -> list[int]:
    """Return where windows of `crop` px start on an axis of `length` >= crop px, every `stride` px.

    The last window ends at the border, so it may be closer to the one before.
    """
    return [*range(0, length - crop, stride), length - crop]


def _pad_to(images: Tensor, crop: tuple[int, int]) -> Tensor:
    """Pad the end with ImageNet's mean colour to at least `crop`, as DANet and CCNet do."""
    height, width = images.shape[2:]
    if height >= crop[0] and width >= crop[1]:
        return images
    shape = (len(images), 3, max(height, crop[0]), max(width, crop[1]))
    colour = torch.tensor(PAD_COLOUR, dtype=images.dtype, device=images.device)
    padded = colour.view(1, 3, 1, 1).expand(shape).contiguous()
    padded[..., :height, :width] = images
    return padded


def _one_pass(
    model: Model, images: Tensor, protocol: Protocol, mirrored: Sequence[int] | None
) -> Tensor:
    scores = _scores(model, images, protocol)
    if not protocol.flip:
        return scores
    flipped = _scores(model, images.flip(3), protocol).flip(3)
    return scores.add_(flipped if mirrored is None else flipped[:, list(mirrored)]).div_(2)


def _scores(model: Model, images: Tensor, protocol: Protocol) -> Tensor:
    logits = model(images.as_subclass(Resized) if images.is_floating_point() else images)
    return logits.softmax(1) if protocol.average == "probabilities" else logits
