"""From run folders to evidence: statistics, tables, figures and the report."""

from segattn.analysis.comparison import Comparison, compare
from segattn.analysis.stats import Estimate, interval, paired_difference

__all__ = ["Comparison", "Estimate", "compare", "interval", "paired_difference"]
