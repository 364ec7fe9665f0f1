"""The report of a folder of runs: terminal summary, tables, figures and one HTML page.

The page is the executed notebook `notebooks/01_compare_heads.py`, so that a reader who wants to
go on from the report opens the same cells.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import segattn
from segattn.analysis import (
    catalogue,
    display,
    evidence_figures,
    figures,
    html,
    remote,
    tables,
    text,
    verdict_tables,
)
from segattn.analysis.comparison import Comparison, compare
from segattn.analysis.overview import write_overview
from segattn.runs import load_runs

CHECKOUT = Path(segattn.__file__).parents[2]
RUNS_VARIABLE = "SEGATTN_RUNS"

# the code of a cell folds away, prompts go: a report is read for its tables and figures
_TEMPLATE = """
{%- extends 'basic/index.html.j2' -%}
{%- block input -%}
<details><summary>code</summary>{{ super() }}</details>
{%- endblock input -%}
"""


def write_report(runs_folder: Path, out: Path) -> Path:
    """Compare the finished runs below `runs_folder` and write everything a reader needs.

    Args:
        runs_folder: Folder with the run folders of one experiment, or of several. Each of several
            gets a folder of its own below `out`, and one page leads to them.
        out: Folder for report.html, the tables (CSV, Markdown) and the figures (PNG).

    Returns:
        Path of report.html, one file that needs no network.

    Raises:
        ValueError: No run is finished, the runs cannot be compared, or the package is not
            installed from a checkout.
    """
    folders = experiment_folders(runs_folder)
    if len(folders) <= 1:
        return _write_one(folders[0] if folders else runs_folder, out)[0]
    reports = dict(_write_one(folder, out / folder.name) for folder in folders)
    return write_overview(reports, out)


def experiment_folders(runs_folder: Path) -> list[Path]:
    """Folders below `runs_folder` that hold finished runs; their names differ.

    Raises:
        ValueError: Two such folders share a name, so that their reports would too.
    """
    found = list(dict.fromkeys(r.path.parent for r in load_runs(runs_folder) if r.result))
    names = [folder.name for folder in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"several folders are called {twice}; give the folder above one of them")
    return found


def _write_one(runs_folder: Path, out: Path) -> tuple[Path, Comparison]:
    notebook = notebook_path()
    comparison = compare(load_runs(runs_folder))
    with ThreadPoolExecutor(1) as beside:  # the notebook's kernel is a process of its own
        executed = beside.submit(_execute, notebook, runs_folder)
        catalogue.write_tables(comparison, out)
        _write_figures(comparison, out)
        body = _render(executed.result())
    path = out / "report.html"
    title = f"Which head helps which object size? {comparison.facts['data']['title']}"
    path.write_text(html.page(html.with_contents(body), title=title), encoding="utf-8")
    print_summary(comparison)
    return path, comparison


def notebook_path() -> Path:
    """The notebook in the checkout that the package was installed from.

    Raises:
        ValueError: There is no such checkout.
    """
    path = CHECKOUT / "notebooks" / "01_compare_heads.py"
    if not path.exists():
        raise ValueError(
            f"the report executes {path}, which does not exist. Install the package from a "
            "checkout of the repository: pip install -e ."
        )
    return path


def find_runs_folder(
    root: Path = CHECKOUT / "runs", *, example: str = "results/heads-camvid-180x240"
) -> Path:
    """The folder of the experiment to look at, with at least one finished run.

    $SEGATTN_RUNS names it: a folder, also one of the checkout, or `wandb:ENTITY/PROJECT` with the
    experiment behind another slash where the project has several. Without it, the one below `root`
    with the newest result; one that scripts/evaluate.py made only where there is no other.

    Args:
        root: Of the folders of experiments.
        example: A folder of the checkout that the message names to those without runs.

    Raises:
        RunsError: There is no finished run, or there are several experiments to choose from.
    """
    given = os.environ.get(RUNS_VARIABLE, "")
    if not given:
        results = list(root.rglob("result.json"))
        if not results:
            raise remote.RunsError(
                f"There is no finished run below {root} yet. Run `make ablation` first (about an "
                f"hour on a laptop), or `make ablation-quick` (minutes), or set {RUNS_VARIABLE} "
                f"to a folder of runs, for example {example}."
            )
        return max(results, key=_trained_and_new).parents[1]
    if given.startswith(remote.PREFIX):
        return _one_experiment(remote.fetch_runs(given), given=given)
    # a notebook runs in its own folder, not in that of the shell
    folder = Path(given) if Path(given).is_dir() else CHECKOUT / given
    return _one_experiment(folder, given=given)


def _trained_and_new(result: Path) -> tuple[bool, float]:
    """Any training is before an evaluation, whose folder holds a single run as a rule."""
    return not result.parents[1].name.endswith("-evaluated"), result.stat().st_mtime


def _one_experiment(folder: Path, *, given: str) -> Path:
    found = experiment_folders(folder) if folder.is_dir() else []
    if not found:
        raise remote.RunsError(
            f"{RUNS_VARIABLE}={given} has no finished run. Run `make ablation` first, or set it to "
            "a folder of finished runs."
        )
    if len(found) > 1:
        choices = ", ".join(f"{given.rstrip('/')}/{path.relative_to(folder)}" for path in found)
        raise remote.RunsError(
            f"{RUNS_VARIABLE}={given} holds several experiments. Set it to one: {choices}"
        )
    return found[0]


def print_summary(comparison: Comparison) -> None:
    """Print scores, differences and what to keep in mind to the terminal."""
    console = Console()
    console.print(_score_table(comparison))
    if verdict_tables.has_claims(comparison):
        console.print(_verdict_table(comparison))
    for section, lines in (
        ("Findings", text.findings(comparison)),
        ("Limits", text.caveats(comparison)),
        ("Unfinished runs", text.unfinished(comparison)),
    ):
        if lines:
            console.print(f"[bold]{section}[/bold]")
            console.print("\n".join(f"- {escape(line)}" for line in lines), highlight=False)


def _score_table(comparison: Comparison) -> Table:
    """Scores without intervals, which would not fit a terminal of 80 columns."""
    table = Table(title=escape(text.subject(comparison)), title_justify="left")
    frame = tables.scores(comparison)
    for column in ("IoU [%]", *frame["measure"].unique()):
        table.add_column(escape(column), justify="left" if column == "IoU [%]" else "right")
    for head, rows in frame.groupby("head", sort=False):
        table.add_row(
            escape(str(head)), *(display.number(v, display.PERCENT) for v in rows["value"])
        )
    return table


def _verdict_table(comparison: Comparison) -> Table:
    """Claims and verdicts, without the numbers."""
    frame = verdict_tables.verdicts(comparison)[["claim", "by object size", "to settle"]]
    table = Table(title="Claims", title_justify="left")
    for column in frame:
        table.add_column(escape(str(column)))
    for row in frame.to_numpy():
        table.add_row(*(escape(str(cell)) for cell in row))
    return table


def _write_figures(comparison: Comparison, out: Path) -> None:
    for name, draw in (
        ("size_iou", figures.size_iou),
        ("class_heatmap", figures.class_heatmap),
        ("examples", figures.examples),
        ("learning_curves", figures.learning_curves),
        ("size_curves", evidence_figures.size_curves),
        ("thin_against_compact", evidence_figures.thin_against_compact),
    ):
        draw(comparison).savefig(out / f"{name}.png", dpi=html.FIGURE_DPI)
    if verdict_tables.has_claims(comparison):
        tested = verdict_tables.tested(verdict_tables.conditions(comparison))
        forest = evidence_figures.forest(tested)
        forest.savefig(out / "forest.png", dpi=html.FIGURE_DPI)


def _execute(notebook: Path, runs_folder: Path) -> nbformat.NotebookNode:
    """Run the notebook on `runs_folder` in a fresh kernel; an error in a cell is raised."""
    node = jupytext.read(notebook)
    # ipykernel warns about its local socket on every start; errors still show
    quiet = ["--IPKernelApp.log_level=40"]
    client = NotebookClient(node, timeout=600, kernel_name="python3", extra_arguments=quiet)
    return client.execute(env={**os.environ, RUNS_VARIABLE: str(runs_folder.resolve())})


def _render(node: nbformat.NotebookNode) -> str:
    exporter = HTMLExporter(
        raw_template=_TEMPLATE,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    return str(exporter.from_notebook_node(node)[0])
