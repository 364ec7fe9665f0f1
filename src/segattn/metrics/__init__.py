"""IoU by object size and shape: objects, the metric, and the table that keeps the evidence."""

from segattn.metrics.functional import Counts, ObjectRows, nearest_owner, object_rows
from segattn.metrics.objects import (
    GROUPS,
    BatchObjects,
    Objects,
    SizeBins,
    find_objects,
    stack_objects,
)
from segattn.metrics.size_iou import SizeStratifiedIoU
from segattn.metrics.table import (
    REACHES,
    SCHEMA_VERSION,
    Bins,
    Reach,
    image_counts,
    object_frame,
    read_table,
    write_table,
)

__all__ = [
    "GROUPS",
    "REACHES",
    "SCHEMA_VERSION",
    "BatchObjects",
    "Bins",
    "Counts",
    "ObjectRows",
    "Objects",
    "Reach",
    "SizeBins",
    "SizeStratifiedIoU",
    "find_objects",
    "image_counts",
    "nearest_owner",
    "object_frame",
    "object_rows",
    "read_table",
    "stack_objects",
    "write_table",
]
