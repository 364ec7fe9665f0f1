"""From claims and a comparison to verdicts.

A condition is one linear contrast with its t interval over seeds and images. A claim holds only if
all its conditions do, so its p-value is the largest of theirs (intersection-union test), and Holm's
method adjusts the p-values of the claims tested together. Directions are written down before the
runs; p-values are two-sided all the same, so that "supported" means that the 95% interval excludes
0. Against a margin (a threshold below 0) they are one-sided, as in tests of non-inferiority.

    SUPPORTED                every condition: adjusted p < alpha
    SUPPORTED (NEGLIGIBLE)   the same, but some effect is below the smallest of interest
    CONTRADICTED             some condition: 95% interval wholly on the other side of its threshold
    NO DIFFERENCE            some condition: 90% interval within +- the smallest effect (two
                             one-sided tests), so that more runs would not bring the claimed effect
    INCONCLUSIVE             otherwise, with the number of seeds that would settle it
    NOT TESTED               a head, a class of that size, or a second seed is missing
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from segattn.analysis.attribution import ORPHAN_SHARE, RULES, Attribution, attribute
from segattn.analysis.claims import Claim, Claims, Condition, Term
from segattn.analysis.comparison import Comparison
from segattn.analysis.measures import Reading, contrast
from segattn.analysis.power import holm, minimal_detectable_effect, seeds_needed
from segattn.analysis.stats import Estimate, linear_contrast

SUPPORTED, CONTRADICTED, NO_DIFFERENCE = "SUPPORTED", "CONTRADICTED", "NO DIFFERENCE"
NEGLIGIBLE = "SUPPORTED (NEGLIGIBLE)"
INCONCLUSIVE, NOT_TESTED = "INCONCLUSIVE", "NOT TESTED"
EQUIVALENCE = 0.90  # confidence of the interval of two one-sided tests at 5%


@dataclass(frozen=True)
class Evidence:
    """One condition, measured.

    Attributes:
        condition: What was claimed.
        estimate: The contrast, as a fraction; None where a head or a class is missing.
        smallest: Smallest effect of interest, as a fraction.
        signs: Rule of attribution to whether the sign of the contrast is the same as by `iou`;
            empty where no false positive is attributed.
        orphans: Some false positives lie in bins without ground truth, see `Attribution.orphans`.
    """

    condition: Condition
    estimate: Estimate | None
    smallest: float
    signs: dict[str, bool]
    orphans: bool

    @property
    def tested(self) -> bool:
        """Two seeds at least: one says nothing about the noise of training."""
        found = self.estimate
        return found is not None and not math.isnan(found.value) and found.seeds > 1

    @property
    def threshold(self) -> float:
        """As a fraction."""
        return self.condition.threshold / 100

    @property
    def p(self) -> float:
        """p-value in the claimed direction; NaN where not tested, as with one seed."""
        if not self.tested:
            return math.nan
        assert self.estimate is not None
        one_sided = self.estimate.p_above(self.threshold)
        return one_sided if self.threshold < 0 else min(2 * one_sided, 1.0)

    @property
    def negligible(self) -> bool:
        """A claimed gain that is smaller than the smallest effect of interest."""
        assert self.estimate is not None
        return self.threshold >= 0 and abs(self.estimate.value) < self.smallest

    @property
    def contradicted(self) -> bool:
        """The whole 95% interval is on the other side of the threshold."""
        return self.tested and self.estimate is not None and self.estimate.high < self.threshold

    @property
    def no_difference(self) -> bool:
        """A claimed gain whose 90% interval lies within the smallest effects."""
        if not self.tested or self.threshold < 0:
            return False
        assert self.estimate is not None
        low, high = self.estimate.bounds(EQUIVALENCE)
        return -self.smallest < low and high < self.smallest

    @cached_property
    def detectable(self) -> float:
        """Effect that these runs find with 80% power, as a fraction; NaN with one seed."""
        return math.nan if self.estimate is None else minimal_detectable_effect(self.estimate)

    @cached_property
    def seeds_to_settle(self) -> int | None:
        """Seeds that find the observed effect, or the smallest of interest if that is larger.

        None where no number of seeds does, because the test images are too few.
        """
        if not self.tested:
            return None
        assert self.estimate is not None
        distance = abs(self.estimate.value - self.threshold)
        return seeds_needed(self.estimate, effect=max(distance, self.smallest))


@dataclass(frozen=True)
class Verdict:
    """What the runs say about a claim under one reading of object size.

    Attributes:
        claim: The claim.
        reading: objects or classes.
        evidence: One per condition.
        extra: Contrasts that decide nothing.
        p: Holm's adjusted p-value; NaN where not tested.
        alpha: Level.
    """

    claim: Claim
    reading: Reading
    evidence: tuple[Evidence, ...]
    extra: tuple[Evidence, ...]
    p: float
    alpha: float

    @property
    def word(self) -> str:
        """The verdict without suffixes."""
        if any(e.contradicted for e in self.evidence):
            return CONTRADICTED
        if math.isnan(self.p):
            return NOT_TESTED
        if self.p < self.alpha:
            return NEGLIGIBLE if any(e.negligible for e in self.evidence) else SUPPORTED
        return NO_DIFFERENCE if any(e.no_difference for e in self.evidence) else INCONCLUSIVE

    @property
    def suffixes(self) -> list[str]:
        """What limits a verdict: the rule of attribution, or errors that no bin holds.

        Only for decided ones: the sign of an effect near 0 says nothing.
        """
        if self.word not in (SUPPORTED, NEGLIGIBLE, CONTRADICTED):
            return []
        contradicted = self.word == CONTRADICTED
        deciding = [e for e in self.evidence if e.contradicted or not contradicted]
        found = {
            "ATTRIBUTION-DEPENDENT": any(not all(e.signs.values()) for e in deciding),
            "ORPHANS": any(e.orphans for e in deciding),
        }
        return [name for name, present in found.items() if present]

    @property
    def deciding(self) -> Evidence:
        """The condition that the verdict hangs on: the one with the least support."""
        refuting = {
            CONTRADICTED: [e for e in self.evidence if e.contradicted],
            NO_DIFFERENCE: [e for e in self.evidence if e.no_difference],
        }
        candidates = refuting.get(self.word, self.evidence)
        return max(candidates, key=lambda e: math.inf if math.isnan(e.p) else e.p)

    @property
    def unsettled(self) -> list[Evidence]:
        """Conditions that keep the claim from being supported; all, if only Holm's method does."""
        return [e for e in self.evidence if not e.p < self.alpha] or list(self.evidence)


def decide(
    comparison: Comparison, claims: Claims, *, reading: Reading = "objects"
) -> list[Verdict]:
    """Test every claim on one data set; p-values are adjusted over these claims.

    Args:
        comparison: Runs of one data set.
        claims: Fixed before the runs.
        reading: Whether objects or classes are sorted by size, see `segattn.analysis.measures`.
    """
    attributions = _attributions(comparison, claims) if reading == "objects" else {}

    def measure(conditions: Sequence[Condition]) -> tuple[Evidence, ...]:
        return tuple(
            _measure(comparison, c, claims.smallest(c) / 100, reading, attributions)
            for c in conditions
        )

    evidence = [measure(claim.conditions) for claim in claims.claims]
    adjusted = holm([_largest([e.p for e in parts]) for parts in evidence])
    return [
        Verdict(claim, reading, parts, measure(claim.extra), p, claims.alpha)
        for claim, parts, p in zip(claims.claims, evidence, adjusted, strict=True)
    ]


def _largest(values: Sequence[float]) -> float:
    """Largest p-value; NaN if one is missing, since then the claim is not tested."""
    return math.nan if any(math.isnan(value) for value in values) else max(values)


def _attributions(comparison: Comparison, claims: Claims) -> dict[str, Attribution]:
    named = {h for c in claims.claims for k in (*c.conditions, *c.extra) for h in k.heads}
    return {
        head: attribute([run.objects() for run in runs], facts=comparison.facts)
        for head, runs in comparison.runs.items()
        if head in named
    }


def _measure(
    comparison: Comparison,
    condition: Condition,
    smallest: float,
    reading: Reading,
    attributions: dict[str, Attribution],
) -> Evidence:
    if not set(condition.heads) <= set(comparison.samples):
        return Evidence(condition, None, smallest, {}, False)
    terms = [
        (
            float(term.sign),
            comparison.samples[term.head],
            contrast(comparison, term.measure, reading=reading),
        )
        for term in condition.terms
    ]
    estimate = linear_contrast(terms)
    sized = [t for t in condition.terms if t.measure != "mIoU"]
    if reading == "classes" or not sized or math.isnan(estimate.value):
        return Evidence(condition, estimate, smallest, {}, False)
    signs = _signs(comparison, condition, attributions)
    orphans = any(attributions[t.head].orphans(group=t.measure) > ORPHAN_SHARE for t in sized)
    return Evidence(condition, estimate, smallest, signs, orphans)


def _signs(
    comparison: Comparison, condition: Condition, attributions: dict[str, Attribution]
) -> dict[str, bool]:
    seeds = set.intersection(*(set(comparison.samples[h].seeds) for h in condition.heads))

    def score(rule: str, term: Term) -> float:
        classes = comparison.published_classes(term.measure)
        by_seed = attributions[term.head].score(rule, group=term.measure, classes=classes)
        common = [s in seeds for s in comparison.samples[term.head].seeds]
        return float(by_seed[common].mean())

    def above(rule: str) -> bool:
        value = sum(term.sign * score(rule, term) for term in condition.terms)
        return value > condition.threshold / 100

    return {rule: above(rule) == above("iou") for rule in RULES}
