"""One HTML page that stands alone: no network, no scripts, pictures inside, readable on a phone and on paper.

Every function returns a piece of HTML; whatever text it is given is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS = 144  # an inch of a picture: sharp on a screen of two dots a pixel, and on paper
STYLE = """
:root { --ink: #1d2129; --soft: #59616e; --line: #d8dce3; --shade: #f5f6f8; --accent: #0072B2; --warn: #b3470a; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; color: var(--ink); background: #fff; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
  "Liberation Sans", sans-serif; overflow-wrap: anywhere; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .5rem 0; max-width: 46rem; }
ul { margin: .5rem 0; padding-left: 1.2rem; max-width: 46rem; }
li { margin: .35rem 0; }
.soft, figcaption, caption, footer { color: var(--soft); font-size: .9rem; }
.verdict { border-left: 5px solid var(--accent); background: var(--shade); padding: .6rem 1rem; margin: 1rem 0; }
.verdict.beware { border-color: var(--warn); }
.verdict p:first-child { font-weight: 600; }
nav ol { padding-left: 1.3rem; columns: 2 16rem; margin: .6rem 0; }
a { color: var(--accent); }
.wide { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { padding: .25rem .7rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; }
td:last-child, th:last-child { padding-right: 0; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
thead th { border-bottom: 2px solid var(--ink); vertical-align: bottom; }
tr.chosen td { background: #e8f2f8; font-weight: 600; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(26rem, 100%), 1fr)); gap: 1rem; margin: 1rem 0; }
figure { margin: 0; min-width: 0; }
figure img { width: 100%; height: auto; display: block; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .8rem; }
pre { font-size: .8rem; overflow-x: auto; background: var(--shade); padding: .7rem; margin: .6rem 0; }
@media (max-width: 40rem) {
  th, td { padding-right: .45rem; }
  table { font-size: .82rem; }
}
@media print {
  @page { margin: 16mm 14mm; }
  body { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h2, h3 { break-after: avoid; }
  figure, tr, .verdict { break-inside: avoid; }
  thead { display: table-header-group; }
  .wide { overflow: visible; }
  table { font-size: 8.5pt; }
  th, td { padding-right: .4rem; }
  .pictures { grid-template-columns: 1fr 1fr; }
  figure img { max-height: 200mm; object-fit: contain; }
  pre { white-space: pre-wrap; }
  a { color: inherit; text-decoration: none; }
}
"""
# what the page may load: pictures that it holds itself
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, body: Iterable[str]) -> str:
    """The whole page."""
    return "\n".join([
        "<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", "</head>", "<body>", "<main>", *body, "</main>", "</body>",
        "</html>", "",
    ])  # fmt: skip


def section(name: str, title: str, parts: Iterable[str]) -> str:
    """A chapter under its heading, to which `contents` leads."""
    return "\n".join([f'<section id="{escape(name)}">', f"<h2>{escape(title)}</h2>", *parts, "</section>"])


def contents(sections: Sequence[tuple[str, str]]) -> str:
    """Links to sections, (name, title) each."""
    lines = "".join(f'<li><a href="#{escape(name)}">{escape(title)}</a></li>' for name, title in sections)
    return f"<nav><ol>{lines}</ol></nav>"


def heading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str, soft: bool = False) -> str:
    """A paragraph; a soft one is an aside."""
    return f"<p{' class=soft' if soft else ''}>{escape(text)}</p>"


def bullets(lines: Iterable[str]) -> str:
    """A list."""
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def verdict(first: str, rest: Iterable[str], beware: bool) -> str:
    """What a reader who reads nothing else should know."""
    lines = "".join(f"<p>{escape(line)}</p>" for line in (first, *rest))
    return f'<div class="verdict{" beware" if beware else ""}">{lines}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", chosen: int | None = None) -> str:
    """A table that scrolls by itself where it is wider than the page; row `chosen` stands out."""
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    lines = []
    for number, row in enumerate(rows):
        mark = ' class="chosen"' if number == chosen else ""
        lines.append(f"<tr{mark}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    body = "".join(lines)
    return f'<div class="wide"><table>{told}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def picture(figure: Figure, words: str, caption: str = "") -> str:
    """A figure as a PNG inside the page; `words` say what it shows to who cannot see it, a caption stands below it."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS)
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(words)}" width="{width}" height="{height}">'
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{image}{below}</figure>"


def pictures(every: Iterable[str]) -> str:
    """Pictures beside each other where there is room."""
    return f'<div class="pictures">{"".join(every)}</div>'


def quoted(text: str) -> str:
    """Text as it stands, as a command that was typed."""
    return f"<pre>{escape(text)}</pre>"


def header(title: str, lead: str) -> str:
    """The name of the page, and a line under it."""
    return f"<header><h1>{escape(title)}</h1>{paragraph(lead, soft=True)}</header>"


def footer(text: str, command: str | None) -> str:
    """What made the page, with the command where there was one."""
    return f"<footer>{paragraph(text)}{'' if command is None else quoted(command)}</footer>"
