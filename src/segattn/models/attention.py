"""The attention equations as pure functions.

Axes: B batch, C channels, D query/key channels, H rows, W columns, N = H * W positions.
Every function returns gamma * attention + residual, the whole equation of its paper. Gamma is the
learned scale of the block (one element). Without gamma and residual, the function returns the
attention alone. Nothing is divided by a square root. Criss-cross attention is in `heads/ccnet.py`.

| function            | attends over     | map             | source          | published code    |
|---------------------|-------------------|-----------------|-----------------|-------------------|
| `channel_attention` | channels          | C x C           | DANet 3.3, eq 3 | flips the sign    |
| `spatial_attention` | positions         | N x N           | DANet 3.2, eq 1 | as the paper      |
| `full_attention`    | channels, in each | (H + W) x C x C | FLA 3.2         | mixes the images  |
|                     | row and column    |                 |                 | of a batch        |

DANet: Fu et al., CVPR 2019, arXiv 1809.02983. FLA: Song et al., AAAI 2022, arXiv 2112.04108.

All forms compute the whole equation and differ only by rounding. `implementation="reference"` is
the equation as written, in the dtype of its tensors. "auto" keeps no N x N or (H + W) x C x C map;
its energies and sums are float32 at least, inside kernels too, see `choose_form`. Under autocast
on CUDA, tensors become bf16 or fp16 first; elsewhere autocast changes nothing.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from segattn.base.arguments import check_choice
from segattn.models.fused import attend, attend_in_chunks, chunks, has_kernel, padded
from segattn.models.precision import HALF, in_precision_of_run
from segattn.models.recompute import ChannelAttention, SliceAttention, SpatialAttention

Energy = Literal["published", "paper"]
Implementation = Literal["auto", "reference"]
Form = Literal["reference", "fused", "recompute"]


def choose_form(
    implementation: Implementation, x: Tensor, *, size: int | None, equal: bool = True
) -> Form:
    """Choose the form of an equation; all three equations follow this rule.

    | form      | where                                                                        |
    |-----------|------------------------------------------------------------------------------|
    | reference | where `implementation` says so                                               |
    | fused     | torch's scaled_dot_product_attention, which keeps no map: on CUDA in bf16 and|
    |           | fp16, if torch has a kernel for heads of `size` and the run need not be      |
    |           | deterministic; on a CPU in float32 and float64 (kernels round the map to     |
    |           | dtypes below these), where queries are as wide as values                     |
    | recompute | everywhere else, see `recompute.py`: on CUDA in float32, because fused       |
    |           | kernels take longer than plain products, and for channel attention           |

    Args:
        implementation: "auto" or "reference".
        x: The values. Their device, dtype and whether they need a gradient count.
        size: Numbers of a query, a key and a value as kernels see them. None: no kernel suits.
        equal: Whether queries are as wide as values before any padding.

    Raises:
        UserError: Unknown `implementation`.
    """
    check_choice("implementation", implementation, get_args(Implementation))
    if implementation == "reference":
        return "reference"
    if size is None:
        return "recompute"
    if x.is_cpu:
        return "fused" if equal and x.dtype in (torch.float32, torch.float64) else "recompute"
    if not x.is_cuda or x.dtype not in HALF or torch.are_deterministic_algorithms_enabled():
        return "recompute"
    return "fused" if has_kernel(x.device, x.dtype, size, x.requires_grad) else "recompute"


@in_precision_of_run
def channel_attention(
    x: Tensor,
    *,
    gamma: Tensor | None = None,
    residual: Tensor | None = None,
    energy: Energy = "published",
    implementation: Implementation = "auto",
) -> Tensor:
    """Compute channel non-local attention, the CAM of DANet: softmax(E) X with E = X X^T.

    Deviation of the published code: it computes softmax(max(E) - E), which equals softmax(-E), so
    a channel attends to the channels *least* like it. `energy="published"` (default) keeps this
    sign, because all published results used it; `energy="paper"` is equation 3.

    Args:
        x: Features, floating, [B, C, H, W].
        gamma: Scale of the attention, [1]; 1 if not given.
        residual: What the attention is added to, [B, C, H, W]; `x` in DANet.
        energy: Sign of the energies, "published" or "paper".
        implementation: "auto" or "reference".

    Returns:
        [B, C, H, W], the wider dtype of `x` and `gamma`.

    Raises:
        UserError: Unknown `energy` or `implementation`.
    """
    check_choice("energy", energy, get_args(Energy))
    sign = 1 if energy == "paper" else -1
    flat = x.flatten(2)
    # a query is a channel with all its N numbers: fused kernels are made for a few hundred
    if choose_form(implementation, x, size=None) == "reference":
        energies = flat @ flat.mT
        attention = torch.softmax(sign * energies, dim=-1)
        return _combine((attention @ flat).view_as(x), gamma, residual)
    added = None if residual is None or residual is x else residual.flatten(2)
    result = ChannelAttention.apply(flat, _scale(gamma, x), added, sign, residual is x)
    return result.view_as(x)


@in_precision_of_run
def spatial_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    gamma: Tensor | None = None,
    residual: Tensor | None = None,
    implementation: Implementation = "auto",
) -> Tensor:
    """Compute spatial non-local attention, the PAM of DANet: V softmax(Q^T K)^T.

    Args:
        query: [B, D, H, W], floating; D is C / 8 in DANet.
        key: [B, D, H, W].
        value: [B, C, H, W].
        gamma: Scale of the attention, [1]; 1 if not given.
        residual: What the attention is added to, [B, C, H, W]; the features in DANet.
        implementation: "auto" or "reference".

    Returns:
        [B, C, H, W]; position i is the mean of all values, weighted by softmax_j(q_i . k_j).

    Raises:
        UserError: Unknown `implementation`.
    """
    q, k, v = query.flatten(2), key.flatten(2), value.flatten(2)
    heads, size = chunks(values=v.shape[1], queries=q.shape[1])
    form = choose_form(implementation, v, size=size, equal=q.shape[1] == v.shape[1])
    if form == "reference":
        attention = torch.softmax(q.mT @ k, dim=-1)
        return _combine((v @ attention.mT).view_as(value), gamma, residual)
    if form == "fused":
        attended = attend_in_chunks(q, k, v, heads=heads, size=size)
        return _combine(attended.unflatten(2, value.shape[2:]), gamma, residual)
    added = (
        torch.zeros_like(v[:1, :1, :1]).expand_as(v) if residual is None else residual.flatten(2)
    )
    return SpatialAttention.apply(q, k, v, _scale(gamma, value), added).view_as(value)


@in_precision_of_run
def full_attention(
    x: Tensor,
    column_context: Tensor,
    row_context: Tensor,
    *,
    gamma: Tensor | None = None,
    residual: Tensor | None = None,
    published_batch_mixing: bool = False,
    implementation: Implementation = "auto",
) -> Tensor:
    """Compute the fully attentional block (FLA): channel attention in every column and row.

    Y[:, h, w] = gamma (softmax(F_w G^T) F_w[:, h] + softmax(F_h K^T) F_h[:, w]) + X[:, h, w]

    Column w holds the features F_w = X[:, :, w], C x H; row h holds F_h = X[:, h, :], C x W. All
    columns share one context G, C x H, and all rows share K, C x W; both come from the *same
    image*. Each softmax is a map C x C. H and W may differ.

    Deviation of the published code: slice s of image b meets the context of image (b * S + s) mod
    B, since G is tiled in another order than the slices. With one image this is the paper's
    equation; in a batch, images mix.

    Args:
        x: Features, floating, [B, C, H, W].
        column_context: Keys of the columns, the encoded mean over W, [B, C, H].
        row_context: Keys of the rows, the encoded mean over H, [B, C, W].
        gamma: Scale of the attention, [1]; 1 if not given.
        residual: What the attention is added to, [B, C, H, W]; `x` in FLA.
        published_batch_mixing: Pair images and contexts as the published code does.
        implementation: "auto" or "reference".

    Returns:
        [B, C, H, W], the sum of the column and the row result.

    Raises:
        UserError: Unknown `implementation`.
    """
    scale = _scale(gamma, x)
    mixing, form = published_batch_mixing, implementation
    by_column = _attend_rows(x.mT, column_context, scale, mixing=mixing, implementation=form).mT
    by_row = _attend_rows(x, row_context, scale, mixing=mixing, implementation=form)
    result = by_column + by_row
    return result if residual is None else result.add_(residual)


def _attend_rows(
    x: Tensor, context: Tensor, gamma: Tensor, *, mixing: bool, implementation: Implementation
) -> Tensor:
    """Return gamma * softmax(F K^T) F for each row F of x [B, C, H, W]; the context K is [B, C, W].

    If H and W are swapped in x, its rows are the columns of the image.
    """
    rows, length = _split_rows(x, mixing=mixing), x.shape[3]
    size = length if x.is_cpu else length + -length % 8
    form = choose_form(implementation, x, size=size, equal=True)
    if form == "reference":
        result = gamma * (torch.softmax(rows @ context.unsqueeze(1).mT, dim=-1) @ rows)
    elif form == "fused":
        values = padded(rows, size)
        keys = padded(context.contiguous(), size).unsqueeze(1).expand_as(values)
        result = gamma * attend(values, keys, values)[..., :length]
    else:
        result = SliceAttention.apply(rows, context, gamma)
    return _merge_rows(result, mixing=mixing)


def _split_rows(x: Tensor, *, mixing: bool) -> Tensor:
    """Turn [B, C, H, W] into rows [B, H, C, W]; kernels need a contiguous last axis."""
    rows = x.contiguous().transpose(1, 2)
    if mixing:  # row n of the batch, n = b * H + h, moves to the place of image n mod B
        rows = rows.flatten(0, 1).unflatten(0, (-1, len(x))).transpose(0, 1)
    return rows


def _merge_rows(rows: Tensor, *, mixing: bool) -> Tensor:
    """Undo `_split_rows`."""
    if mixing:
        rows = rows.transpose(0, 1).flatten(0, 1).unflatten(0, (len(rows), -1))
    return rows.transpose(1, 2)


def _combine(attention: Tensor, gamma: Tensor | None, residual: Tensor | None) -> Tensor:
    if residual is None:
        return attention if gamma is None else gamma * attention
    return residual + attention if gamma is None else torch.addcmul(residual, gamma, attention)


def _scale(gamma: Tensor | None, like: Tensor) -> Tensor:
    return like.new_ones(1) if gamma is None else gamma
