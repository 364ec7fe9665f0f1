"""What only a CUDA device can show: attention and heads agree with the CPU, and a run trains."""

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

from segattn.benchmark.measure import peak_memory, step
from segattn.benchmark.pairs import block_pair
from segattn.heads import HEADS
from segattn.model import Segmenter
from segattn.train import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("shape", [*SHAPES, (2, 64, 24, 40), (1, 48, 19, 300)], ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)], ids=str
)
@pytest.mark.parametrize("deterministic", [False, True])
def test_attention_on_cuda_equals_the_float64_reference(
    case, shape, dtype, tolerance, deterministic, monkeypatch
):
    """Deterministic runs recompute, the others take the fused kernel where it fits."""
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: deterministic)
    rounded = [x.to(dtype) for x in inputs(case, shape)]
    expected = result_and_gradients(function(case, "reference"), [x.double() for x in rounded])
    actual = result_and_gradients(function(case), [x.cuda() for x in rounded])
    assert largest_relative_error([x.cpu() for x in actual], expected) < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["spatial_nl", "fla"])
def test_training_on_cuda_keeps_a_quarter_of_the_published_memory(name, dtype):
    pair, device = block_pair(name, 512), torch.device("cuda")
    x = torch.randn(1, 512, 96, 96, device=device, dtype=dtype)
    ours, published = (
        peak_memory(step(module.to(device, dtype), x, training=True), device)
        for module in (pair.ours, pair.published)
    )
    assert ours < 0.25 * published


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


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_run_trains_and_tests_on_cuda(tmp_path, precision):
    run = train(tiny_config(tmp_path, "trainer.accelerator=gpu", f"trainer.precision={precision}"))
    assert run.result["num_images"] == 4
    assert run.result["environment"]["device"] == torch.cuda.get_device_name()
