"""Sections of the report that need more than one table: HTML, also for the notebook."""

import pandas as pd

from segattn.analysis import crops, evidence_figures, html, verdict_tables, won_lost
from segattn.analysis.comparison import Comparison

_CARRIED = (
    "Where the points of a decided claim come from, by object size. An effect of a few classes "
    "says little about the others:"
)
_COLUMNS = (
    'Share of gap: the difference, of what a perfect head gains over fcn. "Other sign by": the '
    "ways to count false positives under which the difference lies on the other side of the "
    "threshold: half or double the radius within which they belong to an object; IoU without "
    "false alarms, which are farther away; recall; the mean IoU of single objects."
)


def claims(comparison: Comparison) -> str:
    """Verdicts, their contrasts as a forest plot and a table; a sentence where none is tested."""
    if not verdict_tables.has_claims(comparison):
        return html.paragraph("These runs test none of the claims.")
    frame = verdict_tables.conditions(comparison)
    tested = verdict_tables.tested(frame)
    parts = [html.table(verdict_tables.verdicts(comparison))]
    if carried := verdict_tables.carried_by(comparison):
        parts += [html.paragraph(_CARRIED), html.bullets(carried)]
    parts.append(html.figure(evidence_figures.forest(tested), alt="Contrasts with 95% intervals"))
    if len(tested) < len(frame):
        parts.append(html.paragraph(_left_out(frame.drop(tested.index))))
    parts += [html.paragraph(_COLUMNS), html.table(verdict_tables.contrasts(comparison))]
    return "\n".join(parts)


def _left_out(frame: pd.DataFrame) -> str:
    """Which claims have conditions that the runs do not test."""
    conditions = frame["condition"].nunique()
    return (
        f"{conditions} condition{'s' * (conditions > 1)} of {', '.join(frame['claim'].unique())} "
        "could not be tested and are not shown: heads, or classes with enough objects, are missing."
    )


def objects_won_and_lost(comparison: Comparison) -> str:
    """A panel per pair of heads."""
    return "\n".join(
        html.figure(
            crops.won_lost(comparison, (a, b)), alt=f"Objects won and lost by {a} against {b}"
        )
        for a, b in won_lost.pairs(comparison)
    )
