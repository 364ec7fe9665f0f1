"""The benchmark's tables as Markdown, and the figure of memory against feature-map size."""

import math
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

_COLORS = {"spatial_nl": "#E69F00", "fla": "#D55E00", "channel_nl": "#0072B2"}
_LINES = {"ours": "-", "published": "--"}
_NOT_THERE = "out of memory"


def comparison(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per name and shape: ratios ours / published, published time and memory, error.

    A ratio whose published side ran out of memory becomes our own number, bold.
    """
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
                "forward": _ratio(forward, "seconds"),
                "forward + backward": _ratio(training, "seconds"),
                "memory forward": _ratio(forward, "bytes"),
                "memory training": _ratio(training, "bytes"),
                "published training": _amounts(training, "published_"),
                "our training": _amounts(training, ""),
                "GFLOP": f"{forward['published_flops'] / 1e9:.1f}",
                "largest difference": _scientific(forward["error"]),
            }
        )
    return pd.DataFrame(rows)


def _ratio(row: dict[Any, Any], quantity: str) -> str:
    ours, published = row[quantity], row[f"published_{quantity}"]
    if math.isnan(ours):
        return _NOT_THERE
    if math.isnan(published):
        return "runs, published does not"
    ratio = row["time_ratio"] if quantity == "seconds" else row["memory_ratio"]
    return f"{ratio:.2f}"


def _amounts(row: dict[Any, Any], side: str) -> str:
    seconds, size = row[f"{side}seconds"], row[f"{side}bytes"]
    return _NOT_THERE if math.isnan(size) else f"{_time(seconds)}, {_megabytes(size)}"


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 0.1 else f"{1000 * seconds:.3g} ms"


def _megabytes(size: float, *, digits: int = 0) -> str:
    return f"{size / 1e6:,.{digits}f} MB"


def _scientific(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.0e}"


def steps(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per head, one column per choice: images per second and speedup, memory last."""
    rows = []
    for head, group in frame.groupby("head", sort=False):
        row = {"head": head}
        for entry in group.to_dict("records"):
            row[entry["choice"]] = f"{entry['images_per_second']:.2f} ({entry['speedup']:.2f}x)"
        row["memory, last / plain"] = f"{group['memory_ratio'].iloc[-1]:.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def phases(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per head, one column per phase: milliseconds and share of the step."""
    cells = [
        f"{1000 * row['seconds']:.0f} ms ({100 * row['share']:.0f}%)"
        for row in frame.to_dict("records")
    ]
    wide = frame.assign(cell=cells).pivot(index="head", columns="phase", values="cell")
    return (
        wide.loc[frame["head"].unique(), frame["phase"].unique()]
        .rename_axis(columns=None)
        .reset_index()
    )


def memory(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per block and form, one column per map: peak memory of a training step."""
    cells = [_NOT_THERE if math.isnan(size) else _megabytes(size) for size in frame["bytes"]]
    columns = [f"{side} x {side}" for side in frame["side"]]
    wide = frame.assign(cell=cells, column=columns).pivot(
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


def end_to_end(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per head: images per second of a training and of the bare loop, and their ratio."""
    return pd.DataFrame(
        {
            "head": frame["head"],
            "images": frame["images"].astype(str) + " of " + frame["size"],
            "workers": frame["num_workers"].astype(str),
            "precision": frame["precision"],
            "train.py, images/s": frame["images_per_second"].map("{:.1f}".format),
            "bare loop, images/s": frame["bare_images_per_second"].map("{:.1f}".format),
            "ratio": frame["ratio"].map("{:.2f}".format),
        }
    )


# the table of each part of the benchmark, by the name of its CSV file
TABLES = {
    "blocks": comparison,
    "heads": comparison,
    "memory": memory,
    "steps": steps,
    "phases": phases,
    "end_to_end": end_to_end,
}

# what the numbers of a table are, where they are not ratios of us to the published form
MEASURED = {
    "end_to_end": "medians over epochs in turn, loading, steps and log included",
}


def to_markdown(frame: pd.DataFrame) -> str:
    """A pipe table of a display table."""
    lines = [list(frame.columns), ["---"] * frame.shape[1], *frame.to_numpy().tolist()]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)
