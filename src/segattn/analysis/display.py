"""The tables of a comparison as text: rounded, with intervals, for a report or a terminal."""

from collections.abc import Hashable
from typing import Any

import pandas as pd

from segattn.analysis import tables
from segattn.analysis.comparison import Comparison
from segattn.analysis.measures import measures
from segattn.metrics import GROUPS

MISSING = "n/a"
PERCENT = "{:.1f}"
POINTS = "{:+z.2f}"


def heads(comparison: Comparison) -> pd.DataFrame:
    """One row per head: scores in percent with 95% intervals, share of its attention, costs."""
    table = sizes(comparison)
    shares = tables.block_shares(comparison)
    table["block share"] = [_shares(shares[shares["head"] == head]) for head in table["head"]]
    cost = tables.costs(comparison).set_index("head").reindex(table["head"])  # none when perfect
    table["parameters"] = [_short(value) for value in cost["parameters"]]
    table["FLOPs"] = [_short(value) for value in cost["flops"]]
    table["images/s (seeds)"] = [_mean_and_range(row) for row in cost.to_dict("records")]
    table["seeds"] = [number(value, "{:.0f}") for value in cost["seeds"]]
    return table


def _shares(frame: pd.DataFrame) -> str:
    """Percent, with the names of the blocks where a head has several."""
    texts = [f"{share:.1f}%" for share in frame["share"]]
    if len(texts) > 1:
        texts = [f"{block} {t}" for block, t in zip(frame["block"], texts, strict=True)]
    return ", ".join(texts) or MISSING


def _mean_and_range(cost: dict[Hashable, Any]) -> str:
    """Mean speed and, in parentheses, that of the slowest and the fastest run."""
    mean, low, high = (cost[f"images_per_second{end}"] for end in ("", "_min", "_max"))
    mean_text = number(mean, "{:.1f}")
    return f"{mean_text} ({low:.1f} to {high:.1f})" if low < high else mean_text


def differences(comparison: Comparison) -> pd.DataFrame:
    """One row per head and measure: difference to the reference in points, p and reading."""
    frame = tables.differences(comparison)
    return pd.DataFrame(
        {
            "measure": frame["measure"],
            "head": frame["head"],
            "minus": frame["reference"],
            "difference [points]": ranged(frame, POINTS),
            "p": [p_value(p) for p in frame["p"]],
            "seeds": frame["seeds"].astype(str),
            "reading": frame["reading"],
        }
    )


def differences_by_size(comparison: Comparison) -> pd.DataFrame:
    """One row per head: what it is compared with, and the difference in points of each measure."""
    frame = tables.differences(comparison).rename(columns={"reference": "minus"})
    wide = frame.assign(cell=ranged(frame, POINTS)).pivot(
        index=["head", "minus"], columns="measure", values="cell"
    )
    order = frame[["head", "minus"]].drop_duplicates().apply(tuple, axis=1)
    return _flat(wide.loc[order.to_list(), frame["measure"].unique()])


def class_scores(comparison: Comparison) -> pd.DataFrame:
    """One row per class, one column per head: IoU in percent with 95% intervals."""
    frame = tables.class_scores(comparison)
    wide = frame.assign(cell=ranged(frame, PERCENT)).pivot(
        index="class", columns="head", values="cell"
    )
    return _flat(wide.loc[comparison.classes, comparison.heads])


def class_groups(comparison: Comparison) -> pd.DataFrame:
    """One row per class group and head: IoU and recall in percent with 95% intervals."""
    frame = tables.class_groups(comparison)
    parts = []
    for name, members in comparison.facts["data"]["groups"].items():
        part = _wide(frame[frame["classes"] == name], columns="measure")
        part.insert(0, "classes", f"{name} ({', '.join(members)})")
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["classes"])


def sizes(comparison: Comparison) -> pd.DataFrame:
    """One row per head: mIoU and IoU per size and shape in percent with 95% intervals.

    The last row is a perfect head at the encoder's stride, where the folder holds an oracle.
    """
    shown = _wide(tables.scores(comparison), columns="measure")
    stride = comparison.facts["encoder"]["output_stride"]
    perfect = oracle(comparison)
    perfect = perfect[perfect["stride"] == str(stride)].drop(columns="stride")
    return pd.concat([shown, perfect.assign(head="(perfect head)")], ignore_index=True)


def oracle(comparison: Comparison) -> pd.DataFrame:
    """One row per output stride: what a perfect head scores, with intervals over the images."""
    columns = ["stride", *measures(comparison)]
    frame = tables.oracle(comparison).rename(columns={"head": "stride"})
    wide = frame.assign(cell=ranged(frame, PERCENT)).pivot(
        index="stride", columns="measure", values="cell"
    )
    return _flat(wide.reindex(columns=columns[1:], index=frame["stride"].unique()))[columns]


def group_recall(comparison: Comparison) -> pd.DataFrame:
    """One row per head: recall of each class group in percent with 95% intervals.

    Of all its objects, and of its large and of its thin ones where there are enough.
    """
    frame = tables.class_groups(comparison)
    recall = frame[frame["measure"].str.startswith("recall") & frame["value"].notna()]
    kind = recall["measure"].str.removeprefix("recall").str.strip()
    return _wide(
        recall.assign(column=(kind + " " + recall["classes"]).str.strip()), columns="column"
    )


def support(comparison: Comparison) -> pd.DataFrame:
    """One row per class, one column per size group: objects and pixels of the test set.

    Cells with too little support to enter a bin mean are in parentheses.
    """
    cells = comparison.support.assign(
        cell=[_support_text(row) for row in comparison.support.to_dict("records")]
    )
    wide = cells.pivot(index="class", columns="group", values="cell")
    return _flat(wide.loc[comparison.classes, list(GROUPS)])


def to_markdown(frame: pd.DataFrame) -> str:
    """A pipe table of a display table."""
    lines = [list(frame.columns), ["---"] * frame.shape[1], *frame.to_numpy().tolist()]
    return "".join(f"| {' | '.join(_pipe_cell(cell) for cell in line)} |\n" for line in lines)


def number(value: float, form: str) -> str:
    """`value` formatted by `form`, or "n/a"."""
    return MISSING if pd.isna(value) else form.format(value)


def p_value(p: float) -> str:
    """A p-value to three digits, or "n/a"."""
    return "<0.001" if p < 0.001 else number(p, "{:.3f}")


def ranged(frame: pd.DataFrame, form: str) -> list[str]:
    """`value [low, high]` for each row of a tidy table."""
    cell = f"{form} [{form}, {form}]"
    rows = zip(frame["value"], frame["low"], frame["high"], strict=True)
    return [MISSING if pd.isna(row[0]) else cell.format(*row) for row in rows]


def _wide(frame: pd.DataFrame, *, columns: str) -> pd.DataFrame:
    """Heads as rows, measures as columns, both in their order of appearance."""
    wide = frame.assign(cell=ranged(frame, PERCENT)).pivot(
        index="head", columns=columns, values="cell"
    )
    return _flat(wide.loc[frame["head"].unique(), frame[columns].unique()])


def _flat(wide: pd.DataFrame) -> pd.DataFrame:
    return wide.rename_axis(columns=None).reset_index()


def _support_text(row: dict[Hashable, Any]) -> str:
    if row["pixels"] == 0:
        return "(none)"
    text = f"{row['objects']:,} obj, {_short(row['pixels'])} px"
    return text if row["published"] else f"({text})"


def _short(value: float) -> str:
    """Three significant digits with k, M, G or T; FLOPs and parameters are rarely below 1000."""
    for factor, letter in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    return number(value, "{:.0f}")


def _pipe_cell(cell: object) -> str:
    return str(cell).replace("|", "\\|").replace("\n", " ")
