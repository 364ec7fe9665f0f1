"""Predictions of a checkpoint for a folder of images: class indices, and pictures to look at."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from PIL import ExifTags, Image
from rich.console import Console
from rich.progress import track

from segattn.base.arguments import check_choice
from segattn.base.errors import UserError
from segattn.base.files import atomic_path, digest, walk
from segattn.base.runs import LEGEND, read_json, write_json
from segattn.data.cityscapes import LABEL_IDS, Cityscapes
from segattn.data.images import orientation, read_image, resize
from segattn.data.palette import voc_palette
from segattn.models.inference import Protocol, build_protocol
from segattn.training.checkpoint import load_task
from segattn.training.task import SegmentationTask

Format = Literal["png", "cityscapes"]

_CITYSCAPES_NAME = re.compile(r"([^_]+_\d+_\d+)_leftImg8bit\.png")


_Job = tuple[Path, Path, Path | None]
"""An image, its label map and its overlay; None if the format has no overlay."""


class Outcome(NamedTuple):
    """What became of the images of a folder."""

    num_done: int  # images with a prediction
    problems: list[str]  # a line for each image without a prediction
    ignored: list[Path]  # other files of the folder, relative to it
    num_turned: int  # images that viewers turn by their EXIF orientation


def predict_folder(
    checkpoint: Path,
    *,
    images: Path,
    out: Path,
    format: Format = "png",
    protocol: Mapping[str, Any] | None = None,
) -> Outcome:
    """Predict every image below a folder, on a GPU if there is one.

    "png" writes out/labels/NAME.png, class indices with the classes' colours as palette, and
    out/overlays/NAME.jpg, the colours over the image. "cityscapes" writes what the benchmark's
    server and evaluation script take: out/labels/CITY_SEQUENCE_FRAME_pred.png, official label ids.
    Both write out/predictions.json, see `_legend`. The same call again writes the same files again.
    A label map lies as its image is stored; an overlay keeps the EXIF orientation of the image.

    Args:
        checkpoint: A checkpoint of a `SegmentationTask`.
        images: Folder of images; those in folders below it keep these in their names.
        out: New, empty, or left by the same call.
        format: "png" or "cityscapes".
        protocol: Values of `Protocol` in which the checkpoint's own is changed.

    Raises:
        UserError: Before anything is predicted, for what cannot work for any image; an image
            that cannot be read becomes a line of the outcome instead.
    """
    check_choice("format", format, get_args(Format))
    photos, ignored = find_photos(images)
    _refuse_overlap(images, out)
    jobs = _plan(photos, format=format, out=out)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = load_task(checkpoint, device=device)
    chosen = build_protocol({**(task.hparams.get("protocol") or {}), **(protocol or {})})
    legend = _legend(task, checkpoint=checkpoint, images=images, protocol=chosen, format=format)
    _claim(out, legend)
    problems, bar = [], Console(stderr=True)
    for job in track(jobs, "predicting", console=bar, disable=not bar.is_terminal):
        try:
            _predict_one(images / job[0], *job[1:], task=task, protocol=chosen, legend=legend)
        except (UserError, OSError, torch.OutOfMemoryError) as error:
            problems.append(_explain(images / job[0], error))
    num_turned = sum(orientation(images / photo) > 1 for photo in photos)
    return Outcome(len(jobs) - len(problems), problems, ignored, num_turned)


def find_photos(folder: Path) -> tuple[list[Path], list[Path]]:
    """Images below `folder`, and what else is there, both sorted and relative to it.

    An image is a file with a suffix that Pillow reads. Hidden files are left out; links are
    followed.

    Raises:
        UserError: The folder does not exist, or has no image.
        OSError: A folder may not be read.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; set images to the folder of your images")
    suffixes = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found = sorted(_walk(folder))
    photos = [path for path in found if path.suffix.lower() in suffixes]
    if not photos:
        raise UserError(f"{folder} holds no image; .jpg, .png and whatever Pillow reads are taken")
    return photos, [path for path in found if path.suffix.lower() not in suffixes]


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from ((parent / n).relative_to(folder) for n in files if not n.startswith("."))


def _refuse_overlap(images: Path, out: Path) -> None:
    """Nothing is written where the user's images lie, also where the paths are links."""
    source, target = images.resolve(), out.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        raise UserError(f"out={out} and images={images} overlap; name an out folder beside it")


def _plan(photos: Sequence[Path], *, format: Format, out: Path) -> list[_Job]:
    """Where the prediction of each image goes.

    Raises:
        UserError: Two images have the same place, or a name is not Cityscapes'.
    """
    jobs = [_job(photo, format=format, out=out) for photo in photos]
    taken: dict[str, list[str]] = defaultdict(list)
    for image, label, _ in jobs:
        taken[str(label).casefold()].append(str(image))  # a Mac would take them for one
    for names in taken.values():
        if len(names) > 1:
            raise UserError(
                f"{' and '.join(names)} would write the same prediction; rename all but one"
            )
    return jobs


def _job(photo: Path, *, format: Format, out: Path) -> _Job:
    if format == "png":
        label = out / "labels" / photo.with_suffix(".png")
        return photo, label, out / "overlays" / photo.with_suffix(".jpg")
    match = _CITYSCAPES_NAME.fullmatch(photo.name)
    if match is None:
        raise UserError(
            f"{photo} is not named CITY_SEQUENCE_FRAME_leftImg8bit.png, as images of Cityscapes "
            "are; give them alone, or use format=png"
        )
    return photo, out / "labels" / f"{match[1]}_pred.png", None


def _legend(
    task: SegmentationTask, *, checkpoint: Path, images: Path, protocol: Protocol, format: Format
) -> dict[str, Any]:
    """What the values of the written label maps mean, and how they came about."""
    names = tuple(task.hparams["classes"])
    if format == "cityscapes" and names != Cityscapes.classes:
        raise UserError(
            f"format=cityscapes needs the {len(LABEL_IDS)} classes of Cityscapes; the checkpoint "
            f"has {len(names)}: {', '.join(names[:3])}, ...; use format=png"
        )
    colours = task.hparams["palette"] or voc_palette(len(names))
    values = LABEL_IDS if format == "cityscapes" else range(len(names))
    classes = [
        {"value": value, "name": name, "colour": list(colour)}
        for value, name, colour in zip(values, names, colours, strict=True)
    ]
    return {
        "checkpoint": str(checkpoint.resolve()),
        "weights": digest(checkpoint),
        "images": str(images.resolve()),
        "protocol": protocol.label,
        "precision": "fp32",  # a test in bf16 may decide a few pixels otherwise
        "format": format,
        "classes": classes,
    }


def _claim(out: Path, legend: dict[str, Any]) -> None:
    """Write the legend into a new folder, or check that the folder is of the same call."""
    path = out / LEGEND
    if path.is_file():
        if read_json(path) != legend:
            raise UserError(
                f"{path} is of other predictions: other images, weights, protocol or format; "
                "name another out folder, or delete that one"
            )
    # a draft of the legend, hidden, may be left of a call that was killed
    elif out.exists() and (not out.is_dir() or any(p.name[0] != "." for p in out.iterdir())):
        raise UserError(f"out={out} holds other files; name a new or empty folder")
    else:
        write_json(path, legend)


def _predict_one(
    path: Path,
    where: Path,
    overlay: Path | None,
    *,
    task: SegmentationTask,
    protocol: Protocol,
    legend: dict[str, Any],
) -> None:
    photo = read_image(path)
    size = task.hparams["size"] or photo.shape[:2]  # of the images that it was trained on
    indices = task.label_map(resize(photo, size), protocol=protocol)
    indices = resize(indices, photo.shape[:2], nearest=True)
    colours = [entry["colour"] for entry in legend["classes"]]
    if overlay is None:
        values = np.array([entry["value"] for entry in legend["classes"]], dtype=np.uint8)
        _save(Image.fromarray(values[indices]), where)
        return
    label = Image.fromarray(indices)
    label.putpalette(np.array(colours, dtype=np.uint8).tobytes())
    _save(label, where)
    exif = Image.Exif()
    if (turn := orientation(path)) > 1:
        exif[ExifTags.Base.Orientation] = turn
    _save(Image.blend(Image.fromarray(photo), label.convert("RGB"), 0.5), overlay, exif=exif)


def _save(image: Image.Image, path: Path, **options: Any) -> None:
    with atomic_path(path) as draft:
        image.save(draft, quality=90, **options)  # only JPEG has a quality


def _explain(image: Path, error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return f"{image} needs more memory than the GPU has; try protocol=sliding"
    if isinstance(error, OSError):
        return f"{image}: {error}"
    return str(error)
