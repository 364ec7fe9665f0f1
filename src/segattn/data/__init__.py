"""Data sets by name. Adding one: a `Source` in this folder, one line in DATASETS, one YAML."""

import inspect
from collections.abc import Callable
from typing import Any

from segattn.base.arguments import check_arguments, check_choice
from segattn.base.errors import UserError
from segattn.data.ade20k import ADE20K
from segattn.data.camvid import CamVid
from segattn.data.cityscapes import Cityscapes
from segattn.data.coco import COCO
from segattn.data.cocostuff import COCOStuff
from segattn.data.context import PascalContext
from segattn.data.folder import Folder
from segattn.data.scenes import Scenes
from segattn.data.source import IGNORE_INDEX, Sample, Source, Split
from segattn.data.voc import VOC

DATASETS: dict[str, Callable[..., Source]] = {
    "scenes": Scenes,
    "camvid": CamVid,
    "cityscapes": Cityscapes,
    "voc": VOC,
    "ade20k": ADE20K,
    "context": PascalContext,
    "cocostuff": COCOStuff,
    "folder": Folder,
    "coco": COCO,
}


def check_data(name: str, knobs: dict[str, Any]) -> None:
    """Raise UserError, listing the choices, for an unknown data set or knob or a wrong type."""
    check_choice("data set", name, DATASETS)
    split = next(iter(inspect.signature(DATASETS[name]).parameters))
    check_arguments(f"data set {name!r}", DATASETS[name], knobs, given=(split,))


def open_source(name: str, part: Split, /, **knobs: Any) -> Source:
    """A split of a data set by name, also where its listing has problems.

    Raises:
        UserError: Unknown name or knob (the message lists the choices), or no such folder.
    """
    check_data(name, knobs)
    return DATASETS[name](part, **knobs)


def build_source(name: str, part: Split, /, **knobs: Any) -> Source:
    """A split of a data set by name, complete.

    Raises:
        UserError: See `open_source`; also for a problem of the listing, such as a missing file.
    """
    source = open_source(name, part, **knobs)
    if source.problems:
        more = len(source.problems) - 1
        others = f" and {more} more problem{'s' * (more > 1)}" if more else ""
        raise UserError(
            f"{name}, split {part!r}: {source.problems[0]}{others}; "
            f"scripts/check_data.py data={name} lists all"
        )
    return source


__all__ = [
    "DATASETS",
    "IGNORE_INDEX",
    "Sample",
    "Source",
    "build_source",
    "check_data",
    "open_source",
]
