"""What is measured against what: our attention blocks, and published ones of equal weights."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from segattn.benchmark.formulations import (
    PublishedChannel,
    PublishedCrissCross,
    PublishedFull,
    PublishedSpatial,
)
from segattn.models.heads.ccnet import CrissCrossBlock
from segattn.models.heads.channel_nl import ChannelBlock
from segattn.models.heads.cs_nl import SeriesBlock
from segattn.models.heads.danet import DualBlock
from segattn.models.heads.fla import FullBlock
from segattn.models.heads.spatial_nl import SpatialBlock
from segattn.models.published import convert
from segattn.models.scaffold import ScaffoldHead

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Pair:
    """Two modules with equal weights that compute the same for one image.

    In a batch, the published FLA mixes images and ours does not; the work is the same.
    """

    ours: nn.Module
    published: nn.Module


class _Attend(nn.Module):
    """The attention of the published FLA block, without the 3x3 convolution that closes it."""

    def __init__(self, block: PublishedFull) -> None:
        super().__init__()
        block.conv = nn.Sequential()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block.attend(x)


class _Dual(nn.Module):
    """Both published blocks side by side; each adds x, which belongs there once."""

    def __init__(self, spatial: nn.Module, channel: nn.Module) -> None:
        super().__init__()
        self.spatial, self.channel = spatial, channel

    def forward(self, x: Tensor) -> Tensor:
        return self.spatial(x) + self.channel(x) - x


def _channel(channels: int) -> Pair:
    published = _opened(PublishedChannel(channels))
    return Pair(_loaded(ChannelBlock(channels), "cam", published), published)


def _spatial(channels: int) -> Pair:
    published = _opened(PublishedSpatial(channels))
    return Pair(_loaded(SpatialBlock(channels), "pam", published), published)


def _dual(channels: int) -> Pair:
    ours, spatial, channel = DualBlock(channels), _spatial(channels), _channel(channels)
    ours.spatial.load_state_dict(spatial.ours.state_dict())
    ours.channel.load_state_dict(channel.ours.state_dict())
    return Pair(ours, _Dual(spatial.published, channel.published))


def _series(channels: int) -> Pair:
    parts = _channel(channels), _spatial(channels)
    ours = SeriesBlock(channels)
    for block, part in zip(ours, parts, strict=True):
        block.load_state_dict(part.ours.state_dict())
    return Pair(ours, nn.Sequential(*(part.published for part in parts)))


def _full(channels: int) -> Pair:
    published, ours = _opened(PublishedFull(channels)), FullBlock(channels)
    weights = convert("fla", published.state_dict())
    own = {k.removeprefix("block."): v for k, v in weights.items() if k.startswith("block.")}
    ours.load_state_dict(own)
    return Pair(ours, _Attend(published))


def _criss_cross(channels: int) -> Pair:
    published = _opened(PublishedCrissCross(channels))
    ours = _loaded(CrissCrossBlock(channels), "cca", published)
    return Pair(ours, nn.Sequential(published, published))  # two loops with shared weights


def _opened(module: Module) -> Module:
    """Gamma away from 0, where some gradients vanish and could be skipped."""
    for name, parameter in module.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.5)
    return module


def _loaded(ours: Module, name: str, published: nn.Module) -> Module:
    ours.load_state_dict(convert(name, published.state_dict()))
    return ours


# by head name: the block alone, [B, C, H, W] to the same shape
BLOCKS: dict[str, Callable[[int], Pair]] = {
    "channel_nl": _channel,
    "spatial_nl": _spatial,
    "danet": _dual,
    "cs_nl": _series,
    "fla": _full,
    "ccnet": _criss_cross,
}


def block_pair(name: str, channels: int) -> Pair:
    """A block of `BLOCKS`; gamma is open and weights are drawn from a fixed seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BLOCKS[name](channels)


def with_published_blocks(head: nn.Module) -> nn.Module:
    """A copy of a scaffold head with the published block in place of ours; opens both gammas.

    Raises:
        TypeError: `head` is not a `ScaffoldHead`, or its block has no published counterpart here.
    """
    if not isinstance(head, ScaffoldHead):
        raise TypeError(f"{type(head).__name__} has no scaffold whose block could be replaced")
    published = copy.deepcopy(head)
    block = head.block
    channels = next(head.refine.parameters()).shape[0]
    for build in BLOCKS.values():
        pair = build(channels)
        if type(pair.ours) is type(block):
            block.load_state_dict(pair.ours.state_dict())
            published.block = pair.published
            return published
    if not isinstance(block, nn.Identity):
        raise TypeError(f"{type(block).__name__} has no published counterpart")
    return published
