"""Ours against published, row by row: blocks, whole training steps, memory against the map's size.

A row has seconds (median) and bytes (peak beyond the input) of ours, the same of the published form
as published_seconds and published_bytes, time_ratio and memory_ratio (ours / published, the time's
as median over rounds), and rounds. What needs more memory than there is, is NaN.
"""

import copy
import resource
import statistics
import sys
from collections.abc import Iterable, Iterator
from math import isnan, nan
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segattn.benchmark.measure import (
    Call,
    alternate,
    autocast_of,
    forward_flops,
    median_ratio,
    out_of_memory,
    peak_memory,
    step,
    timed,
)
from segattn.benchmark.pairs import BLOCKS, Pair, block_pair, with_published_blocks
from segattn.data import street
from segattn.models.segmenter import Segmenter
from segattn.training.losses import segmentation_loss

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
_IMAGE = 360, 480  # px, height and width of CamVid's images


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


def blocks(
    shapes: Iterable[Shape], *, device: torch.device, dtype: torch.dtype, seconds: float
) -> Iterator[Row]:
    """Every block at every shape, forward and in training.

    Args:
        shapes: [B, C, H, W] of the input.
        device: Where to run.
        dtype: Dtype of the input. In bf16 and fp16 every call runs inside autocast, where a batch
            norm returns this dtype. Weights are float32.
        seconds: Time for each comparison, warm-up not counted; one round takes as long as it needs.

    Yields:
        name, shape, mode ("forward" or "training"), error (largest difference of the outputs for
        one image, relative to the largest output), flops and published_flops (forward), and what a
        row has.
    """
    for shape in shapes:
        x = features(shape, device=device, dtype=dtype)
        for name in BLOCKS:
            pair = block_pair(name, shape[1])
            ours, published = pair.ours.to(device), pair.published.to(device)
            shared = {
                **{"name": name, "shape": "x".join(map(str, shape)), "error": _error(pair, x)},
                **{"flops": forward_flops(ours, x), "published_flops": forward_flops(published, x)},
            }
            for mode in ("forward", "training"):
                of_training = mode == "training"
                calls = [
                    step(module.train(of_training), x, training=of_training)
                    for module in (ours, published)
                ]
                yield {**shared, "mode": mode, **_measure(*calls, device=device, seconds=seconds)}


def training_steps(
    heads: Iterable[str],
    *,
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int,
    encoder: str,
    seconds: float,
) -> Iterator[Row]:
    """Whole training steps (forward, loss, backward) on built-in scenes of 360 x 480.

    Args:
        heads: Names of heads, 128 channels each; fcn is the same twice and shows the noise.
        device: Where to run.
        dtype: float32, or the dtype of autocast.
        batch_size: Images of a step.
        encoder: Encoder name; depth 5, output stride 8, from scratch.
        seconds: Time for each head.

    Yields:
        name, batch_size, and what a row has.
    """
    drawn = [street.draw_scene(0, k, height=_IMAGE[0], width=_IMAGE[1]) for k in range(batch_size)]
    images = torch.stack([torch.from_numpy(scene.image).permute(2, 0, 1) for scene in drawn])
    labels = torch.stack([torch.from_numpy(scene.label).long() for scene in drawn])
    batch = images.to(device), labels.to(device)
    for name in heads:
        ours = Segmenter(
            num_classes=len(street.CLASSES),
            head={"name": name, "channels": 128},
            encoder={"name": encoder, "depth": 5, "output_stride": 8},
        )
        published = copy.deepcopy(ours)
        published.head = with_published_blocks(ours.head)
        calls = [_training_step(model.to(device), *batch, dtype) for model in (ours, published)]
        measured = _measure(*calls, device=device, seconds=seconds)
        yield {"name": name, "batch_size": batch_size, **measured}


def _training_step(model: nn.Module, images: Tensor, labels: Tensor, dtype: torch.dtype) -> Call:
    model.to(memory_format=torch.channels_last).train()

    def call() -> None:
        model.zero_grad(set_to_none=True)
        with autocast_of(images, dtype):
            output = model(images)
        losses = segmentation_loss(
            output, labels, aux_weight=1.0, class_weights=None, ignore_index=255
        )
        losses["loss"].backward()

    return call


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


def _measure(ours: Call, published: Call, *, device: torch.device, seconds: float) -> Row:
    """Measure bytes first, which shows whether the calls fit in memory and warms them up."""
    calls = {"": ours, "published_": published}
    first = {key: _bytes_and_seconds(call, device) for key, call in calls.items()}
    times = {key: [taken] for key, (_, taken) in first.items() if not isnan(taken)}
    # once is enough for slow calls: the profiler's share of them is nothing
    if sum(taken for [taken] in times.values()) <= SLOW * seconds:
        fitting = [calls[key] for key in times]
        alternated = alternate(fitting, seconds=seconds, device=device)
        times = dict(zip(times, alternated, strict=True))
    row: Row = {f"{key}bytes": size for key, (size, _) in first.items()}
    row |= {f"{key}seconds": statistics.median(times.get(key, [nan])) for key in calls}
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
    try:
        with torch.no_grad(), autocast_of(x):
            ours, published = (
                module.eval()(x[:1]).float() for module in (pair.ours, pair.published)
            )
    except Exception as error:
        if not out_of_memory(error):
            raise
        return nan
    return float((ours - published).abs().max() / published.abs().max())
