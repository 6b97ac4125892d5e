"""Sheets as Markdown, with every column, and as LaTeX, with those that a page has room for. No torch."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from flowbench.report.layout import LAST, Column
from flowbench.report.ranking.sheet import Sheet

IN_MARKDOWN = {ord(character): f"\\{character}" for character in "\\|*`<~"}

IN_LATEX = {ord(character): f"\\{character}" for character in "&%$#_{}"} | {
    ord("\\"): r"\textbackslash{}",
    ord("~"): r"\textasciitilde{}",
    ord("^"): r"\textasciicircum{}",
    ord("<"): r"$<$",
    ord(">"): r"$>$",
    ord("|"): r"$|$",
    0: "{}",
    ord("±"): r"$\pm$",
    ord("×"): r"$\times$",
    ord("µ"): r"$\mu$",
    ord("▼"): r"$\bigtriangledown$",
    ord("–"): "--",
    ord("…"): r"\ldots{}",
    ord("·"): r"$\cdot$",
}

ACCENTS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327"
"""Those that LaTeX's oldest fonts have, and so everybody's."""

LETTERS = "æÆœŒøØłŁß"


def markdown(sheets: Sequence[Sheet]) -> str:
    """One pipe table a sheet, the best line's likelihood in bold."""
    return "\n".join(_markdown(each) for each in sheets)


def _markdown(found: Sheet) -> str:
    columns = found.columns
    ruler = ["---:" if column.right else ":---" for column in columns]
    rows = [[column.name.translate(IN_MARKDOWN) for column in columns], ruler]
    for index in range(len(columns[0].cells)):
        if found.sections.get(index):
            rows.append([f"*{found.sections[index]}*", *[""] * (len(columns) - 1)])
        rows.append([_markdown_cell(column, index) for column in columns])
    table = [f"| {' | '.join(row)} |" for row in rows]
    above = [f"### {found.heading.translate(IN_MARKDOWN)}", ""]
    above += [f"All runs: {found.common.translate(IN_MARKDOWN)}", ""] if found.common else []
    below = ["", *(f"- {note.removeprefix('* ').translate(IN_MARKDOWN)}" for note in found.notes)]
    return "\n".join([*above, *table, *(below if found.notes else []), ""])


def _markdown_cell(column: Column, index: int) -> str:
    text = _one_line(column.cells[index]).translate(IN_MARKDOWN)
    return f"**{text}**" if text and "bold" in _style(column, index) else text


def latex(sheets: Sequence[Sheet]) -> str:
    r"""One ``table`` a sheet, for a document that loads booktabs: the best in bold, what is tied with it underlined."""
    return "\n".join(_latex(each) for each in sheets)


def _latex(found: Sheet) -> str:
    columns = [column for column in found.columns if column.folds or column.rank <= LAST]
    left_out = [column.name for column in found.columns if column not in columns]
    headers = [column.header.split("\n") for column in columns]
    tallest = max(map(len, headers))
    rows = zip(*([""] * (tallest - len(header)) + header for header in headers), strict=True)
    body = [*(" & ".join(map(_escaped, row)) + r" \\" for row in rows), r"\midrule"]
    for index in range(len(columns[0].cells)):
        if index in found.sections:
            title = _escaped(found.sections[index])
            body.append(r"\addlinespace")
            body += [rf"\multicolumn{{{len(columns)}}}{{l}}{{\emph{{{title}}}}} \\"] if title else []
        body.append(" & ".join(_latex_cell(column, index) for column in columns) + r" \\")
    notes = [
        *([f"All runs: {found.common}"] if found.common else []),
        *(note.removeprefix("* ") for note in found.notes),
    ]
    return "\n".join(
        [
            *([f"% left out: {', '.join(left_out)}; --format csv has all"] if left_out else []),
            r"\begin{table}",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{_escaped(found.heading)}}}",
            r"\makebox[\linewidth]{%",  # what is wider than the text stands in both margins
            rf"\begin{{tabular}}{{{''.join('r' if column.right else 'l' for column in columns)}}}",
            r"\toprule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            *(rf"\par\smallskip\raggedright {_escaped(note)}" for note in notes),
            r"\end{table}",
            "",
        ]
    )


def _latex_cell(column: Column, index: int) -> str:
    text, style = _one_line(column.cells[index]), _style(column, index)
    minus, text = ("$-$", text[1:]) if column.right and text.startswith("-") else ("", text)
    text = minus + _escaped(text)
    if text and "underline" in style:
        return rf"\underline{{{text}}}"
    return rf"\textbf{{{text}}}" if text and "bold" in style else text


def _escaped(text: str) -> str:
    return "".join(map(_letter, text)).replace("--", "-\0-").translate(IN_LATEX)  # two hyphens are no dash


def _letter(character: str) -> str:
    """A character that LaTeX's fonts have, or its number."""
    if character.isascii() or ord(character) in IN_LATEX or character in LETTERS:
        return character
    parts = unicodedata.normalize("NFD", character)
    known = parts[0].isascii() and len(parts) == 2 and parts[1] in ACCENTS
    return character if known else f"[U+{ord(character):04X}]"


def _style(column: Column, index: int) -> str:
    return column.styles[index] if index < len(column.styles) else ""


def _one_line(cell: str) -> str:
    return " ".join(cell.split())
