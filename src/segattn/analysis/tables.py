"""Tables of a comparison: gains, power, claims, scores of single runs, and cost.

Values are percent and points. A gain is the difference to the reference, paired on seeds and test
images; its verdict follows from `segattn.analysis.stats.judge`, over the whole picture at once.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from segattn.analysis.claims import answers, claimed_pairs
from segattn.analysis.comparison import Comparison
from segattn.analysis.stats import MIN_SEEDS, Difference, Family, judge, smallest_effect
from segattn.metrics import BINS, Measures, bin_name

OFF = 0.01
"""Share of a block's output below which training has switched its attention off."""

TARGET = 2.0
"""Points of the effect for which `power` counts the seeds."""


def score_names(measures: Measures) -> list[str]:
    """The scores of the first picture that a data set has, in its order of columns."""
    groups = [f"iou_group/{g}" for g in ("small", "large", "thin") if g in measures.class_groups]
    others = sorted(set(measures.class_groups) - {"small", "large", "thin"})
    sized = [bin_name(b) for b in BINS if b in measures.size_classes]
    return ["miou", *groups, *(f"iou_group/{g}" for g in others), *sized]


@lru_cache(maxsize=4)
def family(comparison: Comparison) -> Family:
    """Verdicts on the first picture and on the claims, judged together.

    Half of the 5 % is spent on the gains of mIoU, half on everything else.
    """
    comparison = comparison.judged
    names, heads = score_names(comparison.measures), comparison.heads
    cells = [(head, comparison.reference, name) for name in names for head in heads[1:]]
    overall = [cell for cell in cells if cell[2] == "miou"]
    return judge(comparison.scores, [(0.5, overall), (0.5, [*cells, *claimed_pairs(heads)])])


def gains(comparison: Comparison, names: Sequence[str] = ()) -> pd.DataFrame:
    """One row per head and score.

    Columns: head, score, value and gain (means over the seeds that a head shares with the
    reference), low and high (the 95 % interval of this gain alone), adjusted_low and adjusted_high
    (intervals that all hold with 95 %), p (adjusted in the same way), verdict, runs (such as "3 of
    8", where seeds fall into two states), share (the gain in percent of what the reference lacks)
    and seeds.

    Args:
        comparison: Runs of one data set.
        names: Scores that are judged among themselves, such as `class_names`; by default the scores
            of the first picture.
    """
    comparison = comparison.judged
    if not names:
        names, found = score_names(comparison.measures), family(comparison)
    else:
        found = alone(comparison, tuple(names))
    heads = comparison.heads
    return pd.DataFrame([gain(comparison, found, head, name) for head in heads for name in names])


@lru_cache(maxsize=4)
def alone(comparison: Comparison, names: tuple[str, ...]) -> Family:
    """Gains of some scores, judged among themselves."""
    heads = comparison.heads
    pairs = [(head, comparison.reference, name) for head in heads[1:] for name in names]
    return judge(comparison.scores, [(1.0, pairs)])


def gain(comparison: Comparison, found: Family, head: str, name: str) -> dict[str, object]:
    """One row of `gains`."""
    scores, others = comparison.scores[head], comparison.scores[comparison.reference]
    common = [k for k, seed in enumerate(scores.seeds) if seed in others.seeds]
    value = 100 * scores.values[name][common].mean() if common else np.nan
    one = found.differences.get((head, comparison.reference, name), Difference(name))
    points = 100 * one.value
    states = found.states.get((head, name))
    own = head == comparison.reference
    return {
        "head": head,
        "score": name,
        "value": value,
        "gain": points,
        "low": points - 100 * one.alone,
        "high": points + 100 * one.alone,
        "adjusted_low": points - 100 * one.adjusted,
        "adjusted_high": points + 100 * one.adjusted,
        "p": one.p,
        "verdict": "" if own else "two states" if states else one.word,
        "runs": f"{states[0]} of {states[1]}" if states else "",
        "share": 100 * points / (100 - value + points) if value - points < 100 else np.nan,
        "seeds": len(common),
    }


def power(comparison: Comparison) -> pd.DataFrame:
    """What could be seen, by score: score, points, seeds.

    `points` is the gain that is called a help in 80 % of repetitions, and `seeds` the number that
    does this for a gain of 2 points; NaN where no number does, for want of test images. Both hold
    for a head with the median standard error, at today's critical values.
    """
    rows = []
    for name in score_names(comparison.judged.measures):
        found = [d for p, d in family(comparison).differences.items() if p[2] == name]
        found = [d for d in found if d.of_seeds + d.of_images > 0]
        if not found:
            continue
        one = sorted(found, key=lambda d: d.of_seeds + d.of_images)[len(found) // 2]
        error = math.sqrt(one.of_seeds + one.of_images)
        alone, adjusted, smallest = one.alone / error, one.adjusted / error, smallest_effect(name)
        seen = 0.84  # standard errors: 80 % of a normal distribution lie above -0.84
        points = max(smallest + alone * error, adjusted * error) + seen * error
        goal = TARGET / 100
        small = min((goal - smallest) / (alone + seen), goal / (adjusted + seen))
        left = small**2 - one.of_images
        needed = math.ceil(one.of_seeds * one.seeds / left) if left > 0 else 0
        seeds = max(MIN_SEEDS, needed) if left > 0 else math.nan
        rows.append({"score": name, "points": 100 * points, "seeds": seeds})
    return pd.DataFrame(rows, columns=["score", "points", "seeds"])


def class_names(comparison: Comparison) -> list[str]:
    """The score of every class."""
    return [f"iou/{name}" for name in comparison.measures.classes]


def run_scores(comparison: Comparison) -> pd.DataFrame:
    """Every score of every run: head, seed, score, value (percent); the values of result.json."""
    rows = [
        {"head": head, "seed": result["seed"], "score": name, "value": value}
        for head, results in comparison.results.items()
        for result in results
        for name, value in result["scores"].items()
    ]
    frame = pd.DataFrame(rows)
    frame["value"] = 100 * pd.to_numeric(frame["value"])
    return frame


def block_shares(comparison: Comparison) -> dict[str, float]:
    """How much attention adds to its block, by head, as a fraction: the largest of its blocks.

    Heads without a gamma, and imported predictions, are left out.
    """
    shares = {}
    for head, results in comparison.results.items():
        of_blocks = pd.DataFrame(
            {k: v for k, v in result["scores"].items() if k.startswith("block_share/")}
            for result in results
        )
        if not of_blocks.empty and of_blocks.shape[1]:
            shares[head] = float(of_blocks.astype(float).mean().max())
    return shares


def costs(comparison: Comparison) -> pd.DataFrame:
    """Return parameters, GFLOP of one test image, images/s, minutes and memory in MB, by head.

    Speed, time and memory are means over the seeds; heads that were not run here have none.
    """
    rows = {}
    for head, results in comparison.results.items():
        cost = pd.DataFrame([r["cost"] for r in results if r.get("cost")], dtype=float).mean()
        if cost.empty:
            continue
        rows[head] = {
            "head parameters": cost["head_parameters"],
            "GFLOP": cost["flops"] / 1e9,
            "training images/s": cost["images_per_second"],
            "training minutes": cost["train_seconds"] / 60,
            "test seconds": cost["test_seconds"],
            "peak memory [MB]": cost["peak_memory_bytes"] / 1e6,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("head")


def claim_table(comparison: Comparison) -> pd.DataFrame:
    """Every part of every claim, see `segattn.analysis.claims.answers`."""
    return answers(family(comparison), comparison.heads)
