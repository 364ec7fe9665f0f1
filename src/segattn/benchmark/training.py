"""What a whole training step costs, choice by choice, and where its time goes.

The plain loop is the one people start from: published blocks, `functional.interpolate`, float32 in
contiguous NCHW. Each choice is added to those before it, all alternate in one run. Images are
built-in scenes at CamVid's 360 x 480.
"""

import copy
import io
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from segattn.benchmark.measure import Call, alternate, median_ratio, peak_memory
from segattn.benchmark.pairs import with_published_blocks
from segattn.data import street
from segattn.hardware import resolve_precision
from segattn.model import Segmenter
from segattn.upsampling import upsample

Row = dict[str, Any]

_HEIGHT, _WIDTH = 360, 480
_CHANNELS = 128


@dataclass(frozen=True)
class Choices:
    """How a step is run; the default is the plain loop."""

    our_attention: bool = False
    matrix_upsampling: bool = False
    channels_last: bool = False
    bf16: bool = False


PLAIN = Choices()
STEPS: dict[str, Choices] = {
    "plain loop": PLAIN,
    "+ our attention": Choices(our_attention=True),
    "+ upsampling as matrix products": Choices(our_attention=True, matrix_upsampling=True),
    "+ channels_last": Choices(our_attention=True, matrix_upsampling=True, channels_last=True),
    "+ bf16 autocast": Choices(
        our_attention=True, matrix_upsampling=True, channels_last=True, bf16=True
    ),
}


class Loop:
    """A training step of one model on one batch, with a stopwatch for its phases.

    Args:
        model: Takes uint8 images.
        choices: How it runs.
        images: uint8 [B, 3, H, W], sides divisible by the model's stride.
        labels: int64 [B, H, W].
    """

    def __init__(
        self, model: Segmenter, choices: Choices, *, images: Tensor, labels: Tensor
    ) -> None:
        self.model, self.choices = model.to(images.device).train(), choices
        self.images, self.labels = images, labels
        if choices.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.phases: dict[str, list[float]] = {}

    def __call__(self) -> None:
        """One step."""
        autocast = torch.autocast(self.images.device.type, torch.bfloat16, self.choices.bf16)
        with autocast:
            features = self._timed(
                "encoder forward", lambda: self.model.encoder(self._normalised())[-1]
            )
            logits = self._timed("head forward", lambda: self.model.head(features).logits)
            loss = self._timed("upsampling and loss", lambda: self._loss(logits))
        self._timed("backward", loss.backward)
        self._timed("optimizer", self._update)

    def _normalised(self) -> Tensor:
        x = (self.images.float() / 255 - self.model.mean) / self.model.std
        layout = torch.channels_last if self.choices.channels_last else torch.contiguous_format
        return x.contiguous(memory_format=layout)

    def _loss(self, logits: Tensor) -> Tensor:
        size = self.labels.shape[1:]
        if self.choices.matrix_upsampling:
            full = upsample(logits, stride=self.model.stride, size=size)
        else:
            full = functional.interpolate(logits.float(), size=size, mode="bilinear")
        return functional.cross_entropy(full, self.labels)

    def _update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _timed(self, phase: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        if self.images.is_cuda:
            torch.cuda.synchronize(self.images.device)
        self.phases.setdefault(phase, []).append(time.perf_counter() - start)
        return result


def training_steps(
    heads: Iterable[str], *, device: torch.device, batch_size: int, encoder: str, seconds: float
) -> Iterator[tuple[list[Row], list[Row]]]:
    """Whole steps of every head under every choice that this hardware has, and their phases.

    Args:
        heads: Names of heads.
        device: Where to run; bf16 is left out where the hardware does not multiply it.
        batch_size: Images of a step.
        encoder: Encoder name; depth 5, output stride 8, from scratch.
        seconds: Time for each head.

    Yields:
        For each head, two lists of rows. Steps: head, choice, images_per_second, speedup (over
        the plain loop, median over rounds), bytes (peak beyond weights and batch), memory_ratio.
        Phases of the last choice: head, phase, seconds (median), share.
    """
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    bf16 = resolve_precision("auto", accelerator) == "bf16"
    choices = {name: choice for name, choice in STEPS.items() if bf16 or not choice.bf16}
    images, labels, decode = scenes(batch_size, device=device)
    for head in heads:
        model = Segmenter(
            num_classes=len(street.CLASSES),
            head={"name": head, "channels": _CHANNELS},
            encoder={"name": encoder, "depth": 5, "output_stride": 8},
        )
        loops = _loops(model, choices, images=images, labels=labels)
        steps = _steps(head, loops, batch_size=batch_size, seconds=seconds, device=device)
        yield steps, _phases(head, loops[list(loops)[-1]], decode=decode)


def _phases(head: str, loop: Loop, *, decode: float) -> list[Row]:
    """Medians without the first step, which warms up; decoding is not part of a cached step."""
    medians = {phase: statistics.median(times[1:]) for phase, times in loop.phases.items()}
    total = sum(medians.values())
    return [
        {"head": head, "phase": phase, "seconds": value, "share": value / total}
        for phase, value in {"decoding, if not cached": decode, **medians}.items()
    ]


def _loops(
    model: Segmenter, choices: dict[str, Choices], *, images: Tensor, labels: Tensor
) -> dict[str, Loop]:
    published = copy.deepcopy(model)
    published.head = with_published_blocks(model.head)
    return {
        name: Loop(
            copy.deepcopy(model if choice.our_attention else published),
            choice,
            images=images,
            labels=labels,
        )
        for name, choice in choices.items()
    }


def _steps(
    head: str, loops: dict[str, Loop], *, batch_size: int, seconds: float, device: torch.device
) -> list[Row]:
    calls: list[Call] = list(loops.values())
    sizes = [peak_memory(call, device) for call in calls]
    times = alternate(calls, seconds=seconds, device=device)
    return [
        {
            "head": head,
            "choice": name,
            "images_per_second": batch_size / statistics.median(taken),
            "speedup": 1 / median_ratio(taken, times[0]),
            "bytes": size,
            "memory_ratio": size / sizes[0],
        }
        for name, taken, size in zip(loops, times, sizes, strict=True)
    ]


def scenes(count: int, *, device: torch.device) -> tuple[Tensor, Tensor, float]:
    """Images uint8 [count, 3, 360, 480], labels int64, and the seconds to decode them from PNG."""
    drawn = [street.draw_scene(0, k, height=_HEIGHT, width=_WIDTH) for k in range(count)]
    files = [io.BytesIO() for _ in drawn]
    for scene, file in zip(drawn, files, strict=True):
        Image.fromarray(scene.image).save(file, format="png")
    start = time.perf_counter()
    decoded = np.stack([np.asarray(Image.open(file)) for file in files])
    seconds = time.perf_counter() - start
    images = torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(np.stack([scene.label for scene in drawn])).long()
    return images.to(device), labels.to(device), seconds
