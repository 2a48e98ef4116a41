"""A `Table` as LaTeX with booktabs and graphicx. All that is known of LaTeX stands here.

Names of datasets, encoders and deviations come from records and may hold anything, so every string
is escaped.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata

from results.tables.grid import Cell, Table

LONG = 32  # characters; a text in a cell that is longer goes over several lines
LONG_HEADING = 7  # so does a heading, of so many characters for every column below it
FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"  # never enlarged


def to_latex(table: Table) -> str:
    r"""A `table` float for a document that says \usepackage{booktabs,graphicx}.

    A table that is wider than the line is scaled down to it.
    """
    stub = [_latex(heading) for heading in table.stub]
    width = len(table.columns) + len(stub)
    groups, rules, place = [], [], len(stub) + 1
    for column, span in table.groups():
        name = _heading(column.group, column.mark, span, "c")
        groups.append(rf"\multicolumn{{{span}}}{{c}}{{{name}}}")
        if name:
            rules.append(rf"\cmidrule(lr){{{place}-{place + span - 1}}}")
        place += span
    sides = _alignment(table)
    labels = [_heading(c.label, "", 1, side) for c, side in zip(table.columns, sides, strict=True)]
    lines = [
        r"\setlength{\tabcolsep}{4pt}",
        rf"{FITTED}{{\begin{{tabular}}{{{'l' * len(stub)}{sides}}}",
        r"\toprule",
        *([" & ".join([*[""] * len(stub), *groups]) + r" \\", " ".join(rules)] if rules else []),
        " & ".join([*stub, *labels]) + r" \\",
    ]
    for title, rows in table.blocks():
        lines.append(r"\midrule")
        if title:
            lines += [rf"\multicolumn{{{width}}}{{c}}{{{title}}} \\", r"\midrule"]
        for row in rows:
            texts = [*map(_latex, row.names), *map(_latex_cell, row.cells)]
            lines.append(" & ".join(texts) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    notes = [f"{_raised(note.mark)}{_latex(note.text)}" for note in table.notes]
    if notes:
        lines += ["", r"\smallskip", r"{\footnotesize\raggedright " + r"\\".join(notes) + r"\par}"]
    caption = rf"\caption{{{_latex(_caption(table.title))}}}\smallskip"
    return "\n".join([r"\begin{table}[t]", r"\centering", caption, *lines, r"\end{table}"]) + "\n"


def _caption(title: str) -> str:
    """LaTeX numbers tables itself, so the paper's number goes to the end."""
    text = re.sub(r"^(Table \d+): (.*)$", r"\2 (the paper's \1)", title)
    return text[:1].upper() + text[1:]


def _alignment(table: Table) -> str:
    """Numbers to the right, columns of long texts to the left."""
    columns = zip(*(row.cells for row in table.rows), strict=True)
    return "".join("l" if any(map(_is_long_text, column)) else "r" for column in columns)


def _is_long_text(cell: Cell) -> bool:
    return cell.n == 0 and len(cell.value_text) > LONG


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

    apart = re.split(r"(?<=[-`',])(?=[-`',])", text)  # "--" is two hyphens, not a dash
    return "{}".join("".join(map(one, part)) for part in apart)


def _heading(text: str, mark: str, columns: int, side: str) -> str:
    """Escaped, a word after a caret raised; over several lines if it is wide for its columns."""
    *lines, last = map(_latex_label, _wrap(text, columns * LONG_HEADING) or [""])
    return _stacked([*lines, last + _raised(mark)], "b", side)


def _latex_label(text: str) -> str:
    plain, *raised = re.split(r"\^(\w+)", text)
    rest = (_raised(s) if i % 2 == 0 else _latex(s) for i, s in enumerate(raised))
    return _latex(plain) + "".join(rest)


def _wrap(text: str, width: int) -> list[str]:
    """Lines of whole words; a product is one."""
    whole = text.replace(" × ", "\xa0×\xa0")
    return textwrap.wrap(whole, width, break_long_words=False, break_on_hyphens=False)


def _stacked(lines: list[str], place: str, side: str) -> str:
    """Lines below each other; their top ("t") or bottom ("b") line is that of the row."""
    if len(lines) < 2:
        return "".join(lines)
    body = r" \\ ".join(lines)
    return rf"\begin{{tabular}}[{place}]{{@{{}}{side}@{{}}}}{body}\end{{tabular}}"


def _latex_cell(cell: Cell) -> str:
    if _is_long_text(cell):
        return _stacked([_latex(line) for line in _wrap(cell.value_text, LONG)], "t", "l")
    value, sign, spread = cell.value_text.partition("±")
    value = value.rstrip()
    text = re.sub(r"^([+-])([\d.]+)$", r"$\1\2$", _latex(value))
    text = rf"\textbf{{{text}}}" if cell.best else text
    text += rf"{{\scriptsize~{_latex(sign + spread)}}}" if sign else ""
    delta = f" (${cell.delta_text}$)" if cell.delta_text else ""
    return text + delta + _raised(cell.mark)


def _raised(mark: str) -> str:
    return rf"$^{{\mathrm{{{mark}}}}}$" if mark else ""
