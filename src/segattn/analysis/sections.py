"""Sections of the report that need more than one table: HTML, also for the notebook."""

from segattn.analysis import crops, evidence_figures, html, verdict_tables, won_lost
from segattn.analysis.comparison import Comparison


def claims(comparison: Comparison) -> str:
    """Verdicts, their contrasts as a forest plot and a table; a sentence where none is tested."""
    if not verdict_tables.has_claims(comparison):
        return html.paragraph("These runs test none of the claims.")
    frame = verdict_tables.conditions(comparison)
    return "\n".join(
        [
            html.table(verdict_tables.verdicts(comparison)),
            html.figure(evidence_figures.forest(frame), alt="Contrasts with 95% intervals"),
            html.table(verdict_tables.contrasts(comparison)),
        ]
    )


def objects_won_and_lost(comparison: Comparison) -> str:
    """A panel per pair of heads."""
    return "\n".join(
        html.figure(
            crops.won_lost(comparison, (a, b)), alt=f"Objects won and lost by {a} against {b}"
        )
        for a, b in won_lost.pairs(comparison)
    )
