"""Fill the result tables of README.md from the runs in results/, so that no number is typed.

A table stands between `<!-- table: FOLDER NAME -->` and `<!-- end -->`; NAME is a function of
segattn.analysis.display. Run it after adding results; a test checks that it would change nothing.
"""

import re
from functools import cache
from pathlib import Path

from segattn.analysis import Comparison, compare, display
from segattn.runs import load_runs

ROOT = Path(__file__).resolve().parents[1]
TABLE = re.compile(r"(<!-- table: (\S+) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


@cache
def comparison(folder: str) -> Comparison:
    return compare(load_runs(ROOT / folder))


def fill(text: str) -> str:
    """`text` with every table computed anew."""

    def table(match: re.Match[str]) -> str:
        start, folder, name, end = match.groups()
        return f"{start}{display.to_markdown(getattr(display, name)(comparison(folder)))}{end}"

    return TABLE.sub(table, text)


def main() -> None:
    readme = ROOT / "README.md"
    readme.write_text(fill(readme.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
