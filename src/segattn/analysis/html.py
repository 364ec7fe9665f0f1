"""HTML pieces for notebooks and the report: escaped, self-contained, without network."""

import base64
import io
from collections.abc import Iterable
from html import escape

import pandas as pd
from matplotlib.figure import Figure

_DPI = 120
_STYLE = """
body { margin: 0 auto; padding: 1rem; max-width: 72rem; color: #1b1f24; background: #fff;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; padding-top: .5rem; border-top: 1px solid #d8dee4; }
p, li { max-width: 52rem; overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; }
.wide { overflow-x: auto; margin: .75rem 0; }
.wide img { display: block; max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid #d8dee4; text-align: right; }
th { background: #f6f8fa; }
details { margin: .5rem 0; }
summary { cursor: pointer; color: #57606a; }
@media (max-width: 40rem) { .wide img { max-width: none; width: 44rem; } }
"""


def table(frame: pd.DataFrame, *, decimals: int = 1) -> str:
    """A table that scrolls sideways where the screen is narrow; missing values are n/a."""
    styler = frame.style.format(precision=decimals, na_rep="n/a", thousands=",", escape="html")
    return f'<div class="wide">{styler.to_html()}</div>'


def bullets(lines: Iterable[str]) -> str:
    """A list of plain sentences."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def paragraph(line: str) -> str:
    """A plain sentence."""
    return f"<p>{escape(line)}</p>"


def folded(title: str, body: str) -> str:
    """HTML that opens at a click."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def figure(drawing: Figure, *, alt: str, photo: bool = False) -> str:
    """A figure as an inline PNG, or JPEG for photographs; `alt` says what a reader sees in it."""
    kind, buffer = "jpeg" if photo else "png", io.BytesIO()
    drawing.savefig(buffer, format=kind, dpi=_DPI)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    source = f"data:image/{kind};base64,{data}"
    return f'<div class="wide"><img alt="{escape(alt)}" src="{source}"></div>'


def page(body: str, *, title: str) -> str:
    """A whole document with its style inline; `body` is HTML, `title` plain text."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )
