"""Any table ends in a dataset of finite numbers or in a clear error, and never in half an entry of the cache."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from made_files import standardisation
from pyarrow import csv, parquet

from flowbench.data import Dataset, TableOptions, load
from flowbench.data.tables import arrow as table_arrow
from flowbench.data.tables import npy as table_npy
from flowbench.data.tables import spool as table_spool
from flowbench.data.tables.inputs import open_source
from flowbench.data.tables.options import KINDS as COLUMN_KINDS
from flowbench.errors import DataError, UsageError

FUZZ = settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
KINDS = ("csv", "tsv", "parquet", "npy", "npz")

EDGES = [0.0, -0.0, 1.0, 0.1, 1e-300, -1e300, 5e-324, 1.7e9, 2.0**53, np.nan, np.inf, -np.inf]
PLAIN_NAMES = ["a", "b", "größe", "列", "random", "a.b"]
ODD_NAMES = ["", "1", "__index_level_0__", "a,b", 'q"', "line\nbreak", " ", "a"]
NUMBERS = ["normal"] * 6 + ["single", "whole", "ties", "constant", "edges", "zeros", "same", "huge"]
OTHERS = ["bool", "text", "null", "time", "decimal", "mixed text", "list", "uint64"]
SOUND = ["normal", "single", "whole", "bool", "uint64", "ties"]


@st.composite
def columns(draw: st.DrawFn, n: int, kinds: list[str]) -> Any:
    """One column of n values of some type, as Arrow has it."""
    rng = np.random.RandomState(draw(st.integers(0, 2**16)))
    kind = draw(st.sampled_from(kinds))
    values: dict[str, Any] = {
        "normal": lambda: rng.normal(size=n),
        "single": lambda: rng.normal(size=n).astype(np.float32),
        "whole": lambda: rng.randint(-5, 5, n),
        "ties": lambda: rng.normal(size=n).round(1),
        "constant": lambda: np.full(n, 7.5),
        "edges": lambda: rng.choice(EDGES, n),
        "zeros": lambda: np.where(rng.rand(n) < 0.3, 0, rng.normal(size=n)),
        "same": lambda: np.random.RandomState(0).normal(size=n),
        "huge": lambda: rng.normal(size=n) * 10.0 ** rng.choice([-320, -200, 37, 200, 307]),
        "bool": lambda: rng.rand(n) < 0.5,
        "text": lambda: rng.choice(["x", "yy", "1", ""], n),
        "null": lambda: pa.nulls(n),
        "time": lambda: pa.array([datetime(2020, 1, 1) + timedelta(seconds=i) for i in range(n)]),
        "decimal": lambda: pa.array([Decimal(int(i)) / 100 for i in rng.randint(0, 9999, n)], pa.decimal128(9, 2)),
        "mixed text": lambda: [*map(str, rng.normal(size=max(0, n - 1))), *["fast"][:n]],
        "list": lambda: pa.array([[1.0]] * n, pa.list_(pa.float64())),
        "uint64": lambda: rng.randint(0, 2**63, n, dtype=np.uint64) * 2,
    }
    column = pa.array(values[kind]())
    if n and draw(st.integers(0, 9)) == 0:
        column = pa.array(
            [None if i == draw(st.integers(0, n - 1)) else x for i, x in enumerate(column.to_pylist())], column.type
        )
    return column


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, TableOptions]:
    """Columns of any types under any names, now and then twice under one; and options that may suit them."""
    sound = draw(st.booleans())
    n = draw(st.sampled_from([11, 40, 120] if sound else [0, 1, 2, 9, 10, 30, 120]))
    names = draw(st.lists(st.sampled_from(PLAIN_NAMES), min_size=1, max_size=6, unique=True))
    if not sound:
        names += draw(st.lists(st.one_of(st.sampled_from(ODD_NAMES), st.text(max_size=4)), max_size=2))
    kinds = SOUND if sound else NUMBERS + OTHERS
    try:
        table = pa.Table.from_arrays([draw(columns(n, kinds)) for _ in names], names=names)
    except UnicodeEncodeError:  # half a surrogate pair
        reject()
    some = st.sampled_from([(), (), (), tuple(names[:2]), ("a",)])
    several = st.lists(st.sampled_from(names), max_size=2, unique=True)
    low, high = draw(st.sampled_from([(0.0, None), (None, 1e4), (-10.0, 10.0), (0.0, 1.0), (-1e9, 1e9)]))
    said = {name: draw(st.sampled_from(COLUMN_KINDS)) for name in draw(several)} if draw(st.booleans()) else {}
    bounds = dict.fromkeys(draw(several), (low, high)) if draw(st.integers(0, 3)) == 0 else {}
    options = TableOptions(
        kinds={name: kind for name, kind in said.items() if kind != "category" or name not in bounds},
        found=draw(st.booleans()),
        bounds=bounds,
        allow_ties=draw(st.sampled_from([(), (), ("all",), tuple(names[:1])])),
        likelihood=draw(st.sampled_from(["density", "density", "mass"])),
        columns=draw(some),
        drop_columns=draw(some),
        missing=draw(st.sampled_from(["refuse", "drop", "indicator"])),
        split=draw(st.sampled_from(["random", "random", "time", names[-1]])),
        test_fraction=draw(st.sampled_from([0.1, 0.1, 0.01, 0.45])),
        dequantise=sound or draw(st.booleans()),
    )
    return table, options


def write(table: pa.Table, path: Path) -> None:
    if path.suffix in (".csv", ".tsv"):
        delimiter = "," if path.suffix == ".csv" else "\t"
        # CSV has no lists
        flat = [pa.nulls(len(c)) if pa.types.is_nested(c.type) else c for c in table.columns]
        table = pa.Table.from_arrays(flat, names=table.column_names)
        csv.write_csv(table, path, csv.WriteOptions(delimiter=delimiter))
    elif path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=25)
    else:
        arrays = [column.to_numpy() for column in table.columns]
        if path.suffix == ".npy":
            np.save(path, np.column_stack(arrays) if arrays else np.empty((table.num_rows, 0)), allow_pickle=True)
        else:
            np.savez(path, allow_pickle=True, **{f"_{i}": array for i, array in enumerate(arrays)})


def outcome(path: Path, cache: Path, options: TableOptions, **held_out: str) -> Dataset | DataError | UsageError:
    """A sound dataset or a clear error: anything else fails here."""
    blocks = {
        table_arrow: ("BLOCK_BYTES", 4096),
        table_npy: ("BATCH_VALUES", 100),
        table_spool: ("CHUNK_VALUES", 50),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        for module, (name, value) in blocks.items():
            patch.setattr(module, name, value)
        try:
            found: Dataset | DataError | UsageError = load(str(path), table_options=options, **held_out)  # type: ignore[arg-type]
        except (DataError, UsageError) as error:
            found = error
    assert isinstance(found, Dataset) or str(found).strip()
    prepared = cache / "flowbench" / "prepared"
    entries = list(prepared.iterdir()) if prepared.exists() else []
    assert not [entry for entry in entries if entry.name.startswith(".")]
    for entry in entries:
        assert {file.name for file in entry.iterdir()} == {"train.npy", "validation.npy", "test.npy", "meta.json"}
        json.loads((entry / "meta.json").read_text())
    if isinstance(found, Dataset):
        location, scale = standardisation(found)
        for part in (found.train, found.validation, found.test):
            assert part.shape[0] > 0
            codes = len(found.discrete.classes) if found.discrete else 0
            categories = len(found.discrete.categories) if found.discrete else 0
            assert part.shape[1] == found.dim + codes
            assert found.dim == len(location) == len(found.columns or ()) - categories
            assert np.isfinite(part).all()
        assert np.isfinite(location).all()
        assert np.isfinite(scale).all()
    return found


@FUZZ
@given(made=tables(), kind=st.sampled_from(KINDS))
def test_any_table_ends_well(
    made: tuple[pa.Table, TableOptions], kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table, options = made
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / f"t.{kind}"
    try:
        write(table, path)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return  # what cannot be written cannot be met
    outcome(path, folder / "cache", as_named_in(kind, options, table.column_names))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
@FUZZ
@given(
    made=tables(), cuts=st.lists(st.integers(1, 300), max_size=4), damage=st.binary(max_size=6), at=st.integers(0, 500)
)
def test_any_pipe_ends_well(
    made: tuple[pa.Table, TableOptions],
    cuts: list[int],
    damage: bytes,
    at: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Whatever parts a table comes in, damaged or not: as many rows as there are, or a clear error."""
    folder = tmp_path_factory.mktemp("pipe")
    try:
        write(made[0], folder / "t.csv")
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return  # what cannot be written cannot be met
    content = (folder / "t.csv").read_bytes()
    content = content[:at] + damage + content[at:]
    os.mkfifo(folder / "pipe.csv")

    def feed() -> None:
        with contextlib.suppress(OSError), (folder / "pipe.csv").open("wb", buffering=0) as pipe:
            for start, stop in itertools.pairwise([0, *itertools.accumulate(cuts), len(content)]):
                pipe.write(content[start:stop])

    feeding = threading.Thread(target=feed, daemon=True)
    feeding.start()
    with contextlib.suppress(DataError, UsageError):
        source = open_source(str(folder / "pipe.csv"))
        rows = sum(len(records.numbers) for records in source.read(source.columns[:1], source.columns[1:2]))
        assert damage or rows <= max(1, made[0].num_rows)
    feeding.join(20)
    assert not feeding.is_alive()


@FUZZ
@given(
    made=tables(),
    other=tables(),
    kinds=st.tuples(*[st.sampled_from(KINDS)] * 2),
    roles=st.sets(st.sampled_from(["test_data", "validation_data"]), min_size=1),
    alike=st.booleans(),
)
def test_any_files_of_held_out_rows_end_well(
    made: tuple[pa.Table, TableOptions],
    other: tuple[pa.Table, TableOptions],
    kinds: tuple[str, str],
    roles: set[str],
    alike: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Of any other table, and of the first rows of the same."""
    table, options = made
    folder = tmp_path_factory.mktemp("fuzz")
    path, held_out = folder / f"t.{kinds[0]}", folder / f"h.{kinds[1]}"
    try:
        write(table, path)
        write(table[:15] if alike else other[0], held_out)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return
    named = as_named_in(kinds[0], options, table.column_names)
    if len(roles) == 2:
        named = replace(named, split="random", test_fraction=0.1)
    outcome(path, folder / "cache", named, **dict.fromkeys(roles, str(held_out)))


def as_named_in(kind: str, options: TableOptions, names: list[str]) -> TableOptions:
    """Arrays have numbers for names."""
    if kind not in ("npy", "npz"):
        return options
    numbers = {name: f"{'_' * (kind == 'npz')}{i}" for i, name in enumerate(names)}

    def renamed(chosen: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(numbers.get(name, name) for name in chosen)

    split = options.split if options.group is None else numbers[options.split]
    return replace(options, columns=renamed(options.columns), drop_columns=renamed(options.drop_columns), split=split)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", ["random", "time", "b"])
def test_a_sound_table_is_a_dataset_in_every_kind(kind: str, split: str, tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    table = pa.table({"a": rng.normal(size=60), "b": rng.randint(0, 9, 60).astype(float), "c": rng.normal(size=60)})
    write(table, tmp_path / f"t.{kind}")
    options = as_named_in(kind, TableOptions(drop_columns=("b",), split=split), table.column_names)
    found = outcome(tmp_path / f"t.{kind}", tmp_path / "cache", options)
    assert isinstance(found, Dataset), found
    assert found.dim == 2


@FUZZ
@given(
    kind=st.sampled_from(KINDS),
    cut=st.floats(0.1, 2),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3),
)
def test_any_damage_ends_well(
    kind: str, cut: float, flips: list[tuple[float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Good tables of which the end is missing, and bytes are others."""
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / f"t.{kind}"
    rng = np.random.RandomState(0)
    write(pa.table({"a": rng.normal(size=60), "b": rng.normal(size=60)}), path)
    content = bytearray(path.read_bytes())
    for where, byte in flips:
        content[int(where * (len(content) - 1))] = byte
    path.write_bytes(content[: int(cut * len(content))] if cut < 1 else content)
    outcome(path, folder / "cache", TableOptions())


@FUZZ
@given(
    text=st.text(st.sampled_from('12.,;\t\n"ea-\0 ö'), min_size=1, max_size=60),
    encoding=st.sampled_from(["utf-8", "latin-1", "utf-16"]),
)
def test_any_text_ends_well(text: str, encoding: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "t.csv").write_bytes(text.encode(encoding))
    outcome(folder / "t.csv", folder / "cache", TableOptions())
    (folder / "u.csv").write_bytes(
        ("a,b\n" + "".join(f"{i / 7},{i * i / 3}\n" for i in range(20)) + text).encode(encoding)
    )
    outcome(folder / "u.csv", folder / "cache", TableOptions())


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_ten_thousand_columns(kind: str, tmp_path: Path) -> None:
    rows = np.random.RandomState(0).normal(size=(20, 10_000))
    write(pa.Table.from_arrays(list(rows.T), names=[f"c{i}" for i in range(10_000)]), tmp_path / f"t.{kind}")
    found = outcome(tmp_path / f"t.{kind}", tmp_path / "cache", TableOptions())
    assert isinstance(found, Dataset)
    assert found.dim == 10_000


def run(path: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    tiny = ["--set", "hidden=4", "--set", "transforms=1", "--max-epochs", "1", "--out", str(folder / "results")]
    return forked.flowbench("train", "maf", "--data", path, *tiny, *options, XDG_CACHE_HOME=str(folder / "cache"))


def test_a_table_with_everything_goes_through_the_command_line(tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    n = 300
    columns = {
        "größe, cm": [None, *rng.normal(170, 10, n - 1)],
        "列": rng.poisson(3, n),
        "who": rng.choice(["x", "y", "z", "größe"], n),
        "constant": np.ones(n),
        "yes": rng.rand(n) < 0.5,
        "price": rng.randint(0, 900, n) / 100,
    }
    write(pa.table(columns), tmp_path / "my table.csv")
    refused = run(tmp_path / "my table.csv", tmp_path)
    assert refused.returncode == 4, refused.stderr
    options = ("--dropna", "--drop-columns", "constant", "--split", "who", "--dequantise")
    done = run(tmp_path / "my table.csv", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    (row,) = [json.loads(path.read_text()) for path in (tmp_path / "results").glob("*.json")]
    assert row["task"]["dequantised"] == {"列": 1, "yes": 1, "price": 0.01}
    assert sum(row["task"][part] for part in ("n_train", "n_validation", "n_test")) == n - 1
    found = row["likelihoods"]
    for figure in (found["test_ll_nats"]["mean"], found["test_ll_own_units_nats"], found["validation_ll_nats"]):
        assert np.isfinite(figure)
    assert "299 rows of 4 columns, and 1 more with missing values" in done.stderr
    named = run(tmp_path / "my table.csv", tmp_path, "--columns", '"größe, cm",price', "--dropna", "--dequantise")
    assert named.returncode == 0, named.stderr


def test_a_bad_table_ends_the_command_line_with_4(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfea\x00")
    done = run(tmp_path / "t.csv", tmp_path)
    assert done.returncode == 4, done.stderr
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
