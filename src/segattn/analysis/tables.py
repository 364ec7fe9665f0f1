"""Tables of a comparison: gains, scores of single runs, cost, and the curve along object size.

Values are percent and points. A gain is the difference to the reference, paired on seeds and test
images. `told_apart` says whether its 95% interval leaves out 0; `holm_p` is adjusted over a table.
"""

from itertools import pairwise

import numpy as np
import pandas as pd

from segattn.analysis.claims import ALPHA, answers
from segattn.analysis.comparison import Comparison
from segattn.analysis.stats import HeadScores, estimate, holm
from segattn.metrics import BINS, Measures, bin_name

OFF = 0.01
"""Share of a block's output below which training has switched its attention off."""
_MIN_OBJECTS = 30  # of a class in a bin of the curve; fewer are too few to say anything


def score_names(measures: Measures) -> list[str]:
    """The scores of the first picture that a data set has, in its order of columns."""
    groups = [f"iou_group/{g}" for g in ("small", "large", "thin") if g in measures.class_groups]
    others = sorted(set(measures.class_groups) - {"small", "large", "thin"})
    sized = [bin_name(b) for b in BINS if b in measures.size_classes]
    return ["miou", *groups, *(f"iou_group/{g}" for g in others), *sized]


def gains(comparison: Comparison, names: list[str] | None = None) -> pd.DataFrame:
    """One row per head and score: head, score, value, gain, low, high, told_apart, seeds.

    Value and gain are means over the seeds that a head shares with the reference.

    Args:
        comparison: Runs of one data set.
        names: Scores; None takes those of the first picture.
    """
    names = score_names(comparison.measures) if names is None else names
    return _gains(comparison.scores, names, reference=comparison.reference)


def _gains(heads: dict[str, HeadScores], names: list[str], *, reference: str) -> pd.DataFrame:
    rows = []
    for head in heads:
        for name in names:
            found = estimate(heads, [(1, head, name), (-1, reference, name)])
            low, high = found.interval()
            common = [k for k, s in enumerate(heads[head].seeds) if s in heads[reference].seeds]
            value = heads[head].values[name][common].mean() if common else np.nan
            points = {"gain": found.value, "low": low, "high": high, "value": value}
            row = {"head": head, "score": name, **{k: 100 * v for k, v in points.items()}}
            rows.append({**row, "p": found.p, "seeds": found.seeds})
    frame = pd.DataFrame(rows)
    own = frame["head"] == reference
    frame.loc[own, ["gain", "low", "high", "p"]] = np.nan
    frame["told_apart"] = frame["p"] < ALPHA
    frame["holm_p"] = holm(frame["p"].tolist())
    return frame


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
    """By head: parameters of the head, GFLOP of one test image, images/s, minutes, memory in MB.

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
    """Every contrast of every claim in every reading: claim, reading, sentence, answer, numbers."""
    rows = []
    for reading in ("group", "object"):
        for one in answers(comparison.scores, reading):
            low, high = one.found.interval()
            rows.append(
                {
                    "claim": one.claim,
                    "reading": reading,
                    "measure": one.contrast.measure,
                    "sentence": one.sentence,
                    "answer": one.word,
                    "points": 100 * one.found.value,
                    "low": 100 * low,
                    "high": 100 * high,
                    "holm_p": one.p,
                    "seeds": one.found.seeds,
                }
            )
    return pd.DataFrame(rows)


def size_curve(comparison: Comparison) -> pd.DataFrame:
    """Gain along object size, in half octaves: head, low, high (px), classes, gain, low95, high95.

    Each bin scores the things of which the test has 30 objects or more in it: compare heads at one
    size, not sizes along one head.
    """
    tables = {head: comparison.objects(head) for head in comparison.heads}
    things = _sized_classes(comparison.measures)
    first = tables[comparison.heads[0]][0]
    single = first[~first["alarm"] & ~first["crowd"] & first["cls"].isin(things)]
    if single.empty:
        return pd.DataFrame()
    steps = np.floor(2 * np.log2(np.sqrt(single["area"].clip(lower=16))))
    edges = 2 ** (np.arange(steps.min(), steps.max() + 2) / 2)
    rows = []
    for low, high in pairwise(edges.tolist()):
        inside = single[np.sqrt(single["area"]).between(low, high, inclusive="left")]
        number = inside["cls"].value_counts()
        names = [
            comparison.measures.classes[k] for k in sorted(number[number >= _MIN_OBJECTS].index)
        ]
        if names:
            rows.append(_curve_bin(comparison, tables, low, high, names))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def _sized_classes(measures: Measures) -> set[int]:
    names = {name for members in measures.size_classes.values() for name in members}
    return set(measures.labels(sorted(names)))


def _curve_bin(
    comparison: Comparison,
    tables: dict[str, list[pd.DataFrame]],
    low: float,
    high: float,
    names: list[str],
) -> pd.DataFrame:
    """The same definitions with other edges: `medium` is this bin."""
    measures = Measures(
        comparison.measures.classes,
        size_classes={"medium": names},
        size_edges=(low, high),
        radius=comparison.measures.radius,
    )
    scores = comparison.rescore(measures, tables)
    frame = _gains(scores, ["iou_size/medium"], reference=comparison.reference)
    columns = {"low": "low95", "high": "high95"}
    kept = frame.rename(columns=columns)[["head", "value", "gain", "low95", "high95", "told_apart"]]
    return kept.assign(low=low, high=high, classes=", ".join(names))


def won_lost(comparison: Comparison, head: str, *, threshold: float = 0.1) -> pd.DataFrame:
    """Single things that a head wins and loses against the reference, by bin of size.

    The IoU of an object is tp / (area + fp), mean over the common seeds; won and lost are shares
    (percent) of the objects whose IoU differs by more than `threshold`.
    """
    frame = object_differences(comparison, head)
    measures = comparison.measures
    size, thin = measures.size(frame["area"]), measures.thin(frame["area"], frame["width"])
    rows = []
    for bin_, members in measures.size_classes.items():
        chosen = thin if bin_ == "thin" else size == BINS.index(bin_)
        chosen = chosen & frame["cls"].isin(measures.labels(members)).to_numpy()
        difference = frame.loc[chosen, "difference"]
        shares = {"won": (difference > threshold).mean(), "lost": (difference < -threshold).mean()}
        row = {"head": head, "objects of": bin_, "number": len(difference)}
        rows.append({**row, **{key: 100 * share for key, share in shares.items()}})
    return pd.DataFrame(rows)


def won_lost_of_heads(comparison: Comparison) -> pd.DataFrame:
    """`won_lost` of every head that shares a seed with the reference."""
    heads = [head for head in comparison.heads[1:] if comparison.paired_runs(head)]
    frames = [won_lost(comparison, head) for head in heads]
    return pd.concat([pd.DataFrame(), *frames], ignore_index=True)


def object_differences(comparison: Comparison, head: str) -> pd.DataFrame:
    """The IoU of every true object under a head minus that under the reference.

    Returns:
        Rows of the object table that are objects: image, cls, area, width, object (its number in
        `find_objects` of the image's label), iou, reference_iou, difference.
    """
    ious = []
    for runs in zip(*comparison.paired_runs(head), strict=True):
        tables = [run.objects() for run in runs]
        objects = [table[~table["alarm"]] for table in tables]
        ious.append(np.mean([t["tp"] / (t["area"] + t["fp"]) for t in objects], axis=0))
    truth = objects[0][["image", "cls", "area", "width", "crowd"]].reset_index(drop=True)
    truth["object"] = truth.groupby("image", sort=False).cumcount()
    frame = truth.assign(iou=ious[0], reference_iou=ious[1], difference=ious[0] - ious[1])
    return frame[~frame["crowd"]].reset_index(drop=True)
