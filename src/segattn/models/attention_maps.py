"""The attention maps of a head for chosen pixels, as small arrays.

Axes: K images, P chosen pixels, R shown channels, M maps per shown channel, C channels of a block,
c of them kept, (h, w) cells of the encoder's last map. A block has the name it has in `gamma/...`.
`rows` is what `spatial_nl` and `ccnet` return from `maps`, see `AttentionBlock`; a block without
`maps` is left out.

| key                  | dtype   | shape           | kind    | what                               |
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

The maps are computed on the whole image, also if the test used windows. Rows over channels sum to 1
if all channels are kept. Two channels are alike if their product, an entry of X X^T, is large
(DANet, arXiv 1809.02983, section 3.3).
"""

from typing import Any

import edt
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segattn.base.errors import UserError
from segattn.metrics import find_objects
from segattn.models.blocks import gamma_blocks, watch_blocks
from segattn.models.precision import autocast_off
from segattn.models.segmenter import Segmenter

_NUM_PIXELS = 4
_MIN_AREA = 16  # px; the area from which objects count in the scores
# pixels of images with too few objects, in parts of height and width
_SPARE = ((0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))

Arrays = dict[str, NDArray[Any]]


def example_attention(model: Segmenter, examples: Arrays) -> Arrays:
    """Return the maps of the images of examples.npz, for pixels that `choose_pixels` chooses.

    Args:
        model: The trained model.
        examples: Result of `segattn.base.runs.Run.examples`.

    Returns:
        See the table of this module; {} if the head has no attention.
    """
    images = torch.from_numpy(examples["images"]).permute(0, 3, 1, 2)
    return collect_attention(model, images, pixels=choose_pixels(examples["labels"]))


def choose_pixels(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Choose four pixels per image: inside objects from small to large, each of another class.

    The largest object of every class is a candidate. Candidates are ordered by area and taken at
    even steps; the pixel is the one deepest inside its object. An image with fewer classes gets
    fixed places for the rest.

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
    """Return the attention maps of every block of a head that has `maps`, image by image.

    One forward pass per image in evaluation mode, without gradients. The attention is computed in
    the dtype of the weights, also under autocast; the network before it follows the caller's
    autocast. The model stays as it is.

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
    blocks: dict[str, Any] = {
        name: block for name, block in gamma_blocks(model.head).items() if hasattr(block, "maps")
    }
    if not blocks:
        return {}
    found: dict[str, list[NDArray[Any]]] = {}
    for image, places in zip(images, pixels, strict=True):
        inputs = _block_inputs(model, image[None].to(model.mean.device))
        cells = torch.from_numpy(places // model.stride).to(model.mean.device)
        with torch.no_grad(), autocast_off(cells.device):
            for name, block in blocks.items():
                for key, value in block.maps(inputs[name].to(block.gamma.dtype), cells).items():
                    value = value.half() if value.is_floating_point() else value
                    found.setdefault(f"{name}/{key}", []).append(value.cpu().numpy())
    gammas = {
        f"{name}/gamma": block.gamma.detach()[0].cpu().numpy() for name, block in blocks.items()
    }
    maps = {key: np.stack(values) for key, values in found.items()}
    return {"pixels": pixels, "stride": np.array(model.stride), **gammas, **maps}


def _check_pixels(pixels: NDArray[np.int64], images: Tensor) -> None:
    size = tuple(images.shape[2:])
    for row, column in pixels.reshape(-1, 2).tolist():
        if not (0 <= row < size[0] and 0 <= column < size[1]):
            raise UserError(
                f"pixel ({row}, {column}) lies outside the image of {size[0]} x {size[1]} px; "
                "give row and column, counted from 0"
            )


def _block_inputs(model: Segmenter, image: Tensor) -> dict[str, Tensor]:
    """Return what each block receives when the model runs on one image [1, 3, H, W]."""
    inputs: dict[str, Tensor] = {}
    training = model.training
    handles = watch_blocks(model.head, lambda name, given, _: inputs.update({name: given[0]}))
    model.eval()
    try:
        # compiled code may not run hooks that were added after it was compiled
        with torch.compiler.set_stance("force_eager"), torch.no_grad():
            model(image)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return inputs
