"""Fill the results in README.md and docs/ from results/, so that no number is typed.

They stand between `<!-- table: FOLDER NAME -->` and `<!-- end -->`. FOLDER holds the runs of one
experiment, and NAME is one of RESULTS below; or FOLDER holds NAME.csv of scripts/benchmark.py.
`scripts/report.py results` does this too; a test checks that it changes nothing.
"""

import re
from functools import cache
from pathlib import Path

import pandas as pd

from segattn.analysis import Comparison, compare, details, tables, text
from segattn.analysis.claims import tested, untested
from segattn.base.runs import load_runs
from segattn.benchmark import display

ROOT = Path(__file__).resolve().parents[1]
FILES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
TABLE = re.compile(r"(<!-- table: (\S+) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


@cache
def comparison(folder: Path) -> Comparison:
    return compare(load_runs(folder)).judged


def bullets(lines: list[str]) -> str:
    return "".join(f"- {line}\n" for line in lines)


def findings(runs: Comparison) -> str:
    notes = [text.subject(runs) + ".", *runs.notes, text.seen(runs)]
    said = [*text.kind_of_data(runs), *text.findings(runs)]
    return bullets(said) + f"\n*{' '.join(filter(None, notes))}*\n"


def claims(runs: Comparison) -> str:
    given = tables.claim_table(runs)
    parts = [
        f"Size {title}:\n\n"
        + bullets([f"**{name}. {said}.** {found}" for name, (said, found) in of_reading.items()])
        for title, of_reading in tested(given).items()
    ]
    return "\n".join(filter(None, [*parts, untested(given)])).rstrip() + "\n"


def gains(runs: Comparison) -> str:
    """Values of the first head, and gains of the others with their adjusted intervals."""
    frame = tables.gains(runs)
    cells = [
        f"{row.value:.1f} %"
        if row.head == runs.reference
        else f"{row.gain:+.1f} [{row.adjusted_low:+.1f}, {row.adjusted_high:+.1f}]"
        for row in frame.itertuples()
    ]
    wide = frame.assign(cell=cells).pivot(index="head", columns="score", values="cell")
    wide = wide.loc[runs.heads, tables.score_names(runs.measures)]
    return display.to_markdown(wide.reset_index())


def budget(runs: Comparison) -> str:
    """Gains after the shorter training, whose folder is named without `-long`, and after this."""
    folder = runs.runs[runs.reference][0].path.parent
    short = comparison(folder.with_name(folder.name.removesuffix("-long")))
    frame = details.budgets(short, runs)
    cell = [f"{row.short:+.1f} → {row.long:+.1f}" for row in frame.itertuples()]
    wide = frame.assign(cell=cell).pivot(index="head", columns="score", values="cell")
    wide = wide.loc[runs.heads[1:], tables.score_names(runs.measures)].reset_index()
    most = frame.loc[frame["moved"].abs().idxmax()]
    return (
        display.to_markdown(wide)
        + f"\nGains {short.steps} → {runs.steps}, over the seeds that both have. The largest move "
        f"is {most['moved']:+.1f} points ({most['head']}, {most['score']}).\n"
    )


def radius(runs: Comparison) -> str:
    """Sizes under other radii, from the folders beside that of `runs`: one seed of two heads."""
    rows = []
    for folder in runs.runs[runs.reference][0].path.parent.parent.glob("radius-*"):
        other = comparison(folder)
        frame = tables.gains(other)
        frame = frame[frame["score"].str.startswith("iou_s")]
        first, last = (frame[frame["head"] == head] for head in (other.heads[0], other.heads[-1]))
        cells = zip(first["score"], first["value"], last["gain"], strict=True)
        row = {name: f"{value:.1f} % {gain:+.1f}" for name, value, gain in cells}
        rows.append({"radius [px]": other.measures.radius} | row)
    return display.to_markdown(pd.DataFrame(rows).sort_values("radius [px]"))


def setting(runs: Comparison) -> str:
    return f"{text.subject(runs)}. {text.made_with(runs)}\n"


RESULTS = {
    "setting": setting,
    "findings": findings,
    "claims": claims,
    "gains": gains,
    "budget": budget,
    "radius": radius,
}


def measured(folder: Path, name: str) -> str:
    """A table of the benchmark, and the line that says how it was made."""
    shown = display.TABLES[name](pd.read_csv(folder / f"{name}.csv"))
    made = (folder / f"{name}.md").read_text(encoding="utf-8").splitlines()[-1]
    return f"{display.to_markdown(shown)}\n{made}\n"


def fill(content: str) -> str:
    """`content` with every table computed anew."""

    def table(match: re.Match[str]) -> str:
        start, folder, name, end = match.groups()
        if name in RESULTS:
            return start + RESULTS[name](comparison(ROOT / folder)) + end
        return start + measured(ROOT / folder, name) + end

    return TABLE.sub(table, content)


def main() -> None:
    for path in FILES:
        path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
