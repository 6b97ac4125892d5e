"""What a gate prints."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from flowbench.errors import UsageError
from flowbench.report.gate import render
from flowbench.report.gate.findings import Finding, Measured
from flowbench.report.outputs import outputs

LOSS = Measured("nats", -1.0, -1.5, -0.5, -0.6, -0.4, 0.1)
SLOWER = Measured("us", 12.0, 18.0, 1.5, 1.4, 1.6, 1.2)
FINDINGS = [
    Finding("maf on d", "worse", LOSS, ("seeds: 5 before, 1 now",)),
    Finding("maf density @ 100", "same", SLOWER),
    Finding("iaf | <odd> on d", "missing", notes=("in the baseline, but not among the new runs",)),
    Finding("realnvp on d", "new"),
]


def printed(capsys, form):
    render.print_findings(FINDINGS, outputs([form], render.FORMS), "new against old")
    return capsys.readouterr().out


class TestForms:
    def test_table(self, capsys):
        text = printed(capsys, "table")
        line = next(line for line in text.splitlines() if line.startswith("maf on d"))
        assert line.split() == [
            "maf", "on", "d", "worse", "[1]", "-1.000", "-1.500", "-0.500", "±", "0.100", "nats", "-0.100"
        ]  # fmt: skip
        assert "[1] seeds: 5 before, 1 now" in text
        assert "1.500× (1.400–1.600)" in text
        assert text.splitlines()[-1] == "not passed: 1 worse, 1 missing, 1 new, 1 same"

    def test_markdown(self, capsys):
        lines = printed(capsys, "markdown").splitlines()
        assert lines[0] == "### new against old"
        table = [line for line in lines if line.startswith("|")]
        assert len(table) == 2 + len(FINDINGS)
        assert {line.replace("\\|", "").count("|") for line in table} == {8}
        assert "**worse**" in table[2]
        assert "**same**" not in table[3]

    def test_junit(self, capsys):
        suites = ElementTree.fromstring(printed(capsys, "junit"))
        assert suites.attrib == {"tests": "4", "failures": "1", "errors": "1"}
        cases = {case.attrib["name"]: case for case in suites.iter("testcase")}
        assert list(cases) == [finding.what for finding in FINDINGS]
        assert cases["maf on d"].find("failure").attrib["type"] == "worse"
        assert cases["iaf | <odd> on d"].find("error").attrib["message"].startswith("missing: in the baseline")
        assert cases["realnvp on d"].find("failure") is cases["realnvp on d"].find("error") is None

    def test_json(self, capsys):
        document = json.loads(printed(capsys, "json"))
        assert (document["title"], document["exit_code"]) == ("new against old", 1)
        worse, same, *_ = document["findings"]
        assert worse["change_nats"] == -0.5
        assert same["baseline_us"] == 12.0
        assert same["change_ratio"] == 1.5

    def test_an_unknown_one(self):
        with pytest.raises(UsageError, match="unknown format 'junt'") as caught:
            outputs(["junt"], render.FORMS)
        assert "did you mean junit" in caught.value.hint

    def test_several_at_once(self, capsys, tmp_path):
        path = tmp_path / "gate.xml"
        render.print_findings(FINDINGS, outputs(["markdown", f"junit={path}"], render.FORMS), "ÄÖ")
        assert capsys.readouterr().out.startswith("### ÄÖ")
        assert ElementTree.fromstring(path.read_text("utf-8")).attrib["tests"] == "4"

    def test_two_for_stdout(self):
        with pytest.raises(UsageError, match="two formats for stdout"):
            outputs(["markdown", "json"], render.FORMS)

    def test_a_file_that_cannot_be_written(self, tmp_path):
        with pytest.raises(UsageError, match="cannot be written"):
            render.print_findings(FINDINGS, outputs([f"json={tmp_path}"], render.FORMS), "x")


def test_a_terminal_gets_no_control_characters(capsys):
    render.print_findings([Finding("a\x1b[31m", "new", notes=("b\x1b[0m",))], outputs(["table"], render.FORMS), "c\x1b")
    assert "\x1b" not in capsys.readouterr().out
