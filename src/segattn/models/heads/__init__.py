"""The heads by name: a module NAME.py in this folder is a head, and its function `head` builds it.

A head maps the encoder's last feature map [B, in_channels, h, w] to a `HeadOutput`. It may read
earlier maps too, see `Head`.
"""

import inspect
import pkgutil
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from segattn.base.arguments import check_arguments, check_choice
from segattn.base.errors import UserError
from segattn.models.scaffold import Head

HEADS: dict[str, Callable[..., Head]] = {
    module.name: import_module(f"{__name__}.{module.name}").head
    for module in pkgutil.iter_modules(__path__)
}

# arguments that the encoder and the data set decide; all others are knobs
GIVEN = ("in_channels", "num_classes", "stage_channels")


def check_head(name: str, knobs: dict[str, Any]) -> None:
    """Raise UserError for an unknown head or knob (lists the choices), a wrong type or range."""
    check_choice("head", name, HEADS)
    check_arguments(f"head {name!r}", HEADS[name], knobs, given=GIVEN)
    if knobs.get("rate", 1) < 1:
        raise UserError(f"head {name!r} needs rate >= 1, got {knobs['rate']}")
    channels, dropout = knobs.get("channels", 1), knobs.get("dropout", 0.0)
    if channels < 1 or not 0 <= dropout < 1:
        raise UserError(
            f"head {name!r} needs channels >= 1 and dropout in [0, 1), got {channels} and {dropout}"
        )
    if not 0 <= knobs.get("gamma_start", 0.0) <= 1:
        raise UserError(
            f"head {name!r} needs gamma_start in [0, 1], got {knobs['gamma_start']}; 0 is published"
        )


def build_head(
    name: str,
    in_channels: int,
    num_classes: int,
    *,
    stage_channels: Sequence[int] = (),
    **knobs: Any,
) -> Head:
    """Build a head by name.

    Args:
        name: A key of `HEADS`.
        in_channels: Channels of the encoder's last map.
        num_classes: Number of classes.
        stage_channels: Channels of the encoder's maps before the last, fine to coarse, without the
            image; 0 for a stage without a map. Only some heads read these maps.
        **knobs: Every head has `channels` (inner width) and `dropout`; some have more.

    Returns:
        A module that maps [B, in_channels, h, w], and the `num_earlier` maps before it, to a
        `HeadOutput`.

    Raises:
        UserError: Unknown name or knob (the message lists the choices), or a wrong type.
    """
    check_head(name, knobs)
    values = (in_channels, num_classes, stage_channels)
    wanted = inspect.signature(HEADS[name]).parameters
    given = {key: value for key, value in zip(GIVEN, values, strict=True) if key in wanted}
    return HEADS[name](**given, **knobs)
