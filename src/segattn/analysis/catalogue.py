"""Every table of a comparison by the name that files, README and notebooks call it."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from segattn.analysis import display, readings, tables, verdict_tables
from segattn.analysis.comparison import Comparison

Table = Callable[[Comparison], pd.DataFrame]

SHOWN: dict[str, Table] = {
    "heads": display.heads,
    "sizes": display.sizes,
    "oracle": display.oracle,
    "differences": display.differences,
    "differences_by_size": display.differences_by_size,
    "readings": readings.side_by_side,
    "class_sizes": readings.class_sizes,
    "within_class": readings.within_class_table,
    "other_axes": readings.other_axes,
    "classes": display.class_scores,
    "class_groups": display.class_groups,
    "group_recall": display.group_recall,
    "support": display.support,
}
"""Rounded text for people."""

TIDY: dict[str, Table] = {
    "heads": tables.scores,
    "oracle": tables.oracle,
    "costs": tables.costs,
    "differences": tables.differences,
    "readings": readings.differences,
    "within_class": readings.within_class,
    "classes": tables.class_scores,
    "class_groups": tables.class_groups,
    "support": lambda comparison: comparison.support,
}
"""One row per number."""

CLAIMS_SHOWN: dict[str, Table] = {
    "verdicts": verdict_tables.verdicts,
    "contrasts": verdict_tables.contrasts,
}
"""Only where the runs test a claim."""


def shown(comparison: Comparison) -> dict[str, Table]:
    """The display tables that a comparison has."""
    return SHOWN | (CLAIMS_SHOWN if verdict_tables.has_claims(comparison) else {})


def write_tables(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the tidy tables as CSV and the display tables as Markdown; returns the paths."""
    tidy = TIDY | (
        {"conditions": verdict_tables.conditions} if verdict_tables.has_claims(comparison) else {}
    )
    csv = {folder / f"{name}.csv": f(comparison).to_csv(index=False) for name, f in tidy.items()}
    markdown = {
        folder / f"{name}.md": display.to_markdown(f(comparison))
        for name, f in shown(comparison).items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in (csv | markdown).items():
        path.write_text(text, encoding="utf-8")
    return [*csv, *markdown]
