"""Blocks and heads against their published forms, row by row; a ratio is ours / published.

Where a call needs more memory than there is, its seconds and bytes are NaN.
"""

import resource
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segattn.benchmark.measure import (
    Call,
    alternate,
    autocast_of,
    forward_flops,
    median_ratio,
    out_of_memory,
    peak_memory,
    step,
    tensors,
    timed,
)
from segattn.benchmark.pairs import BLOCKS, HEAD_NAMES, Pair, block_pair, head_pair

Shape = tuple[int, int, int, int]
Row = dict[str, Any]

SHAPES: tuple[Shape, ...] = (
    (1, 512, 64, 64),
    (2, 512, 64, 64),
    (1, 512, 96, 96),
    (1, 512, 97, 97),
    (4, 128, 45, 60),
    (1, 512, 128, 256),
)
# sides of square maps for the memory curve: the number of positions doubles
SIDES = (32, 45, 64, 91, 128, 181)
CURVES = ("spatial_nl", "fla", "channel_nl")
# a pair of calls that takes this many times the seconds of a comparison is run once
SLOW = 4


def features(shape: Shape, *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Features as norm and ReLU leave them, from a fixed seed.

    A tenth of unit variance: energies are sums over all positions, and with more the channel map of
    the equation is one-hot.
    """
    generator = torch.Generator().manual_seed(0)
    return (0.1 * torch.randn(shape, generator=generator).relu()).to(device, dtype)


def limit_memory(gigabytes: float, device: torch.device) -> None:
    """Let allocations fail beyond `gigabytes` more than now, as on a card of that size.

    CUDA and Linux; elsewhere the machine's own memory is the limit.
    """
    size = int(gigabytes * 2**30)
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, size / total), device)
    elif sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        held = pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + size, resource.RLIM_INFINITY))


def compare(
    kind: str, shapes: Iterable[Shape], *, device: torch.device, dtype: torch.dtype, seconds: float
) -> Iterator[Row]:
    """Every block or head at every shape, forward and in training; a row as soon as it is known.

    Args:
        kind: "blocks" or "heads".
        shapes: [B, C, H, W] of the input.
        device: Where to run.
        dtype: Of the input; bf16 and fp16 as a batch norm leaves them inside autocast, which is
            then around every call. Weights are float32.
        seconds: Time for each comparison, warm-up not counted; one round takes as long as it needs.

    Yields:
        name, shape, error (largest difference of the outputs for one image, relative to the largest
        output), flops and published_flops (forward), mode, time_ratio, memory_ratio, and seconds
        (median) and bytes (peak beyond the input), each also as published_...; rounds.
    """
    names, build = (BLOCKS, block_pair) if kind == "blocks" else (HEAD_NAMES, head_pair)
    for shape in shapes:
        x = features(shape, device=device, dtype=dtype)
        for name in names:
            pair = build(name, shape[1])
            for module in (pair.ours, pair.published):
                module.to(device)
            yield from _compare_pair(name, pair, x, seconds=seconds)


def _compare_pair(name: str, pair: Pair, x: Tensor, *, seconds: float) -> Iterator[Row]:
    modules = {"": pair.ours, "published_": pair.published}
    shared = {"name": name, "shape": "x".join(map(str, x.shape)), "error": _error(pair, x)}
    flops = {f"{key}flops": forward_flops(module, x) for key, module in modules.items()}
    for mode, training in (("forward", False), ("training", True)):
        for module in modules.values():
            module.train(training)
        calls = [step(module, x, training=training) for module in modules.values()]
        measured = _measure(calls, list(modules), device=x.device, seconds=seconds)
        yield {**shared, **flops, "mode": mode, **measured}


def _measure(
    calls: Sequence[Call], keys: Sequence[str], *, device: torch.device, seconds: float
) -> dict[str, float]:
    """Bytes first: it tells which of the calls fit, and warms them up."""
    by_key = dict(zip(keys, calls, strict=True))
    first = {key: _bytes_and_seconds(call, device) for key, call in by_key.items()}
    fitting = {key: call for key, call in by_key.items() if not isnan(first[key][0])}
    if sum(first[key][1] for key in fitting) > SLOW * seconds:
        # once is enough: the profiler's share of such a call is nothing
        times = {key: [first[key][1]] for key in fitting}
    else:
        alternated = alternate(list(fitting.values()), seconds=seconds, device=device)
        times = dict(zip(fitting, alternated, strict=True))
    row = {f"{key}bytes": first[key][0] for key in keys}
    row |= {f"{key}seconds": statistics.median(times.get(key, [nan])) for key in keys}
    row["memory_ratio"] = row["bytes"] / row["published_bytes"]
    row["time_ratio"] = median_ratio(*times.values()) if len(times) == len(calls) else nan
    return {**row, "rounds": max(map(len, times.values()), default=0)}


def _bytes_and_seconds(call: Call, device: torch.device) -> tuple[float, float]:
    taken = []
    try:
        size = peak_memory(lambda: taken.append(timed(call, device)), device)
    except Exception as error:
        if not out_of_memory(error):
            raise
        return nan, nan
    return size, taken[0]


def _error(pair: Pair, x: Tensor) -> float:
    for module in (pair.ours, pair.published):
        module.eval()
    try:
        with torch.no_grad(), autocast_of(x):
            ours, published = (tensors(m(x[:1]))[0].float() for m in (pair.ours, pair.published))
    except Exception as error:
        if not out_of_memory(error):
            raise
        return nan
    return float((ours - published).abs().max() / published.abs().max())


def memory_curves(
    channels: int, sides: Iterable[int], *, device: torch.device, dtype: torch.dtype
) -> Iterator[Row]:
    """Peak memory of a training step of some blocks on square maps: name, form, side, bytes.

    A form that has run out of memory is not tried on larger maps.
    """
    for name in CURVES:
        pair = block_pair(name, channels)
        for form, module in (("ours", pair.ours), ("published", pair.published)):
            module.to(device)
            for side in sides:
                x = features((1, channels, side, side), device=device, dtype=dtype)
                size, _ = _bytes_and_seconds(step(module, x, training=True), device)
                yield {"name": name, "form": form, "side": side, "bytes": size}
                if isnan(size):
                    break
