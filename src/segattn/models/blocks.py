"""What all attention blocks share, and how the blocks of a head are found and watched.

A block maps [B, C, H, W] to the same shape as gamma * attention(x) + x. Gamma starts at
`gamma_start`: 0, as published, makes a fresh block the identity, which learns only as fast as gamma
grows. Under autocast on CUDA, a block multiplies in the dtype of autocast; elsewhere, in the dtype
of its weights. Energies and maps are float32 at least: energies are not divided by a square root
and reach the hundreds, where bfloat16 is off by a whole unit in the exponent of the softmax.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from segattn.models.precision import autocast_off, keeps_half


class AttentionBlock(nn.Module):
    """Base class of the blocks: it takes care of autocast and calls `attention`.

    A subclass defines `attention`. If it also defines `maps(x, cells)`, test runs keep its
    attention maps: x is its input for one image, [1, C, h, w], and cells are rows and columns,
    int64 [P, 2]. `maps` returns tensors by the keys of `segattn.models.attention_maps`.
    """

    def attention(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return residual + gamma * attention of x, [B, C, H, W]."""
        raise NotImplementedError

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map [B, C, H, W] to [B, C, H, W] in the dtype of the weights.

        Args:
            x: Features.
            residual: What the attention is added to; `x` if not given.
        """
        if keeps_half(x):
            return self.attention(x, x if residual is None else residual)
        with autocast_off(x.device):
            x = x.to(next(self.parameters()).dtype)
            return self.attention(x, x if residual is None else residual)


def new_gamma(start: float) -> nn.Parameter:
    """Return the scale of an attention, one element."""
    return nn.Parameter(torch.full((1,), float(start)))


def gamma_blocks(head: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of a head that have a parameter `gamma` of one element, by name."""
    gammas = (
        (name, module, getattr(module, "gamma", None)) for name, module in head.named_modules()
    )
    return {
        name: module
        for name, module, gamma in gammas
        if isinstance(gamma, nn.Parameter) and gamma.numel() == 1
    }


def watch_blocks(
    head: nn.Module, see: Callable[[str, tuple[Tensor, ...], Tensor], None]
) -> list[RemovableHandle]:
    """Call `see(name, inputs, result)` after each pass of a block with a gamma.

    Compiled code runs these hooks only if dynamo guards hooks, see `SegmentationTask`.

    Returns:
        Handles; `remove` of each ends the watching.
    """

    def watch(name: str, block: nn.Module) -> RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
            see(name, inputs, result)  # a hook that returned something would replace the result

        return block.register_forward_hook(hook)

    return [watch(name, block) for name, block in gamma_blocks(head).items()]


def block_share(inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
    """Return the norm of the added part divided by the norm of the input, per image, [B].

    It is 0 for a block that training has switched off.
    """
    added, given = (y.float().flatten(1).norm(dim=1) for y in (result - inputs[-1], inputs[0]))
    return added / given.clamp_min(1e-12)
