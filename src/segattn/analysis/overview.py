"""One page over several experiments: the verdicts side by side, and links to each report."""

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path

import pandas as pd

from segattn.analysis import display, evidence_figures, html, text, verdict_tables
from segattn.analysis.comparison import Comparison

TITLE = "Which attention helps objects of which size?"


def write_overview(reports: Mapping[Path, Comparison], out: Path) -> Path:
    """Write report.html, across.md and forest.png for several data sets.

    Args:
        reports: Path of each experiment's report.html to its comparison.
        out: Folder to write to.

    Returns:
        Path of report.html.
    """
    claimed = [c for c in reports.values() if verdict_tables.has_claims(c)]
    parts = [f"<h1>{escape(TITLE)}</h1>"]
    if claimed:
        table = verdict_tables.across(claimed)
        (out / "across.md").write_text(display.to_markdown(table), encoding="utf-8")
        frame = pd.concat(map(verdict_tables.conditions, claimed), ignore_index=True)
        drawing = evidence_figures.forest(verdict_tables.tested(frame))
        drawing.savefig(out / "forest.png", dpi=html.FIGURE_DPI)
        parts += [
            "<h2>The claims on each data set</h2>",
            html.paragraph("p-values are adjusted within a data set and never pooled over them."),
            html.table(table),
            html.figure(drawing, alt="Contrasts of the claims with intervals, per data set"),
        ]
    parts += ["<h2>Experiments</h2>", _links(reports, out)]
    path = out / "report.html"
    path.write_text(html.page("\n".join(parts), title=TITLE), encoding="utf-8")
    return path


def _links(reports: Mapping[Path, Comparison], out: Path) -> str:
    lines = [
        f'<li><a href="{escape(os.path.relpath(report, out))}">'
        f"{escape(comparison.facts['experiment'])}</a>: {escape(text.subject(comparison))}</li>"
        for report, comparison in reports.items()
    ]
    return f"<ul>{''.join(lines)}</ul>"
