"""What the attention of a head looks at, as small arrays and pictures.

Axes: K images, P chosen pixels, R shown channels, M maps per shown channel, C channels of a block,
c of them kept, (h, w) cells of the encoder's last map. A block has the name it has in `gamma/...`.

| key                  | dtype   | shape           | of      | what                               |
|----------------------|---------|-----------------|---------|------------------------------------|
| pixels               | int64   | [K, P, 2]       | all     | row and column in px               |
| stride               | int64   | []              | all     | px per cell                        |
| <block>/gamma        | float32 | []              | all     | scale of the attention             |
| <block>/rows         | float16 | [K, P, h, w]    | spatial | what the pixel attends to; sums to |
|                      |         |                 |         | 1, padding of the image included   |
| <block>/channels     | int64   | [K, c]          | channel | kept channels, alike ones together |
| <block>/shown        | int64   | [K, R, M]       | and     | channel: itself, the most and the  |
|                      |         |                 | full    | least alike one; full: itself      |
| <block>/channel_maps | float16 | [K, R, M, h, w] |         | their features over their maximum  |
| <block>/affinity     | float16 | [K, c, c]       | channel | softmax: row attends to column     |
| <block>/weights      | float16 | [K, R, M]       | channel | what the first of M gives to each  |
| <block>/column_maps  | float16 | [K, P, c, c]    | full    | softmax in the pixel's column      |
| <block>/row_maps     | float16 | [K, P, c, c]    | full    | and in its row                     |
| <block>/over_columns | float16 | [K, R, c, w]    | full    | what a shown channel draws from    |
|                      |         |                 |         | each kept one, column by column    |
| <block>/over_rows    | float16 | [K, R, c, h]    | full    | and row by row                     |

The maps are those of `attention.py` on the image as a whole, also where the test used windows.
Rows over channels sum to 1 where all are kept. Alike is meant as DANet means it: by the product of
two channels, X X^T (arXiv 1809.02983, section 3.3).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import edt
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segattn.base.errors import UserError
from segattn.metrics import find_objects
from segattn.models.block_maps import block_maps
from segattn.models.heads.blocks import AttentionBlock, DualBlock, learned_blocks
from segattn.models.segmenter import Segmenter

_NUM_PIXELS = 4
_MIN_AREA = 16  # px; the area from which objects count in the scores
# where an image has too few objects: shares of its height and width
_SPARE = ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))

Arrays = dict[str, NDArray[Any]]


def example_attention(model: Segmenter, examples: Arrays) -> Arrays:
    """The maps of the images of examples.npz, for pixels that `choose_pixels` chooses.

    Args:
        model: As it was trained.
        examples: As `segattn.base.runs.Run.examples` gives them.

    Returns:
        See the table of this module; {} if the head has no attention.
    """
    images = torch.from_numpy(examples["images"]).permute(0, 3, 1, 2)
    return collect_attention(model, images, pixels=choose_pixels(examples["labels"]))


def choose_pixels(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Four pixels per image: inside objects from small to large, each of another class.

    Every class offers its largest object, and these are taken at even steps of their order by
    area. The pixel is the one that is deepest inside. An image with fewer classes is filled up with
    fixed places.

    Args:
        labels: [K, H, W]; 255 is void.

    Returns:
        Row and column, [K, 4, 2].
    """
    return np.stack([_object_pixels(label) for label in labels])


def _object_pixels(label: NDArray[np.integer]) -> NDArray[np.int64]:
    objects = find_objects(label)
    order = np.argsort(objects.area, kind="stable")
    largest = {int(objects.cls[k]): k for k in order if objects.area[k] >= _MIN_AREA}
    ranked = sorted(largest.values(), key=lambda k: objects.area[k])
    steps = np.linspace(0, len(ranked) - 1, min(_NUM_PIXELS, len(ranked))).round().astype(int)
    depths = [edt.edt(objects.ids == ranked[step], black_border=True) for step in steps]
    inside = [np.unravel_index(depth.argmax(), label.shape) for depth in depths]
    spare = [(int(y * label.shape[0]), int(x * label.shape[1])) for y, x in _SPARE]
    return np.array([*inside, *spare][:_NUM_PIXELS], dtype=np.int64)


def collect_attention(model: Segmenter, images: Tensor, *, pixels: NDArray[np.int64]) -> Arrays:
    """The attention of every block of a head, image by image.

    One forward pass per image in evaluation mode, without gradients. The attention is computed in
    the dtype of the weights, also under autocast; the network before it as the caller's autocast
    says. The model stays as it is.

    Args:
        model: On any device.
        images: uint8 [K, 3, H, W], K >= 1, on any device.
        pixels: [K, P, 2], row and column of the pixels whose attention is wanted.

    Returns:
        See the table of this module; {} if the head has no attention.

    Raises:
        UserError: A pixel lies outside its image.
    """
    _check_pixels(pixels, images)
    head, stride = model.head, model.stride
    blocks = learned_blocks(head)
    if not blocks:
        return {}
    found, device = [], next(model.parameters()).device
    for image, places in zip(images, pixels, strict=True):
        inputs = _block_inputs(model, image[None].to(device))
        cells = torch.from_numpy(places // stride).to(device)
        found.append(
            {
                f"{name}/{key}": value
                for name, block in blocks.items()
                for key, value in block_maps(block, inputs[name], cells).items()
            }
        )
    gammas = {
        f"{name}/gamma": block.gamma[0].detach().cpu().numpy() for name, block in blocks.items()
    }
    maps = {key: np.stack([maps[key] for maps in found]) for key in found[0]}
    return {"pixels": pixels, "stride": np.array(stride), **gammas, **maps}


def _check_pixels(pixels: NDArray[np.int64], images: Tensor) -> None:
    size = tuple(images.shape[2:])
    for row, column in pixels.reshape(-1, 2).tolist():
        if not (0 <= row < size[0] and 0 <= column < size[1]):
            raise UserError(
                f"pixel ({row}, {column}) lies outside the image of {size[0]} x {size[1]} px; "
                "give row and column, counted from 0"
            )


def _block_inputs(model: Segmenter, image: Tensor) -> dict[str, Tensor]:
    """What reaches every block when the model sees one image [1, 3, H, W]."""
    training = model.training
    model.eval()
    try:
        # compiled code does not hear of hooks that came after it
        eager = torch.compiler.set_stance("force_eager")
        with eager, torch.no_grad(), _listening(model.head) as inputs:
            model(image)
    finally:
        model.train(training)
    return inputs


@contextmanager
def _listening(head: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Inputs of the blocks that run inside, by name."""
    inputs: dict[str, Tensor] = {}
    handles = []
    for name, block in head.named_modules():
        # a dual block hands its input to its two parts without calling them
        inner = [f"{name}.spatial", f"{name}.channel"] if isinstance(block, DualBlock) else [name]

        def keep(_: nn.Module, args: tuple[Tensor, ...], names: list[str] = inner) -> None:
            inputs.update(dict.fromkeys(names, args[0]))

        if isinstance(block, AttentionBlock):
            handles.append(block.register_forward_pre_hook(keep))
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()
