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


def full_attention(
    x: Tensor, column_context: Tensor, row_context: Tensor, *, published_batch_mixing: bool = False
) -> Tensor:
    """Fully attentional block (FLA): channel attention inside every column and every row.

    Column w holds the features F_w = X[:, :, w], C x H. Its map is softmax(F_w G^T), C x C, with
    the context G of the *same image*, shared by all its columns; rows likewise. H and W may differ.

    Deviation of the published code: it tiles G with the batch running fastest over features with
    the batch running slowest, so that slice s of image b meets the context of image
    (b * S + s) mod B. With one image that is the paper's equation; in a batch, images mix.

    Args:
        x: Features, floating, [B, C, H, W].
        column_context: Keys of the columns, [B, C, H]: the encoded mean over W.
        row_context: Keys of the rows, [B, C, W]: the encoded mean over H.
        published_batch_mixing: Pair images and contexts as the published code does.

    Returns:
        [B, C, H, W], the sum of the column and the row result.
    """
    columns, rows = x.permute(0, 3, 1, 2), x.permute(0, 2, 1, 3)  # [B, W, C, H], [B, H, C, W]
    column_keys = _slice_keys(column_context, x.shape[3], mixing=published_batch_mixing)
    row_keys = _slice_keys(row_context, x.shape[2], mixing=published_batch_mixing)
    column_result = _attend_slices(columns, column_keys).permute(0, 2, 3, 1)
    return column_result + _attend_slices(rows, row_keys).permute(0, 2, 1, 3)


def _slice_keys(context: Tensor, slices: int, *, mixing: bool) -> Tensor:
    """The context [B, C, L] that each slice meets, [B, slices, C, L]; a view unless images mix."""
    if not mixing:
        return context.unsqueeze(1).expand(-1, slices, -1, -1)
    batch = len(context)
    met = torch.arange(batch * slices, device=context.device).view(batch, slices) % batch
    return context[met]


def _attend_slices(slices: Tensor, keys: Tensor) -> Tensor:
    """softmax(F G^T) F for slices F [B, S, C, L] with keys G [B, S, C, L]."""
    attention = torch.softmax(slices @ keys.transpose(2, 3), dim=-1)
    return attention @ slices
