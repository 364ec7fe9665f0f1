"""Data sets by name. Adding one: a `Source` in this folder, one line in DATASETS, one YAML."""

from collections.abc import Callable
from typing import Any

from segattn.arguments import check_arguments, check_choice
from segattn.data.camvid import CamVid
from segattn.data.scenes import Scenes
from segattn.data.source import IGNORE_INDEX, Sample, Source, Split

DATASETS: dict[str, Callable[..., Source]] = {"scenes": Scenes, "camvid": CamVid}


def check_data(name: str, knobs: dict[str, Any]) -> None:
    """Raise ValueError, listing the choices, for an unknown data set or knob or a wrong type."""
    check_choice("data set", name, DATASETS)
    check_arguments(f"data set {name!r}", DATASETS[name], knobs, given=("split",))


def build_source(name: str, split: Split, **knobs: Any) -> Source:
    """A split of a data set by name.

    Raises:
        ValueError: Unknown name or knob (the message lists the choices), or damaged data.
    """
    check_data(name, knobs)
    return DATASETS[name](split, **knobs)


__all__ = ["DATASETS", "IGNORE_INDEX", "Sample", "Source", "build_source", "check_data"]
