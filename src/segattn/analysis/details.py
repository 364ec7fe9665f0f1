"""Second looks at a comparison: sizes over the same classes, the training, and single objects.

Values are percent and points, as in `segattn.analysis.tables`.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from segattn.analysis.comparison import Comparison
from segattn.analysis.tables import alone, gain, score_names
from segattn.metrics import SIZES, Measures, bin_name, neighbour_scores


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
    found = alone(again, [bin_name(size) for size in sizes])
    rows = [
        {"size": size, **gain(again, found, head, bin_name(size))}
        for head in again.heads
        for size in sizes
    ]
    return shared, pd.DataFrame(rows)[["head", "size", "value", "gain", "share"]]


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
