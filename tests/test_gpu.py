"""What only a CUDA device can show: the heads agree with the CPU, and a run trains there."""

import pytest
import torch
from test_heads import images, open_gammas
from tiny import tiny_config

from segattn.heads import HEADS
from segattn.model import Segmenter
from segattn.train import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


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
