"""IoU by object size: objects, the metric, and the table that keeps the evidence of a run."""

from segattn.metrics.counts import bin_name, iou_scores
from segattn.metrics.measures import BINS, SIZES, Measures
from segattn.metrics.neighbours import neighbour_scores
from segattn.metrics.objects import Objects, find_objects
from segattn.metrics.size_iou import SizeStratifiedIoU
from segattn.metrics.table import image_counts, read_table, write_table

__all__ = [
    "BINS",
    "SIZES",
    "Measures",
    "Objects",
    "SizeStratifiedIoU",
    "bin_name",
    "find_objects",
    "image_counts",
    "iou_scores",
    "neighbour_scores",
    "read_table",
    "write_table",
]
