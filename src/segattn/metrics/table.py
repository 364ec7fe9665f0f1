"""The object table: one row per object, from which every score can be computed again without a GPU.

It is the evidence of a run. Other bin edges, other groups of classes and the bootstrap over images
start from it; only the radii of the attribution are fixed in it: that of the metric, half and
double of it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from segattn.files import atomic_path
from segattn.metrics.functional import ObjectRows
from segattn.metrics.objects import BatchObjects

SCHEMA_VERSION = 2

Reach = Literal["", "_half", "_double"]
REACHES: dict[Reach, float] = {"": 1.0, "_half": 0.5, "_double": 2.0}
"""Suffix of the columns fp and fp_far, and the radius in units of the metric's."""


def other_radii(radius: float) -> list[float]:
    """The radii of the object table besides the metric's own, in the order of `REACHES`; px."""
    return [factor * radius for factor in REACHES.values() if factor != 1]


_VERSION_KEY = b"segattn_objects_version"
_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("kind", pa.string()),
        ("cls", pa.int16()),
        ("area", pa.int32()),
        ("width", pa.float32()),
        ("border", pa.bool_()),
        ("from_instance", pa.bool_()),
        ("frame_area", pa.int32()),
        ("tp", pa.int32()),
        *((f"fp{reach}", pa.int32()) for reach in REACHES),
        *((f"fp_far{reach}", pa.int32()) for reach in REACHES),
    ]
)


_DTYPES = {
    pa.string(): "str",
    pa.bool_(): "bool",
    pa.int16(): "int16",
    pa.int32(): "int32",
    pa.float32(): "float32",
}


class Bins(Protocol):
    """What sorts the rows of an object table: `SizeBins`, `Axis`."""

    @property
    def num_bins(self) -> int:
        """Number of bins B."""

    def of(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        """Bin of each row, int64 [rows], 0..B-1."""


def object_frame(
    rows: ObjectRows, *, truth: BatchObjects, prediction: BatchObjects, images: Sequence[str]
) -> pd.DataFrame:
    """Object table of one batch.

    One row of kind "object" per ground-truth object, and one of kind "false_alarm" per predicted
    component with false-positive pixels that no object owns within the smallest radius.

    Args:
        rows: Counts of K objects and P predicted components, at the radii of `REACHES`.
        truth: The K objects.
        prediction: The P components, on the whole prediction, void included.
        images: Name of each image of the batch.

    Returns:
        Columns image (str), kind (str), cls (int16), area (int32, px; of the whole component for a
        false alarm), width (float32, px), border (bool), from_instance (bool), frame_area (int32,
        px of the whole image), tp, and fp and fp_far at each reach (int32, px).

    Raises:
        ValueError: If the numbers of objects, components or images do not fit together.
    """
    _check_batch(rows, truth=truth, prediction=prediction, images=images)
    alarms = (rows.fp_far > 0).any(1)
    found = {"tp": rows.tp, **_columns_of("fp", rows.fp)}
    invented = _columns_of("fp_far", rows.fp_far[alarms])
    parts = [
        _frame(truth, images=images, kind="object", counts=found),
        _frame(_select(prediction, alarms), images=images, kind="false_alarm", counts=invented),
    ]
    return pd.concat(parts, ignore_index=True)


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write an object table as Parquet; a reader finds the old file or the new one, never a part.

    Args:
        frame: Object table of any number of batches.
        path: File to write or replace.
    """
    table = pa.Table.from_pandas(frame, schema=_SCHEMA, preserve_index=False)
    table = table.replace_schema_metadata({_VERSION_KEY: str(SCHEMA_VERSION)})
    with atomic_path(path) as draft:
        pq.write_table(table, draft, compression="zstd", write_page_checksum=True)


def read_table(path: Path) -> pd.DataFrame:
    """Read an object table.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, of another version, or lacks a column.
    """
    fix = "test the checkpoint again to write it anew"
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is no whole object table ({error}); {fix}") from error
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if version != str(SCHEMA_VERSION):
        raise ValueError(
            f"{path} must be an object table of version {SCHEMA_VERSION}, got {version}; {fix}"
        )
    wrong = [field.name for field in _SCHEMA if field not in table.schema]
    if wrong:
        raise ValueError(f"{path} lacks the columns {wrong} or their types differ; {fix}")
    return table.select(_SCHEMA.names).to_pandas()


def image_counts(
    frame: pd.DataFrame,
    *,
    images: Sequence[str],
    num_classes: int,
    bins: Bins,
    reach: Reach = "",
) -> NDArray[np.int64]:
    """Pixel counts per image, class and bin: all that scores and the bootstrap over images need.

    Args:
        frame: Object table.
        images: Name of every image of the test, also of those without a row.
        num_classes: C.
        bins: For example `SizeBins` or `Axis`.
        reach: Which radius of the attribution, see `REACHES`.

    Returns:
        int64 [len(images), C, bins.num_bins, 4]: tp, area, fp, fp_far. Summed over the images it
        equals the states of `SizeStratifiedIoU`.

    Raises:
        ValueError: If `images` repeats a name, or the table holds another image or class.
    """
    index = pd.Index(images)
    if not index.is_unique:
        raise ValueError(f"images must differ, got twice: {list(index[index.duplicated()][:3])}")
    image = index.get_indexer(pd.Index(frame["image"]))
    if (image < 0).any():
        unknown = sorted(set(frame["image"]) - set(images))[:3]
        raise ValueError(f"the table holds images that are not in images: {unknown}; list them all")
    cls = frame["cls"].to_numpy(np.int64)
    if cls.size and (cls.min() < 0 or cls.max() >= num_classes):
        raise ValueError(
            f"the table must hold classes 0..{num_classes - 1}, got {cls.min()}..{cls.max()}"
        )
    cell = (image * num_classes + cls) * bins.num_bins + bins.of(frame)
    is_object = (frame["kind"] == "object").to_numpy()
    columns = [
        frame["tp"].to_numpy(np.int64),
        frame["area"].to_numpy(np.int64) * is_object,
        frame[f"fp{reach}"].to_numpy(np.int64),
        frame[f"fp_far{reach}"].to_numpy(np.int64),
    ]
    counts = np.zeros((len(images) * num_classes * bins.num_bins, 4), dtype=np.int64)
    np.add.at(counts, cell, np.stack(columns, axis=1))
    return counts.reshape(len(images), num_classes, bins.num_bins, 4)


def _check_batch(
    rows: ObjectRows, *, truth: BatchObjects, prediction: BatchObjects, images: Sequence[str]
) -> None:
    if len(rows.tp) != len(truth.cls) or len(rows.fp_far) != len(prediction.cls):
        raise ValueError(
            f"rows count {len(rows.tp)} objects and {len(rows.fp_far)} components, got truth with "
            f"{len(truth.cls)} and prediction with {len(prediction.cls)}; pass those of the same "
            "update"
        )
    if rows.fp.shape[1] != len(REACHES):
        raise ValueError(
            f"rows must be counted at the {len(REACHES)} radii of REACHES, got {rows.fp.shape[1]}; "
            "give the metric other_radii"
        )
    if len(images) != len(truth.ids):
        raise ValueError(
            f"images must name each of the {len(truth.ids)} images, got {len(images)} names"
        )


def _select(objects: BatchObjects, mask: Tensor) -> BatchObjects:
    return BatchObjects(
        ids=objects.ids,
        cls=objects.cls[mask],
        area=objects.area[mask],
        width=objects.width[mask],
        border=objects.border[mask],
        from_instance=objects.from_instance[mask],
        image=objects.image[mask],
    )


def _columns_of(name: str, counts: Tensor) -> dict[str, Tensor]:
    """One column per reach from counts [rows, R]."""
    return {f"{name}{reach}": column for reach, column in zip(REACHES, counts.T, strict=True)}


def _frame(
    objects: BatchObjects, *, images: Sequence[str], kind: str, counts: dict[str, Tensor]
) -> pd.DataFrame:
    """Rows of one kind; a count that the kind does not have is 0."""
    num_rows, (height, width) = len(objects.cls), objects.ids.shape[1:]
    names = np.array(images, dtype=object)[objects.image.cpu().numpy()]
    given = {
        "image": names,
        "kind": np.full(num_rows, kind, dtype=object),
        "cls": objects.cls,
        "area": objects.area,
        "width": objects.width,
        "border": objects.border,
        "from_instance": objects.from_instance,
        "frame_area": np.full(num_rows, height * width),
        **counts,
    }
    zeros = np.zeros(num_rows, dtype=np.int32)
    data = {name: _array(given.get(name, zeros)) for name in _SCHEMA.names}
    return pd.DataFrame(data).astype({f.name: _DTYPES[f.type] for f in _SCHEMA})


def _array(values: Tensor | NDArray[np.generic]) -> NDArray[np.generic]:
    return values.cpu().numpy() if isinstance(values, Tensor) else values
