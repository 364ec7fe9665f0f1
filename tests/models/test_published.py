"""Our blocks and heads, with converted weights, against the published formulations."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from segattn.benchmark.formulations import (
    PublishedChannel,
    PublishedCrissCross,
    PublishedDANetHead,
    PublishedFull,
    PublishedSpatial,
)
from segattn.models.heads.ccnet import CrissCrossBlock
from segattn.models.heads.channel_nl import ChannelBlock
from segattn.models.heads.danet import DANetHead
from segattn.models.heads.fla import FullBlock
from segattn.models.heads.spatial_nl import SpatialBlock
from segattn.models.published import RENAMES, convert
from segattn.models.scaffold import HeadOutput, conv_norm_relu

SIZES = [(6, 6), (5, 7), (9, 4)]


def our_full(channels: int, **knobs) -> nn.Module:
    parts = {"block": FullBlock(channels, **knobs), "refine": conv_norm_relu(channels, channels)}
    return nn.Sequential(OrderedDict(parts))


def our_danet_head(dropout: float = 0.1) -> nn.Module:
    return DANetHead(
        in_channels=64, num_classes=5, channels=16, dropout=dropout, energy="published"
    )


class TwoLoops(PublishedCrissCross):
    """The published network calls its block twice."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(super().forward(x))


# name -> published module, ours, input channels
MODULES = {
    "pam": (lambda: PublishedSpatial(16), lambda: SpatialBlock(16), 16),
    "cam": (lambda: PublishedChannel(16), lambda: ChannelBlock(16), 16),
    "cca": (lambda: TwoLoops(16), lambda: CrissCrossBlock(16), 16),
    "fla": (lambda: PublishedFull(16), lambda: our_full(16), 16),
    "danet_head": (lambda: PublishedDANetHead(64, 5), our_danet_head, 64),
}


def randomise(module: nn.Module) -> nn.Module:
    """Move every parameter and statistic off its initial value; evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if name.endswith(("gamma", "running_var")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim > 1:
            tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
        elif tensor.ndim == 1:
            tensor.normal_(0, 0.5, generator=generator)
    return module.eval()


def features(batch: int, channels: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, height, width, generator=generator)


def logits(output: HeadOutput | tuple[torch.Tensor, ...] | torch.Tensor) -> torch.Tensor:
    if isinstance(output, HeadOutput):
        return output.logits
    return output[0] if isinstance(output, tuple) else output


def load(name: str, published: nn.Module, ours: nn.Module) -> nn.Module:
    ours.load_state_dict(convert(name, published.state_dict()), strict=True)
    return ours.eval()


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(
    ("name", "batch"),
    [*((name, 1) for name in MODULES), *((name, 3) for name in MODULES if name != "fla")],
)
@torch.no_grad()
def test_converted_weights_give_the_published_output(name, batch, height, width):
    build_published, build_ours, channels = MODULES[name]
    published = randomise(build_published())
    ours = load(name, published, build_ours())
    x = features(batch, channels, height, width)
    assert_close(logits(ours(x)), logits(published(x)))


@pytest.mark.parametrize(("height", "width"), SIZES)
@torch.no_grad()
def test_fla_differs_in_a_batch_unless_images_mix_as_published(height, width):
    published = randomise(PublishedFull(16))
    x = features(3, 16, height, width)
    for mixing in (False, True):
        ours = load("fla", published, our_full(16, published_batch_mixing=mixing))
        assert torch.allclose(ours.block(x), published.attend(x), rtol=1e-5, atol=1e-5) == mixing
        assert torch.allclose(ours(x), published(x), rtol=1e-5, atol=1e-5) == mixing


def test_danet_branches_give_the_published_logits_in_training():
    published = randomise(PublishedDANetHead(64, 5)).train()
    for module in published.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    ours = load("danet_head", published, our_danet_head(dropout=0.0)).train()
    x = features(3, 64, 5, 7)
    output, (total, spatial, channel) = ours(x), published(x)
    assert_close(output.logits, total)
    assert_close(output.aux["spatial"], spatial)
    assert_close(output.aux["channel"], channel)


@pytest.mark.parametrize("name", MODULES)
def test_data_parallel_prefix_is_accepted(name):
    weights = randomise(MODULES[name][0]()).state_dict()
    plain = convert(name, weights)
    prefixed = convert(name, {f"module.{key}": value for key, value in weights.items()})
    assert plain.keys() == prefixed.keys()
    assert all(torch.equal(plain[key], prefixed[key]) for key in plain)


@pytest.mark.parametrize("name", ["fla", "danet_head"])
def test_weights_without_batch_counters_load(name):
    build_published, build_ours, _ = MODULES[name]
    weights = build_published().state_dict()
    old = {key: value for key, value in weights.items() if not key.endswith("batches_tracked")}
    assert len(old) < len(weights)
    build_ours().load_state_dict(convert(name, old), strict=True)


def test_every_table_is_compared_here_or_with_the_networks():
    elsewhere = {name for name in RENAMES if name.startswith("flanet") or "resnet" in name}
    assert MODULES.keys() == RENAMES.keys() - elsewhere


def test_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match=r"'ham'.*cam.*cca.*danet_head.*fla.*pam"):
        convert("ham", {})


def test_wrong_weights_name_every_missing_and_unexpected_key():
    weights = PublishedSpatial(16).state_dict()
    weights["beta"], weights["delta"] = weights.pop("gamma"), weights.pop("key_conv.bias")
    message = r"'pam': missing \['gamma', 'key_conv.bias'\], unexpected \['beta', 'delta'\]"
    with pytest.raises(ValueError, match=message):
        convert("pam", weights)


def test_partial_weights_name_the_missing_keys():
    with pytest.raises(ValueError, match=r"missing \['gamma'\], unexpected none"):
        convert("cam", {})
