"""The attention maps of one block for one image; `attention_maps.py` names them and the axes.

The equations are those of `attention.py`, for chosen pixels and channels alone where the whole map
would be large.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from segattn.models.heads.blocks import ChannelBlock, FullBlock, Learned, SpatialBlock
from segattn.models.precision import autocast_off

MAX_CHANNELS = 64
"""More channels are more than a picture shows; the strongest are kept."""

_NUM_SHOWN = 3

Arrays = dict[str, NDArray[Any]]


def block_maps(block: Learned, x: Tensor, cells: Tensor) -> Arrays:
    """The maps of one block by key.

    Args:
        block: With its weights; it computes in their dtype, also under autocast.
        x: Its input, [1, C, h, w].
        cells: Row and column of the chosen pixels' cells, int64 [P, 2].
    """
    with torch.no_grad(), autocast_off(x.device):
        x = x.to(block.gamma.dtype)
        if isinstance(block, SpatialBlock):
            return {"rows": _array(spatial_rows(block, x, cells).half())}
        if isinstance(block, ChannelBlock):
            return _channel_maps(block, x)
        return _full_maps(block, x, cells)


def spatial_rows(block: SpatialBlock, x: Tensor, cells: Tensor) -> Tensor:
    """Rows of softmax(Q^T K) for chosen cells (DANet 3.2, equation 1).

    Args:
        block: Spatial attention.
        x: Its input, [1, C, h, w].
        cells: Row and column, int64 [P, 2].

    Returns:
        [P, h, w]; each sums to 1.
    """
    query = block.query(x)[0, :, cells[:, 0], cells[:, 1]]  # [D, P]
    energies = query.T @ block.key(x)[0].flatten(1)
    return torch.softmax(energies, dim=-1).unflatten(1, x.shape[2:])


def channel_affinity(block: ChannelBlock, x: Tensor) -> Tensor:
    """softmax(E), E = X X^T, with the sign of the block (DANet 3.3, equation 3).

    Args:
        block: Channel attention.
        x: Its input, [1, C, h, w].

    Returns:
        [C, C]; row i is what channel i attends to, and sums to 1.
    """
    sign = 1 if block.energy == "paper" else -1
    return torch.softmax(sign * _gram(x), dim=-1)


def column_attention(block: FullBlock, x: Tensor) -> tuple[Tensor, Tensor]:
    """Features and context of the columns, see `slice_maps`: [w, C, h] and [C, h]."""
    return x[0].permute(2, 0, 1), block.column_context(x.mean(3))[0]


def row_attention(block: FullBlock, x: Tensor) -> tuple[Tensor, Tensor]:
    """Features and context of the rows, see `slice_maps`: [h, C, w] and [C, w]."""
    return x[0].permute(1, 0, 2), block.row_context(x.mean(2))[0]


def slice_maps(features: Tensor, context: Tensor) -> Tensor:
    """softmax(F G^T) in every slice (FLA 3.2): [S, C, L] and [C, L] to [S, C, C].

    F may hold some of the channels only; then these are the rows of the map.
    """
    return torch.softmax(features @ context.T, dim=-1)


def _channel_maps(block: ChannelBlock, x: Tensor) -> Arrays:
    affinity, likeness = channel_affinity(block, x), _gram(x)
    channels, own = _choose_channels(likeness)
    others = likeness[own].clone()
    others[torch.arange(len(own)), own] = -torch.inf
    most = others.argmax(1)
    others[torch.arange(len(own)), own] = torch.inf
    shown = torch.stack([own, most, others.argmin(1)], dim=1)
    return {
        "channels": _array(channels),
        "shown": _array(shown),
        "channel_maps": _scaled_features(x, shown),
        "affinity": _array(affinity[channels][:, channels].half()),
        "weights": _array(affinity[shown[:, :1], shown].half()),
    }


def _full_maps(block: FullBlock, x: Tensor, cells: Tensor) -> Arrays:
    columns, column_context = column_attention(block, x)
    rows, row_context = row_attention(block, x)
    channels, shown = _choose_channels(_gram(x))
    in_columns = slice_maps(columns[cells[:, 1]], column_context)[:, channels][..., channels]
    in_rows = slice_maps(rows[cells[:, 0]], row_context)[:, channels][..., channels]
    over_columns = slice_maps(columns[:, shown], column_context)[..., channels]
    over_rows = slice_maps(rows[:, shown], row_context)[..., channels]
    return {
        "channels": _array(channels),
        "shown": _array(shown[:, None]),
        "channel_maps": _scaled_features(x, shown[:, None]),
        "column_maps": _array(in_columns.half()),
        "row_maps": _array(in_rows.half()),
        "over_columns": _array(over_columns.permute(1, 2, 0).half()),
        "over_rows": _array(over_rows.permute(1, 2, 0).half()),
    }


def _gram(x: Tensor) -> Tensor:
    flat = x[0].flatten(1)
    return flat @ flat.T


def _choose_channels(likeness: Tensor) -> tuple[Tensor, Tensor]:
    """Kept channels in an order with alike ones together, and a strong one of each third of it."""
    # a run that diverged still gets its pictures
    gram = np.nan_to_num(likeness.double().cpu().numpy(), posinf=0.0)
    strength = np.sqrt(gram.diagonal())
    kept = np.argsort(-strength, kind="stable")[:MAX_CHANNELS]
    if len(kept) > 2:
        norms = np.maximum(strength[kept], 1e-12)
        cosine = gram[np.ix_(kept, kept)] / np.outer(norms, norms)
        apart = squareform(np.clip(1 - cosine, 0, None), checks=False)
        kept = kept[leaves_list(linkage(apart, "average", optimal_ordering=True))]
    parts = np.array_split(kept, min(_NUM_SHOWN, len(kept)))
    strong = np.array([part[strength[part].argmax()] for part in parts])
    return torch.from_numpy(kept).to(likeness.device), torch.from_numpy(strong).to(likeness.device)


def _scaled_features(x: Tensor, shown: Tensor) -> NDArray[np.float16]:
    maps = x[0][shown]
    return _array((maps / maps.abs().amax((2, 3), keepdim=True).clamp_min(1e-12)).half())


def _array(x: Tensor) -> NDArray[Any]:
    return x.detach().cpu().numpy()
