"""IoU by object size and shape: objects, the metric, and the table that keeps the evidence."""

from segattn.metrics.axes import Axis, half_octaves
from segattn.metrics.functional import Counts, ObjectRows, nearest_owner, object_rows
from segattn.metrics.instance_iou import instance_iou
from segattn.metrics.objects import (
    ALL_GROUPS,
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
    other_radii,
    read_table,
    write_table,
)

__all__ = [
    "ALL_GROUPS",
    "GROUPS",
    "REACHES",
    "SCHEMA_VERSION",
    "Axis",
    "BatchObjects",
    "Bins",
    "Counts",
    "ObjectRows",
    "Objects",
    "Reach",
    "SizeBins",
    "SizeStratifiedIoU",
    "find_objects",
    "half_octaves",
    "image_counts",
    "instance_iou",
    "nearest_owner",
    "object_frame",
    "object_rows",
    "other_radii",
    "read_table",
    "stack_objects",
    "write_table",
]
