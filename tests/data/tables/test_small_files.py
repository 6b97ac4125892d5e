"""Small files stay small: what a header, an archive or a page promises is not allocated, and not waited for."""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from flowbench.data.tables.files import open_table
from flowbench.data.tables.inputs import open_source
from flowbench.data.tables.row_ends import RowEnds
from flowbench.errors import DataError

FUZZ = settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MEGABYTE = bytes(1 << 20)


def header(shape: tuple[int, ...], dtype: str = "<f8", *, columns_first: bool = False) -> bytes:
    buffer = io.BytesIO()
    said = {"descr": dtype, "fortran_order": columns_first, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, said)
    return buffer.getvalue()


def damaged_header(literal: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(literal)) + literal


def sparse(beginning: bytes, length: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(beginning)
            file.truncate(length)

    return write


def archive(*members: tuple[str, bytes, int], how: int = zipfile.ZIP_DEFLATED) -> Callable[[Path], None]:
    """Each has a name, a beginning and so many MiB of zeros after it."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", how) as file:
            for name, beginning, zeros in members:
                with file.open(name, "w") as member:
                    member.write(beginning)
                    for _ in range(zeros):
                        member.write(MEGABYTE)

    return write


def altered(old: bytes, new: bytes, *members: tuple[str, bytes, int]) -> Callable[[Path], None]:
    """An archive of which some bytes are others."""

    def write(path: Path) -> None:
        archive(*members, how=zipfile.ZIP_STORED)(path)
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))

    return write


def overlapping(path: Path) -> None:
    """Two entries of the same data: the second one's name and place are those of the first."""
    data = header((1 << 20, 1)) + bytes(8 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", data)
        info = file.infolist()[0]
        for name in ("b.npy", "c.npy"):
            twin = zipfile.ZipInfo(name)
            for key in ("compress_type", "header_offset", "CRC", "compress_size", "file_size"):
                setattr(twin, key, getattr(info, key))
            file.filelist.append(twin)
            file.NameToInfo[name] = twin


def one_page(path: Path) -> None:
    """Columns of one page each, of 8 MiB that compress to nothing."""
    zeros = np.zeros(1 << 20)
    random = np.random.default_rng(0).bytes(1 << 17)
    columns = {f"c{i}": zeros for i in range(40)}
    table = pa.table({**columns, "words": pa.array([random] + [b""] * ((1 << 20) - 1))})
    big = {"data_page_size": 1 << 30, "max_rows_per_page": 1 << 30, "write_batch_size": 1 << 26}
    parquet.write_table(table, path, use_dictionary=False, compression="zstd", write_statistics=False, **big)


def repeated_words(path: Path) -> None:
    words = pa.DictionaryArray.from_arrays(np.zeros(1 << 20, np.int32), pa.array(["x" * 1_000_000]))
    parquet.write_table(pa.table({"x": np.random.default_rng(0).normal(size=1 << 20), "s": words}), path)


def content(*parts: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(b"".join(parts)) and None


WIDE = 100_000_000
BOMBS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "names.npy": (content(header((0, WIDE))), "has 100,000,000 columns, and 200,000 are the most"),
    "long.npy": (content(header((10**15, 5))), "shorter than its header promises"),
    "huge.npy": (content(header((10**30, 10**5))), "shorter than its header promises"),
    "negative.npy": (content(header((-5, -5)), bytes(200)), "has the shape (-5, -5)"),
    "deep.npy": (content(damaged_header(b"(" * 9000)), "header is damaged"),
    "minus.npy": (content(damaged_header(b"-" * 9000 + b"1")), "header is damaged"),
    "keys.npy": (content(damaged_header(b"{1: 2, 'a': []}")), "header is damaged"),
    "head.npy": (sparse(b"\x93NUMPY\x02\x00\xff\xff\xff\xff", 100 << 20), "header of 4,294,967,295 bytes"),
    "sparse.npy": (sparse(header((1 << 30, 8)), 128 + (8 << 33)), "can but be nearly all alike"),
    "rows.npz": (archive(("a.npy", header((1 << 17, 258)), 258)), "can but be nearly all alike"),
    "columns.npz": (archive(("a.npy", header((1 << 17, 258), columns_first=True), 258)), "nearly all alike"),
    "names.npz": (archive(("a.npy", header((0, WIDE)), 0)), "has 100,000,000 columns"),
    "short.npz": (archive(("a.npy", header((10**12, 5)), 1)), "shorter than its header promises"),
    "head.npz": (archive(("a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff", 64)), "header of 4,294,967,295 bytes"),
    "bzip2.npz": (archive(("a.npy", header((1 << 24, 1)), 128), how=zipfile.ZIP_BZIP2), "compressed in a way"),
    "twice.npz": (altered(b"b.npy", b"a.npy", ("a.npy", header((5,)), 1), ("b.npy", header((5,)), 1)), "2 members"),
    "overlapping.npz": (overlapping, "overlap"),
    "crc.npz": (altered(b"\0" * 4096, b"\1" * 4096, ("a.npy", header((1 << 16, 2)), 1)), "Bad CRC-32"),
    "pages.parquet": (one_page, "can but be nearly all alike"),
    "line.csv": (content(b"a,b\n1,2\n", b"1" * (70 << 20)), ""),
    "quoted.csv": (content(b'a,b\n1,2\n3,"', b"1\n" * (35 << 20)), ""),
    "fields.csv": (content(b"a,b\n1,2\n3", b',"1"' * (17 << 20)), ""),
    "names.csv": (content(b"a", b",a" * (20 << 20), b"\n1,2\n"), "has 20,971,521 columns"),
    "name.csv": (content(b"a" * (70 << 20), b",b\n1,2\n"), "MiB"),
    "words.parquet": (repeated_words, "read"),
}
"""What writes each, and what is said of it; pyarrow has its own words of a row that is too long."""

READ = """
import json, sys, time
from pathlib import Path
from flowbench.data.tables.files import open_table
from flowbench.data.tables.inputs import open_source
from flowbench.errors import DataError

def whole(path):
    table = open_table(path)
    if "s" in table.columns:
        for some in table.labels("s"):
            pass
    for some in table.batches([name for name in table.columns[:2] if name != "s"]):
        pass

def rows(path):
    source = open_source(str(path))
    for some in source.read([name for name in source.columns[:2] if name != "s"], []):
        pass

for path in map(Path, sys.argv[1:]):
    for read in (whole, rows):
        start, said = time.monotonic(), "read"
        try:
            read(path)
        except DataError as error:
            said = str(error)
        lines = Path("/proc/self/status").read_text().splitlines()
        (peak,) = [int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM")]
        print(json.dumps([path.name, read.__name__, said, time.monotonic() - start, peak]), flush=True)
"""


def read_apart(*paths: Path) -> list[list[Any]]:
    """What another process says of each file, in how many seconds, and the MiB that it had at the most by then."""
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, paths)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30)),
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells a process's peak, and has sparse files")
@pytest.mark.parametrize("kind", ["npy", "npz", "parquet", "csv"])
def test_a_bomb_is_refused_in_no_time_and_no_memory(kind: str, tmp_path: Path) -> None:
    names = [name for name in BOMBS if name.endswith(kind)]
    for name in names:
        BOMBS[name][0](tmp_path / name)
    found = read_apart(*(tmp_path / name for name in names))
    assert len(found) == 2 * len(names)
    for name, _, said, seconds, peak in found:
        assert BOMBS[name][1] in said, (name, said)
        assert said == "read" or name in said
        assert len(said) < 600
        assert seconds < 40, name
        assert peak < (800 if kind == "csv" else 400), (name, peak)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells a process's peak")
def test_columns_one_after_the_other_are_not_held(tmp_path: Path) -> None:
    archive(("a.npy", header((1 << 20, 24), columns_first=True), 192))(tmp_path / "t.npz")
    for _, _, said, _, peak in read_apart(tmp_path / "t.npz"):
        assert said == "read"
        assert peak < 200


def test_many_named_columns_are_those_of_few(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(7, 300))
    np.savez_compressed(tmp_path / "t.npz", **{f"c{i}": rows[:, i] for i in range(300)})
    table = open_table(tmp_path / "t.npz")
    np.testing.assert_array_equal(np.vstack(list(table.batches())), rows)
    np.testing.assert_array_equal(np.vstack(list(table.batches(["c7", "c2"]))), rows[:, [7, 2]])


@pytest.mark.parametrize("wanted", [("0", "1", "2"), ("2", "0"), ("1",)])
@pytest.mark.parametrize("shape", [(50, 3), (1, 3)])
def test_an_archive_of_columns_one_after_the_other(
    wanted: tuple[str, ...], shape: tuple[int, int], tmp_path: Path
) -> None:
    rows = np.asfortranarray(np.random.default_rng(0).normal(size=shape).astype(">f4"))
    np.savez_compressed(tmp_path / "t.npz", rows)
    found = np.vstack(list(open_table(tmp_path / "t.npz").batches(wanted)))
    np.testing.assert_array_equal(found, rows[:, [int(name) for name in wanted]])


def test_an_archive_that_cannot_be_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    np.savez_compressed(tmp_path / "t.npz", np.asfortranarray(np.ones((500, 3))))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 0, 10))  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"t\.npz cannot be unpacked: needs 12\.0 kB in .*, 10 bytes are free"):
        list(open_table(tmp_path / "t.npz").batches())


def test_lists_are_no_columns(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"x": [1.0], "l": [[1.0, 2.0]]}), tmp_path / "t.parquet")
    table = open_table(tmp_path / "t.parquet")
    np.testing.assert_array_equal(np.vstack(list(table.batches(["x"]))), [[1.0]])
    with pytest.raises(DataError, match="column 'l' holds no single values but list"):
        list(table.labels("l"))


def test_words_are_the_same_by_dictionary(tmp_path: Path) -> None:
    words = ["a", None, "b", "a", "größe"]
    table = pa.table({"s": words, "d": pa.array(words).dictionary_encode(), "n": pa.array([1, 2, 1, None, 2])})
    table = table.append_column("dn", table["n"].combine_chunks().dictionary_encode())
    parquet.write_table(table, tmp_path / "t.parquet")
    opened = open_table(tmp_path / "t.parquet")
    assert [np.concatenate(list(opened.labels(name))).tolist() for name in ("s", "d")] == [words, words]
    assert np.concatenate(list(opened.labels("dn"))).tolist() == ["1", "2", "1", None, "2"]


def test_a_long_name_is_no_defect(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a" * 200_000 + b",b\n1,2\n")
    with pytest.raises(DataError, match="no line of names"):
        open_source(str(tmp_path / "t.csv"))


@FUZZ
@given(text=st.text('a,"\n\r', max_size=30), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_rows_end_where_they_end_in_whatever_parts_they_come(text: str, cuts: list[int]) -> None:
    content = text.encode()
    ends, waiting, taken = RowEnds(","), bytearray(), 0
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), len(content)], strict=True):
        waiting += content[start:stop]
        end = ends.last(waiting)
        del waiting[:end]
        ends.forget(end)
        taken += end
    expected = list(line_ends(content))
    assert taken == (expected[-1] if expected else 0)
    if expected:
        assert RowEnds(",").first(bytearray(content)) == expected[0]


def line_ends(content: bytes) -> list[int]:
    """Said slowly: a mark opens a field that begins with it, and a mark that is not doubled closes it."""
    found, quoted, i, begins = [], False, 0, True
    while i < len(content):
        byte = content[i : i + 1]
        if quoted:
            if byte == b'"':
                if content[i + 1 : i + 2] == b'"':
                    i += 1
                else:
                    quoted = False
            begins = False
        elif byte == b'"' and begins:
            quoted = True
        else:
            begins = byte in (b",", b"\n", b"\r")
            if byte in (b"\n", b"\r"):
                found.append(i + 1)
        i += 1
    return found


DTYPES = ["<f8", ">f4", "<f2", "|b1", "<i8", "|u1", "<f16", "|S3", "<U2", "|O", "|V8", "<c16", "<M8[s]", "f", "", "<f9"]
SIZES = st.one_of(st.integers(-2, 12), st.sampled_from([2**31, 2**63, 2**64, 10**8, 10**30, True, None, 1.5, "x"]))


@st.composite
def npy(draw: st.DrawFn) -> bytes:
    """A header of any words, numbers after it; half of them have but one thing or none that is odd."""
    odd = draw(
        st.sampled_from([{"all"}, {"all"}, {"all"}, {"dtype"}, {"shape"}, {"length"}, {"version"}, set(), set()])
    )

    def choose(what: str, usual: Any, unusual: Any) -> Any:
        return draw(unusual if odd & {what, "all"} else usual)

    lengths = st.tuples(st.integers(1, 12), st.integers(1, 9))
    said: dict[Any, Any] = {
        "descr": choose("dtype", st.sampled_from(DTYPES[:7]), st.sampled_from([*DTYPES, [("a", "<f8")]])),
        "fortran_order": choose("order", st.booleans(), st.sampled_from([True, False, 1, None])),
        "shape": choose("shape", lengths, st.lists(SIZES, max_size=3).map(tuple)),
    }
    if choose("more", st.just(0), st.integers(0, 5)) == 5:
        said[draw(st.sampled_from(["more", 1, None]))] = 0
    literal = repr(said).encode() + b"\n"
    version = choose("version", st.just(1), st.sampled_from([1, 2, 3, 0, 9]))
    length = choose("length", st.just(len(literal)), st.sampled_from([len(literal), 0, 3, 60_000]))
    size = struct.pack("<H" if version == 1 else "<I", length)
    numbers = choose("length", st.just(bytes(12 * 9 * 16)), st.binary(max_size=900))
    return b"\x93NUMPY" + bytes([version, 0]) + size + literal + numbers


def sound(kind: str) -> bytes:
    buffer, rows = io.BytesIO(), np.random.default_rng(0).normal(size=(20, 3))
    if kind == "npy":
        np.save(buffer, rows)
    elif kind == "npz":
        np.savez_compressed(buffer, np.asfortranarray(rows))
    elif kind == "named":
        np.savez(buffer, a=rows[:, 0], b=rows[:, 1].astype(np.float32))
    else:
        words = np.where(rows[:, 1] < 0, "no", "yes")
        parquet.write_table(pa.table({"a": rows[:, 0], "i": np.arange(20), "s": words}), buffer, compression="zstd")
    return buffer.getvalue()


SOUND = {kind: sound(kind) for kind in ("npy", "npz", "named", "parquet")}


@st.composite
def mutated(draw: st.DrawFn, kinds: tuple[str, ...]) -> tuple[str, bytes]:
    """A sound file of which some bytes are others, or are not there, or are there twice."""
    kind = draw(st.sampled_from(kinds))
    content = bytearray(SOUND[kind])
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["set", "set", "set", "flip", "drop", "double", "cut"])):
            case "set":
                content[at : at + 1] = draw(st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80"]) | st.binary(max_size=4))
            case "flip":
                content[at : at + 1] = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in content[at : at + 1])
            case "drop":
                del content[at : at + draw(st.integers(1, 40))]
            case "double":
                content[at:at] = content[at : at + 40]
            case "cut":
                del content[at:]
    return {"named": "npz"}.get(kind, kind), bytes(content)


def read_all(path: Path) -> str | None:
    """What is said of a file of which all is asked; None where it is read."""
    try:
        table = open_table(path)
        for name in filter(table.is_text, table.columns):
            for _ in table.labels(name):
                pass
        for _ in table.batches([name for name in table.columns if not table.is_text(name)]):
            pass
    except DataError as error:
        return str(error)
    return None


def assert_clear(said: str | None, path: Path) -> None:
    assert said is None or (path.name in said and len(said) < 2000)


@FUZZ
@given(made=npy(), packed=st.booleans())
def test_any_header_is_a_table_or_a_clear_error(made: bytes, packed: bool, tmp_path: Path) -> None:
    path = tmp_path / ("t.npz" if packed else "t.npy")
    if packed:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("a.npy", made)
    else:
        path.write_bytes(made)
    assert_clear(read_all(path), path)


@FUZZ
@given(made=mutated(("npy", "npz", "named")))
def test_any_damage_is_a_table_or_a_clear_error(made: tuple[str, bytes], tmp_path: Path) -> None:
    kind, content = made
    path = tmp_path / f"t.{kind}"
    path.write_bytes(content)
    assert_clear(read_all(path), path)
