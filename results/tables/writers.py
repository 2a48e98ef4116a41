"""A `Table` as CSV, Markdown and HTML; as LaTeX in `results.tables.latex`.

Labels of methods and metrics are ours; names of datasets, encoders and deviations come from records
and may hold anything, so every string is escaped for the format that it goes into.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd

from results.tables.grid import Cell, Table
from results.tables.latex import to_latex

# "-", "+1.2", "-0.31 ± 0.02, n=5", "-4.1 (+0.2)", "-1.5×": what begins with a sign and is ours
NUMBER = r"[+-][\d.]*[^\s=(]?( ± [\d.]+, n=\d+)?( \([+-][\d.]+\))?"
MAX_WIDTH = 100  # of a column in Markdown; one long name does not make every line as long
VALUE_COLUMNS = [
    *("block", "row_label", "method", "encoder", "pretrain_epochs", "setting", "variant"),
    *("dataset", "metric", "value", "std", "n", "shown", "delta", "p", "best"),
    *("deviations", "backbone_deviations", "records"),
]


def to_csv(table: Table) -> str:
    """The table as printed, one line per row."""
    names = ["Block", *table.stub, *(column.name for column in table.columns)]
    lines = [[row.block, *row.names, *(cell.text for cell in row.cells)] for row in table.rows]
    return _csv(pd.DataFrame(lines, columns=names))


def to_values_csv(table: Table) -> str:
    """Plain numbers, one line per cell that has any, with the records that it comes from."""
    cells = table.cells
    cells = cells[cells["n"] > 0]
    cells = cells[[name for name in VALUE_COLUMNS if name in cells.columns]].copy()
    for name in ("deviations", "backbone_deviations", "records"):
        cells[name] = cells[name].map(";".join)
    return _csv(cells)


def _csv(frame: pd.DataFrame) -> str:
    """A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    plain = frame.map(_not_a_formula).rename(columns=_not_a_formula)
    return plain.to_csv(index=False, lineterminator="\n")


def _not_a_formula(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    return value if re.fullmatch(NUMBER, value) else f"'{value}"


def to_markdown(table: Table) -> str:
    """GitHub's Markdown; readable in a terminal as well."""
    stub = len(table.stub)
    head = [*table.stub]
    for column in table.columns:
        name = f"{_markdown(column.group)} {column.label}".strip()
        head.append(name + _bracketed(column.mark))
    lines = []
    for title, rows in table.blocks():
        if title:
            lines.append([f"**{title}**", *[""] * (len(head) - 1)])
        lines += [[*map(_markdown, row.names), *map(_markdown_cell, row.cells)] for row in rows]
    widths = [max(3, *(len(line[i]) for line in [head, *lines])) for i in range(len(head))]
    widths = [min(width, MAX_WIDTH) for width in widths]
    rule = ["-" * w if i < stub else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    pads = [str.ljust] * stub + [str.rjust] * len(table.columns)
    padded = (
        [pad(text, width) for pad, text, width in zip(pads, line, widths, strict=True)]
        for line in [head, rule, *lines]
    )
    body = [f"| {' | '.join(line)} |" for line in padded]
    notes = [f"-{_bracketed(note.mark)} {_markdown(note.text)}" for note in table.notes]
    return "\n".join([f"### {_markdown(table.title)}", "", *body, "", *notes]).rstrip() + "\n"


class Trace(NamedTuple):
    """Where a cell of a page comes from."""

    title: str = ""  # what it shows on hover
    link: str = ""  # where it leads to
    sources: str = ""  # ids of the page's elements that say all of it, parted by spaces


def to_html(table: Table, trace: Callable[[Cell], Trace] = lambda cell: Trace()) -> str:
    """A `<table>` with its notes; `trace` is asked of every cell that has records."""
    head = ["<tr>"]
    head += [f'<th scope="col" rowspan="2">{html.escape(name)}</th>' for name in table.stub]
    for column, span in table.groups():
        name = html.escape(column.group) + _sup(column.mark)
        head.append(f'<th scope="colgroup" colspan="{span}">{name}</th>')
    head.append("</tr><tr>")
    head += [f'<th scope="col">{_html_label(column.label)}</th>' for column in table.columns]
    body = []
    for title, rows in table.blocks():
        body.append("<tbody>")
        if title:
            span = len(table.columns) + len(table.stub)
            body.append(
                f'<tr class="block"><th scope="rowgroup" colspan="{span}">{title}</th></tr>'
            )
        for row in rows:
            first, *names = map(html.escape, row.names)
            body.append(f'<tr><th scope="row">{first}</th>')
            body += [f'<td class="name">{name}</td>' for name in names]
            body += [_html_cell(c, trace(c) if c.records else Trace()) for c in row.cells]
            body.append("</tr>")
        body.append("</tbody>")
    notes = "".join(f"<li>{_sup(note.mark)}{html.escape(note.text)}</li>" for note in table.notes)
    return (
        f'<table class="results"><caption>{html.escape(table.title)}</caption>\n'
        f"<thead>{''.join(head)}</tr></thead>\n{''.join(body)}</table>\n"
        f'<ul class="notes">{notes}</ul>\n'
    )


def to_html_page(table: Table) -> str:
    """`to_html` as a document of its own."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(table.title)}</title></head>\n<body>\n{to_html(table)}</body></html>\n"
    )


FORMATS: dict[str, Callable[[Table], str]] = {
    ".csv": to_csv,
    "_values.csv": to_values_csv,
    ".md": to_markdown,
    ".tex": to_latex,
    ".html": to_html_page,
}


def _bracketed(mark: str) -> str:
    return f" [{mark}]" if mark else ""


def _markdown(text: str) -> str:
    """Escaped; an underscore inside a word needs no escape."""
    text = re.sub(r"([\\`*\[\]<>|#~&])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.value_text}**" if cell.best else cell.value_text
    delta = f" ({cell.delta_text})" if cell.delta_text else ""
    return text + delta + _bracketed(cell.mark)


def _html_label(text: str) -> str:
    return re.sub(r"\^(\w+)", r"<sup>\1</sup>", html.escape(text))


def _html_cell(cell: Cell, trace: Trace) -> str:
    value, sign, spread = html.escape(cell.value_text).partition(" ±")
    value = value.replace("-", "\N{MINUS SIGN}")
    value = f"<strong>{value}</strong>" if cell.best else value
    value = f'<a href="{html.escape(trace.link)}">{value}</a>' if trace.link else value
    delta = cell.delta_text.replace("-", "\N{MINUS SIGN}")
    delta = f' <span class="delta">({delta})</span>' if delta else ""
    delta = f' <span class="spread">{sign.strip()}{spread}</span>{delta}' if spread else delta
    shown = f' title="{html.escape(trace.title)}"' if trace.title else ""
    shown += f' data-sources="{html.escape(trace.sources)}"' if trace.sources else ""
    return f"<td{shown}>{value}{delta}{_sup(cell.mark)}</td>"


def _sup(mark: str) -> str:
    return f'<sup class="mark">{html.escape(mark)}</sup>' if mark else ""
