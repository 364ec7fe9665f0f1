"""From run folders to answers: comparison, statistics, claims, tables, figures and the report."""

from segattn.analysis.comparison import Comparison, compare

__all__ = ["Comparison", "compare"]
