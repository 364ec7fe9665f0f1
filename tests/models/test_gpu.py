"""What only a CUDA device can show: attention and heads agree with the CPU, and a run trains."""

from functools import partial

import pytest
import torch
from test_attention_forms import (
    CASES,
    SHAPES,
    function,
    inputs,
    largest_relative_error,
    result_and_gradients,
)
from test_heads import images, open_gammas
from tiny import tiny_config

from segattn.benchmark.measure import peak_memory
from segattn.benchmark.pairs import BLOCKS, block_pair
from segattn.benchmark.suite import features
from segattn.models.heads import HEADS
from segattn.models.segmenter import Segmenter
from segattn.training.train import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


# as people train: square, odd, a batch at CamVid's size, and long rows
TARGETS = [(1, 512, 96, 96), (2, 512, 97, 97), (8, 64, 45, 60), (1, 512, 128, 256)]
FEW = [*SHAPES, (2, 64, 24, 40), (1, 48, 19, 300)]
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.mark.parametrize("shape", FEW, ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 2e-2)],
    ids=str,
)
@pytest.mark.parametrize("deterministic", [False, True])
def test_attention_on_cuda_equals_the_float64_reference(
    case, shape, dtype, tolerance, deterministic, monkeypatch
):
    """Deterministic runs recompute, the others take the fused kernel where it fits."""
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: deterministic)
    # energies of channels are sums over the positions; at a thousand float32 itself is off by more
    scale = 0.5 if shape in SHAPES else 0.1
    rounded = [x.to(dtype) for x in inputs(case, shape, scale=scale)]
    expected = result_and_gradients(function(case, "reference"), [x.double() for x in rounded])
    actual = result_and_gradients(function(case), [x.cuda() for x in rounded])
    if shape not in SHAPES:  # gamma's is a sum of 10^5 products of both signs, near 0
        del actual[-2], expected[-2]
    assert largest_relative_error([x.cpu() for x in actual], expected) < tolerance


def run_block(block, x, precision):
    """Result and gradient of the input, under autocast where the precision is a half one."""
    leaf = x.detach().requires_grad_()
    half = precision != "fp32"
    with torch.autocast("cuda", PRECISIONS[precision] if half else torch.bfloat16, half):
        y = block(leaf)
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    return [y.detach(), *torch.autograd.grad(y, leaf, g)]


@pytest.mark.parametrize("shape", TARGETS, ids=str)
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_block_at_full_size_is_no_further_from_the_truth_than_the_published_one(
    name, shape, precision
):
    if name == "fla":
        shape = (1, *shape[1:])  # of a batch, the published one mixes the images
    pair = block_pair(name, shape[1])
    x = features(shape, device=torch.device("cuda"), dtype=torch.float32)
    ours, published = (run_block(m.cuda(), x, precision) for m in (pair.ours, pair.published))
    exact = run_block(pair.ours.double(), x.double(), "fp32")
    for y, theirs, e in zip(ours, published, exact, strict=True):
        error, theirs_error = ((a - e).norm() / e.norm() for a in (y, theirs))
        assert error <= max(1.1 * theirs_error, 1e-5 if precision == "fp32" else 2**-11)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["spatial_nl", "fla"])
def test_training_on_cuda_keeps_a_third_of_the_published_memory_at_most(name, precision):
    pair, device = block_pair(name, 512), torch.device("cuda")
    x = torch.randn(1, 512, 96, 96, device=device)
    ours, published = (
        peak_memory(partial(run_block, module.to(device), x, precision), device)
        for module in (pair.ours, pair.published)
    )
    assert ours < {"spatial_nl": 0.15, "fla": 0.30}[name] * published


@pytest.mark.parametrize("name", HEADS)
def test_head_on_cuda_equals_head_on_cpu(name):
    torch.manual_seed(0)
    model = Segmenter(
        num_classes=3,
        head={"name": name, "channels": 16},
        encoder={"name": "resnet18", "depth": 3, "output_stride": 8},
    ).eval()
    open_gammas(model)
    batch = images(2, 65, 97)
    with torch.no_grad():
        expected = model(batch).logits
        got = model.cuda()(batch.cuda()).logits.cpu()
    torch.testing.assert_close(got, expected, atol=1e-2, rtol=1e-2)  # TF32 convolutions


@pytest.mark.parametrize("precision", PRECISIONS)
def test_run_trains_and_tests_on_cuda(tmp_path, precision):
    words = ("trainer.accelerator=gpu", f"trainer.precision={precision}", "loader.num_workers=2")
    run = train(tiny_config(tmp_path, "head=danet", *words))
    assert run.result["num_images"] == 4
    assert run.result["environment"]["device"] == torch.cuda.get_device_name()
    scores = run.result["scores"]
    assert all(scores[f"block_share/block.{part}"] > 0 for part in ("spatial", "channel"))
