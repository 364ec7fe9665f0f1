"""What one image costs outside the network, stage by stage, from files in a data set's own layout.

Seconds are the processor's, so that other programs of the machine do not count.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from segattn.benchmark.measure import processor_seconds, spread
from segattn.benchmark.metric import (
    RADIUS_CELLS,
    SHAPES,
    Frame,
    Map,
    Row,
    Shape,
    components,
    draw_frame,
    one_thread,
)
from segattn.data.camvid import CamVid
from segattn.data.cityscapes import LABEL_IDS, Cityscapes
from segattn.data.datamodule import image_tensor
from segattn.data.source import IGNORE_INDEX, Source
from segattn.data.transforms import augment
from segattn.metrics import (
    SizeBins,
    SizeStratifiedIoU,
    find_objects,
    object_frame,
    other_radii,
    stack_objects,
)

_FIRST_THING = 24  # label id: people and vehicles have instances
_NOISE = 2.2  # grey levels; PNG then takes about 0.4 bytes a byte, as for photographs


def image_cost(shapes: Iterable[Shape] = SHAPES, *, seconds: float) -> Iterator[Row]:
    """Cost of one image, stage by stage, on one thread; from files in a data set's own layout.

    Args:
        shapes: Height, width and number of classes; up to 11 classes are written as CamVid, more
            as Cityscapes, with instances.
        seconds: Wall-clock time for each shape.

    Yields:
        input, layout, stage, seconds (median), fastest, slowest, rounds, objects (of the label),
        records (rows of the object table), file_bytes (of the image and its labels).
    """
    for shape in shapes:
        with TemporaryDirectory() as folder, one_thread():
            frame = draw_frame(shape)
            write = _write_cityscapes if shape[2] > len(CamVid.classes) else _write_camvid
            source = write(frame, Path(folder))
            calls, facts = _stages(source, frame, num_classes=shape[2])
            times = processor_seconds(calls, seconds=seconds)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*.png"))
        known = {"input": f"{shape[0]}x{shape[1]}", "layout": source.title, "file_bytes": size}
        for stage, taken in times.items():
            yield known | facts | {"stage": stage} | spread(taken)


def _photo(frame: Frame) -> Map:
    """Classes as colours under noise, uint8 [H, W, 3]."""
    rng = np.random.default_rng(0)
    colours = rng.integers(40, 216, (256, 3))
    noisy = colours[frame.label] + rng.normal(0, _NOISE, (*frame.label.shape, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def _save(array: NDArray[np.generic], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def _write_camvid(frame: Frame, root: Path) -> Source:
    _save(_photo(frame), root / "val" / "frame.png")
    void = np.where(frame.label == IGNORE_INDEX, len(CamVid.classes), frame.label)
    _save(void.astype(np.uint8), root / "valannot" / "frame.png")
    return CamVid("val", root=str(root))


def _write_cityscapes(frame: Frame, root: Path) -> Source:
    name = "aachen/aachen_000000_000019"
    _save(_photo(frame), root / f"leftImg8bit/val/{name}_leftImg8bit.png")
    stored = np.zeros(256, dtype=np.uint8)
    stored[: len(LABEL_IDS)] = LABEL_IDS
    labels = stored[frame.label]
    _save(labels, root / f"gtFine/val/{name}_gtFine_labelIds.png")
    number = find_objects(frame.label).ids % 1000
    instances = np.where(labels >= _FIRST_THING, labels * np.uint16(1000) + number, labels)
    _save(instances.astype(np.uint16), root / f"gtFine/val/{name}_gtFine_instanceIds.png")
    return Cityscapes("val", root=str(root))


def _stages(
    source: Source, frame: Frame, *, num_classes: int
) -> tuple[dict[str, Callable[[], object]], Row]:
    """What is done for an image, by name, and how many objects and records it has."""
    sample, bins = source.load(0), SizeBins()
    image, label = image_tensor(sample), torch.from_numpy(sample.label.copy())
    truth = stack_objects([find_objects(sample.label, sample.instances)])
    found = components(frame)
    radius = float(RADIUS_CELLS * bins.stride)
    metric = SizeStratifiedIoU(
        num_classes, num_bins=bins.num_bins, radius=radius, other_radii=other_radii(radius)
    )
    maps = [torch.from_numpy(item).long()[None] for item in (frame.prediction, sample.label)]
    # the crop of both recipes, as far as the image reaches
    crop = [min(768, side) for side in label.shape]
    arguments = (*maps, truth.ids, truth.bins(bins), found.ids, found.bins(bins))
    metric.update(*arguments)
    rows = metric.rows
    assert rows is not None

    def records() -> pd.DataFrame:
        return object_frame(rows, truth=truth, prediction=found, images=["frame"])

    generator = torch.Generator().manual_seed(0)
    options: dict[str, Any] = {"crop": crop, "scale": (0.5, 2.0), "flip": 0.5, "jitter": 0.0}
    calls: dict[str, Callable[[], object]] = {
        "read the files": lambda: source.load(0),
        "augment": lambda: augment(image, label, generator=generator, **options),
        "objects of the label": lambda: find_objects(sample.label, sample.instances),
        "components of the prediction": lambda: components(frame),
        "metric at three radii": lambda: metric.update(*arguments),
        "records": records,
    }
    return calls, {"objects": len(truth.cls), "records": len(records())}
