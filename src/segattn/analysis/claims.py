"""The five claims of the FLA paper (arXiv 2112.04108 and its figure 2), and what the runs answer.

A claim has one to four parts, fixed before the runs. A part says that a head beats other heads in
one score, so it is tested against each of them. Two readings: `group` scores whole classes by their
typical size, as the paper does; `object` scores single objects by their own size. The answers
follow from the verdicts of the picture, see `segattn.analysis.stats`:

    yes             the head helps over each of the others
    no              it harms against one of them
    no difference   the adjusted interval of its gain over the best of them says so
    not decided     none of these
    not tested      a head, a class of that size, or a third seed is missing
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

import pandas as pd

from segattn.analysis.comparison import HEADS, base_name
from segattn.analysis.stats import Difference, Family, Pair, smallest_effect
from segattn.metrics import bin_name

Reading = Literal["group", "object"]
READINGS: dict[Reading, str] = {
    "group": "by classes, as the paper reads size",
    "object": "by the size of the single object",
}
EVERY: tuple[str, ...] = ()
"""Stands for every other head of a comparison."""


@dataclass(frozen=True)
class Part:
    """A head that beats each of the others in one measure: miou, small, medium, large or thin."""

    measure: str
    head: str
    others: tuple[str, ...]

    def pairs(self, reading: Reading, heads: Sequence[str]) -> list[Pair]:
        """The differences that decide it, in a comparison of `heads`."""
        others = self.others or [head for head in heads if head != self.head]
        return [(self.head, other, score_name(self.measure, reading)) for other in others]

    def subject(self, reading: Reading) -> str:
        """What it is about, such as "Large objects"."""
        if self.measure == "miou":
            return "Overall"
        return f"{self.measure.capitalize()} {'classes' if reading == 'group' else 'objects'}"


def score_name(measure: str, reading: Reading) -> str:
    """Which score a measure of a claim is under a reading."""
    if measure == "miou":
        return measure
    return f"iou_group/{measure}" if reading == "group" else bin_name(measure)


_SINGLE = ("channel_nl", "spatial_nl")
CLAIMS: dict[str, tuple[str, tuple[Part, ...]]] = {
    "H1": (
        "Channel attention is better than spatial attention on large objects",
        (Part("large", "channel_nl", ("spatial_nl",)),),
    ),
    "H2": (
        "Spatial attention is better than channel attention on small and on thin objects",
        tuple(Part(size, "spatial_nl", ("channel_nl",)) for size in ("small", "thin")),
    ),
    "H3": (
        "Dual attention gains overall and loses on large objects",
        (Part("miou", "danet", _SINGLE), Part("large", "channel_nl", ("danet",))),
    ),
    "H4": (
        "Channel-then-spatial attention gains overall and is poor on thin objects",
        (Part("miou", "cs_nl", _SINGLE), Part("thin", "spatial_nl", ("cs_nl",))),
    ),
    "H5": (
        "Full attention is good at every size and best overall",
        (
            Part("miou", "fla", EVERY),
            *(Part(size, "fla", ("fcn",)) for size in ("small", "large", "thin")),
        ),
    ),
}


def claimed_pairs(heads: Sequence[str]) -> list[Pair]:
    """Every difference that a claim is about, in both readings."""
    parts = [part for _, parts in CLAIMS.values() for part in parts]
    return [pair for reading in READINGS for part in parts for pair in part.pairs(reading, heads)]


def answers(family: Family, heads: Sequence[str]) -> pd.DataFrame:
    """A row for every part of every claim, under both readings.

    Columns: claim, reading, measure, sentence, answer, points over the best of the other heads, low
    and high (their interval, adjusted over the family), p (adjusted).

    Args:
        family: Differences that include `claimed_pairs`.
        heads: The heads of the comparison.
    """
    return pd.DataFrame(
        {"claim": claim, "reading": reading, "measure": part.measure}
        | _answer(part, reading, {p: family.differences[p] for p in part.pairs(reading, heads)})
        for reading in READINGS
        for claim, (_, parts) in CLAIMS.items()
        for part in parts
    )


def _answer(part: Part, reading: Reading, found: dict[Pair, Difference]) -> dict[str, object]:
    words = {difference.word for difference in found.values()}
    if not words or "not tested" in words:
        sentence = f"{part.subject(reading)}: not tested."
        numbers = dict.fromkeys(("points", "low", "high", "p"), nan)
        return {"sentence": sentence, "answer": "not tested", **numbers}
    best = min(found, key=lambda pair: found[pair].value)
    # the interval of the smallest of several differences
    low = min(one.value - one.adjusted for one in found.values())
    high = min(one.value + one.adjusted for one in found.values())
    within = max(-low, high) < smallest_effect(best[2])
    if "harms" in words or words == {"helps"}:
        word = "no" if "harms" in words else "yes"
    else:
        split = any(one.split for one in found.values())
        word = "no difference" if within and not split else "not decided"
    points, sign = 100 * found[best].value, -1 if found[best].value < 0 else 1
    name, other = (HEADS.get(base_name(head), head) for head in best[:2])
    several = "" if len(found) == 1 else f", the best of the other {len(found)}"
    ends = sorted((100 * sign * low, 100 * sign * high))
    return {
        "sentence": f"{part.subject(reading)}: {name} is {abs(points):.1f} points "
        f"{'worse' if sign < 0 else 'better'} than {other}{several} ({ends[0]:.1f} to "
        f"{ends[1]:.1f}). {word.capitalize()}.",
        "answer": word,
        "points": points,
        "low": 100 * low,
        "high": 100 * high,
        "p": found[best].p,
    }


def tested(given: pd.DataFrame) -> dict[str, dict[str, tuple[str, str]]]:
    """Statement and sentences of the claims that have an answer, by reading and claim.

    Args:
        given: Rows of `answers`.
    """
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for row in given[given["answer"] != "not tested"].to_dict("records"):
        claims = found.setdefault(READINGS[row["reading"]], {})
        statement, before = claims.get(row["claim"], (CLAIMS[row["claim"]][0], ""))
        claims[row["claim"]] = statement, f"{before} {row['sentence']}".strip()
    return found


def untested(given: pd.DataFrame) -> str:
    """Return a sentence that names the parts of claims these runs cannot test, or ""."""
    rows = given[given["answer"] == "not tested"].to_dict("records")
    missing = {f"{row['claim']} ({row['sentence'].split(':')[0].lower()})": None for row in rows}
    reason = "these runs lack a head, a class of that size or a third seed"
    return f"Not tested: {', '.join(missing)}; {reason}." if missing else ""
