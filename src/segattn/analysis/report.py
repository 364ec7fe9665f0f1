"""The report of a folder of runs: a coloured table in the terminal, one HTML page, CSV and PNG."""

import re
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from segattn.analysis import details, figures, html, tables, text
from segattn.analysis.claims import tested, untested
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
    comparison = compare(load_runs(folder)).judged
    out.mkdir(parents=True, exist_ok=True)
    for name, frame in (
        ("gains", tables.gains(comparison)),
        ("class_gains", tables.gains(comparison, tables.class_names(comparison))),
        ("claims", tables.claim_table(comparison)),
        ("power", tables.power(comparison)),
        ("runs", tables.run_scores(comparison)),
        ("same_classes", details.same_classes(comparison)[1]),
        ("learning", details.learning(comparison)),
        ("neighbours", details.neighbours(comparison).reset_index()),
        ("cost", tables.costs(comparison).reset_index()),
    ):
        frame.to_csv(out / f"{name}.csv", index=False, float_format="%.6g")
    figures.gain_picture(comparison).savefig(out / "picture.png", dpi=140)
    learned = details.learning(comparison)
    if learned["step"].nunique() > 1:
        figures.learning_picture(learned, comparison).savefig(out / "learning.png", dpi=110)
    path = out / "report.html"
    body = page_body(comparison, crops=read_crops(folder))
    path.write_text(html.page(body, title=_title(comparison)), encoding="utf-8")
    print_summary(comparison)
    return path


def _title(comparison: Comparison) -> str:
    return f"Which attention helps objects of which size? {comparison.facts['data']['title']}"


def page_body(comparison: Comparison, *, crops: dict[str, NDArray[np.generic]]) -> str:
    """The answer on the first screen, then five sections, and all else folded."""
    said = text.findings(comparison)
    first = [f"<h1>{escape(_title(comparison))}</h1>"]
    first += [html.paragraph(line) for line in text.kind_of_data(comparison)]
    first += [html.figure(figures.gain_picture(comparison), alt="Gain of each head by object size")]
    first += [html.bullets([*said, *comparison.notes]), html.paragraph(text.subject(comparison))]
    classes = html.figure(figures.class_picture(comparison), alt="Gain by class")
    sections = [
        ("The claims of the FLA paper", claims_body(comparison)),
        ("Every seed", html.figure(figures.seeds_picture(comparison), alt="Every run as a dot")),
        ("Class by class", classes + html.paragraph("Colours: verdicts on this picture alone.")),
        ("Sizes over the same classes", sizes_body(comparison)),
        ("Along the training", learning_body(comparison)),
        ("Cost", html.table(tables.costs(comparison))),
    ]
    body = "".join(first) + "".join(f"<h2>{title}</h2>{content}" for title, content in sections)
    body += crops_body(comparison, crops)
    numbers = tables.gains(comparison).set_index(["head", "score"])
    body += html.folded("How it was made", html.bullets(text.setting(comparison)))
    body += html.folded("All gains with their intervals", html.table(numbers))
    other = html.table(details.neighbours(comparison))
    return body + html.folded("Other readings: per image, worst case, iIoU", other)


def claims_body(comparison: Comparison) -> str:
    """HTML: the claims that have an answer, one sentence for each part; then the others' names."""
    found, parts = tables.claim_table(comparison), []
    for title, claims in tested(found).items():
        items = [
            f"<li><b>{claim}. {escape(statement)}.</b> {_bold_answers(escape(sentences))}</li>"
            for claim, (statement, sentences) in claims.items()
        ]
        parts.append(f"<p>Size {title}:</p><ul>{''.join(items)}</ul>")
    return "".join(parts) + html.paragraph(untested(found))


def _bold_answers(found: str) -> str:
    return re.sub(r"(?<=\)\. )(Yes|No|No difference|Not decided)\.", r"<b>\g<0></b>", found)


def sizes_body(comparison: Comparison) -> str:
    """HTML: gains by size over the same classes, in points and in what the reference lacks."""
    names, frame = details.same_classes(comparison)
    if frame.empty or len(comparison.heads) < 2:
        return html.paragraph("There is one head, or no class has enough objects of all sizes.")
    wide = frame[frame["head"] != comparison.reference].pivot(index="head", columns="size")
    titles = {"gain": "points", "share": f"% of what {comparison.reference} lacks"}
    wide = wide[list(titles)].reindex(comparison.heads[1:])
    wide = wide.reindex(columns=list(dict.fromkeys(frame["size"])), level="size")
    wide = wide.rename(columns=titles)
    return html.paragraph(f"Classes: {', '.join(names)}.") + html.table(wide)


def learning_body(comparison: Comparison) -> str:
    """HTML: curves of the gains on the validation images, where there were two validations."""
    frame = details.learning(comparison)
    if frame["step"].nunique() < 2:
        return html.paragraph("One validation at the end: no curve. trainer.val_every adds more.")
    return html.figure(figures.learning_picture(frame, comparison), alt="Gain along the training")


def crops_body(comparison: Comparison, crops: dict[str, NDArray[np.generic]]) -> str:
    """HTML: the objects with the largest gains and losses, for heads that have crops."""
    heads = [
        h for h in dict.fromkeys(crops["head"].tolist() if crops else []) if h in comparison.heads
    ]
    return "".join(
        html.folded(
            f"{head}: objects with the largest gains and losses",
            html.figure(
                figures.crops_picture(crops, comparison, head), alt=f"Objects of {head}", photo=True
            ),
        )
        for head in heads
    )


def print_summary(comparison: Comparison) -> None:
    """The picture as a coloured table, and the sentences, in the terminal."""
    console = Console()
    for table in summary_tables(comparison):
        console.print(table)
    said = [*text.kind_of_data(comparison), *text.findings(comparison), text.seen(comparison)]
    for line in filter(None, [*said, *comparison.notes]):
        console.print(f"- {line}", highlight=False, markup=False)


def summary_tables(comparison: Comparison) -> list[Table]:
    """Heads x scores, for objects by size and for groups of classes.

    Gains are in points, green where a head helps and red where it harms.
    """
    frame, names = tables.gains(comparison), tables.score_names(comparison.judged.measures)
    found: list[Table] = []
    for what, kinds in (("objects", ("miou", "iou_s")), ("classes", ("iou_group",))):
        columns = [name for name in names if name.startswith(kinds)]
        if not columns:
            continue
        title = f"{text.subject(comparison)}\n" if not found else ""
        table = Table(
            title=f"{title}Gain in points, {what}",
            title_justify="left",
            box=box.SIMPLE,
            pad_edge=False,
        )
        table.add_column("", no_wrap=True)
        for name in columns:
            title = name.partition("/")[2] or "overall"
            table.add_column(title, justify="right", no_wrap=True)
        for head, rows in frame[frame["score"].isin(columns)].groupby("head", sort=False):
            table.add_row(escape_markup(str(head)), *map(_cell, rows.to_dict("records")))
        found.append(table)
    return found


def _cell(row: dict[Any, Any]) -> str:
    shown = figures.cell_text(row)
    if not row["verdict"] or row["verdict"] in ("no difference", "two states"):
        return f"{shown} %" if not row["verdict"] else shown
    colour = {"helps": "green", "harms": "red"}.get(row["verdict"], "bright_black")
    return f"[{colour}]{shown}[/]"
