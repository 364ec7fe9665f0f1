"""Time, memory and FLOPs of two modules, alternating in one run.

This machine may be shared, so absolute times drift; ratios of calls that follow each other do not.
"""

import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from segattn.models.precision import HALF

Call = Callable[[], object]

_FEW_ROUNDS, _PATIENCE = 3, 4


def step(module: nn.Module, x: Tensor, *, training: bool) -> Call:
    """A call without arguments: forward, or forward and backward from given output gradients."""

    def forward() -> None:
        with torch.no_grad(), autocast_of(x):
            module(x)

    # the gradient belongs to whatever comes after the module, so it is there before the call
    gradient = torch.ones_like(x)

    def forward_backward() -> None:
        module.zero_grad(set_to_none=True)
        with autocast_of(x):
            output = module(x.detach().requires_grad_())
        output.backward(gradient.to(output.dtype))

    return forward_backward if training else forward


def autocast_of(x: Tensor, dtype: torch.dtype | None = None) -> torch.autocast:
    """Return the autocast of a training in `dtype`, by default the dtype of `x`; off in float32."""
    dtype = dtype or x.dtype
    half = dtype in HALF
    return torch.autocast(x.device.type, dtype if half else torch.bfloat16, enabled=half)


def alternate(calls: Sequence[Call], *, seconds: float, device: torch.device) -> list[list[float]]:
    """Seconds of each call, called in turn until `seconds` are over.

    Slow calls get three rounds, or as many as four times the seconds allow, and at least one.
    """
    times: list[list[float]] = [[] for _ in calls]
    start = time.perf_counter()

    def goes_on() -> bool:
        spent, rounds = time.perf_counter() - start, len(times[0])
        few = rounds < _FEW_ROUNDS and spent < _PATIENCE * seconds
        return rounds == 0 or spent < seconds or few

    while calls and goes_on():
        for call, durations in zip(calls, times, strict=True):
            durations.append(timed(call, device))
    return times


def timed(call: Call, device: torch.device) -> float:
    """Seconds of one call."""
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    torch.cuda.synchronize(device)
    return begin.elapsed_time(end) / 1000


def median_ratio(times: Sequence[float], baseline: Sequence[float]) -> float:
    """Median over rounds of time / baseline: neighbours in time meet the same load."""
    return statistics.median(a / b for a, b in zip(times, baseline, strict=True))


def peak_memory(call: Call, device: torch.device) -> int:
    """Bytes that a call allocates at its peak, beyond what was there before it.

    On CUDA by torch's allocator; on a CPU from the profiler's record of every allocation of a
    tensor, so without what a matrix product takes for itself.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))  # the public way to the record
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    allocations = [event for event in events if event.get("name") == "[memory]"]
    total = peak = 0
    for event in sorted(allocations, key=lambda event: float(event["ts"])):
        total += int(event["args"]["Bytes"])
        peak = max(peak, total)
    return peak


def forward_flops(module: nn.Module, x: Tensor) -> int:
    """FLOPs of a forward pass in matrix products and convolutions; multiply and add count as 2."""
    shadow = copy.deepcopy(module).to("meta")  # where nothing is computed
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty_like(x, device="meta", dtype=torch.float32))
    return int(counter.get_total_flops())


def out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed: torch says it with a plain RuntimeError on a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
