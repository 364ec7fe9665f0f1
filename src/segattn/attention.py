"""The attention equations as pure functions.

Axes: B batch, C channels, D query/key channels, H rows, W columns, N = H * W positions.
No function divides by a square root and none adds the residual: the modules in
`segattn.heads.blocks` hold the parameters and compute `gamma * attention + x`.

| function            | attends over                     | map             | source                |
|---------------------|----------------------------------|-----------------|-----------------------|
| `channel_attention` | channels                         | C x C           | DANet sec. 3.3, eq. 3 |
| `spatial_attention` | positions                        | N x N           | DANet sec. 3.2, eq. 1 |
| `full_attention`    | channels, per row and per column | (H + W) x C x C | FLA sec. 3.2          |

DANet: Fu et al., CVPR 2019, arXiv 1809.02983. FLA: Song et al., AAAI 2022, arXiv 2112.04108.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

Energy = Literal["published", "paper"]


def channel_attention(x: Tensor, *, energy: Energy = "published") -> Tensor:
    """Channel non-local attention, the CAM of DANet: softmax(E) X with E = X X^T.

    Deviation of the published code: it computes softmax(max(E) - E), which equals softmax(-E), so
    a channel attends to the channels *least* like it. `energy="published"` (default) keeps that,
    since every reported number was made with it; `energy="paper"` is equation 3.

    Args:
        x: Features, floating, [B, C, H, W].
        energy: Sign of the energies, "published" or "paper".

    Returns:
        [B, C, H, W], the dtype of `x`.

    Raises:
        ValueError: Unknown `energy`.
    """
    if energy not in get_args(Energy):
        raise ValueError(f"unknown energy {energy!r}; choose one of {list(get_args(Energy))}")
    flat = x.flatten(2)
    energies = flat @ flat.transpose(1, 2)
    attention = torch.softmax(energies if energy == "paper" else -energies, dim=-1)
    return (attention @ flat).view_as(x)


def spatial_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Spatial non-local attention, the PAM of DANet: V softmax(Q^T K)^T.

    Args:
        query: [B, D, H, W], floating; D is C / 8 in DANet.
        key: [B, D, H, W].
        value: [B, C, H, W].

    Returns:
        [B, C, H, W]; position i is the mean of all values, weighted by softmax_j(q_i . k_j).
    """
    energies = query.flatten(2).transpose(1, 2) @ key.flatten(2)
    attention = torch.softmax(energies, dim=-1)
    return (value.flatten(2) @ attention.transpose(1, 2)).view_as(value)


def full_attention(x: Tensor, column_context: Tensor, row_context: Tensor) -> Tensor:
    """Fully attentional block (FLA): channel attention inside every column and every row.

    Column w holds the features F_w = X[:, :, w], C x H. Its map is softmax(F_w G^T), C x C, with
    the context G of the *same image*, shared by all its columns; rows likewise. The published
    code tiles G so that image i of a batch meets the context of other images; here each image
    sees its own, at any batch size. H and W may differ.

    Args:
        x: Features, floating, [B, C, H, W].
        column_context: Keys of the columns, [B, C, H]: the encoded mean over W.
        row_context: Keys of the rows, [B, C, W]: the encoded mean over H.

    Returns:
        [B, C, H, W], the sum of the column and the row result.
    """
    columns = _attend_slices(x.permute(0, 3, 1, 2), column_context)  # [B, W, C, H]
    rows = _attend_slices(x.permute(0, 2, 1, 3), row_context)  # [B, H, C, W]
    return columns.permute(0, 2, 3, 1) + rows.permute(0, 2, 1, 3)


def _attend_slices(slices: Tensor, context: Tensor) -> Tensor:
    """softmax(F G^T) F for slices F [B, S, C, L] of each image with its context G [B, C, L]."""
    attention = torch.softmax(slices @ context.transpose(1, 2).unsqueeze(1), dim=-1)
    return attention @ slices
