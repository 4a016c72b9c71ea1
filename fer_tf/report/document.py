"""Documents: blocks of plain text, rendered as Markdown or as one HTML page. All text is escaped."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fer_tf.faces.colours import BLUE


@dataclasses.dataclass(frozen=True)
class Heading:
    text: str


@dataclasses.dataclass(frozen=True)
class Paragraph:
    text: str


@dataclasses.dataclass(frozen=True)
class Items:
    texts: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Code:
    text: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; `align` has a letter for each column, l (left) or r (right)."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str

    @classmethod
    def from_columns(cls, columns: Sequence[tuple[str, Sequence[str]]]) -> Table:
        """Build a table from (title, cells) of each column; align the first column left, the others right."""
        rows = list(zip(*(cells for _, cells in columns), strict=True))
        return cls([title for title, _ in columns], rows, "l" + "r" * (len(columns) - 1))

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, str]], align: str = "") -> Table:
        """Build a table from rows that map a column's title to a cell; without `align`, align as in `from_columns`."""
        header = list(rows[0])
        return cls(header, [list(row.values()) for row in rows], align or "l" + "r" * (len(header) - 1))

    @classmethod
    def from_pairs(cls, pairs: Mapping[str, Any]) -> Table:
        """Build a table of names and values without a header; values that are None or empty are left out."""
        return cls(("", ""), [(name, str(value)) for name, value in pairs.items() if value not in (None, "")], "ll")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure of the run; `name` is its name for `RunDirectory.figure`."""

    name: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Figures:
    """The most important figures, in large type; each has a value, a name and a remark, which may be empty."""

    figures: Sequence[tuple[str, str, str]]


@dataclasses.dataclass(frozen=True)
class Folded:
    """Blocks that a reader can open; until then only `title` is visible."""

    title: str
    blocks: Sequence[Paragraph | Items | Code | Table]


Block = Heading | Paragraph | Items | Code | Table | Picture | Figures | Folded

LONG_TABLE = 50  # letters: a table is long if the longest cells of its text columns have more in total

# Characters with a meaning in Markdown. An underscore inside a word has none.
_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# Line beginnings that make a heading, a list or a rule.
_MARKDOWN_START = re.compile(r"^(?:(\d+)(?=[.)])|(?=(?:#+|\+|[-=]+)(?:\s|$)))")


def to_markdown(title: str, blocks: Sequence[Block], pictures: Mapping[str, str]) -> str:
    """Render a document as Markdown (CommonMark with tables).

    Args:
        title: the first heading.
        blocks: the rest of the document.
        pictures: name of each `Picture` -> path relative to the document.
    """
    return "\n\n".join([f"# {_markdown(title)}", *_markdown_parts(blocks, pictures)]) + "\n"


def _markdown_parts(blocks: Sequence[Block], pictures: Mapping[str, str]) -> list[str]:
    parts = []
    for block in blocks:
        match block:
            case Figures(figures):
                lined = [(name, value, remark) for value, name, remark in figures]
                parts += _markdown_parts([Table(("", "", ""), lined, "lll")], pictures)
            case Folded(text, folded):
                parts.append(f"<details><summary>{_html(text)}</summary>")
                parts += [*_markdown_parts(folded, pictures), "</details>"]
            case Heading(text):
                parts.append(f"## {_markdown(text)}")
            case Paragraph(text):
                parts.append(_markdown_line(text))
            case Items(texts):
                parts.append("\n".join(f"- {_markdown_line(text)}" for text in texts))
            case Code(text):
                parts.append("\n".join(f"    {line}" for line in _one_line(text).splitlines()))
            case Table(header, rows, align):
                rule = ["---:" if side == "r" else "---" for side in align]
                lines = [list(map(_markdown, header)), rule, *(list(map(_markdown, row)) for row in rows)]
                parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
            case Picture(name, caption):
                parts.append(f"![{_markdown(caption)}]({pictures[name]})")
    return parts


def to_html(title: str, blocks: Sequence[Block], pictures: Mapping[str, str]) -> str:
    """Render a document as one HTML page, without scripts or outside resources.

    Args:
        title: the page's heading and window title.
        blocks: the rest of the document; blocks before the first heading come above the list of sections.
        pictures: name of each `Picture` -> data: URI.
    """
    sections = [_one_line(block.text) for block in blocks if isinstance(block, Heading)]
    links = "".join(f'<li><a href="#{_anchor(text)}">{_html(text)}</a></li>' for text in sections)
    start = next((place for place, block in enumerate(blocks) if isinstance(block, Heading)), len(blocks))
    nav = f'<nav aria-label="Sections"><ol>{links}</ol></nav>'
    parts = [
        f"<h1>{_html(title)}</h1>", *_html_parts(blocks[:start], pictures), nav, *_html_parts(blocks[start:], pictures)
    ]  # fmt: skip
    return _PAGE.format(title=_html(title), accent=BLUE, style=_STYLE, body="\n".join(parts))


def _html_parts(blocks: Sequence[Block], pictures: Mapping[str, str]) -> list[str]:
    parts = []
    for block in blocks:
        match block:
            case Figures(figures):
                tiles = (
                    f"<div><dt>{_html(name)}</dt><dd><b>{_html(value)}</b> {_html(remark)}</dd></div>"
                    for value, name, remark in figures
                )
                parts.append(f'<dl class="figures">{"".join(tiles)}</dl>')
            case Folded(text, folded):
                inside = "\n".join(_html_parts(folded, pictures))
                parts.append(f"<details><summary>{_html(text)}</summary>\n{inside}\n</details>")
            case Heading(text):
                parts.append(f'<h2 id="{_anchor(text)}">{_html(text)}</h2>')
            case Paragraph(text):
                parts.append(f"<p>{_html(text)}</p>")
            case Items(texts):
                parts.append("<ul>" + "".join(f"<li>{_html(text)}</li>" for text in texts) + "</ul>")
            case Code(text):
                parts.append(f"<pre>{_html(text)}</pre>")
            case Table(header, rows, align):
                parts.append(_html_table(header, rows, align))
            case Picture(name, caption):
                text = _html(caption)
                parts.append(
                    f'<figure><div class="wide" tabindex="0"><img src="{pictures[name]}" alt="{text}"></div>'
                    f"<figcaption>{text}</figcaption></figure>"
                )
    return parts


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        begin = {"l": f"<{tag}>", "r": f'<{tag} class="r">'}
        inside = "".join(f"{begin[side]}{_html(cell)}</{tag}>" for cell, side in zip(cells, align, strict=True))
        return f"<tr>{inside}</tr>"

    # On a narrow screen, a long table would show one word a line, so it gets a minimum width and scrolls.
    text_columns = [column for column, side in enumerate(align) if side == "l"]
    room = sum(max(len(row[column]) for row in [header, *rows]) for column in text_columns)
    long = ' class="long"' if room > LONG_TABLE and len(align) > 2 else ""
    head = f"<thead>{line(header, 'th')}</thead>" if any(header) else ""
    body = "".join(line(row, "td") for row in rows)
    # The box scrolls, not the page. A picture also has such a box: if it were scaled down, its letters would be too #
    # small. tabindex lets the keyboard scroll the box.
    return f'<div class="wide" tabindex="0"><table{long}>{head}<tbody>{body}</tbody></table></div>'


def _one_line(text: str) -> str:
    """Replace line breaks and control characters, which a folder's name may hold."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in " ".join(text.split())
    )


def _markdown(text: str) -> str:
    return html.escape(_MARKDOWN.sub(lambda found: "\\" + found[0], _one_line(text)), quote=False)


def _markdown_line(text: str) -> str:
    return _MARKDOWN_START.sub(lambda found: found[0] + "\\", _markdown(text))


def _html(text: str) -> str:
    # Keep a number and its % sign on one line.
    return re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", html.escape(_one_line(text)))


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


_STYLE = """\
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 1rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.75rem; padding-top: 0.75rem; border-top: 1px solid #ccc; }
a { color: #0b5394; }
li { margin: 0.25rem 0; }
nav ol { columns: 16rem; padding-left: 2rem; margin: 0; }
nav li { margin: 0; padding: 0.15rem 0; }
.wide { overflow-x: auto; margin: 1rem 0; }
figure .wide { margin: 0; }
table { border-collapse: collapse; font-size: 0.9rem; line-height: 1.35; }
th, td { padding: 0.3rem 0.7rem; border-bottom: 1px solid #ddd; min-width: 3rem; text-align: left;
  vertical-align: top; }
th { border-bottom: 2px solid #888; vertical-align: bottom; }
.r { text-align: right; font-variant-numeric: tabular-nums; }
td.r { white-space: nowrap; }
td:first-child { min-width: 6rem; }
.figures { display: flex; flex-wrap: wrap; gap: 0.75rem; margin: 1rem 0; }
.figures div { flex: 1 1 10rem; padding: 0.6rem 0.9rem; background: #f3f6f9; border-left: 4px solid var(--accent); }
.figures dt { font-size: 0.9rem; color: #444; }
.figures dd { margin: 0; font-size: 0.9rem; line-height: 1.4; }
.figures b { display: block; font-size: 1.6rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
summary { cursor: pointer; padding: 0.4rem 0; color: #0b5394; }
pre { overflow-x: auto; padding: 0.75rem; background: #f3f3f3; }
figure { margin: 1.5rem 0; }
img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: 0.9rem; color: #444; margin-top: 0.4rem; }
@media (max-width: 40rem) {
  h1 { font-size: 1.35rem; } th, td { padding: 0.25rem 0.45rem; } .long { min-width: 42rem; }
  .wide img { max-width: none; width: 36rem; }
}
@media print { .wide { overflow: visible; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }"""

# The class names come from the user's data; the policy stops the page from loading or running anything.
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light; --accent: {accent}; }}
{style}
</style>
</head>
<body>
{body}
</body>
</html>
"""
