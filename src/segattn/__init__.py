"""Which attention helps objects of which size? Heads, metric and evidence for segmentation."""

__version__ = "0.1.0"
