"""The five claims of the FLA paper (arXiv 2112.04108 and its figure 2), and what the runs answer.

A claim is one to four contrasts, each one number, positive as claimed. They are hypotheses, fixed
before the runs. Two readings: `group` scores whole classes by their typical size, as the paper
does; `object` scores single objects by their own size.

    yes           Holm-adjusted p below 0.05, as claimed
    no            the same, the other way round
    equal         the 90% interval lies within the smallest effect of interest
    cannot tell   none of these
    not tested    a head, a class of that size, or a third seed is missing

Holm's method runs over all contrasts of a reading and is two-sided: *no* is guarded as *yes* is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from segattn.analysis.stats import MIN_SEEDS, Estimate, HeadScores, estimate, holm
from segattn.metrics import bin_name

ALPHA = 0.05
SMALLEST = {"miou": 0.005}
"""Smallest effect of interest, as a fraction; 1 point for all scores that are not named."""

Reading = Literal["group", "object"]
READINGS: dict[Reading, str] = {
    "group": "by classes, as the paper reads size",
    "object": "by the size of the single object",
}
NAMES = {
    "fcn": "no attention",
    "psp": "pyramid pooling",
    "aspp": "atrous pyramid pooling",
    "channel_nl": "channel attention",
    "spatial_nl": "spatial attention",
    "danet": "dual attention",
    "cs_nl": "channel-then-spatial attention",
    "fla": "full attention",
}
_SUBJECTS = {
    "miou": "Overall",
    "small": "Small",
    "medium": "Medium",
    "large": "Large",
    "thin": "Thin",
}


@dataclass(frozen=True)
class Contrast:
    """Mean score of the heads `more` minus that of the heads `less`; positive as claimed."""

    measure: str
    more: tuple[str, ...]
    less: tuple[str, ...]

    def terms(self, reading: Reading) -> list[tuple[float, str, str]]:
        """As `segattn.analysis.stats.estimate` takes them."""
        score = score_name(self.measure, reading)
        plus = [(1 / len(self.more), head, score) for head in self.more]
        return plus + [(-1 / len(self.less), head, score) for head in self.less]


def score_name(measure: str, reading: Reading) -> str:
    """Which score a measure of a claim is under a reading."""
    if measure == "miou":
        return measure
    if reading == "group":
        return f"iou_group/{measure}"
    return bin_name(measure)


CLAIMS: dict[str, tuple[str, tuple[Contrast, ...]]] = {
    "H1": (
        "Channel attention is better than spatial attention on large objects",
        (Contrast("large", ("channel_nl",), ("spatial_nl",)),),
    ),
    "H2": (
        "Spatial attention is better than channel attention on small and on thin objects",
        (
            Contrast("small", ("spatial_nl",), ("channel_nl",)),
            Contrast("thin", ("spatial_nl",), ("channel_nl",)),
        ),
    ),
    "H3": (
        "Dual attention gains overall and loses on large objects",
        (
            Contrast("miou", ("danet",), ("channel_nl", "spatial_nl")),
            Contrast("large", ("channel_nl",), ("danet",)),
        ),
    ),
    "H4": (
        "Channel-then-spatial attention gains overall and is poor on thin objects",
        (
            Contrast("miou", ("cs_nl",), ("channel_nl", "spatial_nl")),
            Contrast("thin", ("spatial_nl",), ("cs_nl",)),
        ),
    ),
    "H5": (
        "Full attention is good at every size and best overall",
        (
            Contrast("miou", ("fla",), ("channel_nl", "spatial_nl", "danet", "cs_nl")),
            Contrast("small", ("fla",), ("fcn",)),
            Contrast("large", ("fla",), ("fcn",)),
            Contrast("thin", ("fla",), ("fcn",)),
        ),
    ),
}


@dataclass(frozen=True)
class Answer:
    """What the runs say to one contrast.

    Attributes:
        claim: Key of `CLAIMS`.
        reading: Key of `READINGS`.
        contrast: What was claimed.
        found: The contrast, measured.
        p: Holm's adjusted p-value; NaN where not tested.
    """

    claim: str
    reading: Reading
    contrast: Contrast
    found: Estimate
    p: float

    @property
    def word(self) -> str:
        """yes, no, equal, cannot tell or not tested."""
        if not self.found.known:
            return "not tested"
        if self.p < ALPHA:
            return "yes" if self.found.value > 0 else "no"
        low, high = self.found.interval(0.9)
        smallest = SMALLEST.get(self.contrast.measure, 0.01)
        return "equal" if -smallest < low and high < smallest else "cannot tell"

    @property
    def sentence(self) -> str:
        """Effect, interval and answer in one sentence, effects in points."""
        subject = _SUBJECTS[self.contrast.measure]
        if self.contrast.measure != "miou":
            subject += " classes" if self.reading == "group" else " objects"
        one, other = (_heads(names) for names in (self.contrast.more, self.contrast.less))
        if math.isnan(self.found.value):
            return f"{subject}: not tested, this data set or these runs do not have it."
        value, (low, high) = 100 * self.found.value, self.found.interval()
        size = f"{abs(value):.1f} points {'better' if value > 0 else 'worse'} than {other}"
        if not self.found.known:
            return f"{subject}: {one} is {size}; {MIN_SEEDS} seeds are needed for an answer."
        ends = sorted((100 * low, 100 * high), reverse=value < 0)
        sign = -1 if value < 0 else 1
        return (
            f"{subject}: {one} is {size} ({sign * ends[0]:.1f} to {sign * ends[1]:.1f}). "
            f"{self.word.capitalize()}."
        )


def answers(heads: Mapping[str, HeadScores], reading: Reading) -> list[Answer]:
    """Every contrast of every claim under one reading, adjusted over all of them.

    Args:
        heads: Scores by head, see `segattn.analysis.Comparison`.
        reading: Key of `READINGS`.
    """
    asked = [(claim, contrast) for claim, (_, all_) in CLAIMS.items() for contrast in all_]
    found = [estimate(heads, contrast.terms(reading)) for _, contrast in asked]
    adjusted = holm([one.p for one in found])
    return [
        Answer(claim, reading, contrast, one, p)
        for (claim, contrast), one, p in zip(asked, found, adjusted, strict=True)
    ]


def _heads(names: tuple[str, ...]) -> str:
    if len(names) > 2:
        return "the mean of the other heads with attention"
    named = [NAMES.get(name, name) for name in names]
    return named[0] if len(named) == 1 else f"the mean of {' and '.join(named)}"


def told(heads: Mapping[str, HeadScores]) -> dict[str, dict[str, tuple[str, str]]]:
    """By title of a reading that answers anything, and by claim: its statement, and what was found.

    Args:
        heads: As for `answers`.
    """
    readings = {title: answers(heads, reading) for reading, title in READINGS.items()}
    return {
        title: {
            claim: (statement, " ".join(one.sentence for one in found if one.claim == claim))
            for claim, (statement, _) in CLAIMS.items()
        }
        for title, found in readings.items()
        if any(one.word != "not tested" for one in found)
    }
