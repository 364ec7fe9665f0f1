"""HTML pieces for notebooks and the report: escaped, self-contained, without network."""

import base64
import io
import itertools
import re
from collections.abc import Iterable
from html import escape

import pandas as pd
from matplotlib.figure import Figure

FIGURE_DPI = 150
_LONG = 32  # characters; an interval is shorter and must not break
# in the cells themselves, since a notebook would set all text to the right and break intervals
_CELL = 'style="text-align: left; white-space: nowrap"'
_LONG_CELL = 'class="long" style="white-space: normal; min-width: 12rem"'

# The root grows with the window, so that a projector shows large text and the layout stays.
_STYLE = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --shade: #f6f8fa; --link: #0550ae;
  font-size: clamp(16px, 1.2vw, 40px); }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 84rem; color: var(--ink); background: #fff;
  font: 1.0625rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; padding-top: .5rem;
  border-top: 1px solid var(--line); }
p, li { max-width: 50rem; overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; }
a { color: var(--link); }
nav { display: flex; flex-wrap: wrap; gap: .15rem 1.1rem; margin: 1rem 0; font-size: .95rem; }
nav a { padding: .2rem 0; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .55rem; border-bottom: 1px solid var(--line); }
th { background: var(--shade); border-bottom: 2px solid var(--soft); }
.long { width: 15rem; overflow-wrap: break-word; }
tbody tr:hover td { background: var(--shade); }
img { display: block; width: var(--width, auto); max-width: 100%; height: auto; }
figure { margin: .75rem 0; overflow-x: auto; }
figure input { display: block; position: absolute; opacity: 0; }
figure input:focus-visible + img { outline: 2px solid var(--link); }
details { margin: .4rem 0; color: var(--soft); font-size: .85rem; }
summary { cursor: pointer; }
pre { overflow-x: auto; padding: .6rem; background: var(--shade); font-size: .8rem; }
@media (max-width: 40rem) {
  .long { width: 10rem; min-width: 0 !important; }
  table { font-size: .75rem; line-height: 1.35; }
  th, td { padding: .25rem; }
  th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
  th:first-child { background: var(--shade); }
  figure label::after { content: "tap to enlarge"; color: var(--soft); font-size: .8rem; }
  figure input:checked + img { max-width: none; width: 60rem; }
}
@media print { details, nav { display: none; } }
"""


def table(frame: pd.DataFrame) -> str:
    """A display table that scrolls sideways where the screen is narrow; long text wraps."""
    shown = frame.map(_cell).set_axis([escape(str(name)) for name in frame.columns], axis=1)
    with pd.option_context("display.max_colwidth", None):
        markup = shown.to_html(index=False, border=0, escape=False)
    for tag in ("th", "td"):
        markup = markup.replace(f"<{tag}>", f"<{tag} {_CELL}>")
    return f'<div class="scroll">{markup}</div>'


def _cell(value: object) -> str:
    text = escape(str(value))
    return f"<div {_LONG_CELL}>{text}</div>" if len(text) > _LONG else text


def bullets(lines: Iterable[str]) -> str:
    """A list of plain sentences."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def paragraph(line: str) -> str:
    """A plain sentence."""
    return f"<p>{escape(line)}</p>"


def figure(drawing: Figure, *, alt: str) -> str:
    """A figure as an inline PNG; `alt` says what a reader sees in it.

    It fits the screen; a tap on a phone shows it at the size of a desk's, without a script.
    """
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=FIGURE_DPI)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    source = f"data:image/png;base64,{data}"
    # in rem, so that it grows with the text of `page`; at 16 px it has its natural size
    width = f"--width: {drawing.get_figwidth() * FIGURE_DPI / 16:.1f}rem"
    image = f'<img alt="{escape(alt)}" style="{width}" src="{source}">'
    # hidden where the style of `page` is not at hand, as in a notebook
    zoom = f'<input type="checkbox" hidden aria-label="enlarge: {escape(alt)}">'
    return f"<figure><label>{zoom}{image}</label></figure>"


def with_contents(body: str) -> str:
    """`body` with links to its sections, the h2, below its h1."""
    number, links = itertools.count(1), []

    def anchored(heading: re.Match[str]) -> str:
        name = f"section-{next(number)}"
        links.append(f'<a href="#{name}">{heading[1]}</a>')
        return f'<h2 id="{name}">{heading[1]}</h2>'

    marked = re.sub(r"<h2>(.*?)</h2>", anchored, body)
    return marked.replace("</h1>", f"</h1>\n<nav>{''.join(links)}</nav>", 1)


def page(body: str, *, title: str) -> str:
    """A whole document with its style inline; `body` is HTML, `title` plain text."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )
