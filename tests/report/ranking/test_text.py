"""Rankings as Markdown and LaTeX: what a reader of the page sees, and that nothing in a name breaks it."""

import re
import shutil
import subprocess

import pytest
from ranking_cases import read, rows, run, three_flows, write_run
from records import by_path

from flowbench.report.ranking.columns import ranking
from flowbench.report.ranking.tables import tables
from flowbench.report.ranking.text import latex, markdown
from flowbench.results.record import Estimate

HOSTILE = "a_b&c%d$e#f{g}h~i^j\\k<l>m|n--o*`é€"


@pytest.fixture
def three(tmp_path):
    """A best line, one that is tied with it, and one that is not."""
    for flow, mean in {"maf": 0.0, "iaf": -0.003, "realnvp": -0.2}.items():
        write_run(tmp_path, flow, rows(mean))
    return ranking(read(tmp_path))


def hostile():
    """Names with all that means something to LaTeX or to Markdown."""
    gaussian = {"gaussian_test_ll_nats": Estimate(mean=9.0, stderr=0.1)}
    records = [run(HOSTILE, each, data=HOSTILE, settings={HOSTILE: each}, run="x", **gaussian) for each in (0.1, 0.2)]
    return [ranking(table) for table in tables(by_path(records))]


def written(records):
    return [ranking(table) for table in tables(by_path(records))]


class TestMarkdown:
    def test_every_column_is_in_a_pipe_table(self):
        (sheet,) = written(three_flows(data="patches"))
        lines = markdown([sheet]).splitlines()
        assert lines[0] == "### patches: 6 columns, 204,928 test rows, nats in standardised space"
        table = [line for line in lines if line.startswith("|")]
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
        assert cells[0] == [column.name for column in sheet.columns]
        assert {len(line) for line in cells} == {len(sheet.columns)}
        assert cells[1][:2] == [":---", "---:"]
        assert cells[2][:4] == ["maf 5 × (2×100)", "0.800", "**0.800 ± 0.013**", "best"]
        assert cells[3][2] == "0.400 ± 0.013"
        assert "- to best without ±" in markdown([sheet])

    def test_sections_are_rows(self):
        lines = markdown(written(three_flows())).splitlines()
        assert any(line.startswith("| *published* |") for line in lines)

    def test_names_are_only_text(self):
        table = [line for line in markdown(hostile()).splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
        assert r"h\~i^j\\k\<l>m\|n--o\*\`é€" in table[2]


class TestLatex:
    def test_the_best_is_bold_and_what_is_tied_is_underlined(self, three):
        lines = latex([three]).splitlines()
        cells = {line.split()[0]: line for line in lines if line.startswith(("maf", "iaf", "realnvp"))}
        assert r"\textbf{0.00 $\pm$ 0.62} & best" in cells["maf"] or r"\textbf{$-$0.00 $\pm$ 0.62}" in cells["maf"]
        assert r"\underline{" in cells["iaf"]
        assert not re.search(r"\\(underline|textbf)", cells["realnvp"])
        assert latex([three]).count(r"\textbf{") == latex([three]).count(r"\underline{") == 1

    def test_it_is_a_booktabs_table_for_each_data_with_units_in_its_header(self):
        text = latex(written([*three_flows(data="a"), run(data="b")]))
        assert text.count(r"\begin{table}") == text.count(r"\toprule") == text.count(r"\bottomrule") == 2
        header = text[text.index(r"\toprule") : text.index(r"\midrule")]
        assert header.count(r"$\mu$s/row") == 2
        assert " & nats & $\\pm$ 2 s.e. & " in header
        widths = {line.count(" & ") for line in text[: text.index(r"\bottomrule")].splitlines() if line.endswith(r"\\")}
        assert widths - {0} == {6}
        assert "% left out: train, passes d / s" in text

    def test_names_are_only_text(self):
        text = latex(hostile())
        assert (
            r"a\_b\&c\%d\$e\#f\{g\}h\textasciitilde{}i\textasciicircum{}j\textbackslash{}k$<$l$>$m$|$n-{}-o*`é" in text
        )
        assert "[U+20AC]" in text

    @pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX")
    def test_it_compiles_with_booktabs_alone(self, three, tmp_path):
        text = latex([three, *hostile(), *written(three_flows())])
        packages = r"\usepackage[utf8]{inputenc}\usepackage{booktabs}"
        document = rf"\documentclass{{article}}{packages}\begin{{document}}{text}\end{{document}}"
        (tmp_path / "t.tex").write_text(document)
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace")
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Overfull" not in done.stdout
