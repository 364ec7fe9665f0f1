"""A draft of classes.yaml, from what labels or annotations hold."""

from pathlib import Path
from typing import Any

import yaml

from segattn.base.errors import UserError
from segattn.base.files import atomic_path
from segattn.data.coco_json import read_annotations
from segattn.data.folder import count_values
from segattn.data.layout import find_samples
from segattn.data.legend import FILE
from segattn.data.source import IGNORE_INDEX

_HEAD = """\
# Drafted from the labels. Give the classes their names; keep `thing: true` where single objects
# count, such as cars, and drop it for sky or road. What is void goes from classes to ignore.
# Also known: group: small | large | thin; flip_pairs: [[left_door, right_door]].
"""


def write_classes(name: str, knobs: dict[str, Any]) -> Path:
    """Write `data.classes`, by default classes.yaml in the folder of the data; return its path.

    Raises:
        UserError: There is one, the data set is another one, or its labels cannot be read.
    """
    root, file = Path(knobs["root"]), knobs.get("classes")
    path = root / Path(file if isinstance(file, str) else FILE).expanduser()
    if path.exists():
        raise UserError(f"{path} exists; delete it for a new draft")
    if name == "folder":
        lines = _of_folder(root)
    elif name == "coco":
        found = read_annotations(root / knobs["train"])
        lines = ["classes:", *(_line(c, "thing: true") for c in found.categories.values())]
        lines.append("ignore: []")
    else:
        raise UserError(f"data={name} knows its classes; --write-classes is for folder and coco")
    try:
        with atomic_path(path) as draft:
            draft.write_text(_HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); name another place by data.classes=FILE, "
            "now and in every command"
        ) from error
    return path


def _of_folder(root: Path) -> list[str]:
    found = find_samples(root)
    labels = [pair.label for pairs in found.parts.values() for pair in pairs]
    counts = count_values(path for path in labels if path.is_file())
    void = [IGNORE_INDEX] if IGNORE_INDEX in counts and len(counts) > 2 else []
    lines = ["classes:"]
    for stored, number in sorted(counts.items(), key=lambda item: -item[1]):
        if stored in void:
            continue
        share = f"{100 * number / counts.total():.2f} % of the pixels"
        if isinstance(stored, int):
            lines.append(_line(f"class_{stored}", f"value: {stored}, thing: true", share))
        else:
            colour = f"colour: [{', '.join(map(str, stored))}], thing: true"
            lines.append(_line("colour_{:02x}{:02x}{:02x}".format(*stored), colour, share))
    return [*lines, f"ignore: {void}"]


def _line(name: str, facts: str, comment: str = "") -> str:
    key = yaml.safe_dump({name: 0}, allow_unicode=True).partition(": 0")[0]
    return f"  {key}: {{{facts}}}" + (f" # {comment}" if comment else "")
