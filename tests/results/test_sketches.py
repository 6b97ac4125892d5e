"""A sketch beside its record: written, read, and not believed."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import make_record
from sketch_cases import sketch

from flowbench.results import sketch as sketches
from flowbench.results import store
from flowbench.results.beside import content_digest
from flowbench.results.documents import UnreadableRecordError
from flowbench.results.record import Files, RunRecord
from flowbench.results.sketch import PIT_BINS, Calibration, ExtremeRow, Sketch


def beside(folder: Path, content: bytes) -> RunRecord:
    """A record with a file of this content as its sketch."""
    name = f"maf-power-1a2b3c4d.{content_digest(content)}.sketch"
    (folder / name).write_bytes(content)
    return make_record(files=Files(sketch=name))


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = store.read(store.write(make_record(), tmp_path, sketch=sketch(with_images=True)))
    assert store.read_sketch(record, tmp_path) == sketch(with_images=True)
    content = (tmp_path / str(record.files.sketch)).read_bytes()
    assert b'":' in content
    assert b'": ' not in content  # compact


def test_what_is_no_number_is_none_and_is_read(tmp_path: Path) -> None:
    odd = sketch(
        least_likely=[ExtremeRow(row=0, nats=-math.inf, values=[math.nan, 1, 2])],
        calibration=[Calibration(column=0, mean=None, sd=math.nan, distance=1, counts=[1] * PIT_BINS)],
        rows=[[math.inf, 1e60]],
    )
    found = store.read_sketch(store.read(store.write(make_record(), tmp_path, sketch=odd)), tmp_path)
    assert found == odd
    assert found.least_likely[0].nats is found.calibration[0].sd is found.rows[0][1] is None


def test_it_goes_with_its_record(tmp_path: Path) -> None:
    path = store.write(make_record(), tmp_path, sketch=sketch())
    store.write(make_record(), tmp_path, sketch=sketch(seed=1))
    assert len(list(tmp_path.iterdir())) == 2  # the first one is gone
    store.write(make_record(), tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    store.write(make_record(), tmp_path, sketch=sketch())
    store.remove(path)
    assert not list(tmp_path.iterdir())


def test_one_that_is_gone_is_none(tmp_path: Path) -> None:
    record = store.read(store.write(make_record(), tmp_path, sketch=sketch()))
    (tmp_path / str(record.files.sketch)).unlink()
    assert store.read_sketch(record, tmp_path) is None
    assert store.read_sketch(make_record(), tmp_path) is None


def test_a_newer_one_is_not_misread(tmp_path: Path) -> None:
    found = json.loads(sketches.content(sketch())) | {"schema_version": 2, "rows": "another thing"}
    with pytest.raises(UnreadableRecordError, match="schema version 2, this flowbench knows 1"):
        store.read_sketch(beside(tmp_path, json.dumps(found).encode()), tmp_path)


def test_another_content_than_its_name_says_is_damage(tmp_path: Path) -> None:
    record = store.read(store.write(make_record(), tmp_path, sketch=sketch()))
    path = tmp_path / str(record.files.sketch)
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(UnreadableRecordError, match="not what it is named after"):
        store.read_sketch(record, tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_waited_for(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "a.0.sketch")
    with pytest.raises(UnreadableRecordError, match="damaged"):
        store.read_sketch(make_record(files=Files(sketch="a.0.sketch")), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"marginals": [{}] * 100_000},
        {"rows": [[1, 2]] * 201},
        {"rows": [[1]]},
        {"paired": [3]},
        {"columns": ["x" * 1001, "b", "c"]},
        {"n_rows": -1},
        {"calibration_distances": [math.nan]},
        {"images": {"rows": {"side": 1, "across": 1, "count": 1, "png": "<script>"}}},
    ],
)
def test_a_bad_field_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    found = json.loads(sketches.content(sketch())) | change
    with pytest.raises(UnreadableRecordError, match=r"damaged|readable") as caught:
        store.read_sketch(beside(tmp_path, json.dumps(found).encode()), tmp_path)
    assert len(str(caught.value)) < 600


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=4)), max_size=4), cut=st.integers(0, 10**6))
def test_whatever_is_in_it_is_a_sketch_or_damage(places: list[tuple[int, bytes]], cut: int, tmp_path: Path) -> None:
    content = bytearray(sketches.content(sketch()))
    for place, other in places:
        at = place % len(content)
        content[at : at + len(other)] = other
    record = beside(tmp_path, bytes(content[: cut % len(content)] if cut % 3 == 0 else content))
    with suppress(UnreadableRecordError):
        assert isinstance(store.read_sketch(record, tmp_path), Sketch)
    (tmp_path / str(record.files.sketch)).unlink()
