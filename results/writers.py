"""A `Table` as CSV, Markdown, LaTeX and HTML. All that is known of these formats stands here.

Labels of methods and metrics are ours; names of datasets, encoders and deviations come from records
and may hold anything, so every string is escaped for the format that it goes into.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pandas as pd

from results.tables import Table

Cell = dict[str, Any]
VALUE_COLUMNS = [
    *("block", "method", "encoder", "pretrain_epochs", "variant", "dataset", "metric"),
    *("value", "std", "n", "shown", "delta", "best"),
    *("deviations", "backbone_deviations", "records"),
]


class _Layout(NamedTuple):
    headings: list[Cell]  # one cell per column, for its labels
    blocks: list[tuple[str, list[list[Cell]]]]  # title ("" for the first), rows of cells

    def groups(self) -> Iterator[tuple[Cell, int]]:
        """Neighbouring columns of one dataset: the first, and how many there are."""
        start = 0
        for place, heading in enumerate([*self.headings[1:], None], start=1):
            if heading is None or heading["dataset"] != self.headings[start]["dataset"]:
                yield self.headings[start], place - start
                start = place


def _layout(table: Table) -> _Layout:
    rows: dict[int, list[Cell]] = {}
    for cell in table.cells.sort_values(["row", "column"]).to_dict("records"):
        rows.setdefault(cell["row"], []).append({str(k): v for k, v in cell.items()})
    blocks: list[tuple[str, list[list[Cell]]]] = []
    for row in rows.values():
        if not blocks or blocks[-1][0] != row[0]["block"]:
            blocks.append((row[0]["block"], []))
        blocks[-1][1].append(row)
    return _Layout(next(iter(rows.values())), blocks)


def to_csv(table: Table) -> str:
    """The table as printed, one line per row."""
    layout = _layout(table)
    names = ["Block", "Method", "Arch"]
    names += [f"{cell['group_label']} {cell['column_label']}" for cell in layout.headings]
    lines = [
        [title, row[0]["method_label"], row[0]["arch_label"], *(cell["text"] for cell in row)]
        for title, rows in layout.blocks
        for row in rows
    ]
    return pd.DataFrame(lines, columns=names).to_csv(index=False, lineterminator="\n")


def to_values_csv(table: Table) -> str:
    """Plain numbers, one line per cell that has any, with the records that it comes from."""
    cells = table.cells[table.cells["n"] > 0]
    cells = cells[[name for name in VALUE_COLUMNS if name in cells.columns]].copy()
    for name in ("deviations", "backbone_deviations", "records"):
        cells[name] = cells[name].map(";".join)
    return cells.to_csv(index=False, lineterminator="\n")


def to_markdown(table: Table) -> str:
    """GitHub's Markdown; readable in a terminal as well."""
    layout = _layout(table)
    head = ["Method", "Arch"]
    for cell in layout.headings:
        name = f"{_markdown(cell['group_label'])} {cell['column_label']}"
        head.append(name + _bracketed(cell["group_mark"]))
    lines = []
    for title, rows in layout.blocks:
        if title:
            lines.append([f"**{title}**", *[""] * (len(head) - 1)])
        lines += [
            [
                row[0]["method_label"],
                _markdown(row[0]["arch_label"]),
                *(_markdown_cell(cell) for cell in row),
            ]
            for row in rows
        ]
    widths = [max(3, *(len(line[i]) for line in [head, *lines])) for i in range(len(head))]
    rule = ["-" * width for width in widths[:2]] + ["-" * (w - 1) + ":" for w in widths[2:]]
    body = [
        "| " + " | ".join(_pad(text, i, widths[i]) for i, text in enumerate(line)) + " |"
        for line in [head, rule, *lines]
    ]
    notes = [f"- {_bracketed(note.mark)} {_markdown(note.text)}" for note in table.notes]
    notes = [note.replace("-  ", "- ") for note in notes]
    return "\n".join([f"### {_markdown(table.title)}", "", *body, "", *notes]).rstrip() + "\n"


def to_latex(table: Table) -> str:
    r"""A `table` float for a document that says \usepackage{booktabs}."""
    layout = _layout(table)
    width = len(layout.headings) + 2
    groups, rules, place = [], [], 3
    for cell, span in layout.groups():
        name = _latex(cell["group_label"]) + _raised(cell["group_mark"])
        groups.append(rf"\multicolumn{{{span}}}{{c}}{{{name}}}")
        rules.append(rf"\cmidrule(lr){{{place}-{place + span - 1}}}")
        place += span
    labels = [_latex_label(cell["column_label"]) for cell in layout.headings]
    lines = [
        rf"\begin{{tabular}}{{ll{'r' * len(layout.headings)}}}",
        r"\toprule",
        " & ".join(["Method", "Arch", *groups]) + r" \\",
        " ".join(rules),
        " & ".join(["", "", *labels]) + r" \\",
    ]
    for title, rows in layout.blocks:
        lines.append(r"\midrule")
        if title:
            lines += [rf"\multicolumn{{{width}}}{{c}}{{{title}}} \\", r"\midrule"]
        for row in rows:
            names = [row[0]["method_label"], _latex(row[0]["arch_label"])]
            lines.append(" & ".join([*names, *map(_latex_cell, row)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = [f"{_raised(note.mark)}{_latex(note.text)}" for note in table.notes]
    if notes:
        lines += ["", r"\smallskip", r"{\footnotesize " + r"\\".join(notes) + r"\par}"]
    caption = rf"\caption{{{_latex(table.title)}}}"
    return "\n".join([r"\begin{table}[t]", r"\centering", caption, *lines, r"\end{table}"]) + "\n"


def to_html(table: Table, trace: Callable[[Cell], tuple[str, str]] = lambda cell: ("", "")) -> str:
    """A `<table>` with its notes; `trace` says what a cell shows on hover and where it links to."""
    layout = _layout(table)
    head = ['<tr><th scope="col" rowspan="2">Method</th><th scope="col" rowspan="2">Arch</th>']
    for cell, span in layout.groups():
        name = html.escape(cell["group_label"]) + _sup(cell["group_mark"])
        head.append(f'<th scope="colgroup" colspan="{span}">{name}</th>')
    head.append("</tr><tr>")
    head += [f'<th scope="col">{_html_label(c["column_label"])}</th>' for c in layout.headings]
    body = []
    for title, rows in layout.blocks:
        body.append("<tbody>")
        if title:
            span = len(layout.headings) + 2
            body.append(
                f'<tr class="block"><th scope="rowgroup" colspan="{span}">{title}</th></tr>'
            )
        for row in rows:
            body.append(f'<tr><th scope="row">{html.escape(row[0]["method_label"])}</th>')
            body.append(f"<td>{html.escape(row[0]['arch_label'])}</td>")
            body += [
                _html_cell(cell, *(trace(cell) if cell["records"] else ("", ""))) for cell in row
            ]
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


def _pad(text: str, column: int, width: int) -> str:
    return text.ljust(width) if column < 2 else text.rjust(width)


def _bracketed(mark: str) -> str:
    return f" [{mark}]" if mark else ""


def _markdown(text: str) -> str:
    """Escaped; an underscore inside a word needs no escape."""
    text = re.sub(r"([\\`*\[\]<>|#~&])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell['value_text']}**" if cell["best"] else cell["value_text"]
    delta = f" ({cell['delta_text']})" if cell["delta_text"] else ""
    return text + delta + _bracketed(cell["mark"])


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{EM DASH}": "---",
    "±": r"$\pm$",
    "×": r"$\times$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
} | {sign: rf"\{sign}" for sign in "&%$#_{}"}


def _latex(text: str) -> str:
    """Escaped; a character that plain LaTeX has no glyph for is named by its code point."""

    def one(sign: str) -> str:
        if sign in _LATEX:
            return _LATEX[sign]
        if not sign.isprintable():
            return " "
        plain = unicodedata.normalize("NFD", sign)[0]
        known = sign.isascii() or (plain.isascii() and ord(sign) < 0x100)  # "a", "\xe4"
        return sign if known else rf"\texttt{{U+{ord(sign):04X}}}"

    return "".join(map(one, text))


def _latex_label(text: str) -> str:
    """Plain characters and, after a caret, a raised word."""
    return re.sub(r"\^(\w+)", lambda found: _raised(found[1]), text)


def _latex_cell(cell: Cell) -> str:
    text = _latex(cell["value_text"])
    text = re.sub(r"^([+-])([\d.]+)$", r"$\1\2$", text)
    text = rf"\textbf{{{text}}}" if cell["best"] else text
    delta = f" (${cell['delta_text']}$)" if cell["delta_text"] else ""
    return text + delta + _raised(cell["mark"])


def _raised(mark: str) -> str:
    return rf"$^{{\mathrm{{{mark}}}}}$" if mark else ""


def _html_label(text: str) -> str:
    return re.sub(r"\^(\w+)", r"<sup>\1</sup>", html.escape(text))


def _html_cell(cell: Cell, title: str, link: str) -> str:
    value, sign, spread = html.escape(cell["value_text"]).partition(" ±")
    value = value.replace("-", "\N{MINUS SIGN}")
    value = f"<strong>{value}</strong>" if cell["best"] else value
    value = f'<a href="{html.escape(link)}">{value}</a>' if link else value
    delta = cell["delta_text"].replace("-", "\N{MINUS SIGN}")
    delta = f' <span class="delta">({delta})</span>' if delta else ""
    delta = f' <span class="spread">{sign.strip()}{spread}</span>{delta}' if spread else delta
    shown = f' title="{html.escape(title)}"' if title else ""
    return f"<td{shown}>{value}{delta}{_sup(cell['mark'])}</td>"


def _sup(mark: str) -> str:
    return f'<sup class="mark">{html.escape(mark)}</sup>' if mark else ""
