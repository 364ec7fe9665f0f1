"""Spatial non-local: the spatial attention of DANet."""

import torch
from torch import Tensor, nn

from segattn.models.attention import Implementation, spatial_attention
from segattn.models.blocks import AttentionBlock, new_gamma
from segattn.models.scaffold import scaffold


class SpatialBlock(AttentionBlock):
    """Spatial non-local block (PAM of DANet, arXiv 1809.02983, section 3.2).

    Args:
        channels: C; queries and keys have C / 8 channels (at least 1), as published.
        gamma_start: Value of gamma before training.
        implementation: Form of the attention, see `segattn.models.attention`.
    """

    def __init__(
        self,
        channels: int,
        *,
        gamma_start: float = 0.0,
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        self.implementation = implementation
        self.query = nn.Conv2d(channels, max(channels // 8, 1), kernel_size=1)
        self.key = nn.Conv2d(channels, max(channels // 8, 1), kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.gamma = new_gamma(gamma_start)

    def attention(self, x: Tensor, residual: Tensor) -> Tensor:
        """See the base class."""
        return spatial_attention(
            self.query(x),
            self.key(x),
            self.value(x),
            gamma=self.gamma,
            residual=residual,
            implementation=self.implementation,
        )

    def maps(self, x: Tensor, cells: Tensor) -> dict[str, Tensor]:
        """Return the rows of softmax(Q^T K) for the chosen cells, [P, h, w]."""
        query = self.query(x)[0, :, cells[:, 0], cells[:, 1]]  # [D, P]
        energies = query.T @ self.key(x)[0].flatten(1)
        return {"rows": torch.softmax(energies, dim=-1).unflatten(1, x.shape[2:])}


head = scaffold(SpatialBlock)
