"""The object table: one row per object, from which every score can be computed again without a GPU.

It is the evidence of a run. Other bin edges, other groups of classes and the bootstrap over images
start from it; only the radius of the attribution is fixed in it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from segattn.files import atomic_path
from segattn.metrics.functional import ObjectRows
from segattn.metrics.objects import BatchObjects, SizeBins

SCHEMA_VERSION = 1

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
        ("tp", pa.int32()),
        ("fp", pa.int32()),
        ("fp_far", pa.int32()),
    ]
)


def object_frame(
    rows: ObjectRows, *, truth: BatchObjects, prediction: BatchObjects, images: Sequence[str]
) -> pd.DataFrame:
    """Object table of one batch.

    One row of kind "object" per ground-truth object, and one of kind "false_alarm" per predicted
    component with false-positive pixels that no object owns.

    Args:
        rows: Counts of K objects and P predicted components.
        truth: The K objects.
        prediction: The P components, on the whole prediction, void included.
        images: Name of each image of the batch.

    Returns:
        Columns image (str), kind (str), cls (int16), area (int32, px; of the whole component for a
        false alarm), width (float32, px), border (bool), from_instance (bool), tp, fp and fp_far
        (int32, px).

    Raises:
        ValueError: If the numbers of objects, components or images do not fit together.
    """
    _check_batch(rows, truth=truth, prediction=prediction, images=images)
    alarms = rows.fp_far > 0
    zeros = rows.tp.new_zeros(len(rows.tp))
    none = rows.fp_far.new_zeros(int(alarms.sum()))
    names = np.array(images, dtype=object)
    found = _columns(truth, names=names, kind="object", tp=rows.tp, fp=rows.fp, fp_far=zeros)
    invented = _columns(
        _select(prediction, alarms),
        names=names,
        kind="false_alarm",
        tp=none,
        fp=none,
        fp_far=rows.fp_far[alarms],
    )
    data = {name: np.concatenate([found[name], invented[name]]) for name in _SCHEMA.names}
    dtypes = {"image": "str", "kind": "str", "cls": "int16", "width": "float32"}
    dtypes |= dict.fromkeys(["area", "tp", "fp", "fp_far"], "int32")
    return pd.DataFrame(data).astype(dtypes)


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write an object table as Parquet; a reader finds the old file or the new one, never a part.

    Args:
        frame: Object table of any number of batches.
        path: File to write or replace.
    """
    table = pa.Table.from_pandas(frame, schema=_SCHEMA, preserve_index=False)
    table = table.replace_schema_metadata({_VERSION_KEY: str(SCHEMA_VERSION)})
    with atomic_path(path) as draft:
        pq.write_table(table, draft, write_page_checksum=True)


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
    frame: pd.DataFrame, *, images: Sequence[str], num_classes: int, bins: SizeBins
) -> NDArray[np.int64]:
    """Pixel counts per image, class and bin: all that scores and the bootstrap over images need.

    Args:
        frame: Object table.
        images: Name of every image of the test, also of those without a row.
        num_classes: C.
        bins: Joint bins.

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
    joint = bins.assign(frame["area"].to_numpy(), frame["width"].to_numpy())
    cell = (image * num_classes + cls) * bins.num_bins + joint
    is_object = (frame["kind"] == "object").to_numpy()
    counts = np.zeros((4, len(images) * num_classes * bins.num_bins), dtype=np.int64)
    np.add.at(counts[0], cell, frame["tp"].to_numpy(np.int64))
    np.add.at(counts[1], cell, frame["area"].to_numpy(np.int64) * is_object)
    np.add.at(counts[2], cell, frame["fp"].to_numpy(np.int64))
    np.add.at(counts[3], cell, frame["fp_far"].to_numpy(np.int64))
    return counts.reshape(4, len(images), num_classes, bins.num_bins).transpose(1, 2, 3, 0)


def _check_batch(
    rows: ObjectRows, *, truth: BatchObjects, prediction: BatchObjects, images: Sequence[str]
) -> None:
    if len(rows.tp) != len(truth.cls) or len(rows.fp_far) != len(prediction.cls):
        raise ValueError(
            f"rows count {len(rows.tp)} objects and {len(rows.fp_far)} components, got truth with "
            f"{len(truth.cls)} and prediction with {len(prediction.cls)}; pass those of the same "
            "update"
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


def _columns(
    objects: BatchObjects, *, names: NDArray[np.object_], kind: str, **counts: Tensor
) -> dict[str, NDArray[np.generic]]:
    tensors = {
        "cls": objects.cls,
        "area": objects.area,
        "width": objects.width,
        "border": objects.border,
        "from_instance": objects.from_instance,
        **counts,
    }
    columns = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    image = names[objects.image.cpu().numpy()]
    return {"image": image, "kind": np.full(len(image), kind, dtype=object), **columns}
