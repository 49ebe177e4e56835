"""A result that prints itself: a line, a table and remarks, as text and as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def as_text(head: str, lines: Iterable[Sequence[str]], remarks: Iterable[tuple[str, str]]) -> str:
    """Return a result as text.

    Parameters
    ----------
    head
        The first line.
    lines
        Cells of the lines of the table, the headings first.
    remarks
        Pairs of a name and what is said under it.
    """
    whole = list(lines)
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    table = ["  " + "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in whole]
    return "\n".join([head, *table, *(f"  {name}: {said}" for name, said in remarks)])


def as_html(head: str, lines: Iterable[Sequence[str]], remarks: Iterable[tuple[str, str]]) -> str:
    """Return a result as HTML.

    Parameters
    ----------
    head, lines, remarks
        As in `as_text`.
    """
    said = "".join(f"<br>{html.escape(name)}: {html.escape(text)}" for name, text in remarks)
    return f"<p><b>{html.escape(head)}</b>{said}</p>{html_table(lines)}"


def html_table(lines: Iterable[Sequence[str]]) -> str:
    """Return an HTML table of lines of cells, the headings first."""
    headings, *rows = lines
    columns = "".join(f"<th>{name}</th>" for name in headings)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>"
