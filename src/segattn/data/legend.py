"""classes.yaml: names and facts of the classes of a user's own data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from PIL import ImageColor

from segattn.base.arguments import check_choice
from segattn.base.errors import UserError
from segattn.base.files import read_yaml

Stored = int | tuple[int, int, int]
"""What stands for a class in a label: an index, or a colour (RGB)."""
Content = str | list[Any] | dict[str, Any] | None
T = TypeVar("T")

FILE = "classes.yaml"
_KEYS = ("classes", "things", "groups", "flip_pairs", "ignore")
_OF_CLASS = ("value", "colour", "thing", "group")
_A_NAME = "a name, as in `name: value`, in quotes if it is a number or yes, no, on, off"
GROUPS = ("small", "large", "thin")


@dataclass
class Legend:
    """What classes.yaml says.

    Attributes:
        place: Where it is written, for messages.
        stored: What stands for each class in a label; None where only the name is given. Empty if
            no class is named.
        things: Classes whose single objects are scored by size; None if nothing says so.
        groups: Classes whose mean IoU is reported, by group name.
        flip_pairs: Classes that change places in a mirror, such as left and right door.
        ignore: What is void: values and colours of labels, or names of COCO categories.
        file: The file that says it; None if the config itself does.
    """

    place: str
    stored: dict[str, Stored | None] = field(default_factory=dict)
    things: tuple[str, ...] | None = None
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    flip_pairs: tuple[tuple[str, str], ...] = ()
    ignore: tuple[Stored | str, ...] = ()
    file: Path | None = None

    def check_names(self, classes: Sequence[str]) -> None:
        """Raise UserError for a name that is not one of the classes, or stands twice."""
        pairs = [name for pair in self.flip_pairs for name in pair]
        listed = {**self.groups, "things": self.things or (), "flip_pairs": tuple(pairs)}
        for key, names in listed.items():
            for name in names:
                check_choice(f"class in {key} of {self.place}", name, classes)
            if len(set(names)) < len(names):
                raise UserError(f"{self.place}: {key} names a class twice: {', '.join(names)}")


def read_legend(content: Content, *, root: Path) -> Legend:
    """Read what the knob `data.classes` gives.

    Args:
        content: A file, or what it would hold; None for `root`/classes.yaml where that exists.
        root: Relative paths start here.

    Raises:
        UserError: No such file, or something that is not a legend; the message names the entry.
    """
    place, file = "data.classes", None
    if content is None and (root / FILE).is_file():
        content = FILE
    if isinstance(content, str):
        file = root / Path(content).expanduser()
        if not file.is_file():
            raise UserError(f"data.classes={content}: there is no file {file}")
        content, place = read_yaml(file), str(file)
    if content is None:
        return Legend(place, file=file)
    if isinstance(content, list):
        content = {"classes": content}
    wanted = "a list of class names, or keys such as `classes:`"
    keys: dict[str, Any] = _need(content, dict, place, wanted)
    classes = {key: value for key, value in keys.items() if key not in _KEYS}
    for key, value in classes.items():
        if "classes" in keys or (isinstance(value, list) and len(value) != 3):  # no colour
            check_choice(f"key of {place}", key, _KEYS)
    legend = Legend(place, file=file)
    _read_classes(legend, keys.get("classes") or classes)
    _read_rest(legend, keys)
    return legend


def _read_classes(legend: Legend, classes: Any) -> None:
    """Fill in names, stored values, things and groups of single classes."""
    place = legend.place
    if isinstance(classes, list):
        for name in classes:
            _need(name, str, f"{place}: the class {name!r}", _A_NAME)
        if len(set(classes)) < len(classes):
            raise UserError(f"{place}: a class name stands twice: {', '.join(classes)}")
        legend.stored = dict.fromkeys(classes)
        return
    _need(classes, dict, f"{place}: classes", "a list of names, or `name: value`")
    things, marked = [], False
    for name, entry in classes.items():
        where = f"{place}: the class {name!r}"
        _need(name, str, where, _A_NAME)
        entry = {} if entry is None else entry if isinstance(entry, dict) else {"value": entry}
        for key in entry:
            check_choice(f"key of {where}", key, _OF_CLASS)
        if "value" in entry and "colour" in entry:
            raise UserError(f"{where} has a value and a colour; leave one out")
        given = entry.get("colour", entry.get("value"))
        legend.stored[name] = None if given is None else stored_value(given, where)
        if "thing" in entry:
            marked = True
            _need(entry["thing"], bool, f"{where}: thing", "true or false")
            things += [name] if entry["thing"] else []
        if "group" in entry:
            check_choice(f"group of {where}", entry["group"], GROUPS)
            legend.groups[entry["group"]] = (*legend.groups.get(entry["group"], ()), name)
    legend.things = tuple(things) if marked else None
    taken: dict[Any, str] = {}
    for name, value in legend.stored.items():
        if value is not None and taken.setdefault(value, name) != name:
            raise UserError(f"{place}: {taken[value]!r} and {name!r} are both {value}")


def _read_rest(legend: Legend, content: dict[str, Any]) -> None:
    """Fill in what does not stand beside a class."""
    place = legend.place
    if "things" in content:
        legend.things = tuple(_names(content["things"], f"{place}: things"))
    groups = content.get("groups") or {}
    _need(groups, dict, f"{place}: groups", "such as `small: [light, mirror]`")
    for group, names in groups.items():
        check_choice(f"group of {place}", group, GROUPS)
        legend.groups[group] = (*legend.groups.get(group, ()), *_names(names, f"{place}: {group}"))
    pairs = content.get("flip_pairs") or []
    _need(pairs, list, f"{place}: flip_pairs", "a list of pairs, such as [[left, right]]")
    for pair in pairs:
        if len(_names(pair, f"{place}: flip_pairs")) != 2:
            raise UserError(f"{place}: flip_pairs must hold pairs of names, got {pair!r}")
    legend.flip_pairs = tuple((first, second) for first, second in pairs)
    ignore = content.get("ignore")
    listed = ignore if isinstance(ignore, list) else [] if ignore is None else [ignore]
    legend.ignore = tuple(
        part if isinstance(part, str) and not part.startswith("#") else stored_value(part, place)
        for part in listed
    )


def stored_value(value: Any, where: str) -> Stored:
    """Return an index of 8 bits, or a colour of [r, g, b] or "#rrggbb".

    Raises:
        UserError: It is neither.
    """
    colour = value
    if isinstance(value, str):
        try:
            colour = list(ImageColor.getrgb(value))
        except ValueError:
            colour = value
    if isinstance(colour, list | tuple) and len(colour) == 3:
        colour = tuple(colour)
    for number in colour if isinstance(colour, tuple) else (colour,):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= 255:
            raise UserError(
                f"{where}: {value!r} is neither an index from 0 to 255 nor a colour such as "
                "[128, 0, 0] or '#800000'"
            )
    return colour


def _names(value: Any, where: str) -> list[str]:
    listed: list[Any] = _need(value, list, where, "a list of class names")
    for name in listed:
        _need(name, str, where, "a list of class names")
    return listed


def _need(value: Any, kind: type[T], what: str, wanted: str) -> T:
    """Return `value`, or raise UserError unless it is of this kind."""
    if not isinstance(value, kind):
        raise UserError(f"{what} must be {wanted}, got {value!r}")
    return value
