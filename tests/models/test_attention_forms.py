"""The forms of each equation: exact, whatever the layout and dtype, and sparing of memory."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from segattn.models import attention, fused, recompute
from segattn.models.attention import (
    channel_attention,
    choose_form,
    full_attention,
    spatial_attention,
)

# B, C, H, W: batches, H != W, odd sizes, C not a multiple of 8, one position, several parts
SHAPES = [(1, 16, 4, 6), (2, 13, 5, 7), (3, 8, 1, 1), (4, 20, 7, 3), (1, 12, 33, 18), (2, 9, 1, 6)]
CASES = {
    "channel": {},
    "channel paper": {"energy": "paper"},
    "spatial": {},
    "full": {},
    "full mixing": {"published_batch_mixing": True},
}
FUNCTIONS = {"channel": channel_attention, "spatial": spatial_attention, "full": full_attention}


def inputs(case: str, shape: tuple[int, int, int, int], *, scale: float = 0.5) -> list[Tensor]:
    """The tensors that a function attends with, then gamma and a residual; float64."""
    generator = torch.Generator().manual_seed(0)
    batch, channels, height, width = shape
    sizes = {
        "channel": [shape],
        "spatial": [(batch, max(channels // 8, 1), height, width)] * 2 + [shape],
        "full": [shape, (batch, channels, height), (batch, channels, width)],
    }[case.split()[0]]
    drawn = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    residual = torch.randn(shape, generator=generator, dtype=torch.float64)
    return [*(scale * x for x in drawn), torch.tensor([0.7], dtype=torch.float64), residual]


def function(case: str, implementation: str = "auto") -> Callable[..., Tensor]:
    def call(*tensors: Tensor) -> Tensor:
        *attended, gamma, residual = tensors
        return FUNCTIONS[case.split()[0]](
            *attended,
            gamma=gamma,
            residual=residual,
            implementation=implementation,
            **CASES[case],
        )

    return call


def result_and_gradients(call: Callable[..., Tensor], tensors: list[Tensor]) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in tensors]
    result = call(*leaves)
    g = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))
    g = g.bfloat16().to(result)  # the same number in every dtype, on every device
    return [result.detach(), *torch.autograd.grad(result, leaves, g)]


def largest_relative_error(actual: list[Tensor], expected: list[Tensor]) -> float:
    """Over a list of tensors: largest difference, relative to the tensor's largest value."""
    return max(
        float((a.double() - e).abs().max() / e.abs().max().clamp_min(1e-3))
        for a, e in zip(actual, expected, strict=True)
    )


@pytest.fixture(autouse=True)
def several_parts(monkeypatch):
    """Small parts, so that small maps are worked off in several of them, the last one short."""
    monkeypatch.setattr(fused, "_CHUNK", 5)
    monkeypatch.setattr(recompute, "_CPU_POSITIONS", 5)
    monkeypatch.setattr(recompute, "_CPU_SLICE_NUMBERS", 1000)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)],
    ids=str,
)
def test_auto_equals_the_float64_reference(case, shape, dtype, tolerance):
    rounded = [x.to(dtype) for x in inputs(case, shape)]
    expected = result_and_gradients(function(case, "reference"), [x.double() for x in rounded])
    actual = result_and_gradients(function(case), rounded)
    assert [x.dtype for x in actual] == [dtype] * len(actual)
    # what rounding alone costs depends on the order in which a processor sums
    plain = result_and_gradients(function(case, "reference"), rounded)
    allowed = max(tolerance, 2 * largest_relative_error(plain, expected))
    assert largest_relative_error(actual, expected) < allowed


@pytest.mark.parametrize("case", CASES)
def test_gradients_pass_gradcheck(case):
    leaves = [x.requires_grad_() for x in inputs(case, (2, 4, 3, 2))]
    assert torch.autograd.gradcheck(function(case), leaves)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", ["recompute", "fused"])
def test_both_sparing_forms_give_the_same_numbers(case, shape, form, monkeypatch):
    """Whatever a device chooses, here on the CPU."""
    tensors = inputs(case, shape)
    expected = result_and_gradients(function(case, "reference"), tensors)
    monkeypatch.setattr(attention, "choose_form", lambda *_, **__: form)
    assert largest_relative_error(result_and_gradients(function(case), tensors), expected) < 1e-12


@pytest.mark.parametrize("implementation", ["auto", "reference"])
@pytest.mark.parametrize("case", CASES)
def test_without_gamma_and_residual_the_attention_alone_comes_back(case, implementation):
    *attended, gamma, residual = inputs(case, (2, 13, 5, 7))
    call = FUNCTIONS[case.split()[0]]
    knobs = {"implementation": implementation, **CASES[case]}
    alone = call(*attended, **knobs)
    torch.testing.assert_close(call(*attended, gamma=gamma, **knobs), gamma * alone)
    torch.testing.assert_close(call(*attended, residual=residual, **knobs), residual + alone)


def test_channel_attention_adds_its_own_input():
    x = inputs("channel", (2, 13, 5, 7))[0].requires_grad_()
    results = []
    for residual in (x, x.clone()):
        y = channel_attention(x, residual=residual)
        results.append([y, *torch.autograd.grad(y.square().sum(), x)])
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("case", CASES)
def test_extreme_energies_stay_finite(case):
    tensors = [x.float() for x in inputs(case, (2, 16, 6, 5), scale=40.0)]  # energies above 1e4
    for values in (tensors, [x.bfloat16() for x in tensors]):
        for implementation in ("auto", "reference"):
            results = result_and_gradients(function(case, implementation), values)
            assert all(torch.isfinite(x).all() for x in results)


@pytest.mark.parametrize("case", CASES)
def test_layout_does_not_change_the_numbers(case):
    tensors = [x.float() for x in inputs(case, (2, 16, 6, 5))]
    expected = result_and_gradients(function(case), tensors)
    strided = [torch.stack([x, x], -1)[..., 0] for x in tensors]
    channels_last = [
        x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in tensors
    ]
    for values in (strided, channels_last):
        assert any(not x.is_contiguous() for x in values)
        actual = result_and_gradients(function(case), values)
        assert largest_relative_error(actual, [x.double() for x in expected]) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_autocast_changes_nothing(case):
    tensors = [x.float() for x in inputs(case, (2, 16, 6, 5))]
    for implementation in ("auto", "reference"):
        call = function(case, implementation)
        expected = result_and_gradients(call, tensors)
        autocast = torch.autocast("cpu", dtype=torch.bfloat16)
        actual = result_and_gradients(autocast(call), tensors)
        assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_autocast_around_the_backward_pass_changes_nothing(case):
    tensors = [x.float() for x in inputs(case, (2, 16, 6, 5))]
    expected = result_and_gradients(function(case), tensors)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = result_and_gradients(function(case), tensors)
    assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_compiled_function_gives_the_same_numbers(case):
    torch.compiler.reset()
    tensors = [x.float() for x in inputs(case, (2, 16, 6, 5))]
    expected = result_and_gradients(function(case), tensors)
    compiled = torch.compile(function(case), backend="aot_eager", fullgraph=True)
    actual = result_and_gradients(compiled, tensors)
    assert largest_relative_error(actual, [x.double() for x in expected]) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_two_runs_are_bit_equal_where_determinism_is_asked_for(case):
    tensors = [x.float() for x in inputs(case, (2, 16, 6, 5))]
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (result_and_gradients(function(case), tensors) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def kept_numbers(call: Callable[..., Tensor], tensors: list[Tensor]) -> int:
    """How many numbers the backward pass will need: of every storage once."""
    saved: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        saved[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes() // x.element_size()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        call(*tensors)
    return sum(saved.values())


@pytest.mark.parametrize("form", ["recompute", "fused", "reference"])
@pytest.mark.parametrize("case", ["spatial", "full", "full mixing"])
def test_no_map_is_kept_for_the_backward_pass(case, form, monkeypatch):
    batch, channels, height, width = shape = (2, 96, 24, 28)
    one_map = {"spatial": (height * width) ** 2, "full": (height + width) * channels**2}
    all_maps = batch * one_map[case.split()[0]]
    leaves = [x.float().requires_grad_() for x in inputs(case, shape)]
    monkeypatch.setattr(attention, "choose_form", lambda *_, **__: form)
    monkeypatch.setattr(fused, "_CHUNK", 128)
    kept = kept_numbers(function(case), leaves)
    # values, queries and keys; or rows and columns, and from the fused kernel results and row sums
    few = (2 if (case, form) == ("spatial", "recompute") else 6) * batch * channels * height * width
    assert few < all_maps
    assert kept > all_maps if form == "reference" else kept < few


def on(device: str, dtype: torch.dtype) -> SimpleNamespace:
    """What the rule looks at of a tensor."""
    return SimpleNamespace(
        is_cpu=device == "cpu",
        is_cuda=device == "cuda",
        device=torch.device(device),
        dtype=dtype,
        requires_grad=True,
    )


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rule_takes_the_fused_kernel_that_torch_offers_on_cuda(dtype, kernel, monkeypatch):
    monkeypatch.setattr(attention, "has_kernel", lambda *_: kernel)
    x, heads = on("cuda", dtype), {"size": 128, "equal": False}
    assert choose_form("auto", x, **heads) == ("fused" if kernel else "recompute")
    assert choose_form("reference", x, **heads) == "reference"
    assert choose_form("auto", on("cuda", torch.float32), **heads) == "recompute"
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert choose_form("auto", x, **heads) == "recompute"


def test_rule_on_a_cpu():
    for dtype in (torch.float32, torch.float64):
        assert choose_form("auto", on("cpu", dtype), size=12, equal=True) == "fused"
        assert choose_form("auto", on("cpu", dtype), size=64, equal=False) == "recompute"
    assert choose_form("auto", on("cpu", torch.bfloat16), size=12, equal=True) == "recompute"
    assert choose_form("auto", on("meta", torch.float32), size=12, equal=True) == "recompute"


def test_unknown_implementation_lists_the_choices():
    x = torch.zeros(1, 8, 2, 2)
    with pytest.raises(ValueError, match=r"implementation 'fast'.*auto.*reference"):
        channel_attention(x, implementation="fast")
