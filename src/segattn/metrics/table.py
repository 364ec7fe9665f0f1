"""The object table: one row per object, from which every score can be computed again.

It is the evidence of a run: other edges of size and the bootstrap over images start from it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from segattn.metrics.counts import Rows, count
from segattn.metrics.measures import Measures

SCHEMA_VERSION = 3
_VERSION_KEY = b"segattn_objects_version"
_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("cls", pa.int16()),
        ("area", pa.int32()),
        ("width", pa.float32()),
        ("crowd", pa.bool_()),
        ("alarm", pa.bool_()),
        ("tp", pa.int32()),
        ("fp", pa.int32()),
        ("edge_area", pa.int32()),
        ("edge_tp", pa.int32()),
        ("edge_fp", pa.int32()),
    ]
)
EDGES = ("edge_area", "edge_tp", "edge_fp")
"""Columns that tables of the first version 3 do not have."""


def table_of(rows: Mapping[str, Rows]) -> pd.DataFrame:
    """The object table of images by name, see `segattn.metrics.counts.object_rows`.

    Objects come in the order of `find_objects`, then the false alarms of the image.
    """
    frames = [pd.DataFrame({"image": name, **columns}) for name, columns in rows.items()]
    table = pa.Table.from_pandas(pd.concat(frames), schema=_SCHEMA, preserve_index=False)
    return table.to_pandas()


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write an object table as Parquet, with a checksum."""
    table = pa.Table.from_pandas(frame, schema=_SCHEMA, preserve_index=False)
    table = table.replace_schema_metadata({_VERSION_KEY: str(SCHEMA_VERSION)})
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def read_table(path: Path) -> pd.DataFrame:
    """Read an object table.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, of another version, or lacks a column.
    """
    fix = "test the checkpoint again to write it anew"
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a whole object table ({error}); {fix}") from error
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if version != str(SCHEMA_VERSION):
        raise ValueError(
            f"{path} must be an object table of version {SCHEMA_VERSION}, got {version}; {fix}"
        )
    known = [field for field in _SCHEMA if field.name in table.schema.names]
    wrong = [field.name for field in known if field not in table.schema]
    wrong += sorted(set(_SCHEMA.names) - set(table.schema.names) - set(EDGES))
    if wrong:
        raise ValueError(f"{path} lacks the columns {wrong} or their types differ; {fix}")
    return table.select([field.name for field in known]).to_pandas()


def image_counts(
    frame: pd.DataFrame, measures: Measures, *, images: Sequence[str]
) -> NDArray[np.int64]:
    """Pixel counts per image: all that scores and the bootstrap over images need.

    Args:
        frame: Object table.
        measures: Sorts its rows.
        images: Name of every image of the test, also of those without a row.

    Returns:
        int64 [len(images), C, 5, 3], as `count`; summed over images it is the metric's state.

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
    names = ("cls", "area", "width", "crowd", "alarm", "tp", "fp")
    rows = {name: frame[name].to_numpy() for name in names}
    rows |= {name: rows[name].astype(np.int64) for name in ("cls", "area", "tp", "fp")}
    highest = rows["cls"].max(initial=-1)
    if highest >= len(measures.classes):
        raise ValueError(f"the table has class {highest}, there are {len(measures.classes)}")
    return count(rows, measures, group=image, num_groups=len(images))
