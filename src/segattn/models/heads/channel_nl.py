"""Channel non-local: the channel attention of DANet."""

import torch
from torch import Tensor

from segattn.models.attention import Energy, Implementation, channel_attention
from segattn.models.blocks import AttentionBlock, new_gamma
from segattn.models.channel_maps import choose_channels, gram, scaled_features
from segattn.models.scaffold import scaffold


class ChannelBlock(AttentionBlock):
    """Channel non-local block (CAM of DANet, arXiv 1809.02983, section 3.3).

    Args:
        channels: C; the block has no weights that depend on it.
        energy: Sign of the energies, see `channel_attention`.
        gamma_start: Value of gamma before training.
        implementation: Form of the attention, see `segattn.models.attention`.
    """

    def __init__(
        self,
        channels: int,
        *,
        energy: Energy = "published",
        gamma_start: float = 0.0,
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        self.energy, self.implementation = energy, implementation
        self.gamma = new_gamma(gamma_start)

    def attention(self, x: Tensor, residual: Tensor) -> Tensor:
        """See the base class."""
        return channel_attention(
            x,
            gamma=self.gamma,
            residual=residual,
            energy=self.energy,
            implementation=self.implementation,
        )

    def affinity(self, x: Tensor) -> Tensor:
        """Return softmax(E) of one image [1, C, h, w] with the block's sign, [C, C]."""
        sign = 1 if self.energy == "paper" else -1
        return torch.softmax(sign * gram(x), dim=-1)

    def maps(self, x: Tensor, cells: Tensor) -> dict[str, Tensor]:
        """Return the map of the kept channels, and for some the most and the least alike one."""
        affinity, likeness = self.affinity(x), gram(x)
        channels, own = choose_channels(likeness)
        others = likeness[own].clone()
        others[torch.arange(len(own)), own] = -torch.inf
        most = others.argmax(1)
        others[torch.arange(len(own)), own] = torch.inf
        shown = torch.stack([own, most, others.argmin(1)], dim=1)
        return {
            "channels": channels,
            "shown": shown,
            "channel_maps": scaled_features(x, shown),
            "affinity": affinity[channels][:, channels],
            "weights": affinity[shown[:, :1], shown],
        }


head = scaffold(ChannelBlock)
