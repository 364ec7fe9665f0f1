"""Training augmentation with an explicit generator per sample.

torchvision's v2 functionals rather than its transform classes: those draw from the global random
state, which a resumed run cannot restore sample by sample.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from segattn.data.source import IGNORE_INDEX

PAD_COLOUR = [124, 116, 104]  # ImageNet's mean, whatever the encoder is normalised by


def augment(
    image: Tensor,
    label: Tensor,
    *,
    generator: torch.Generator,
    crop: Sequence[int] | None,
    scale: Sequence[float],
    flip: float,
    jitter: float,
    mirrored: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Random scale and crop, horizontal flip, colour jitter.

    The window is cut first, so that no more than it is resized.

    Args:
        image: uint8 [3, H, W].
        label: uint8 [H, W].
        generator: The only source of randomness.
        crop: (height, width) of the result; None keeps the size of the image.
        scale: Lowest and highest factor by which the image is enlarged.
        flip: Probability of a horizontal flip.
        jitter: Strength of brightness, contrast and saturation jitter, in [0, 1).
        mirrored: uint8 [256], label of each label in the mirror; None if no classes change places.

    Returns:
        uint8 [3, *crop] and uint8 [*crop]; outside the image the label is 255.
    """

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    height, width = crop or label.shape
    factor = uniform(scale[0], scale[1])
    image, label = _cut(image, label, round(height / factor), round(width / factor), uniform)
    if label.shape != (height, width):
        image = functional.resize(image, [height, width], antialias=True)
        label = functional.resize(
            label[None], [height, width], interpolation=InterpolationMode.NEAREST_EXACT
        )[0]
    if uniform(0, 1) < flip:
        image, label = functional.horizontal_flip(image), functional.horizontal_flip(label)
        label = label if mirrored is None else mirrored[label.long()]
    if jitter > 0:
        image = functional.adjust_brightness(image, uniform(1 - jitter, 1 + jitter))
        image = functional.adjust_contrast(image, uniform(1 - jitter, 1 + jitter))
        image = functional.adjust_saturation(image, uniform(1 - jitter, 1 + jitter))
    return image, label


def mirror_order(classes: Sequence[str], flip_pairs: Sequence[tuple[str, str]]) -> list[int] | None:
    """Return the class that each class is in a mirror; None if all stay what they are."""
    swapped = dict(flip_pairs) | {second: first for first, second in flip_pairs}
    names = list(classes)
    return [names.index(swapped.get(name, name)) for name in names] if swapped else None


def _cut(
    image: Tensor, label: Tensor, height: int, width: int, uniform: Callable[[float, float], float]
) -> tuple[Tensor, Tensor]:
    """A random window, padded where it is larger than the image."""
    pad_y, pad_x = max(height - label.shape[0], 0), max(width - label.shape[1], 0)
    if pad_y or pad_x:
        top, left = round(uniform(0, pad_y)), round(uniform(0, pad_x))
        padding = [left, top, pad_x - left, pad_y - top]
        image = functional.pad(image, padding, fill=PAD_COLOUR)
        label = functional.pad(label[None], padding, fill=IGNORE_INDEX)[0]
    top = round(uniform(0, label.shape[0] - height))
    left = round(uniform(0, label.shape[1] - width))
    window = slice(top, top + height), slice(left, left + width)
    return image[:, *window], label[*window]
