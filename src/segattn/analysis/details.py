"""Second looks at a comparison: sizes over the same classes, the training, and single objects.

Values are percent and points, as in `segattn.analysis.tables`.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pandas as pd

from segattn.analysis.comparison import Comparison
from segattn.analysis.tables import alone, gain, gains, score_names
from segattn.metrics import SIZES, Measures, bin_name, neighbour_scores


@lru_cache(maxsize=4)  # a report asks for tables and for figures
def same_classes(comparison: Comparison) -> tuple[list[str], pd.DataFrame]:
    """Gains by size over the classes that every size has, so that sizes can be compared.

    Returns:
        The classes, and rows of head, size, value, gain and share as in `gains`; empty where fewer
        than two sizes have a class in common.
    """
    comparison = comparison.judged
    sizes = {b: names for b, names in comparison.measures.size_classes.items() if b in SIZES}
    shared = [n for n in comparison.measures.classes if all(n in names for names in sizes.values())]
    if len(sizes) < 2 or not shared:
        return [], pd.DataFrame()
    measures = replace(comparison.measures, size_classes=dict.fromkeys(sizes, shared))
    again = replace(comparison, measures=measures, scores=comparison.rescore(measures))
    found = alone(again, tuple(bin_name(size) for size in sizes))
    rows = [
        {"size": size, **gain(again, found, head, bin_name(size))}
        for head in again.heads
        for size in sizes
    ]
    return shared, pd.DataFrame(rows)[["head", "size", "value", "gain", "share"]]


@lru_cache(maxsize=4)
def learning(comparison: Comparison) -> pd.DataFrame:
    """Gains on the validation images along the training: head, score, step, gain.

    Means over the seeds that a head shares with the reference, at steps that all of them have.
    """
    names, rows = [f"val/{name}" for name in score_names(comparison.judged.measures)], []
    for head in comparison.heads[1:]:
        differences = []
        for pair in comparison.paired_runs(head):
            one, other = (run.metrics().set_index("step").reindex(columns=names) for run in pair)
            differences.append(100 * (one - other).dropna(how="all"))
        if differences:
            every = pd.concat(differences).groupby(level=0)
            mean = every.mean()[every.size() == len(differences)].melt(
                var_name="score", value_name="gain", ignore_index=False
            )
            rows.append(mean.dropna().rename_axis("step").reset_index().assign(head=head))
    frame = pd.concat([pd.DataFrame(columns=["head", "score", "step", "gain"]), *rows])
    return frame.assign(score=frame["score"].str.removeprefix("val/")).reset_index(drop=True)


def budgets(short: Comparison, long: Comparison) -> pd.DataFrame:
    """Gains after a training and after a longer one: head, score, short, long and moved (points).

    Both are means over the seeds that both comparisons have, for the heads of the longer one.
    short_word and long_word are the verdicts, each over all seeds of its comparison.
    """
    names = score_names(long.judged.measures)
    rows = []
    for head in long.heads[1:]:
        common = set.intersection(
            *(set(c.scores[h].seeds) for c in (short, long) for h in (head, c.reference))
        )
        for name in names:
            one, other = (
                _of_seeds(c, head, name, common) - _of_seeds(c, c.reference, name, common)
                for c in (short, long)
            )
            rows.append({"head": head, "score": name, "short": one, "long": other})
    frame = pd.DataFrame(rows)
    words = [c.set_index(["head", "score"])["verdict"] for c in (gains(short), gains(long))]
    cells = pd.MultiIndex.from_frame(frame[["head", "score"]])
    for name, of_one in zip(("short_word", "long_word"), words, strict=True):
        frame[name] = of_one.reindex(cells).to_numpy()
    return frame.assign(moved=frame["long"] - frame["short"])


def _of_seeds(comparison: Comparison, head: str, name: str, seeds: set[int]) -> float:
    scores = comparison.judged.scores[head]
    return 100 * float(scores.values[name][np.isin(scores.seeds, list(seeds))].mean())


@lru_cache(maxsize=4)
def neighbours(comparison: Comparison) -> pd.DataFrame:
    """Means of `segattn.metrics.neighbour_scores` over the seeds, in percent, by head."""
    facts, measures = comparison.facts, Measures(**comparison.facts["metric"])
    rows = {
        head: pd.DataFrame(
            neighbour_scores(table, measures, images=facts["images"])
            for table in comparison.objects(head)
        ).mean()
        for head in comparison.heads
    }
    return 100 * pd.DataFrame.from_dict(rows, orient="index").rename_axis("head")


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
