"""HTML pieces for notebooks and the report: escaped, self-contained, without network."""

import base64
import io
from collections.abc import Iterable
from html import escape

import pandas as pd
from matplotlib.figure import Figure

FIGURE_DPI = 150

_STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --shade: #f6f8fa; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; color: var(--ink); background: #fff;
  font: 1.0625rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; padding-top: .5rem;
  border-top: 1px solid var(--line); }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .55rem; text-align: left; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
td:first-child { white-space: normal; min-width: 8rem; }
th { background: var(--shade); border-bottom: 2px solid var(--soft); }
tbody tr:hover { background: var(--shade); }
img { display: block; max-width: 100%; height: auto; }
figure { margin: .75rem 0; }
details { margin: .4rem 0; color: var(--soft); font-size: .85rem; }
summary { cursor: pointer; }
pre { overflow-x: auto; padding: .6rem; background: var(--shade); font-size: .8rem; }
@media (max-width: 40rem) { figure.wide { overflow-x: auto; } figure.wide img { max-width: none;
  width: 60rem; } }
@media print { details { display: none; } }
"""


def table(frame: pd.DataFrame) -> str:
    """A display table that scrolls sideways where the screen is narrow."""
    return f'<div class="scroll">{frame.to_html(index=False, border=0, escape=True)}</div>'


def bullets(lines: Iterable[str]) -> str:
    """A list of plain sentences."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def paragraph(line: str) -> str:
    """A plain sentence."""
    return f"<p>{escape(line)}</p>"


def figure(drawing: Figure, *, alt: str) -> str:
    """A figure as an inline PNG; `alt` says what a reader sees in it."""
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=FIGURE_DPI)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    source = f"data:image/png;base64,{data}"
    return f'<figure class="wide"><img alt="{escape(alt)}" src="{source}"></figure>'


def page(body: str, *, title: str) -> str:
    """A whole document with its style inline; `body` is HTML, `title` plain text."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )
