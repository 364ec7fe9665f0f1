"""Half precision as on CUDA, computed on a CPU: the same functions, patched to keep bf16."""

import pytest
import torch
from torch import Tensor, nn

from segattn.benchmark.pairs import BLOCKS, Pair, block_pair
from segattn.models import attention, blocks, precision, recompute
from segattn.models.heads.channel_nl import ChannelBlock


@pytest.fixture(autouse=True)
def as_on_cuda(monkeypatch):
    for module in (precision, recompute, blocks):
        monkeypatch.setattr(module, "keeps_half", lambda _: True)
    monkeypatch.setattr(attention, "choose_form", lambda *_, **__: "fused")


def scale_energies(pair: Pair, x: Tensor, largest: float) -> Tensor:
    """Scale weights of queries and contexts, or the features, so that energies reach `largest`."""
    with torch.no_grad():
        for block in pair.ours.modules():
            if isinstance(block, ChannelBlock):
                flat = x.flatten(2)
                x = x * (largest / (flat @ flat.mT).abs().max()) ** 0.5
        for ours, published in zip(encoders(pair.ours), encoders(pair.published), strict=True):
            reached = largest_energy(ours, pair.ours, x)
            for layer in (ours, published):
                layer.weight.mul_(largest / reached)
                layer.bias.mul_(largest / reached)
    return x


def encoders(module: nn.Module) -> list[nn.Module]:
    """The layers that queries, or the contexts of columns and rows, come from."""
    names = ("query", "query_conv", "column_context", "conv1", "row_context", "conv2")
    return [layer for name, layer in module.named_modules() if name.split(".")[-1] in names]


def largest_energy(layer: nn.Module, block: nn.Module, x: Tensor) -> Tensor:
    spatial = [b for b in block.modules() if hasattr(b, "query")]
    if spatial:
        return (layer(x).flatten(2).mT @ spatial[0].key(x).flatten(2)).abs().max()
    columns = layer is block.column_context
    slices = x.permute(0, 3, 1, 2) if columns else x.permute(0, 2, 1, 3)
    return (slices @ layer(x.mean(3 if columns else 2)).unsqueeze(1).mT).abs().max()


def attended(block: nn.Module, x: Tensor) -> list[Tensor]:
    """gamma * attention, and the gradient of x; in float64."""
    leaf = x.detach().requires_grad_()
    y = block(leaf)
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    return [(y - x).double(), torch.autograd.grad(y, leaf, g)[0].double()]


@pytest.mark.parametrize("largest", [1, 30, 300])
@pytest.mark.parametrize("name", BLOCKS)
def test_half_is_no_further_from_float64_than_the_published_code(name, largest):
    pair = block_pair(name, 64)
    x = torch.randn(1, 64, 16, 20, generator=torch.Generator().manual_seed(0)).relu()
    x = scale_energies(pair, x, largest).bfloat16().float()
    with torch.autocast("cpu", torch.bfloat16):
        ours, published = attended(pair.ours, x), attended(pair.published, x)
    expected = attended(pair.ours.double(), x.double())
    (result, gradient), (result_there, gradient_there) = (
        [float((y - e).norm() / e.norm()) for y, e in zip(got, expected, strict=True)]
        for got in (ours, published)
    )
    assert result <= result_there
    # kernels take row sums of S from rounded results: at small energies, where both gradients are
    # right to a quarter of the rounding of bf16, theirs may be the better one
    assert gradient <= max(gradient_there, 2**-11)
