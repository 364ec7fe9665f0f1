"""CCNet: criss-cross attention, in two loops with shared weights."""

import torch
from torch import Tensor, nn

from segattn.models.blocks import AttentionBlock, new_gamma
from segattn.models.precision import in_precision_of_run, widened
from segattn.models.scaffold import scaffold

_LOOPS = 2


def criss_cross_maps(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of each position for its column and for its row (CCNet, equation 1).

    One softmax spans both. A position's own weight is in the row; in the column it is 0.

    Args:
        query: [B, D, H, W].
        key: [B, D, H, W].

    Returns:
        [B, H, W, H] and [B, H, W, W], float32 at least; together they sum to 1.
    """
    q, k = widened(query), widened(key)
    height = q.shape[2]
    own = torch.eye(height, dtype=torch.bool, device=q.device)[:, None]  # [H, 1, H]
    columns = torch.einsum("bdhw,bdvw->bhwv", q, k).masked_fill(own, -torch.inf)
    rows = torch.einsum("bdhw,bdhu->bhwu", q, k)
    maps = torch.softmax(torch.cat([columns, rows], dim=-1), dim=-1)
    return maps[..., :height], maps[..., height:]


@in_precision_of_run
def criss_cross_attention(
    query: Tensor, key: Tensor, value: Tensor, *, gamma: Tensor, residual: Tensor
) -> Tensor:
    """Return residual + gamma * attention of one loop (CCNet, equation 2).

    The maps hold N * (H + W) numbers and the backward pass keeps them.

    Args:
        query: [B, D, H, W], floating.
        key: [B, D, H, W].
        value: [B, C, H, W].
        gamma: Scale of the attention, [1].
        residual: [B, C, H, W].
    """
    columns, rows = criss_cross_maps(query, key)
    v = widened(value)
    by_column = torch.einsum("bhwv,bcvw->bchw", columns, v)
    by_row = torch.einsum("bhwu,bchu->bchw", rows, v)
    dtype = torch.promote_types(residual.dtype, gamma.dtype)
    return torch.addcmul(residual, gamma, (by_column + by_row).to(dtype))


class CrissCrossBlock(AttentionBlock):
    """Recurrent criss-cross attention (CCNet, ICCV 2019, arXiv 1811.11721, section 3).

    A position attends to the H + W - 1 positions of its column and row. The second loop reads the
    result of the first, so every position reaches every other one.

    The paper adds the attention without a scale. Gamma comes from the published code, where it
    starts at 0. Both loops share it, like the other weights.

    Args:
        channels: C; queries and keys have C / 8 channels (at least 1), as published.
        gamma_start: Value of gamma before training.
    """

    def __init__(self, channels: int, *, gamma_start: float = 0.0) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, max(channels // 8, 1), kernel_size=1)
        self.key = nn.Conv2d(channels, max(channels // 8, 1), kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.gamma = new_gamma(gamma_start)

    def attention(self, x: Tensor, residual: Tensor) -> Tensor:
        """See the base class."""
        for _ in range(_LOOPS):
            x = residual = self.loop(x, residual)
        return x

    def loop(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return the residual and what one loop adds to it, [B, C, H, W]."""
        qkv = self.query(x), self.key(x), self.value(x)
        return criss_cross_attention(*qkv, gamma=self.gamma, residual=residual)

    def maps(self, x: Tensor, cells: Tensor) -> dict[str, Tensor]:
        """Return what each chosen cell draws from every cell through both loops, [P, h, w].

        This is a row of the product of both loops' maps, without values and gamma.
        """
        inputs = [x]
        for _ in range(_LOOPS - 1):
            inputs.append(self.loop(inputs[-1], inputs[-1]))
        drawn = x.new_zeros(len(cells), *x.shape[2:])
        drawn[torch.arange(len(cells)), cells[:, 0], cells[:, 1]] = 1
        for y in reversed(inputs):
            (columns,), (rows,) = criss_cross_maps(self.query(y), self.key(y))
            by_column = torch.einsum("phw,hwv->pvw", drawn, columns)
            drawn = by_column + torch.einsum("phw,hwu->phu", drawn, rows)
        return {"rows": drawn}


head = scaffold(CrissCrossBlock)
