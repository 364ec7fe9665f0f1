"""One frame of Cityscapes' size through a whole model, by each protocol: seconds and memory."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch

from segattn.benchmark.measure import out_of_memory, timed
from segattn.hardware import process_peak_memory
from segattn.inference import Protocol, predict
from segattn.model import Segmenter

FRAME = (1024, 2048)
NUM_CLASSES, CHANNELS = 19, 512  # of Cityscapes; inner width of DANet's and FLANet's heads
PROTOCOLS = (Protocol(), Protocol(name="sliding", crop=(768, 768), stride=(512, 512)))

Row = dict[str, Any]


def frame_cost(
    heads: Iterable[str],
    *,
    encoder: str,
    device: torch.device,
    frame: tuple[int, int] = FRAME,
    protocols: Iterable[Protocol] = PROTOCOLS,
) -> Iterator[Row]:
    """Seconds and peak memory of every head by every protocol, in float32, from untrained weights.

    Each in a process of its own, since the peak of a process never falls.

    Args:
        heads: Keys of `HEADS`.
        encoder: Of segmentation-models-pytorch; at stride 8.
        device: CPU or CUDA.
        frame: Height and width in px.
        protocols: How the frame becomes a prediction.

    Yields:
        head, encoder, frame, protocol, seconds, bytes; both NaN where memory ran out.
    """
    protocols = list(protocols)
    for head in heads:
        for protocol in protocols:
            # spawn: a forked child would start with this process's memory, and without CUDA
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                measured = pool.submit(_measure, head, encoder, frame, protocol, device).result()
            size = "x".join(map(str, frame))
            known = {"head": head, "encoder": encoder, "frame": size, "protocol": protocol.label}
            yield known | measured


def _measure(
    head: str, encoder: str, frame: tuple[int, int], protocol: Protocol, device: torch.device
) -> Row:
    model = Segmenter(
        num_classes=NUM_CLASSES,
        head={"name": head, "channels": CHANNELS},
        encoder={"name": encoder, "depth": 5, "output_stride": 8},
    ).to(memory_format=torch.channels_last)
    model.eval().to(device)
    images = torch.randint(256, (1, 3, *frame), dtype=torch.uint8, device=device)

    @torch.inference_mode()
    def one_frame() -> None:
        predict(lambda x: model(x).logits, images, protocol=protocol)

    try:
        seconds = timed(one_frame, device)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return {"seconds": float("nan"), "bytes": float("nan")}
    return {"seconds": seconds, "bytes": process_peak_memory(device)}
