"""data=folder: anybody's images with labels beside them, as indices or colours."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segattn.base.errors import UserError
from segattn.base.files import cached
from segattn.data.files import Pair, read_ids, read_indices
from segattn.data.images import open_image
from segattn.data.layout import Found, find_samples
from segattn.data.legend import FILE, Legend, Stored, read_legend
from segattn.data.own import Edges, OwnData, share_of
from segattn.data.palette import Palette, voc_palette
from segattn.data.source import IGNORE_INDEX, Split

_HINT = (
    "Labels are PNG files of one channel, indices below 256; for labels in colours, classes.yaml "
    "must give each class its colour."
)


class Folder(OwnData):
    """Images and labels of the same names in one of the layouts of `segattn.data.layout`.

    Args:
        part: "train", "val" or "test".
        root: The folder.
        classes: classes.yaml or what it would hold, see `segattn.data.legend`. None, without such a
            file in `root`: each index that the labels hold is a class, and 255 is void.
        split: Shares of train, val and test, where the folder has no splits.
        val: The share of train that becomes val where the folder has no val; "test" takes one
            split for both.
        size: (height, width) to which images and labels are resized.
        size_edges: coco (32 and 96 px), terciles (of the training objects), or two numbers of px.
        split_seed: Other seeds draw other images for shares.
        title: The data set, for people.
    """

    def __init__(
        self,
        part: Split,
        /,
        *,
        root: str,
        classes: str | list[Any] | dict[str, Any] | None = None,
        split: list[float] | None = None,
        val: str | float = 0.1,
        size: list[int] | None = None,
        size_edges: Edges = "coco",
        split_seed: int = 0,
        title: str | None = None,
    ) -> None:
        folder = Path(root)
        found = find_samples(folder)
        shares = _shares([0.7, 0.1, 0.2] if split is None else split)
        pairs, drawn, origin = _part(found, part, shares=shares, val=val, seed=split_seed)
        legend = read_legend(classes, root=folder)
        labels = [pair.label for listed in found.parts.values() for pair in listed]
        numbered = not legend.stored
        if numbered:
            legend.stored, legend.ignore = _numbered(labels), legend.ignore or (IGNORE_INDEX,)
        self._decode = Decoder(legend, first=labels[0] if labels else None)
        ids = {pair.instances is not None for listed in found.parts.values() for pair in listed}
        if len(ids) > 1:
            raise UserError(f"{folder}: only some splits have instances; give all of them, or none")
        self.notes = list(found.notes)
        if legend.things is None:
            self.notes.append(
                f"no class is marked as `thing: true` in {legend.place}, so all are scored by size"
            )
        super().__init__(
            pairs,
            problems=found.problems[origin],
            legend=legend,
            classes=list(legend.stored),
            palette=self._decode.palette,
            things=list(legend.stored),
            with_ids=ids == {True},
            size=size,
            size_edges=size_edges,
            title=title or folder.resolve().name,
            drawn=drawn,
            part=part,
        )
        if not self._decode.colours:  # as predictions in the form of the labels are numbered
            vars(self)["values"] = tuple(self._decode.stored)[: len(self.classes)]

    def stamp(self) -> str:
        """See the base class."""
        return f"{super().stamp()} {self._decode.stored}"

    def read_label(self, pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.integer] | None]:
        """See the base class."""
        ids = None if pair.instances is None else read_ids(pair.instances)
        return self._decode(pair.label), ids


def _shares(split: Sequence[float]) -> dict[Split, float]:
    if len(split) != 3 or abs(sum(split) - 1) > 1e-6 or not min(split) > 0:
        raise UserError(
            f"data.split must be the shares of train, val and test, such as [0.7, 0.1, 0.2], got "
            f"{split}"
        )
    return {"train": split[0], "val": split[1], "test": split[2]}


def _part(
    found: Found, part: Split, *, shares: dict[Split, float], val: str | float, seed: int
) -> tuple[list[Pair], bool, Split | None]:
    """Return the pairs of a split, whether it was drawn, and the split of the folder it is from."""
    if isinstance(val, str) and val != "test":
        raise UserError(f"data.val must be a share of train or test, got {val!r}")
    if not isinstance(val, str) and not 0 < val < 1:
        raise UserError(f"data.val must be between 0 and 1, or test, got {val}")
    if None in found.parts:
        wanted, listed = part, found.parts[None]
        if val == "test":
            wanted = "train" if part == "train" else "test"
            shares = {"train": 1 - shares["test"], "test": shares["test"]}
        kept = [p for p in listed if share_of(p.name, shares, seed=seed) == wanted]
        return kept, True, None
    if val == "test" and part != "train":
        part = "test" if "test" in found.parts else "val"
    if part == "test" and "test" not in found.parts:
        raise UserError(
            "the folder has no test split; data.val=test takes val for both, which result and "
            "report then say"
        )
    if "train" not in found.parts:
        raise UserError("the folder has no train split; name it train or training")
    if part not in found.parts or (part == "train" and "val" not in found.parts and val != "test"):
        cut = {"train": 1 - float(val), "val": float(val)}
        listed = found.parts["train"]
        return [p for p in listed if share_of(p.name, cut, seed=seed) == part], True, "train"  # type: ignore[arg-type]
    return found.parts[part], False, part


class Decoder:
    """Turns the labels of a folder into class indices.

    Args:
        legend: Says what stands for each class.
        first: A label; palette images must share its colours.

    Attributes:
        stored: Class of each index or colour, 255 for void.
        palette: Colours of the classes; None where labels are indices.
    """

    def __init__(self, legend: Legend, *, first: Path | None) -> None:
        names, place = list(legend.stored), legend.place
        given = [v if v is not None else i for i, v in enumerate(legend.stored.values())]
        void = [value for value in legend.ignore if not isinstance(value, str)]
        if len(void) < len(legend.ignore):
            raise UserError(f"{place}: ignore must hold indices or colours, got {legend.ignore}")
        kinds = {type(value) for value in (*given, *void)}
        if len(kinds) > 1:
            raise UserError(
                f"{place} mixes indices and colours: a colour is [r, g, b], in ignore [[r, g, b]]"
            )
        self.place, self.colours = place, kinds == {tuple}
        self.stored: dict[Any, int] = {value: index for index, value in enumerate(given)}
        if len(self.stored) < len(names):
            raise UserError(f"{place}: two classes have one index; give each a value of its own")
        if both := sorted(set(void) & self.stored.keys(), key=str):
            raise UserError(f"{place}: {_shown(both[0])} is a class and in ignore; leave one out")
        self.stored |= dict.fromkeys(void, IGNORE_INDEX)
        self.palette: Palette | None = tuple(given) if self.colours else None  # type: ignore[arg-type]
        self._palettes = [voc_palette(256), *_palette_of(first)]

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """Class indices uint8 [H, W] of a label file.

        Raises:
            UserError: It is damaged, of another kind, or holds what stands for no class.
        """
        if path.suffix.lower() in (".jpg", ".jpeg"):
            raise UserError(f"{path} is a JPEG, whose colours are not exact; store labels as PNG")
        codes = (
            _codes(path)
            if self.colours
            else read_indices(path, hint=_HINT, palettes=self._palettes)
        )
        values = np.array(sorted(map(_code, self.stored)), np.int64)
        classes = np.array([self.stored[s] for s in sorted(self.stored, key=_code)], np.uint8)
        place = np.searchsorted(values, codes).clip(max=len(values) - 1)
        wrong = codes[values[place] != codes]
        if wrong.size:
            found, counts = np.unique(wrong, return_counts=True)
            order = np.argsort(-counts)[:5]
            told = ", ".join(
                f"{_shown(_uncode(int(found[i]), self.colours))} ({counts[i]} px)" for i in order
            )
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            raise UserError(
                f"{path} holds {told}{more}, which is not a label of {self.place}; add a class, or "
                "put it in `ignore`"
            )
        return classes[place]


def _palette_of(path: Path | None) -> list[Palette]:
    """The palette of an image of indices, filled up to 256 colours."""
    with suppress(UserError):
        if path is not None and (image := open_image(path)).mode == "P":
            flat = image.getpalette("RGB") or []
            colours = [tuple(flat[i : i + 3]) for i in range(0, len(flat), 3)]
            return [tuple([*colours, *[(0, 0, 0)] * (256 - len(colours))])]  # type: ignore[list-item]
    return []


def _codes(path: Path) -> NDArray[np.int64]:
    """A label of colours as numbers 0xrrggbb, [H, W]."""
    image = open_image(path)
    if image.mode == "RGBA" and image.getchannel("A").getextrema()[0] != 255:
        raise UserError(f"{path} is transparent in parts; store labels as RGB")
    if image.mode not in ("1", "L", "P", "RGB", "RGBA"):
        raise UserError(f"{path} is a {image.mode} image; labels of colours are RGB")
    pixels = np.asarray(image.convert("RGB")).astype(np.int64)
    codes: NDArray[np.int64] = pixels @ np.array([1 << 16, 1 << 8, 1])
    return codes


def _code(stored: Stored) -> int:
    if isinstance(stored, int):
        return stored
    return int.from_bytes(bytes(stored))


def _uncode(code: int, colours: bool) -> Stored:
    return (code >> 16, code >> 8 & 255, code & 255) if colours else code


def _shown(stored: Stored) -> str:
    return str(stored) if isinstance(stored, int) else f"#{_code(stored):06x}"


def count_values(labels: Iterable[Path]) -> Counter[Stored]:
    """Pixels of each index that labels hold, or of each colour where one of them is a picture.

    Raises:
        UserError: A label is damaged, or holds too many colours for a label.
    """
    counts: Counter[Stored] = Counter()
    listed = list(labels)
    palettes = [voc_palette(256), *_palette_of(listed[0] if listed else None)]
    colours = [open_image(path).mode in ("RGB", "RGBA") for path in listed]
    if any(colours) and not all(colours):
        raise UserError(
            f"{listed[colours.index(True)]} has colours, {listed[colours.index(False)]} indices; "
            "store all labels in one form"
        )
    for path, is_colour in zip(listed, colours, strict=True):
        codes = _codes(path) if is_colour else read_indices(path, hint=_HINT, palettes=palettes)
        for code, number in zip(*np.unique(codes, return_counts=True), strict=True):
            counts[_uncode(int(code), is_colour)] += int(number)
        if len(counts) > IGNORE_INDEX + 1:
            raise UserError(
                f"{path} and those before it hold {len(counts)} colours; is it a photograph, or "
                "were labels resized or stored as JPEG?"
            )
    return counts


def _indices(labels: Sequence[Path]) -> list[int]:
    counts = count_values(path for path in labels if path.is_file())
    if any(isinstance(value, tuple) for value in counts):
        raise UserError(
            f"the labels hold colours, and no {FILE} says what they mean; "
            "`scripts/check_data.py data=folder data.root=PATH --write-classes` drafts one"
        )
    return sorted(value for value in counts if isinstance(value, int))


def _numbered(labels: Sequence[Path]) -> dict[str, Stored | None]:
    """Return a class for each index of the labels, counted once for these files."""
    stats = [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        for path in labels
        if path.is_file()
    ]
    values = cached("values", stats, lambda: _indices(labels))
    if values == [0, IGNORE_INDEX]:
        raise UserError(
            f"the labels hold 0 and 255 alone; say in {FILE} whether 255 is a class "
            "(`object: 255`) or void (`ignore: [255]`)"
        )
    return {str(value): value for value in values if value != IGNORE_INDEX}
