"""From object tables to a verdict, one step at a time, for a single condition of a claim.

The steps repeat what `segattn.analysis.verdicts` does in one go, and show what lies between.
"""

import math
from functools import lru_cache

import numpy as np
import pandas as pd

from segattn.analysis import display, verdict_tables
from segattn.analysis.attribution import RULES
from segattn.analysis.claims import Claim, Claims, Condition, Term, claims_path, load_claims
from segattn.analysis.comparison import Comparison, size_bins
from segattn.analysis.explore import bin_name
from segattn.analysis.measures import contrast
from segattn.analysis.power import holm
from segattn.analysis.remote import RunsError
from segattn.analysis.stats import AREA, FP, FP_FAR, TP, Array, Estimate, Sample, linear_contrast
from segattn.analysis.verdicts import EQUIVALENCE, Evidence, decide
from segattn.metrics import ALL_GROUPS


def claims_table() -> pd.DataFrame:
    """Display table of experiments/claims.yaml, one row per condition; a claim is named once."""
    return pd.DataFrame(
        {
            "claim": "" if number else f"{claim.name}: {claim.text}",
            "condition": condition.text,
            "decides": "yes" if condition in claim.conditions else "",
        }
        for claim in claims().claims
        for number, condition in enumerate((*claim.conditions, *claim.extra))
    )


def claims() -> Claims:
    """Those of experiments/claims.yaml."""
    return load_claims(claims_path())


def choose(comparison: Comparison) -> Condition:
    """The first condition of a claim whose heads are in the comparison, if possible with scores.

    Raises:
        RunsError: There is none.
    """
    known = [
        condition
        for claim in claims().claims
        for condition in (*claim.conditions, *claim.extra)
        if set(condition.heads) <= set(comparison.heads)
    ]
    if not known:
        raise RunsError(
            f"no claim compares the heads of these runs, which are {', '.join(comparison.heads)}. "
            "Run `make ablation` for all heads, or write a condition of your own with "
            "parse_condition."
        )
    return next((condition for condition in known if _has_scores(comparison, condition)), known[0])


def _has_scores(comparison: Comparison, condition: Condition) -> bool:
    """Whether no score is n/a for want of objects."""
    scores = [
        contrast(comparison, term.measure)(sample_of(comparison, term).sums)
        for term in condition.terms
    ]
    return bool(np.isfinite(scores).all())


def sample_of(comparison: Comparison, term: Term) -> Sample:
    """The counts behind a term.

    Raises:
        RunsError: No run has its head.
    """
    if term.head not in comparison.samples:
        raise RunsError(
            f"no finished run has the head {term.head!r}; these runs have "
            f"{', '.join(comparison.heads)}"
        )
    return comparison.samples[term.head]


def object_rows(comparison: Comparison, condition: Condition, *, number: int = 8) -> pd.DataFrame:
    """Step 1, display table: the largest objects behind the first score, first common seed."""
    term, seed = condition.terms[0], common_seeds(comparison, condition)[0]
    run = comparison.runs[term.head][comparison.samples[term.head].seeds.index(seed)]
    table, (labels, bins) = run.objects(), _cell(comparison, term)
    enters = table["cls"].isin(labels) & np.isin(size_bins(comparison.facts).of(table), bins)
    table = table[(table["kind"] == "object") & enters].nlargest(number, "area")
    iou = table["tp"] / (table["area"] + table["fp"])
    return pd.DataFrame(
        {
            "image": table["image"],
            "class": [comparison.classes[label] for label in table["cls"]],
            "bin": [bin_name(k) for k in size_bins(comparison.facts).of(table)],
            "area": table["area"].map("{:,}".format),
            "width": table["width"].map("{:.0f}".format),
            "tp": table["tp"].map("{:,}".format),
            "fp": table["fp"].map("{:,}".format),
            "IoU": iou.map("{:.2f}".format),
        }
    )


def objects_text(comparison: Comparison, condition: Condition) -> str:
    """Step 1: which objects `object_rows` shows, in one sentence."""
    term, seed = condition.terms[0], common_seeds(comparison, condition)[0]
    score = f"{term.measure}({term.head})"
    return f"The largest objects that enter {score}, as {term.head} with seed {seed} found them."


def class_rows(comparison: Comparison, condition: Condition) -> pd.DataFrame:
    """Step 2, display table: the counts of every class behind each score, first common seed."""
    seed = common_seeds(comparison, condition)[0]
    rows = []
    for term in condition.terms:
        sample = sample_of(comparison, term)
        sums = sample.sums[sample.seeds.index(seed)]
        labels, bins = _cell(comparison, term)
        for label in labels:
            counts = sums[label, bins].sum(0)
            union = counts[AREA] + counts[FP] + counts[FP_FAR]
            iou = 100 * counts[TP] / union if union else math.nan
            rows.append(
                {
                    "score": f"{term.measure}({term.head})",
                    "class": comparison.classes[label],
                    "correct [px]": f"{counts[TP]:,.0f}",
                    "labelled [px]": f"{counts[AREA]:,.0f}",
                    "falsely found [px]": f"{counts[FP] + counts[FP_FAR]:,.0f}",
                    "IoU [%]": display.number(iou, display.PERCENT),
                }
            )
    return pd.DataFrame(rows)


def _cell(comparison: Comparison, term: Term) -> tuple[list[int], list[int]]:
    """Labels and joint bins that a score is made of."""
    if term.measure == "mIoU":
        return list(range(len(comparison.classes))), list(range(6))
    return comparison.published_classes(term.measure), list(ALL_GROUPS[term.measure])


def common_seeds(comparison: Comparison, condition: Condition) -> list[int]:
    """The seeds that all its heads have.

    Raises:
        RunsError: There is none, or no run has a head of it.
    """
    seeds = [set(sample_of(comparison, term).seeds) for term in condition.terms]
    common = sorted(set.intersection(*seeds))
    if not common:
        raise RunsError(f"the heads of {condition.text} share no seed; train them with one")
    return common


def seed_rows(comparison: Comparison, condition: Condition) -> pd.DataFrame:
    """Step 3, display table: every score and their difference, seed by seed, then the mean."""
    scores_of = per_seed(comparison, condition)
    columns = {"seed": [str(seed) for seed in common_seeds(comparison, condition)] + ["mean"]}
    for term, scores in zip(condition.terms, scores_of, strict=True):
        name = f"{'-' if term.sign < 0 else '+'} {term.measure}({term.head}) [%]"
        columns[name] = _with_mean(scores, display.PERCENT)
    signs = np.array([term.sign for term in condition.terms])
    columns["difference [points]"] = _with_mean(signs @ scores_of, display.POINTS)
    return pd.DataFrame(columns)


def per_seed(comparison: Comparison, condition: Condition) -> Array:
    """Scores [terms, common seeds] in percent, without their signs."""
    seeds, rows = common_seeds(comparison, condition), []
    for term in condition.terms:
        sample = sample_of(comparison, term)
        chosen = sample.sums[[sample.seeds.index(seed) for seed in seeds]]
        rows.append(100 * contrast(comparison, term.measure)(chosen))
    return np.stack(rows)


def _with_mean(values: Array, form: str) -> list[str]:
    return [display.number(value, form) for value in (*values, values.mean())]


def estimate(comparison: Comparison, condition: Condition) -> Estimate:
    """Step 4: the difference with its uncertainty from seeds and test images."""
    return linear_contrast(
        [
            (float(term.sign), sample_of(comparison, term), contrast(comparison, term.measure))
            for term in condition.terms
        ]
    )


def estimate_rows(comparison: Comparison, condition: Condition) -> pd.DataFrame:
    """Step 4, display table: from two standard errors to an interval, in points."""
    found = estimate(comparison, condition)
    low, high = found.bounds(EQUIVALENCE)
    lines = [
        ("difference, mean over seeds", display.number(100 * found.value, display.POINTS)),
        (f"standard error from {found.seeds} seeds", _points(found.se_seed)),
        (f"standard error from {found.blocks} blocks of images", _points(found.se_images)),
        ("both: root of the sum of squares", _points(found.se)),
        ("degrees of freedom (Welch-Satterthwaite)", display.number(found.df, "{:.1f}")),
        ("95% interval", _interval(found.low, found.high)),
        ("90% interval", _interval(low, high)),
    ]
    return pd.DataFrame(lines, columns=["step", "points"])


def _points(fraction: float) -> str:
    return display.number(100 * fraction, "{:.2f}")


def _interval(low: float, high: float) -> str:
    return f"[{display.number(100 * low, '{:+.2f}')}, {display.number(100 * high, '{:+.2f}')}]"


@lru_cache(maxsize=8)
def evidence(comparison: Comparison, condition: Condition) -> Evidence:
    """Step 5: the condition as the verdicts test it, alone."""
    known = claims()
    alone = Claims(
        (Claim("alone", "", (condition,), ()),), known.alpha, dict(known.smallest_effect)
    )
    common_seeds(comparison, condition)
    return decide(comparison, alone)[0].evidence[0]


def decision_rows(comparison: Comparison, condition: Condition) -> pd.DataFrame:
    """Step 5, display table: the questions that lead to a verdict on this condition."""
    found = evidence(comparison, condition)
    p, alpha = display.p_value(found.p), claims().alpha
    points, smallest = _counted(condition.threshold), _counted(100 * found.smallest)
    seeds = found.seeds_to_settle
    lines = [
        ("Are there two seeds and enough objects?", found.tested, "else NOT TESTED"),
        (f"Is the 95% interval wholly below {points}?", found.contradicted, "then CONTRADICTED"),
        (
            f"Is p = {p} below {alpha:g}?",
            found.p < alpha,
            "then SUPPORTED, if it is so for every condition and after Holm's adjustment",
        ),
        (
            f"Is the effect smaller than {smallest}?",
            found.tested and found.negligible,
            "then a supported claim is NEGLIGIBLE",
        ),
        (f"Is the 90% interval within {smallest} of 0?", found.no_difference, "then NO DIFFERENCE"),
        (
            "Would more seeds settle it?",
            seeds is not None,
            "no number does" if seeds is None else f"about {seeds} in all",
        ),
    ]
    shown = [(question, "yes" if answer else "no", meaning) for question, answer, meaning in lines]
    return pd.DataFrame(shown, columns=["question", "answer", "meaning"])


def _counted(points: float) -> str:
    return f"{points:g} point{'s' * (abs(points) != 1)}"


def rule_rows(comparison: Comparison, condition: Condition) -> pd.DataFrame:
    """Step 6, display table: whether other rules for false positives give the same sign."""
    signs = evidence(comparison, condition).signs
    answers = [(RULES[rule], "yes" if same else "no") for rule, same in signs.items()]
    return pd.DataFrame(answers, columns=["rule", "same sign"])


def holm_rows(comparison: Comparison) -> pd.DataFrame:
    """Step 7, display table: p of each claim, its conditions' largest, and Holm's adjustment."""
    found = verdict_tables.verdicts_of(comparison, "objects")
    largest = [
        max((e.p for e in v.evidence), key=lambda p: math.inf if math.isnan(p) else p)
        for v in found
    ]
    return pd.DataFrame(
        {
            "claim": [f"{v.claim.name}: {v.claim.text}" for v in found],
            "conditions": [str(len(v.evidence)) for v in found],
            "largest p": [display.p_value(p) for p in largest],
            "Holm p": [display.p_value(p) for p in holm(largest)],
            "verdict": [verdict_tables.verdict_text(v) for v in found],
        }
    )
