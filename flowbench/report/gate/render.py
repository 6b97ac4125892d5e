"""What a gate found, as a terminal, a page, a CI server or a program reads it. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from xml.etree import ElementTree

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from flowbench.report.gate.findings import FAILING, PASSING, Finding, Measured, counted, document, exit_code
from flowbench.report.layout import decimals, plain, significant
from flowbench.report.outputs import Output, write

FORMS = ("table", "markdown", "junit", "json")

HEADINGS = ("", "verdict", "baseline", "now", "change (95%)", "would find")

_STYLES = {"worse": "bold red", "better": "green", "same": "green", "new": "cyan"}
_SCALES = {"us": (1e-3, "ms"), "bytes": (1e-6, "MB")}


def print_findings(findings: Sequence[Finding], to: Sequence[Output], title: str) -> None:
    """In each form to its file or to stdout; ``title`` says what was held against what.

    Raises:
        UsageError: a file cannot be written.
    """
    write(to, lambda form, console: _print(findings, form, title, console))


def _print(findings: Sequence[Finding], form: str, title: str, console: Console) -> None:
    if form == "json":
        console.out(json.dumps({"title": title} | document(findings), indent=2, allow_nan=False))
    elif form == "table":
        console.print(_table(findings, title))
    else:
        console.out(junit(findings, title) if form == "junit" else markdown(findings, title))


def markdown(findings: Sequence[Finding], title: str) -> str:
    """A heading, what was found in one line, and a table; notes are a column."""
    passed = "passed" if exit_code(findings) == 0 else "not passed"
    head = [f"### {title}", "", f"**{passed}**: {counted(findings)}", ""]
    cells = [_cells(finding) for finding in findings]
    rows = [
        [*map(_markdown_cell, [*line, "; ".join(finding.notes)])] for line, finding in zip(cells, findings, strict=True)
    ]
    for row, finding in zip(rows, findings, strict=True):
        row[1] = row[1] if finding.verdict in PASSING else f"**{row[1]}**"
    table = [[*HEADINGS, "note"], ["---", "---", *["--:"] * 4, "---"], *rows]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in table)])


def junit(findings: Sequence[Finding], title: str) -> str:
    """One test case a line: a failure where the gate fails, an error where it cannot tell, so that neither passes."""
    failures = sum(finding.verdict in FAILING for finding in findings)
    errors = sum(finding.verdict not in FAILING | PASSING for finding in findings)
    counts = {"tests": str(len(findings)), "failures": str(failures), "errors": str(errors)}
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": title} | counts)
    for finding in findings:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "flowbench", "name": finding.what})
        text = ", ".join(f"{name} {cell}" for name, cell in zip(HEADINGS[2:], _cells(finding)[2:], strict=True) if cell)
        if finding.verdict not in PASSING:
            kind = "failure" if finding.verdict in FAILING else "error"
            message = f"{finding.verdict}: {'; '.join(finding.notes) or text}"
            problem = ElementTree.SubElement(case, kind, {"type": finding.verdict, "message": message})
            problem.text = text
        else:
            said = ElementTree.SubElement(case, "system-out")
            said.text = "; ".join(filter(None, (finding.verdict, text, *finding.notes)))
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)


def _table(findings: Sequence[Finding], title: str) -> Group:
    notes = list(dict.fromkeys(note for finding in findings for note in finding.notes))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if index > 1 else "left", overflow="fold")
    for finding in findings:
        what, verdict, *figures = _cells(finding)
        style = _STYLES.get(verdict, "bold red" if finding.verdict in FAILING else "yellow")
        marks = "".join(f" [{notes.index(note) + 1}]" for note in finding.notes)
        table.add_row(plain(what), Text.assemble((verdict, style), (marks, "dim")), *map(plain, figures))
    said = [plain(f"[{number}] {note}", "dim") for number, note in enumerate(notes, start=1)]
    outcome = {0: "passed", 1: "not passed", 3: "not decided"}[exit_code(findings)]
    return Group(plain(title, "bold"), table, *said, plain(f"{outcome}: {counted(findings)}", "bold"))


def _cells(finding: Finding) -> tuple[str, ...]:
    measured = finding.measured
    if measured is None:
        return finding.what, finding.verdict, "", "", "", ""
    figures = _nats(measured) if measured.unit == "nats" else _ratio(measured)
    return finding.what, finding.verdict, *figures


def _nats(measured: Measured) -> tuple[str, ...]:
    """Two digits of the error; signs, since a gain is above zero."""
    half = None if measured.high is None else measured.high - measured.change
    places = max(decimals(half / 2), 2) if half else 4
    error = f" ± {half:.{places}f}" if half is not None else ""
    change = f"{measured.change:+.{places}f}{error}"
    found = "no loss" if measured.least_found is None else f"-{measured.least_found:.{places}f}"
    return f"{measured.baseline:.{places}f}", f"{measured.new:.{places}f}", f"{change} nats", found


def _ratio(measured: Measured) -> tuple[str, ...]:
    scale, unit = _SCALES[measured.unit]
    values = [f"{significant(value * scale)} {unit}" for value in (measured.baseline, measured.new)]
    interval = "" if measured.low is None else f" ({measured.low:.3f}–{measured.high:.3f})"
    found = "" if measured.least_found is None else f"{measured.least_found:.2f}×"
    return *values, f"{measured.change:.3f}×{interval}", found


def _markdown_cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
