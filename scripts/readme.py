"""Fill the result tables of README.md and docs/ from results/, so that no number is typed.

A table stands between `<!-- table: FOLDER NAME -->` and `<!-- end -->`. FOLDER holds the runs of
one experiment, and NAME is one of segattn.analysis.catalogue; or it holds NAME.csv of
scripts/benchmark.py; or it holds several experiments, and NAME is `across`. Run it after adding
results; a test checks that it changes nothing.
"""

import re
from functools import cache
from pathlib import Path

import pandas as pd

from segattn.analysis import Comparison, catalogue, compare, display, verdict_tables
from segattn.analysis.report import experiment_folders
from segattn.benchmark import display as benchmark
from segattn.runs import load_runs

ROOT = Path(__file__).resolve().parents[1]
FILES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
TABLE = re.compile(r"(<!-- table: (\S+) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


@cache
def comparison(folder: Path) -> Comparison:
    return compare(load_runs(folder))


def across(folder: Path) -> pd.DataFrame:
    """The verdicts of every experiment below `folder` that tests a claim."""
    found = [comparison(experiment) for experiment in experiment_folders(folder)]
    return verdict_tables.across([one for one in found if verdict_tables.has_claims(one)])


def measured(folder: Path, name: str) -> str:
    """A table of the benchmark, and the line that says how it was made."""
    shown = benchmark.TABLES[name](pd.read_csv(folder / f"{name}.csv"))
    made = (folder / f"{name}.md").read_text(encoding="utf-8").splitlines()[-1]
    return f"{display.to_markdown(shown)}\n{made}\n"


def fill(text: str) -> str:
    """`text` with every table computed anew."""

    def table(match: re.Match[str]) -> str:
        start, folder, name, end = match.groups()
        if (ROOT / folder / f"{name}.csv").exists():
            return start + measured(ROOT / folder, name) + end
        if name == "across":
            return start + display.to_markdown(across(ROOT / folder)) + end
        runs = comparison(ROOT / folder)
        return start + display.to_markdown(catalogue.shown(runs)[name](runs)) + end

    return TABLE.sub(table, text)


def main() -> None:
    for path in FILES:
        path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
