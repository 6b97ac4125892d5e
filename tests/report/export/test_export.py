"""All runs as one table: every figure in a documented column, typed, and nothing in it that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import pyarrow as pa
import pytest
from pyarrow import parquet
from pydantic import BaseModel
from records import full_record, make_record, timing
from typer.testing import CliRunner

from flowbench.cli.app import app
from flowbench.errors import NothingToCompareError, UsageError
from flowbench.report.export import table as exporting
from flowbench.report.export.columns import COLUMNS, CORE, LEFT_OUT
from flowbench.report.export.table import table
from flowbench.report.export.write import write_table
from flowbench.report.outputs import Output
from flowbench.results import store
from flowbench.results.record import RunRecord

ROOT = Path("results")


def written(*records: RunRecord, to: Path) -> tuple[list[dict[str, str]], pa.Table]:
    """The records as CSV has them, and as Parquet has them."""
    found = table({ROOT / f"{record.run}.json": record for record in records}, ROOT)
    write_table(found, [Output("csv", to / "runs.csv"), Output("parquet", to / "runs.parquet")])
    text = (to / "runs.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text, newline=""))), parquet.read_table(to / "runs.parquet")


def leaves(model: type[BaseModel], before: str = "") -> set[str]:
    """The paths of all fields that are no parts of their own."""
    found = set()
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if kind is not NoneType]
        nested = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        path = f"{before}{name}"
        if path in LEFT_OUT or not nested:
            found.add(path)
        else:
            found |= leaves(nested[0], f"{path}.")
    return found


def test_every_field_of_a_record_is_in_a_column_or_left_out_for_a_reason() -> None:
    sources = {column.source for column in COLUMNS if column.source}
    sources = {"task.rows_sha256" if source.startswith("task.rows_sha256.") else source for source in sources}
    assert sources - {"model"} == leaves(RunRecord) - set(LEFT_OUT)
    assert set(LEFT_OUT) <= leaves(RunRecord)


def test_what_is_written_is_what_is_documented(tmp_path: Path) -> None:
    rows, parquet_table = written(full_record(), make_record(run="other"), to=tmp_path)
    patterns = {re.sub("<.*>", ".+", re.escape(column.name)): column for column in COLUMNS}
    assert list(rows[0]) == parquet_table.column_names
    assert parquet_table.column_names[: len(CORE)] == [column.name for column in CORE]
    types = {pa.string(): "text", pa.int64(): "integer", pa.float64(): "number", pa.bool_(): "boolean"}
    used = set()
    for field in parquet_table.schema:
        (column,) = (column for pattern, column in patterns.items() if re.fullmatch(pattern, field.name))
        used.add(column.name)
        said = {key.decode(): value.decode() for key, value in field.metadata.items()}
        assert (said["unit"], said["meaning"]) == (column.unit, column.meaning)
        assert column.type in ("setting", said["type"])
        assert said["type"] in ("time", "json") or types[field.type] == said["type"]
        assert parquet_table[field.name][0].is_valid or column.source.partition(".")[0] in ("error", "files")
    assert used == {column.name for column in COLUMNS}


def test_every_name_says_its_unit() -> None:
    marks = {"nats": "nats", "seconds": "_seconds", "microseconds per row": "_us_per_row", "bits per pixel": "bits_per"}
    marks |= {"rows per second": "rows_per_second"}
    for column in COLUMNS:
        assert marks.get(column.unit, "") in column.name
        assert column.unit or column.type != "number" or column.name.startswith("check."), column.name
        assert column.meaning


def test_values_are_those_of_the_records(tmp_path: Path) -> None:
    record = full_record(config={"hidden": [100, 100], "alpha": 0.1, "max_steps": "inf", "batch_norm": True, "bins": 8})
    other = make_record(run="other", config={"hidden": [], "max_steps": 5}, status="failed", seed=2**63)
    rows, parquet_table = written(record, other, to=tmp_path)
    first, second = parquet_table.to_pylist()
    test = record.likelihoods.test_ll_nats
    assert test is not None
    assert (first["test_ll_nats"], first["test_ll_stderr_nats"]) == (test.mean, test.stderr)
    assert float(rows[0]["test_ll_nats"]) == test.mean
    assert (second["test_ll_nats"], rows[1]["test_ll_nats"]) == (None, "")
    assert first["started_at"] == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert rows[0]["started_at"] == "2026-01-02T03:04:05+00:00"
    assert first["density_us_per_row_at_1000"] == 2.0
    assert (first["check.inverse.passed"], rows[0]["check.inverse.passed"]) == (True, "true")
    assert [json.loads(row["config.hidden"]) for row in (first, second)] == [[100, 100], []]
    assert [row["config.max_steps"] for row in (first, second)] == [float("inf"), 5.0]
    assert (first["config.batch_norm"], first["config.bins"], second["config.bins"]) == (True, 8, None)
    assert [row["seed"] for row in (first, second)] == ["0", str(2**63)]  # beyond 64 bits with a sign
    assert json.loads(first["given"]) == {"weight": 0}
    assert first["path"] == "maf-power-1a2b3c4d.json"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "'=1", "=cmd|' /C calc'!A0"])
def test_no_text_is_a_formula_and_each_can_be_had_back(text: str, tmp_path: Path) -> None:
    rows, parquet_table = written(make_record(data=text, config={"a": text}), to=tmp_path)
    for name in ("data", "config.a"):
        assert rows[0][name] == f"'{text}"
        assert parquet_table[name].to_pylist() == [text]


@pytest.mark.parametrize("odd", ["a,b", "a\nb", 'a"b', "\x1b[2J", "<script>", "", "=x", "\0", "x" * 1000])
def test_odd_names_of_settings_and_checks_are_names_of_columns(odd: str, tmp_path: Path) -> None:
    check = {"value": 1.0, "limit": 2.0, "passed": True, "what": odd}
    rows, parquet_table = written(make_record(config={odd: odd}, checks={odd: check}), to=tmp_path)
    assert parquet_table[f"config.{odd}"].to_pylist() == [odd]
    assert float(rows[0][f"check.{odd}.value"]) == 1.0


@pytest.mark.parametrize(
    "values",
    [
        [1, 10**30],
        [1.5, 10**400],
        [True, 1],
        ["a", 1],
        [None, None],
        [{"a": [1]}, None],
        ["nan", "inf"],
        [10**4000, None],
    ],
)
def test_settings_of_any_kind_are_written(values: list[Any], tmp_path: Path) -> None:
    records = [make_record(run=f"run{i}", config={"a": value}) for i, value in enumerate(values)]
    rows, parquet_table = written(*records, to=tmp_path)
    assert [value is None for value in parquet_table["config.a"].to_pylist()] == [value is None for value in values]
    assert [row["config.a"] == "" for row in rows] == [value is None for value in values]


@pytest.mark.parametrize("text", ["yesterday", "", "9999-12-31T23:59:59-23:00", "0001-01-01"])
def test_what_is_no_time_is_none(text: str, tmp_path: Path) -> None:
    _, parquet_table = written(make_record(started_at=text), to=tmp_path)
    assert parquet_table["started_at"].to_pylist() == ([datetime(1, 1, 1, tzinfo=UTC)] if "0001" in text else [None])


def test_times_are_in_the_order_of_batches() -> None:
    found = table({ROOT / "a.json": make_record(timings=[timing(1000), timing(100)])}, ROOT)
    names = [each.column.name for each in found if each.column.name.startswith("density_us_per_row_at")]
    assert names == ["density_us_per_row_at_100", "density_us_per_row_at_1000"]


def test_a_table_that_is_too_large_and_one_of_nothing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "MOST_CELLS", 50)
    with pytest.raises(UsageError, match="cells"):
        table({ROOT / "a.json": make_record()}, ROOT)
    with pytest.raises(NothingToCompareError):
        table({}, ROOT)


class TestCommand:
    def test_it_writes_csv_to_stdout_and_both_forms_to_files(self, tmp_path: Path) -> None:
        runs = tmp_path / "runs"
        for run, flow in (("a", "maf"), ("b", "iaf")):
            store.write(make_record(run=run, flow=flow), runs / run)
        (runs / "damaged.json").write_text("{")
        files = [f"--format=csv={tmp_path / 'x.csv'}", f"--format=parquet={tmp_path / 'x.parquet'}"]
        done = CliRunner().invoke(app, ["export", str(runs)])
        assert [row["path"] for row in csv.DictReader(done.stdout.splitlines())] == ["a/a.json", "b/b.json"]
        assert "passed over" in done.stderr
        assert CliRunner().invoke(app, ["export", str(runs), *files]).stdout == ""
        assert (tmp_path / "x.csv").read_text() == done.stdout
        only = CliRunner().invoke(app, ["export", "--out", str(runs), "--flow", "iaf", "--data", "power"])
        assert [row["run"] for row in csv.DictReader(only.stdout.splitlines())] == ["b"]

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            ([], 3),
            (["--format", "parquet"], 2),
            (["--format", "xlsx"], 2),
            (["--json"], 2),
            (["--out", "."], 2),
        ],
    )
    def test_exit_codes(self, arguments: list[str], code: int, tmp_path: Path) -> None:
        assert CliRunner().invoke(app, ["export", str(tmp_path), *arguments]).exit_code == code

    def test_the_documentation_of_the_columns_is_printed(self) -> None:
        document = json.loads(CliRunner().invoke(app, ["export", "--columns", "--json"]).stdout)
        assert [each["name"] for each in document["columns"]] == [column.name for column in COLUMNS]
        shown = CliRunner().invoke(app, ["export", "--columns"]).stdout
        assert all(column.name in shown and column.meaning in shown for column in COLUMNS)

    def test_neither_torch_nor_pandas_is_imported(self, tmp_path: Path) -> None:
        store.write(make_record(), tmp_path)
        code = (
            "import sys; from flowbench.cli.export import export;"
            f"export({str(tmp_path)!r}, forms=['csv={tmp_path}/x.csv']);"
            "print(sorted({'torch', 'pandas', 'pyarrow'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"
