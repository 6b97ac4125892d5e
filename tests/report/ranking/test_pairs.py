"""The matrix of paired differences."""

import csv
import io
import json

import numpy as np
import pytest
from ranking_cases import read, rows, write_run
from rich.console import Console
from scipy import stats

from flowbench.errors import NothingToCompareError
from flowbench.report.outputs import Output
from flowbench.report.ranking import pairs
from flowbench.report.ranking.pairs import matrices, matrix_sheet
from flowbench.report.ranking.sheet import show
from flowbench.report.ranking.write import write_pairs
from flowbench.results.inference import holm

MEANS = {"maf": 0.0, "iaf": -0.003, "realnvp": -0.2}


@pytest.fixture
def table(tmp_path):
    for flow, mean in MEANS.items():
        write_run(tmp_path, flow, rows(mean))
    return read(tmp_path)


def shown(sheet, width):
    out = io.StringIO()
    show([sheet], Console(file=out, color_system=None, force_terminal=True, width=width))
    return out.getvalue()


def test_each_pair_is_row_minus_column_with_students_interval(table):
    (matrix,) = matrices([table])
    assert [(pair.row, pair.column) for pair in matrix.pairs] == [(0, 1), (0, 2), (1, 2)]
    for pair in matrix.pairs:
        row, column = (list(MEANS)[index] for index in (pair.row, pair.column))
        expected = stats.ttest_rel(rows(MEANS[row]), rows(MEANS[column]))
        interval = expected.confidence_interval(0.95)
        assert pair.difference.mean == pytest.approx(MEANS[row] - MEANS[column], abs=1e-6)
        assert pair.difference.mean - pair.half_width == pytest.approx(interval.low)
        assert pair.difference.mean + pair.half_width == pytest.approx(interval.high)
    separate = [
        stats.ttest_rel(rows(MEANS[a]), rows(MEANS[b])).pvalue
        for a, b in (("maf", "iaf"), ("maf", "realnvp"), ("iaf", "realnvp"))
    ]
    assert [pair.p for pair in matrix.pairs] == pytest.approx(list(holm(separate)), rel=1e-3, abs=0)


def test_it_is_antisymmetric_and_what_is_no_chance_is_starred(table):
    sheet = matrix_sheet(matrices([table])[0])
    cells = np.array([column.cells for column in sheet.columns[1:]]).T
    assert all(cells[i, i] == "" for i in range(3))
    assert cells[0, 2].startswith("+0.2000*\n± 0.0")
    assert cells[2, 0] == cells[0, 2].replace("+", "-")
    assert "*" not in cells[0, 1] + cells[1, 0]


def test_a_terminal_shows_the_first_and_says_so(tmp_path, monkeypatch):
    for n in range(14):
        write_run(tmp_path, lls=rows(-0.1 * n), settings={"n": n})
    (matrix,) = matrices([read(tmp_path)])
    assert len(matrix.pairs) == 14 * 13 / 2
    text = shown(matrix_sheet(matrix, pairs.MOST_SHOWN), 160)
    assert "12 maf 5" in text
    assert "13 maf 5" not in text
    assert "the first 12 of 14 lines" in text
    text = shown(matrix_sheet(matrix, pairs.MOST_SHOWN), 60)
    assert "n=0" in text
    assert max(map(len, text.splitlines())) <= 60
    assert "left out at this width" in text
    monkeypatch.setattr(pairs, "MOST", 5)
    (matrix,) = matrices([read(tmp_path)])
    assert len(matrix.pairs) == 10
    assert "the first 5 of 14 lines are paired" in matrix.notes


def test_lines_without_the_same_rows_are_left_out(tmp_path, table):
    write_run(tmp_path, "alone", None, nats=0.1)
    write_run(tmp_path, "short", rows(0.2, n=10))  # the best
    (matrix,) = matrices([read(tmp_path)])
    assert [line.record.task.flow for line in matrix.table.lines] == ["maf", "iaf", "realnvp"]
    assert any(note.startswith("not paired") and ": 2 of " in note for note in matrix.notes)


def test_no_pair_is_an_error(tmp_path):
    write_run(tmp_path, lls=rows())
    with pytest.raises(NothingToCompareError, match="no two lines"):
        matrices([read(tmp_path)])


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "csv", "json"])
def test_every_form_has_all_pairs(table, tmp_path, form):
    path = tmp_path / "out"
    write_pairs([table], [Output(form, path)])
    text = path.read_text()
    if form == "csv":
        found = list(csv.DictReader(io.StringIO(text)))
        assert [row["is_significant"] for row in found] == ["False", "True", "True"]
        assert found[1]["row"] == "maf 5 × (2×100)"
        assert float(found[1]["low_nats"]) < 0.2 < float(found[1]["high_nats"])
    elif form == "json":
        (found,) = json.loads(text)["tables"]
        assert [(pair["row"], pair["column"]) for pair in found["pairs"]] == [(0, 1), (0, 2), (1, 2)]
        assert found["lines"][2]["model"] == "realnvp 5 × (2×100)"
    else:
        assert text.count("+0.2000*") + text.count(r"+0.2000\*") == 1
        assert len([line for line in text.splitlines() if "realnvp" in line]) == 1
