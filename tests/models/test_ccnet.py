"""Criss-cross attention against a full N x N softmax with a mask."""

import pytest
import torch
from test_attention_forms import kept_numbers

from segattn.models.heads import build_head
from segattn.models.heads.ccnet import CrissCrossBlock, criss_cross_attention

SIZES = [(1, 1), (1, 5), (4, 1), (3, 5), (7, 7)]


def plain_loop(block, x):
    """One loop: positions in another row and another column have energy -inf."""
    height, width = x.shape[2:]
    y, z = (i.flatten() for i in torch.meshgrid(*map(torch.arange, x.shape[2:]), indexing="ij"))
    crosses = (y[:, None] == y) | (z[:, None] == z)
    energies = block.query(x).flatten(2).mT @ block.key(x).flatten(2)
    maps = torch.softmax(energies.masked_fill(~crosses, -torch.inf), dim=-1)
    attended = block.value(x).flatten(2) @ maps.mT
    return block.gamma * attended.view(-1, x.shape[1], height, width) + x


@pytest.mark.parametrize("gamma", [0.0, 1.0, -0.7])
@pytest.mark.parametrize("size", SIZES)
def test_block_equals_two_plain_loops(size, gamma):
    torch.manual_seed(0)
    block = CrissCrossBlock(10, gamma_start=gamma).double()
    x = torch.randn(3, 10, *size, dtype=torch.float64, requires_grad=True)
    weights, inputs, results = torch.randn_like(x), [x, *block.parameters()], []
    for result in (plain_loop(block, plain_loop(block, x)), block(x)):
        results.append([result, *torch.autograd.grad((result * weights).sum(), inputs)])
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_gradients_pass_gradcheck():
    torch.manual_seed(0)
    shapes = [(2, 2, 3, 4), (2, 2, 3, 4), (2, 5, 3, 4), (1,), (2, 5, 3, 4)]
    leaves = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]

    def call(query, key, value, gamma, residual):
        return criss_cross_attention(query, key, value, gamma=gamma, residual=residual)

    assert torch.autograd.gradcheck(call, leaves)


def test_every_cell_reaches_every_other_one_in_two_loops_and_not_in_one():
    torch.manual_seed(0)
    block, x = CrissCrossBlock(8, gamma_start=1.0), torch.randn(1, 8, 5, 7, requires_grad=True)
    for call, reached in ((block, 35), (lambda x: block.loop(x, x), 5 + 7 - 1)):
        (gradient,) = torch.autograd.grad(call(x)[0, :, 2, 3].sum(), x)
        assert int((gradient[0].abs().amax(0) > 0).sum()) == reached


def test_no_n_x_n_map_is_kept():
    block, positions = CrissCrossBlock(8, gamma_start=1.0), 40 * 40
    leaves = [torch.randn(1, 8, 40, 40, requires_grad=True)]
    kept = kept_numbers(block, leaves)
    maps = 2 * positions * (40 + 40)
    assert maps < kept < positions**2 / 2


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_result_is_finite_and_in_the_dtype_of_the_weights(dtype, scale):
    block = CrissCrossBlock(8, gamma_start=1.0).to(dtype)
    x = (scale * torch.randn(2, 8, 5, 7)).to(dtype).requires_grad_()
    y = block(x)
    y.float().mean().backward()
    assert (y.dtype, x.grad.dtype) == (dtype, dtype)
    assert torch.isfinite(y).all()
    assert torch.isfinite(x.grad).all()


def test_head_trains_on_one_image_and_compiles_to_the_same_numbers():
    torch.compiler.reset()
    head = build_head("ccnet", 8, 3, channels=16, gamma_start=0.5).eval()
    x = torch.randn(1, 8, 5, 7)
    compiled = torch.compile(head, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x).logits, head(x).logits)
