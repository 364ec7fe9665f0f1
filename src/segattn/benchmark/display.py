"""The benchmark's tables as Markdown, and the figure of memory against the map's size."""

from math import isnan
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

_COLORS = {"spatial_nl": "#E69F00", "fla": "#D55E00", "channel_nl": "#0072B2"}
_LINES = {"ours": "-", "published": "--"}
_NOT_THERE = "out of memory"


def blocks(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per shape and block: ratios ours / published, time and memory of training, error."""
    rows = []
    for (shape, name), group in frame.groupby(["shape", "name"], sort=False):
        by_mode = {row["mode"]: row for row in group.to_dict("records")}
        if len(by_mode) < 2:  # the run is still under way, or was interrupted
            continue
        forward, training = by_mode["forward"], by_mode["training"]
        rows.append(
            {
                "input": shape,
                "name": name,
                "forward": _ratio(forward, "time"),
                "forward + backward": _ratio(training, "time"),
                "memory forward": _ratio(forward, "memory"),
                "memory training": _ratio(training, "memory"),
                "published training": _amounts(training, "published_"),
                "our training": _amounts(training, ""),
                "GFLOP": f"{forward['published_flops'] / 1e9:.1f}",
                "largest difference": _scientific(forward["error"]),
            }
        )
    return pd.DataFrame(rows)


def steps(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per head: ratios ours / published of a whole training step, time and memory."""
    rows = frame.to_dict("records")
    return pd.DataFrame(
        {
            "head": [row["name"] for row in rows],
            "images": [row["batch_size"] for row in rows],
            "time": [_ratio(row, "time") for row in rows],
            "memory": [_ratio(row, "memory") for row in rows],
            "published step": [_amounts(row, "published_") for row in rows],
            "our step": [_amounts(row, "") for row in rows],
        }
    )


def _ratio(row: dict[Any, Any], quantity: str) -> str:
    """A ratio; words where a side ran out of memory."""
    if isnan(row["bytes"]):
        return _NOT_THERE
    if isnan(row["published_bytes"]):
        return "runs, published does not"
    return f"{row[f'{quantity}_ratio']:.2f}"


def _amounts(row: dict[Any, Any], side: str) -> str:
    seconds, size = row[f"{side}seconds"], row[f"{side}bytes"]
    if isnan(size):
        return _NOT_THERE
    time = f"{seconds:.3g} s" if seconds >= 0.1 else f"{1000 * seconds:.3g} ms"
    return f"{time}, {_megabytes(size)}"


def _megabytes(size: float) -> str:
    return _NOT_THERE if isnan(size) else f"{size / 1e6:,.0f} MB"


def _scientific(value: float) -> str:
    return "n/a" if isnan(value) else f"{value:.0e}"


def memory(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per block and form, one column per map: peak memory of a training step."""
    columns = [f"{side} x {side}" for side in frame["side"]]
    wide = frame.assign(cell=frame["bytes"].map(_megabytes), column=columns).pivot(
        index=["name", "form"], columns="column", values="cell"
    )
    return wide[list(dict.fromkeys(columns))].fillna("").rename_axis(columns=None).reset_index()


def memory_figure(frame: pd.DataFrame, *, channels: int, limit: float) -> Figure:
    """Peak memory of a training step against the side of the map; a cross ends what ran out.

    Args:
        frame: From `memory_curves`.
        channels: C of the maps, for the title.
        limit: GiB that a step could use.
    """
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for (name, form), group in frame.groupby(["name", "form"], sort=False):
        style: dict[str, Any] = {"color": _COLORS.get(str(name)), "linestyle": _LINES[str(form)]}
        done = group.dropna()
        axes.plot(done["side"], done["bytes"] / 2**30, marker="o", label=f"{name}, {form}", **style)
        for side in group.loc[group["bytes"].isna(), "side"]:
            reached = done["side"].iloc[-1], done["bytes"].iloc[-1] / 2**30
            axes.plot([reached[0], side], [reached[1], limit], alpha=0.5, **style)
            axes.plot(side, limit, marker="x", markersize=10, markeredgewidth=2.5, **style)
    axes.axhline(limit, color="#555555", linewidth=1)
    axes.annotate(f"{limit:g} GiB", (frame["side"].min(), limit), va="bottom", fontsize=9)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    sides = sorted(frame["side"].unique())
    axes.set_xticks(sides, [f"{side}²" for side in sides])
    axes.minorticks_off()
    axes.set_xlabel("positions of the feature map, H x W")
    axes.set_ylabel("peak memory of a training step [GiB]")
    axes.set_title(f"Attention block, {channels} channels, one image", fontsize=10, loc="left")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8, handlelength=4, frameon=False)
    return figure


# the table of each part of the benchmark, by the name of its CSV file
TABLES = {"blocks": blocks, "memory": memory, "steps": steps}


def to_markdown(frame: pd.DataFrame) -> str:
    """A pipe table of a display table."""
    lines = [list(frame.columns), ["---"] * frame.shape[1], *frame.to_numpy().tolist()]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)
