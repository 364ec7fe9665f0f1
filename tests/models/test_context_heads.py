"""psp and aspp against plain formulations of their papers."""

import pytest
import torch
from torch.nn import functional

from segattn.models.heads import build_head, check_head
from segattn.models.heads.aspp import AtrousPyramid
from segattn.models.heads.psp import PyramidPooling

SIZES = [(1, 2), (2, 3), (5, 4), (6, 6), (13, 20)]  # the largest bin has 6 x 6


def reduced(x, layers, training, **options):
    """Convolution, batch norm by the batch's or the running statistics if there is one, ReLU."""
    conv, *norm = (layer for layer in layers if list(layer.parameters()))
    x = functional.conv2d(x, conv.weight, conv.bias, **options)
    for n in norm:
        mean, var = n.running_mean.clone(), n.running_var.clone()
        x = functional.batch_norm(x, mean, var, n.weight, n.bias, training=training)
    return x.relu()


def plain_psp(block, x, training):
    maps = [x]
    for bins, layers in zip((1, 2, 3, 6), (block.whole, *block.regions), strict=True):
        small = reduced(functional.adaptive_avg_pool2d(x, bins), layers, training)
        large = functional.interpolate(small, x.shape[2:], mode="bilinear", align_corners=True)
        maps.append(large)
    return reduced(torch.cat(maps, 1), block.merge, training)


def plain_aspp(block, x, training):
    one, *three = block.branches
    maps = [reduced(x, one, training)]
    for rate, layers in zip((2, 4, 6), three, strict=True):
        maps.append(reduced(x, layers, training, padding=rate, dilation=rate))
    mean = reduced(functional.adaptive_avg_pool2d(x, 1), block.whole, training)
    maps.append(mean.expand(-1, -1, *x.shape[2:]))
    return reduced(torch.cat(maps, 1), block.merge, training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("kind", "plain"), [(PyramidPooling, plain_psp), (AtrousPyramid, plain_aspp)]
)
def test_block_equals_the_plain_formulation(kind, plain, size, batch, training):
    torch.manual_seed(0)
    block = kind(10).double().train(training)  # channels / 4 is not whole
    x = torch.randn(batch, 10, *size, dtype=torch.float64, requires_grad=True)
    inputs = [x, *block.parameters()]
    weights = torch.randn_like(x)
    results = []
    for result in (plain(block, x, training), block(x)):
        results.append([result, *torch.autograd.grad((result * weights).sum(), inputs)])
    assert results[1][0].shape == x.shape
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["psp", "aspp"])
@pytest.mark.parametrize("size", SIZES)
def test_head_trains_on_one_image(name, size):
    """The mean of the map is one value per channel, which batch norm refuses."""
    head = build_head(name, 8, 3, channels=16)
    output = head(torch.randn(1, 8, *size))
    assert output.logits.shape == (1, 3, *size)
    output.logits.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


@pytest.mark.parametrize("name", ["psp", "aspp"])
def test_context_reaches_every_cell(name):
    head = build_head(name, 8, 3, channels=16).eval()
    x = torch.randn(1, 8, 14, 20, requires_grad=True)
    (gradient,) = torch.autograd.grad(head(x).logits[0, :, 0, 0].sum(), x)
    assert (gradient[0].abs().amax(0) > 0).all()


@pytest.mark.parametrize(
    ("rate", "message"), [(0, "rate >= 1, got 0"), (1.5, "rate must be int"), ([6], "must be int")]
)
def test_bad_rate_is_named(rate, message):
    with pytest.raises(ValueError, match=f"head 'aspp'.*{message}"):
        check_head("aspp", {"rate": rate})
