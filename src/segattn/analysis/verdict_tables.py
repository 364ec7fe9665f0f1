"""Verdicts as tables: tidy for machines and forest plots, short for people."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pandas as pd

from segattn.analysis import display
from segattn.analysis.attribution import RULES
from segattn.analysis.claims import claims_path, load_claims
from segattn.analysis.comparison import Comparison
from segattn.analysis.measures import READINGS, Reading, contrast
from segattn.analysis.readings import class_shares
from segattn.analysis.stats import Estimate
from segattn.analysis.verdicts import (
    CONTRADICTED,
    INCONCLUSIVE,
    NEGLIGIBLE,
    NOT_TESTED,
    SUPPORTED,
    Evidence,
    Verdict,
    decide,
)


@lru_cache(maxsize=8)
def verdicts_of(comparison: Comparison, reading: Reading) -> tuple[Verdict, ...]:
    """Verdicts on experiments/claims.yaml."""
    return tuple(decide(comparison, load_claims(claims_path()), reading=reading))


def conditions(comparison: Comparison) -> pd.DataFrame:
    """Tidy evidence, one row per reading, claim and condition.

    Columns: experiment, reading, claim, verdict, condition, decides (bool), value, low, high,
    threshold, smallest, detectable (points), gap_share (of what a perfect head gains over fcn),
    p (not adjusted), claim_p (Holm), seeds, images, blocks, seeds_to_settle, sign_differs (rules
    of attribution) and orphans (bool). NaN where nothing was tested.
    """
    return pd.DataFrame(
        _row(comparison, verdict, evidence, decides=decides)
        for reading in READINGS
        for verdict in verdicts_of(comparison, reading)
        for decides, parts in ((True, verdict.evidence), (False, verdict.extra))
        for evidence in parts
    )


def _row(
    comparison: Comparison, verdict: Verdict, evidence: Evidence, *, decides: bool
) -> dict[str, Any]:
    estimate = evidence.estimate
    return {
        "experiment": comparison.facts["experiment"],
        "reading": verdict.reading,
        "claim": verdict.claim.name,
        "verdict": verdict_text(verdict),
        "condition": evidence.condition.text,
        "decides": decides,
        **_interval(estimate),
        "threshold": evidence.condition.threshold,
        "smallest": _points(evidence.smallest),
        "detectable": _points(evidence.detectable),
        "gap_share": _gap_share(comparison, evidence, verdict.reading),
        "p": evidence.p,
        "claim_p": verdict.p if decides else math.nan,
        "seeds": getattr(estimate, "seeds", 0),
        "images": len(comparison.facts["images"]),
        "blocks": len(set(comparison.facts["blocks"])),
        "seeds_to_settle": evidence.seeds_to_settle,
        "sign_differs": ", ".join(RULES[k] for k, same in evidence.signs.items() if not same),
        "orphans": evidence.orphans,
    }


def _interval(estimate: Estimate | None) -> dict[str, float]:
    """Value, low and high in points; NaN without an estimate."""
    return {name: _points(getattr(estimate, name, math.nan)) for name in ("value", "low", "high")}


def _points(fraction: float) -> float:
    return 100 * fraction


def _gap_share(comparison: Comparison, evidence: Evidence, reading: Reading) -> float:
    """The difference of two heads in one measure, over oracle minus fcn in that measure."""
    terms, oracle = evidence.condition.terms, _oracle(comparison)
    if evidence.estimate is None or reading == "classes" or oracle is None or len(terms) != 2:
        return math.nan
    if terms[0].measure != terms[1].measure or "fcn" not in comparison.samples:
        return math.nan
    score = contrast(comparison, terms[0].measure)
    gap = score(oracle).mean() - score(comparison.samples["fcn"].sums).mean()
    return float(evidence.estimate.value / gap)


def _oracle(comparison: Comparison) -> Any:
    sample = comparison.oracle.get(comparison.facts["encoder"]["output_stride"])
    return None if sample is None else sample.sums


def verdicts(comparison: Comparison) -> pd.DataFrame:
    """One row per claim: the verdict by object size, what it hangs on, and that by class size."""
    by_object, by_class = (verdicts_of(comparison, reading) for reading in READINGS)
    intervals = pd.DataFrame([_interval(verdict.deciding.estimate) for verdict in by_object])
    points = display.ranged(intervals, display.POINTS)
    return pd.DataFrame(
        {
            "claim": f"{objects.claim.name}: {objects.claim.text}",
            "by object size": verdict_text(objects),
            "by class size": verdict_text(classes),
            "points": interval,
            "Holm p": display.p_value(objects.p),
            "to settle": to_settle(objects),
            "hangs on": _hangs_on(comparison, objects),
        }
        for objects, classes, interval in zip(by_object, by_class, points, strict=True)
    )


def _hangs_on(comparison: Comparison, verdict: Verdict) -> str:
    """The condition with the least support; of a claim that is not tested, what it lacks."""
    if verdict.word != NOT_TESTED:
        return verdict.deciding.condition.text
    named = dict.fromkeys(head for e in verdict.evidence for head in e.condition.heads)
    if lacking := [head for head in named if head not in comparison.samples]:
        return f"lacks runs of {', '.join(lacking)}"
    seeds = min(e.estimate.seeds for e in verdict.evidence if e.estimate is not None)
    return "lacks a second common seed" if seeds < 2 else "lacks classes with enough objects"


def carried_by(comparison: Comparison) -> list[str]:
    """One sentence per decided claim: which classes its effect comes from, by object size."""
    decided = (SUPPORTED, NEGLIGIBLE, CONTRADICTED)
    found = [v for v in verdicts_of(comparison, "objects") if v.word in decided]
    return [
        f"{v.claim.name}, {verdict_text(v)}, "
        + _carriers(class_shares(comparison, v.deciding.condition))
        for v in found
    ]


def _carriers(shares: pd.Series, *, number: int = 3) -> str:
    """The classes that add most to the sum of `shares` [points], and what the others add."""
    ordered = shares.sort_values(ascending=bool(shares.sum() < 0))
    first, rest = ordered.iloc[:number], ordered.iloc[number:]
    named = ", ".join(f"{name} {value:+z.2f}" for name, value in first.items())
    others = f", the other {len(rest)} classes together {rest.sum():+z.2f}" if len(rest) else ""
    return f"{shares.sum():+z.2f} points: {named}{others}."


def tested(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of `conditions`, of one or more experiments, whose contrast is measured in one."""
    measured = frame["value"].notna()
    return frame[measured.groupby([frame["claim"], frame["condition"]]).transform("any")]


def verdict_text(verdict: Verdict) -> str:
    """The verdict with its suffixes."""
    suffixes = f" ({', '.join(verdict.suffixes)})" if verdict.suffixes else ""
    return verdict.word + suffixes


def to_settle(verdict: Verdict) -> str:
    """How many seeds an inconclusive verdict wants, or that the test images are too few."""
    if verdict.word != INCONCLUSIVE:
        return ""
    estimates = [e.estimate for e in verdict.unsettled if e.estimate is not None]
    needed = [e.seeds_to_settle for e in verdict.unsettled]
    known = [n for n in needed if n is not None]
    if len(known) < len(needed):
        return f"more test images than {estimates[0].images}"
    return f"about {max(*known, estimates[0].seeds + 1)} seeds"


def contrasts(comparison: Comparison) -> pd.DataFrame:
    """One row per measured condition of the claims: difference in points under both readings."""
    frame = tested(conditions(comparison))
    objects, classes = (
        frame[frame["reading"] == reading].reset_index(drop=True) for reading in READINGS
    )
    return pd.DataFrame(
        {
            "claim": objects["claim"],
            "condition": objects["condition"],
            "by object size": display.ranged(objects, display.POINTS),
            "p": [display.p_value(p) for p in objects["p"]],
            "decides": ["yes" if decides else "" for decides in objects["decides"]],
            "detectable": [display.number(v, "{:.1f}") for v in objects["detectable"]],
            "share of gap": [display.number(100 * v, "{:.0f} %") for v in objects["gap_share"]],
            "other sign by": objects["sign_differs"],
            "by class size": display.ranged(classes, display.POINTS),
        }
    )


def across(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """One row per claim, one column per data set, and in how many of them it is supported.

    p-values are never pooled over data sets.
    """
    found = [verdicts_of(comparison, "objects") for comparison in comparisons]
    return pd.DataFrame(
        {
            "claim": f"{of_claim[0].claim.name}: {of_claim[0].claim.text}",
            **{
                comparison.facts["experiment"]: verdict_text(verdict)
                for comparison, verdict in zip(comparisons, of_claim, strict=True)
            },
            "supported": f"{sum(v.word == SUPPORTED for v in of_claim)} of {len(of_claim)}",
        }
        for of_claim in zip(*found, strict=True)
    )


def has_claims(comparison: Comparison) -> bool:
    """Whether the runs test at least one condition of a claim."""
    return any(e.tested for v in verdicts_of(comparison, "objects") for e in v.evidence)
