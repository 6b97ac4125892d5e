"""Tables through pipes: the same rows whatever parts they come in, and any text ends in rows or in a clear error."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowbench.data.tables import inputs, stream
from flowbench.data.tables.inputs import open_source
from flowbench.data.tables.stream import CsvStream, _what_there_is
from flowbench.errors import DataError

FUZZ = settings(max_examples=300, deadline=None, database=None, derandomize=True)

HEADER = b"a,b,id\n"


def read_in_parts(content: bytes, cuts: Sequence[int]) -> Any:
    """What is read of a pipe that has the content in these parts: rows, names and faults; or the error."""
    bounds = itertools.pairwise(sorted({0, *cuts, len(content)}))
    parts = iter([content[start:stop] for start, stop in bounds])
    rows: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "os", SimpleNamespace(read=lambda number, most: next(parts, b"")))
        patch.setattr(stream, "_has_more", lambda number: False)
        try:
            for some in CsvStream(-1, "it", ",").read(["a", "b"], ["id"]):
                first = len(rows)
                names = some.text["id"]
                rows += [[*map(repr, row), name] for row, name in zip(some.numbers.tolist(), names, strict=True)]
                for row, fault in some.faults.items():
                    rows[first + row].append(fault)
        except DataError as error:
            return str(error)
    return rows


@FUZZ
@given(
    text=st.text(st.sampled_from('12.,"\n\r eé-'), max_size=60),
    encoding=st.sampled_from(["utf-8", "latin-1"]),
    cuts=st.lists(st.integers(0, 70), max_size=6),
)
@example(text='1,2,"x\ny"\n3,4,z\n', encoding="utf-8", cuts=[14])
@example(text='1,2,5" pipe\n3,4,"z"\n', encoding="utf-8", cuts=[20])
@example(text="1,2,x\r\n1\r\n3,4,y\r\n", encoding="utf-8", cuts=[13])
def test_the_rows_of_any_text_do_not_depend_on_the_parts_it_comes_in(text: str, encoding: str, cuts: list[int]) -> None:
    content = HEADER + text.encode(encoding)
    whole = read_in_parts(content, [])
    assert isinstance(whole, list)  # what is wrong is wrong with a row
    assert read_in_parts(content, [min(cut, len(content)) for cut in cuts]) == whole
    for row in whole:
        assert len(row) == 3 or row[3].kind


@FUZZ
@given(content=st.binary(max_size=40) | st.text(st.sampled_from('1a,;\t"\n\r\0ö'), max_size=20).map(str.encode))
def test_any_beginning_ends_well(content: bytes) -> None:
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    with pytest.MonkeyPatch.context() as patch, open(reader, "rb", buffering=0) as file:
        patch.setattr(inputs.sys, "stdin", file)
        with contextlib.suppress(DataError):  # and nothing else
            source = open_source("-")
            assert all(source.columns)
            list(source.read(source.columns, ()))


def test_values_are_taken_as_files_have_them() -> None:
    text = '1_0,2,x\ntrue,FALSE,\n 1.5 ,NA,NA\n-inf,1e999,"q"""\n\n7\n8,9,10,11\n0x1,+1,n\n'
    found = read_in_parts(HEADER + text.encode(), [])
    assert [row[:3] for row in found] == [
        ["nan", "2.0", "x"], ["1.0", "0.0", ""], ["1.5", "nan", "NA"], ["-inf", "inf", 'q"'],
        ["nan", "nan", None], ["nan", "nan", None], ["nan", "1.0", "n"],
    ]  # fmt: skip
    assert [row[3].message for row in found if len(row) > 3] == [
        "column 'a' is not numeric: it holds '1_0'", "there is 1 field and not 3 ('7')",
        "there are 4 fields and not 3 ('8,9,10,11')", "column 'a' is not numeric: it holds '0x1'",
    ]  # fmt: skip


def test_what_has_come_is_taken_together_and_what_has_not_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "os", SimpleNamespace(read=lambda number, most: os.read(number, min(most, 3))))
    reader, writer = os.pipe()
    for part in (b"1,2\n", b"3,4\n"):
        os.write(writer, part)
    assert _what_there_is(reader) == b"1,2\n3,4\n"
    os.write(writer, b"5")
    assert _what_there_is(reader) == b"5"
    os.close(writer)
    assert _what_there_is(reader) == b""
    os.close(reader)


def test_a_row_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowbench.data.tables.stream.LONGEST_ROW", 1000)
    monkeypatch.setattr("flowbench.data.tables.stream.BLOCK_BYTES", 1000)
    assert "has a row of more than" in read_in_parts(HEADER + b'1,2,"' + b"x" * 5000, [])


def test_an_arrow_stream_is_cut_where_its_batches_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowbench.data.tables.stream.BATCH_VALUES", 20)
    content = io.BytesIO()
    batch = pa.record_batch({"a": np.arange(50.0), "id": [f"r{i}" for i in range(50)]})
    with pa.ipc.new_stream(content, batch.schema) as made:
        made.write_batch(batch)
    reader, writer = os.pipe()
    os.write(writer, content.getvalue())
    os.close(writer)
    with open(reader, "rb", buffering=0) as file:
        monkeypatch.setattr(inputs.sys, "stdin", file)
        parts = list(open_source("-").read(["a"], ["id"]))
    assert [len(part.numbers) for part in parts] == [20, 20, 10]
    np.testing.assert_array_equal(np.concatenate([part.numbers[:, 0] for part in parts]), np.arange(50))
    assert list(parts[2].text["id"]) == [f"r{i}" for i in range(40, 50)]
