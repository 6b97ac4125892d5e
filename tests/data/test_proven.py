"""Entries of the cache that were damaged: whatever it is, it is noticed, named, and made anew."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from flowbench.data import Dataset, cache, inventory, known, load
from flowbench.data.dataset import Splits
from flowbench.data.discrete import Category, Discrete
from flowbench.data.given import GivenColumn
from flowbench.data.meta import Meta
from flowbench.data.preprocessing import Dequantise, Standardise
from flowbench.data.sealing import sealed
from flowbench.data.tables.options import TableOptions
from flowbench.report import stock

HEADER = 128


@pytest.fixture
def prepared(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of entries, empty."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return cache.prepared()


@pytest.fixture
def table(prepared: Path, tmp_path: Path) -> Callable[[], Dataset]:
    """Loads a table of which all is stored that can be: a number and a class given, a category, atoms, and ties."""
    rng = np.random.default_rng(0)
    names = ("given", "class", "colour", "some", "tied", "x")
    columns = [
        rng.normal(size=300),
        rng.choice(["a", "b"], 300),
        rng.choice(["red", "green", "blue"], 300),
        np.where(rng.random(300) < 0.3, 0, rng.normal(size=300)),
        np.where(rng.random(300) < 0.3, 0.5, rng.normal(size=300)),
        rng.normal(size=300),
    ]
    lines = [",".join(names), *(",".join(map(str, row)) for row in zip(*columns, strict=True))]
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
    options = TableOptions(
        given=("given", "class"), kinds={"colour": "category", "some": "mixed"}, allow_ties=("tied",)
    )
    return lambda: load(str(tmp_path / "own.csv"), table_options=options)


def content(data: Dataset) -> list[Any]:
    """All that an entry holds."""
    arrays = [data.train, data.validation, data.test, data.gaussian_lls]
    beside = (data.columns, data.preprocessing, data.given, data.discrete, data.tied, data.rows_sha256)
    return [*(np.array(array).tobytes() for array in arrays), *beside]


def write_at(path: Path, offset: int, values: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(values)


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (before,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([before ^ 1 << bit % 8]))


def in_header(before: bytes, after: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        header = path.read_bytes()[:HEADER]
        changed = header.replace(before, after).rstrip(b" \n")
        assert changed != header.rstrip(b" \n")
        write_at(path, 0, changed.ljust(HEADER - 1) + b"\n")

    return change


def replaced(by: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        by(path)

    return change


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # of zeros, which take no room


ARRAY: dict[str, Callable[[Path], object]] = {
    "exponent": lambda path: flip(path, 8 * (HEADER + 4) - 2),
    "last bit": lambda path: flip(path, 8 * path.stat().st_size - 8),
    "nan": lambda path: write_at(path, HEADER + 8, np.float32(np.nan).tobytes()),
    "a block of zeros": lambda path: write_at(path, HEADER + 40, bytes(400)),
    "all zeros": lambda path: write_at(path, HEADER, bytes(path.stat().st_size - HEADER)),
    "integers": in_header(b"'<f4'", b"'<i4'"),
    "big-endian": in_header(b"'<f4'", b"'>f4'"),
    "columns first": in_header(b"'fortran_order': False", b"'fortran_order': True"),
    "shape": in_header(b"'shape': (", b"'shape': (1"),
    "padding": lambda path: flip(path, 8 * (HEADER - 5)),
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "empty": lambda path: os.truncate(path, 0),
    "gone": lambda path: path.unlink(),
    "folder": replaced(lambda path: path.mkdir()),
    "pipe": replaced(os.mkfifo),
    "link to nothing": replaced(lambda path: path.symlink_to("nothing")),
    "link to itself": replaced(lambda path: path.symlink_to(path.name)),
    "huge": huge,
    "pickled": lambda path: np.save(path, np.array([{}]), allow_pickle=True),
}
META: dict[str, Callable[[Path], object]] = {
    **{name: ARRAY[name] for name in ("cut", "longer", "empty", "gone", "folder", "pipe", "link to itself", "huge")},
    "no json": lambda path: path.write_text("{"),
    "null": lambda path: path.write_text("null"),
    "nested": lambda path: path.write_text("[" * 200_000),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}
ABOUT = {
    "no about": ...,
    "null": None,
    "number": 1,
    "text": "lines",
    "an object": {"a": 1},
    "numbers": [1, 2],
    "nested lines": [["a"]],
    "other lines": ["  all is well"],
}


@pytest.mark.parametrize("restored", [False, True], ids=["", "times restored"])
@pytest.mark.parametrize("name", ["train.npy", "test.npy"])
@pytest.mark.parametrize("damage", ARRAY)
def test_a_damaged_array_is_named_and_made_anew(
    prepared: Path, capsys: pytest.CaptureFixture[str], damage: str, name: str, restored: bool
) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 100, 4)).astype(np.float32)
    place, before = prepared / "entry", None
    cache.write(place, "f", Splits(*rows))
    before = (place / name).stat()
    ARRAY[damage](place / name)
    if restored and (place / name).exists():
        os.utime(place / name, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert cache.read(place, "f") is None
    said = capsys.readouterr().err
    assert f"entry: {name} " in said
    assert said.endswith(": it is prepared again\n")
    assert said.count("\n") == 1
    again = cache.write(place, "f", Splits(*rows)).splits
    np.testing.assert_array_equal([again.train, again.validation, again.test], rows)
    assert [path.name for path in prepared.iterdir()] == ["entry"]


@pytest.mark.parametrize("damage", META)
def test_a_damaged_meta_is_named_and_made_anew(
    table: Callable[[], Dataset], prepared: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    first = content(table())
    (entry,) = prepared.iterdir()
    capsys.readouterr()
    META[damage](entry / "meta.json")
    assert [kept.state for kept in inventory.everything() if kept.kind == "prepared"] == ["damaged"]
    assert content(table()) == first
    assert f"{entry.name}: meta.json " in capsys.readouterr().err
    assert content(table()) == first
    assert "prepared again" not in capsys.readouterr().err


@pytest.mark.parametrize("is_sealed", [False, True], ids=["", "sealed"])
@pytest.mark.parametrize("damage", ABOUT)
def test_what_is_said_of_a_table_never_ends_a_start(
    table: Callable[[], Dataset], prepared: Path, capsys: pytest.CaptureFixture[str], damage: str, is_sealed: bool
) -> None:
    """By whoever seals it: lines may then be others, which nobody can tell."""
    first = content(table())
    (entry,) = prepared.iterdir()
    meta = json.loads((entry / "meta.json").read_bytes())
    changed = {key: value for key, value in meta.items() if key != "about"}
    changed |= {} if ABOUT[damage] is ... else {"about": ABOUT[damage]}
    document = {key: value for key, value in changed.items() if key != "sha256"}
    (entry / "meta.json").write_bytes(sealed(document) if is_sealed else json.dumps(changed, indent=1).encode())
    capsys.readouterr()
    assert content(table()) == first
    fits = is_sealed and damage in ("no about", "other lines")
    assert ("prepared again" in capsys.readouterr().err) != fits


def edited(value: Any, data: st.DataObject) -> Any:
    """A JSON document with something in it changed."""
    odd = st.sampled_from(
        [None, True, -1, 0, 1.5, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\ud800", "\x00", [], {}, [[1]],
         "<f4", ">f4", "<i4", 2**63, "0" * 64, "../../x"]
    )  # fmt: skip
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(value)))
        kind = data.draw(st.sampled_from(["change", "remove", "rename"]))
        rest = {name: inside for name, inside in value.items() if name != key}
        if kind == "remove":
            return rest
        return rest | ({key: edited(value[key], data)} if kind == "change" else {data.draw(st.text()): value[key]})
    if isinstance(value, list) and value and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(value) - 1))
        return [*value[:at], edited(value[at], data), *value[at + data.draw(st.integers(0, 1)) :]]
    return data.draw(odd)


WHOLE = Splits(
    *np.random.default_rng(0).normal(size=(3, 20, 4)).astype(np.float32),
    test_true_ll=np.arange(20.0),
    columns=("c", "x", "y"),
    preprocessing=(Dequantise(steps=(0.5, 0.0)), Standardise(location=(0.1, 1e-300), scale=(1.0, 2.0))),
    test_groups=np.arange(20, dtype=np.int32),
    given=(GivenColumn(name="g", location=0.1),),
    discrete=Discrete(categories=(Category(name="c", labels=("ä", "\x1b[2J")),)),
    tied=("x",),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An entry in which there is everything; tests leave it as it was."""
    place = tmp_path_factory.mktemp("whole") / "flowbench" / "prepared" / "own-v1-000000000000"
    cache.write(place, "f", WHOLE).stored.values("lls", 20, lambda: np.arange(20.0))  # type: ignore[union-attr]
    return place


def test_all_comes_back_bit_by_bit(whole: Path) -> None:
    found = cache.proven(whole, "f").splits
    for name in ("columns", "preprocessing", "given", "discrete", "tied"):
        assert getattr(found, name) == getattr(WHOLE, name)
    for name in ("train", "validation", "test", "test_true_ll", "test_groups"):
        array = getattr(found, name)
        np.testing.assert_array_equal(array, getattr(WHOLE, name), strict=True)
        assert not array.flags.writeable
        np.testing.assert_array_equal(np.load(whole / f"{name}.npy"), array)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("test", {"shape": (40, 2)}),
        ("test", {"shape": (80,)}),
        ("train", {"dtype": "<i4"}),
        ("test_groups", {"shape": (10, 2)}),
        ("test_true_ll", {"dtype": "<f4", "shape": (40,)}),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(whole: Path, name: str, change: dict[str, Any]) -> None:
    meta = Meta.read(whole)
    proof = getattr(meta.arrays, name).model_copy(update=change)
    before = (whole / "meta.json").read_bytes()
    try:
        meta.model_copy(update={"arrays": meta.arrays.model_copy(update={name: proof})}).write(whole)
        with pytest.raises(cache.DamagedError, match=r"meta\.json is damaged \(arrays: .* rows"):
            cache.proven(whole, "f")
    finally:
        (whole / "meta.json").write_bytes(before)


def noticed(whole: Path) -> bool:
    """Whether an entry is refused, or what was kept with it is computed again."""
    try:
        stored = cache.proven(whole, "f").stored
    except cache.DamagedError:
        return True
    calls: list[int] = []
    stored.values("lls", 20, lambda: calls.append(1) or np.arange(20.0))  # type: ignore[union-attr, func-returns-value]
    return bool(calls)


def test_random_flips_in_all_files_are_noticed(whole: Path) -> None:
    draw, files = random.Random(0), sorted(whole.iterdir())
    assert len(files) == 7
    assert not noticed(whole)
    for i in range(210):
        path = files[i % 7]
        before = path.read_bytes()
        flip(path, draw.randrange(8 * len(before)))
        assert noticed(whole), (path, i)
        path.write_bytes(before)
    assert not noticed(whole)


def test_flips_are_noticed_in_files_that_are_known(
    whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of which the arrays are not read as long as nobody writes to them; times set back do not hide it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(known, "WORTHWHILE_BYTES", 1)
    monkeypatch.setattr(known, "_RECENT_NS", 10**7)
    draw, arrays = random.Random(1), sorted(whole.glob("*.npy"))
    for i in range(20):
        path = arrays[i % len(arrays)]
        times = path.stat()
        time.sleep(0.02)
        assert not noticed(whole)
        with monkeypatch.context() as patch:  # it is known
            patch.setattr("flowbench.data.proofs._digest", lambda *_: pytest.fail("read again"))
            assert not noticed(whole)
        bit = draw.randrange(8 * times.st_size)
        flip(path, bit)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert noticed(whole), (path, bit)
        flip(path, bit)


def is_listed(entry: Path) -> bool:
    """Whether `flowbench cache` has a line of it, and an object of strict JSON."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(entry.parents[2]))
        found = [kept for kept in inventory.everything() if kept.kind == "prepared"]
    Console(file=io.StringIO()).print(stock.render(found))
    return len(json.loads(json.dumps(stock.document(found), allow_nan=False))["entries"]) == 1


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_change_of_a_meta_is_noticed_and_sealed_ones_never_crash(whole: Path, data: st.DataObject) -> None:
    path = whole / "meta.json"
    before = path.read_bytes()
    meta = json.loads(before)
    try:
        changed = edited(meta, data)
        path.write_bytes(json.dumps(changed, indent=1).encode())
        assert is_listed(whole)
        if changed != meta:
            with pytest.raises(cache.DamagedError):
                cache.proven(whole, "f")
        if isinstance(changed, dict):
            try:
                path.write_bytes(sealed({key: value for key, value in changed.items() if key != "sha256"} or {"a": 1}))
            except ValueError:  # no strict JSON
                return
            assert is_listed(whole)
            try:
                found = cache.proven(whole, "f").splits  # what fits can be used: arrays are proven by what it says
            except cache.DamagedError:
                return
            assert all(part.dtype == np.float32 and part.ndim == 2 for part in (found.train, found.test))
    finally:
        path.write_bytes(before)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 3000), st.integers(0, 200))
def test_any_bytes_in_a_meta_are_noticed(whole: Path, some: bytes, at: int, over: int) -> None:
    path = whole / "meta.json"
    before = path.read_bytes()
    changed = before[:at] + some + before[at + over :]
    try:
        path.write_bytes(changed)
        assert noticed(whole) == (changed != before)
    finally:
        path.write_bytes(before)


def test_a_read_only_cache_is_used_and_what_is_damaged_in_it_stays_in_memory(
    table: Callable[[], Dataset], prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = content(table())
    (entry,) = prepared.iterdir()

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("mkdir", "rename", "replace", "unlink"):
        monkeypatch.setattr(Path, name, refused)
    monkeypatch.setattr(os, "utime", refused)
    capsys.readouterr()
    assert isinstance(table().train, np.memmap)
    assert capsys.readouterr().err.count("prepared again") == 0
    flip(entry / "train.npy", 5000)
    cache.warn_once.cache_clear()
    for _ in range(2):
        again = table()
        assert again.stored is None
        assert not isinstance(again.train, np.memmap)
        assert content(again) == first
    said = capsys.readouterr().err
    assert said.count("train.npy is damaged") == 2
    assert said.count("Read-only file system): arrays stay in memory") == 1


@pytest.mark.parametrize("name", ["truth-banana", "table"])
def test_a_full_disk_leaves_nothing_and_arrays_in_memory(name: str, prepared: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "own.npy", np.random.default_rng(0).normal(size=(20_000, 4)))
    code = (
        "import resource, sys\nfrom flowbench.data import load\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "data = load(sys.argv[1])\nprint(data.stored, data.train.std() > 0)"
    )
    data = name if name != "table" else str(tmp_path / "own.npy")
    done = subprocess.run([sys.executable, "-c", code, data], capture_output=True, text=True, check=False)
    if name == "table":  # which goes through temporary files, that have no room either
        assert "cannot be converted: File too large" in done.stderr
    else:
        assert done.stdout == "None True\n"
    assert "cannot be written (File too large): arrays stay in memory" in done.stderr
    assert list(prepared.iterdir()) == []


@pytest.mark.parametrize("there", ["file", "pipe", "link to nothing", "link to itself", "empty folder"])
def test_what_is_in_an_entry_s_place_makes_room(prepared: Path, there: str) -> None:
    prepared.mkdir(parents=True)
    place = prepared / "entry"
    place.touch()
    replaced = {"file": Path.touch, "empty folder": lambda path: (path.unlink(), path.mkdir())}
    (replaced | ARRAY)[there](place)
    assert cache.read(place, "f") is None
    assert cache.write(place, "f", WHOLE).stored is not None
    assert list(prepared.iterdir()) == [place]


def test_two_that_find_it_damaged_at_once_agree(table: Callable[[], Dataset], prepared: Path) -> None:
    load("truth-student")
    entry = next(path for path in prepared.iterdir() if "student" in path.name)
    flip(entry / "train.npy", 9999)
    code = "from flowbench.data import load; d = load('truth-student'); print(d.rows_sha256, float(d.train.sum()))"
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        for _ in range(3)
    ]
    outputs = {run.communicate()[0] for run in runs}
    assert all(run.returncode == 0 for run in runs)
    assert len(outputs) == 1
    assert list(prepared.iterdir()) == [entry]


def test_arrays_are_on_the_disk_before_they_have_their_name(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    place = prepared / "entry"

    def flush(path: Path) -> None:
        assert place.exists() == (path == prepared)
        flushed.append(path)

    monkeypatch.setattr(cache, "flush", flush)
    cache.write(place, "f", WHOLE)
    assert {path.name for path in flushed[:-2]} == {path.name for path in place.iterdir()}
    assert flushed[-2].parent == flushed[-1] == prepared


def test_an_entry_that_was_copied_is_read_and_used(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    assert cache.read(tmp_path / "copy", "f") is not None
    assert cache.read(tmp_path / "copy", "of other data") is None


def test_an_entry_that_the_system_does_not_map_stays(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 100, 4)).astype(np.float32)
    place = prepared / "entry"
    cache.write(place, "f", Splits(*rows))
    with monkeypatch.context() as patch:
        patch.setattr(np, "memmap", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOMEM, "Cannot allocate memory")))
        with pytest.raises(OSError, match="Cannot allocate"):
            cache.read(place, "f")
        with pytest.raises(OSError, match="Cannot allocate"), cache.unfinished(place, "f"):
            pass
    assert cache.read(place, "f") is not None
