"""Which channels of a block are shown, for the maps of attention over channels."""

import numpy as np
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

MAX_CHANNELS = 64
"""More channels are more than a picture shows; the strongest are kept."""

_NUM_SHOWN = 3


def gram(x: Tensor) -> Tensor:
    """Return X X^T of one image [1, C, h, w], [C, C]: how alike its channels are."""
    flat = x[0].flatten(1)
    return flat @ flat.T


def choose_channels(likeness: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the channels to show.

    Args:
        likeness: `gram` of the features, [C, C].

    Returns:
        The kept channels in an order that has alike ones together, and the strongest one of each
        third of this order.
    """
    # the maps of a run that diverged are still drawn
    values = np.nan_to_num(likeness.double().cpu().numpy(), posinf=0.0)
    strength = np.sqrt(values.diagonal())
    kept = np.argsort(-strength, kind="stable")[:MAX_CHANNELS]
    if len(kept) > 2:
        norms = np.maximum(strength[kept], 1e-12)
        cosine = values[np.ix_(kept, kept)] / np.outer(norms, norms)
        apart = squareform(np.clip(1 - cosine, 0, None), checks=False)
        kept = kept[leaves_list(linkage(apart, "average", optimal_ordering=True))]
    parts = np.array_split(kept, min(_NUM_SHOWN, len(kept)))
    strong = np.array([part[strength[part].argmax()] for part in parts])
    return torch.from_numpy(kept).to(likeness.device), torch.from_numpy(strong).to(likeness.device)


def scaled_features(x: Tensor, shown: Tensor) -> Tensor:
    """Return the features of channels [R, M] of one image over their maximum, [R, M, h, w]."""
    maps = x[0][shown]
    return maps / maps.abs().amax((2, 3), keepdim=True).clamp_min(1e-12)
