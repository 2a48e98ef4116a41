"""A `Table` as LaTeX with booktabs. All that is known of LaTeX stands here.

Names of datasets, encoders and deviations come from records and may hold anything, so every string
is escaped.
"""

from __future__ import annotations

import re
import unicodedata

from results.cells import Cell
from results.layout import layout_of
from results.tables import Table


def to_latex(table: Table) -> str:
    r"""A `table` float for a document that says \usepackage{booktabs}."""
    layout = layout_of(table)
    stub = [_latex(heading) for heading, _ in layout.stub]
    width = len(layout.headings) + len(stub)
    groups, rules, place = [], [], len(stub) + 1
    for cell, span in layout.groups():
        name = _latex(cell["group_label"]) + _raised(cell["group_mark"])
        groups.append(rf"\multicolumn{{{span}}}{{c}}{{{name}}}")
        rules.append(rf"\cmidrule(lr){{{place}-{place + span - 1}}}")
        place += span
    labels = [_latex_label(cell["column_label"]) for cell in layout.headings]
    lines = [
        rf"\begin{{tabular}}{{{'l' * len(stub)}{'r' * len(layout.headings)}}}",
        r"\toprule",
        " & ".join([*stub, *groups]) + r" \\",
        " ".join(rules),
        " & ".join([*[""] * len(stub), *labels]) + r" \\",
    ]
    for title, rows in layout.blocks:
        lines.append(r"\midrule")
        if title:
            lines += [rf"\multicolumn{{{width}}}{{c}}{{{title}}} \\", r"\midrule"]
        for row in rows:
            names = map(_latex, layout.names(row))
            lines.append(" & ".join([*names, *map(_latex_cell, row)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = [f"{_raised(note.mark)}{_latex(note.text)}" for note in table.notes]
    if notes:
        lines += ["", r"\smallskip", r"{\footnotesize " + r"\\".join(notes) + r"\par}"]
    caption = rf"\caption{{{_latex(table.title)}}}"
    return "\n".join([r"\begin{table}[t]", r"\centering", caption, *lines, r"\end{table}"]) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{EM DASH}": "---",
    "±": r"$\pm$",
    "×": r"$\times$",
    "✓": r"$\surd$",
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
    """Escaped, and the word after a caret raised."""
    plain, *raised = re.split(r"\^(\w+)", text)
    rest = (_raised(s) if i % 2 == 0 else _latex(s) for i, s in enumerate(raised))
    return _latex(plain) + "".join(rest)


def _latex_cell(cell: Cell) -> str:
    text = _latex(cell["value_text"])
    text = re.sub(r"^([+-])([\d.]+)$", r"$\1\2$", text)
    text = rf"\textbf{{{text}}}" if cell["best"] else text
    delta = f" (${cell['delta_text']}$)" if cell["delta_text"] else ""
    return text + delta + _raised(cell["mark"])


def _raised(mark: str) -> str:
    return rf"$^{{\mathrm{{{mark}}}}}$" if mark else ""
