"""Which of torch's fused kernels are asked for, and that they are asked once."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from segattn.models import fused


@pytest.mark.parametrize("fits", ["cudnn", "flash", "efficient", ""])
def test_kernel_is_there_where_one_of_torchs_takes_the_size(fits, monkeypatch):
    monkeypatch.setattr(fused, "SDPAParams", lambda query, *_: query)
    for name in ("cudnn", "flash", "efficient"):
        monkeypatch.setattr(fused, f"can_use_{name}_attention", lambda _, n=name: n == fits)
    fused._ask_torch.cache_clear()
    on_cpu = torch.device("cpu"), torch.bfloat16
    assert fused.has_kernel(*on_cpu, 128, True) == bool(fits)
    assert not fused.has_kernel(*on_cpu, 264, True)
    fused._ask_torch.cache_clear()


def test_compiled_code_asks_for_the_kernel_once_and_keeps_the_answer(monkeypatch):
    torch.compiler.reset()
    asked = []
    monkeypatch.setattr(fused, "_ask_torch", lambda *given: asked.append(given) or True)

    def double_with_a_kernel(x: Tensor) -> Tensor:
        return 2 * x if fused.has_kernel(x.device, x.dtype, 64, x.requires_grad) else x

    compiled = torch.compile(double_with_a_kernel, backend="eager", fullgraph=True)
    results = [float(compiled(torch.ones(1))) for _ in range(2)]
    assert results == [2.0, 2.0]
    assert asked == [(torch.device("cpu"), torch.float32, 64, False)]


def test_kernels_are_taken_by_speed_on_cuda(monkeypatch):
    given = []
    monkeypatch.setattr(fused, "sdpa_kernel", lambda *a, **k: given.append((a, k)) or nullcontext())
    monkeypatch.setattr(fused, "scaled_dot_product_attention", lambda *_, scale: scale)
    assert fused.attend(*[SimpleNamespace(is_cpu=False)] * 3) == 1.0
    ((kernels,), options), *_ = given
    assert [kernel.name.split("_")[0] for kernel in kernels] == ["CUDNN", "FLASH", "EFFICIENT"]
    assert options == {"set_priority": True}
