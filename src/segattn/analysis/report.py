"""The report of a folder of runs: a coloured table in the terminal, one HTML page, CSV and PNG."""

import re
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from segattn.analysis import figures, html, tables, text
from segattn.analysis.claims import told
from segattn.analysis.comparison import Comparison, compare
from segattn.base.errors import UserError
from segattn.base.runs import load_runs, read_crops


def write_report(runs_folder: Path, out: Path) -> list[Path]:
    """Compare the finished runs below `runs_folder` and write everything a reader needs.

    Args:
        runs_folder: Folder with the run folders of one experiment, or of several.
        out: Folder for report.html, the tables (CSV) and the figures (PNG); each of several
            experiments has a folder of its own below it.

    Returns:
        The pages, each one file of less than 2 MB that needs no network.

    Raises:
        UserError: No run is finished, or the runs of an experiment cannot be compared.
    """
    folders = experiment_folders(runs_folder)
    if len(folders) <= 1:
        return [_write(folders[0] if folders else runs_folder, out)]
    return [_write(folder, out / folder.name) for folder in folders]


def experiment_folders(runs_folder: Path) -> list[Path]:
    """Folders at or below `runs_folder` that hold finished runs; their names differ.

    Raises:
        UserError: Two such folders share a name, so that their reports would too.
    """
    runs = load_runs(runs_folder)
    found = list(dict.fromkeys(run.path.parent for run in runs if run.result is not None))
    names = [folder.name for folder in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"several folders are called {twice}; give the folder above one of them")
    return found


def _write(folder: Path, out: Path) -> Path:
    comparison = compare(load_runs(folder))
    out.mkdir(parents=True, exist_ok=True)
    curve = tables.size_curve(comparison)
    won_lost = tables.won_lost_of_heads(comparison)
    for name, frame in (
        ("gains", tables.gains(comparison)),
        ("class_gains", tables.gains(comparison, tables.class_names(comparison))),
        ("claims", tables.claim_table(comparison)),
        ("runs", tables.run_scores(comparison)),
        ("size_curve", curve),
        ("won_lost", won_lost),
        ("cost", tables.costs(comparison).reset_index()),
    ):
        frame.to_csv(out / f"{name}.csv", index=False, float_format="%.6g")
    figures.gain_picture(comparison).savefig(out / "picture.png", dpi=140)
    body = page_body(comparison, curve=curve, won_lost=won_lost, crops=read_crops(folder))
    path = out / "report.html"
    path.write_text(html.page(body, title=_title(comparison)), encoding="utf-8")
    print_summary(comparison)
    return path


def _title(comparison: Comparison) -> str:
    return f"Which attention helps objects of which size? {comparison.facts['data']['title']}"


def page_body(
    comparison: Comparison,
    *,
    curve: pd.DataFrame,
    won_lost: pd.DataFrame,
    crops: dict[str, NDArray[np.generic]],
) -> str:
    """The answer on the first screen, then four sections, and all else folded."""
    picture = html.figure(figures.gain_picture(comparison), alt="Gain of each head by object size")
    first = [f"<h1>{escape(_title(comparison))}</h1>", picture]
    first += [html.bullets([*text.findings(comparison), *comparison.notes])]
    first += [html.paragraph(text.subject(comparison))]
    sections = [
        ("The claims of the FLA paper", claims_body(comparison)),
        ("Class by class", html.figure(figures.class_picture(comparison), alt="Gain by class")),
        ("Along the size of objects", curve_body(comparison, curve)),
        ("Objects won and lost", won_lost_body(comparison, won_lost, crops)),
        ("Cost", html.table(tables.costs(comparison))),
    ]
    body = "".join(first) + "".join(f"<h2>{title}</h2>{content}" for title, content in sections)
    numbers = tables.gains(comparison).drop(columns="p").set_index(["head", "score"])
    body += html.folded("How it was made", html.bullets(text.setting(comparison)))
    return body + html.folded("All gains with 95% intervals", html.table(numbers))


def claims_body(comparison: Comparison) -> str:
    """HTML: the claims in every reading that has an answer, one sentence for each contrast."""
    parts = []
    for title, claims in told(comparison.scores).items():
        items = [
            f"<li><b>{claim}. {escape(statement)}.</b> {_bold_answers(escape(found))}</li>"
            for claim, (statement, found) in claims.items()
        ]
        parts.append(f"<p>Size {title}:</p><ul>{''.join(items)}</ul>")
    return "".join(parts) or html.paragraph(
        "Not tested: these need the six heads and three seeds of each."
    )


def _bold_answers(found: str) -> str:
    return re.sub(r"(?<=\)\. )(Yes|No|Equal|Cannot tell)\.", r"<b>\g<0></b>", found)


def curve_body(comparison: Comparison, curve: pd.DataFrame) -> str:
    """HTML: the gain along object size; a sentence where no class has enough objects."""
    if curve.empty or len(comparison.heads) < 2:
        return html.paragraph("No class has enough objects of any size.")
    drawn = figures.curve_picture(curve, comparison)
    note = "A point has the classes with 30 objects or more of its size: compare heads, not sizes."
    return html.figure(drawn, alt="Gain along object size") + html.paragraph(note)


def won_lost_body(
    comparison: Comparison, won_lost: pd.DataFrame, crops: dict[str, NDArray[np.generic]]
) -> str:
    """HTML: shares of objects won and lost, and crops of them where there are some."""
    if won_lost.empty:
        return html.paragraph("There is one head, or no class with enough objects.")
    drawn = html.figure(
        figures.won_lost_picture(won_lost, comparison), alt="Shares of objects won and lost"
    )
    for head in dict.fromkeys(crops["head"].tolist() if crops else []):
        if head in comparison.heads:
            objects = figures.crops_picture(crops, comparison, head)
            shown = html.figure(objects, alt=f"Objects of {head}", photo=True)
            drawn += html.folded(f"{head}: the largest gains and losses", shown)
    return drawn


def print_summary(comparison: Comparison) -> None:
    """The picture as a coloured table, and the sentences, in the terminal."""
    console = Console()
    console.print(summary_table(comparison))
    for line in [*text.findings(comparison), *comparison.notes]:
        console.print(f"- {line}", highlight=False, markup=False)


def summary_table(comparison: Comparison) -> Table:
    """Heads x scores: gains in points, green and red where they are told apart from 0."""
    frame, names = tables.gains(comparison), tables.score_names(comparison.measures)
    title = text.subject(comparison)
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE, collapse_padding=True, pad_edge=False
    )
    table.add_column("points", no_wrap=True)
    groups = {"iou_group": "\nclasses", "iou_size": "\nobjects", "iou_shape": "\nobjects"}
    for name in names:
        kind, _, label = name.partition("/")
        table.add_column(
            (label or "overall") + groups.get(kind, "\n"), justify="right", no_wrap=True
        )
    for head, rows in frame.groupby("head", sort=False):
        cells = [_cell(row, own=head == comparison.reference) for row in rows.to_dict("records")]
        table.add_row(escape_markup(str(head)), *cells)
    return table


def _cell(row: dict[Any, Any], *, own: bool) -> str:
    value = row["value"] if own else row["gain"]
    if np.isnan(value):
        return "n/a"
    if own:
        return f"{value:.1f} %"
    colour = ("green" if value > 0 else "red") if row["told_apart"] else "bright_black"
    return f"[{colour}]{value:+.1f}[/]"
