"""Options of own tables: columns, rows, splits and noise; what they refuse, and what they do to the fingerprint."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from made_files import standardisation
from pyarrow import parquet

from flowbench import memory
from flowbench.data import Dataset, TableOptions, load
from flowbench.data.tables import spool as table_spool
from flowbench.errors import DataError, FlowbenchError, ShortOfMemoryError, UsageError
from flowbench.seeds import stream

RNG = np.random.RandomState(0)
N = 500
FRAME = pd.DataFrame(
    {
        "time": np.arange(N) / 7,
        "a": RNG.normal(3, 2, N),
        "count": RNG.poisson(3, N),
        "price": RNG.randint(0, 400, N) / 100,
        "who": RNG.choice([f"person {i}" for i in range(40)], N),
    }
)


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that prepared arrays go to, empty; and chunks of few rows."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(table_spool, "CHUNK_VALUES", 100)
    return tmp_path / "cache" / "flowbench" / "prepared"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def loaded(path: Path, seed: int = 0, **options: object) -> Dataset:
    return load(str(path), split_seed=seed, table_options=TableOptions(**options))  # type: ignore[arg-type]


def refusal(path: Path, kind: type[FlowbenchError] = DataError, **options: object) -> str:
    with pytest.raises(kind) as caught:
        loaded(path, **options)
    assert caught.value.hint or kind is UsageError
    return f"{caught.value} ({caught.value.hint})"


def rows(data: Dataset, part: str) -> np.ndarray:
    """A part in the table's own units."""
    location, scale = standardisation(data)
    return np.float64(getattr(data, part)) * scale + location


def test_columns_are_taken_in_order_and_left_out(path: Path) -> None:
    data = loaded(path, columns=("a", "time"))
    assert data.columns == ("a", "time")
    np.testing.assert_allclose(
        np.sort(np.vstack([rows(data, p) for p in ("train", "validation", "test")])[:, 1]), FRAME["time"], atol=1e-5
    )
    assert loaded(path, drop_columns=("who", "price", "count")).columns == ("time", "a")


def test_columns_that_are_not_there_are_named(path: Path) -> None:
    assert "did you mean price?" in refusal(path, UsageError, columns=("prices",))
    assert "did you mean count?" in refusal(path, UsageError, drop_columns=("counts",))
    assert "did you mean who?" in refusal(path, UsageError, split="whom")
    assert "twice" in refusal(path, UsageError, columns=("a", "a"))
    assert "not modelled" in refusal(path, UsageError, columns=("a", "who"), split="who")
    assert "no column" in refusal(path, UsageError, columns=("a",), drop_columns=("a",))


@pytest.mark.parametrize("fraction", [0.0, 0.46, -1.0, float("nan")])
def test_a_fraction_must_leave_rows(fraction: float) -> None:
    with pytest.raises(UsageError, match="fraction"):
        TableOptions(test_fraction=fraction)


def test_a_dataset_with_a_name_takes_no_options() -> None:
    with pytest.raises(UsageError, match="of its own"):
        load("digits", table_options=TableOptions(missing="drop"))


def test_rows_keep_their_order_and_parts_are_those_of_the_permutation(path: Path) -> None:
    data = loaded(path, columns=("time", "a"), seed=3)
    order = np.random.default_rng(stream(3, "split")).permutation(N)
    expected = {"train": order[:400], "validation": order[400:450], "test": order[450:]}
    for part, which in expected.items():
        np.testing.assert_allclose(rows(data, part)[:, 0] * 7, np.sort(which), atol=1e-3)


def test_a_split_by_time_takes_the_last_rows(path: Path) -> None:
    data = loaded(path, columns=("time", "a"), split="time", test_fraction=0.2)
    assert data.rows == (300, 100, 100)
    times = [rows(data, part)[:, 0] for part in ("train", "validation", "test")]
    np.testing.assert_allclose(np.concatenate(times), FRAME["time"], atol=1e-4)
    assert data.fingerprint == loaded(path, seed=1, columns=("time", "a"), split="time", test_fraction=0.2).fingerprint


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_group_is_in_one_part_only(name: str, tmp_path: Path) -> None:
    getattr(FRAME, f"to_{name[2:]}")(tmp_path / name, index=False)
    data = loaded(tmp_path / name, columns=("time", "a"), split="who")
    groups = []
    for part in ("train", "validation", "test"):
        found = np.rint(rows(data, part)[:, 0] * 7).astype(int)
        groups.append(set(FRAME["who"][found]))
    assert sum(map(len, groups)) == 40
    assert len(set.union(*groups)) == 40
    assert abs(data.rows[1] - 50) < 15
    assert abs(data.rows[2] - 50) < 15
    other = loaded(tmp_path / name, seed=1, columns=("time", "a"), split="who")
    assert other.rows != data.rows or not np.array_equal(other.test, data.test)


def test_three_groups_make_three_parts_and_two_do_not(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": RNG.normal(size=100), "g": np.repeat([1, 2, 3], [90, 7, 3])})
    frame.to_parquet(tmp_path / "t.parquet")
    assert sorted(loaded(tmp_path / "t.parquet", split="g").rows) == [3, 7, 90]
    for seed in range(6):  # the largest is trained on, however much is wanted elsewhere
        assert loaded(tmp_path / "t.parquet", seed, split="g", test_fraction=0.45).rows[0] == 90
    frame["g"] = np.repeat([1, 2], 50)
    frame.to_parquet(tmp_path / "t.parquet")
    assert "2 different values" in refusal(tmp_path / "t.parquet", split="g")


def test_rows_with_missing_values_are_left_out_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = FRAME[["time", "a", "who"]].copy()
    frame.loc[[3, 70], "a"] = np.nan
    frame.loc[99, "who"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert "'a' has 2 missing values, the first in row 4" in refusal(tmp_path / "t.csv", drop_columns=("who",))
    data = loaded(tmp_path / "t.csv", drop_columns=("who",), missing="drop", split="time")
    assert sum(data.rows) == N - 2
    kept = np.concatenate([rows(data, part)[:, 0] for part in ("train", "validation", "test")])
    np.testing.assert_allclose(kept, FRAME["time"].drop([3, 70]), atol=1e-4)
    assert "498 rows of 2 columns, and 2 more with missing values" in capsys.readouterr().err
    assert "'who', by which to split, has a missing value in row 100" in refusal(tmp_path / "t.csv", split="who")
    assert sum(loaded(tmp_path / "t.csv", split="who", missing="drop").rows) == N - 3


def test_rows_without_a_group_are_counted_and_rows_have_their_numbers_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group = np.where(np.arange(100) < 10, np.nan, np.arange(100) % 7)
    frame = pd.DataFrame({"a": RNG.normal(size=100), "group": group})
    for kind in ("parquet", "csv"):
        path = tmp_path / f"t.{kind}"
        frame.to_parquet(path) if kind == "parquet" else frame.to_csv(path, index=False)
        assert sum(loaded(path, missing="drop", split="group").rows) == 90
        assert "90 rows of 1 column, and 10 more with missing values" in capsys.readouterr().err
        assert "row 1" in refusal(path, split="group")
    frame.loc[40, "a"] = np.inf
    frame.to_csv(path, index=False)
    assert "infinite value in row 41" in refusal(path, missing="drop", split="group")


def test_nan_that_parquet_does_not_call_missing_is_no_group(tmp_path: Path) -> None:
    group = pa.array(np.where(np.arange(60) < 5, np.nan, np.arange(60) % 7), from_pandas=False)
    parquet.write_table(pa.table({"a": RNG.normal(size=60), "group": group}), tmp_path / "t.parquet")
    assert "missing value in row 1" in refusal(tmp_path / "t.parquet", split="group")


def test_a_split_by_time_is_not_one_by_a_column_of_that_name(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded(path, columns=("a", "time"), split="time")
    assert "in the order of the file, whatever column 'time' holds" in capsys.readouterr().err


def test_names_that_results_can_carry(tmp_path: Path) -> None:
    frame = FRAME[["a", "time"]]
    long = tmp_path / f"{'é' * 115}.csv"
    frame.to_csv(long, index=False)
    assert len(loaded(long).name.encode()) <= 150
    (tmp_path / "digits").mkdir()
    frame.to_csv(tmp_path / "digits" / "part.csv", index=False)
    assert loaded(tmp_path / "digits").name == "digits (table)"


def test_a_profile_has_the_name_of_the_file_that_is_read(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded(path, columns=("a",))
    shutil.copy(path, path.with_name("other.csv"))
    capsys.readouterr()
    loaded(path.with_name("other.csv"), columns=("a",))
    said = capsys.readouterr().err
    assert "other.csv: 500 rows" in said
    assert "t.csv: 500" not in said


def test_whole_numbers_and_ties_are_refused_or_given_noise(path: Path) -> None:
    message = refusal(path, drop_columns=("who",))
    assert "'count', 'price' have only whole numbers or heavy ties" in message
    assert "--dequantise" in message
    data = loaded(path, drop_columns=("who",), dequantise=True)
    assert data.dequantised == {"count": 1, "price": 0.01}
    back = np.vstack([rows(data, part) for part in ("train", "validation", "test")])
    back = back[np.argsort(back[:, 0])]
    for i, width in ((2, 1), (3, 0.01)):
        noise = (back[:, i] - FRAME.to_numpy()[:, i].astype(float)) / width
        assert noise.min() > -1e-3
        assert noise.max() < 1 + 1e-3
        assert abs(noise.mean() - 0.5) < 0.05
        assert len(np.unique(data.train[:, i])) > 390
    np.testing.assert_allclose(data.train.mean(axis=0, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(data.train.std(axis=0, dtype=np.float64), 1, atol=1e-6)
    other = loaded(path, seed=1, drop_columns=("who",), dequantise=True, split="time")
    assert other.fingerprint != loaded(path, drop_columns=("who",), dequantise=True, split="time").fingerprint


def test_ties_without_a_step_are_refused_whatever_is_asked(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": RNG.normal(size=N), "rain": np.where(RNG.rand(N) < 0.4, 0, RNG.gamma(2, size=N))})
    frame.to_parquet(tmp_path / "t.parquet")
    assert "'rain' has heavy ties, but the values are not multiples" in refusal(tmp_path / "t.parquet", dequantise=True)
    assert "--drop-columns rain" in refusal(tmp_path / "t.parquet", dequantise=True)
    assert loaded(tmp_path / "t.parquet", drop_columns=("rain",)).columns == ("a",)


def test_a_step_too_fine_for_float32_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"a": np.r_[2e8, RNG.randint(0, 5, N - 1)]}).to_parquet(tmp_path / "t.parquet")
    assert "too fine beside its spread" in refusal(tmp_path / "t.parquet", dequantise=True, split="time")


def test_columns_that_say_the_same_are_refused(tmp_path: Path) -> None:
    frame = FRAME[["time", "a"]].assign(b=-2 * FRAME["a"] + 1)
    frame.to_parquet(tmp_path / "t.parquet")
    message = refusal(tmp_path / "t.parquet")
    assert "'b' from 'a'" in message
    assert "--drop-columns b" in message
    assert loaded(tmp_path / "t.parquet", drop_columns=("b",)).dim == 2


def test_every_option_that_changes_arrays_changes_the_fingerprint(path: Path) -> None:
    base: dict[str, object] = {"columns": ("time", "a")}
    changes: list[dict[str, object]] = [
        {},
        {"columns": ("a", "time")},
        {"missing": "drop"},
        {"split": "time"},
        {"split": "who"},
        {"test_fraction": 0.2},
        {"dequantise": True},
    ]
    found = [loaded(path, **(base | change)).fingerprint for change in changes]
    assert len(set(found)) == len(found)
    same = loaded(path, drop_columns=("count", "price", "who")).fingerprint
    assert same == found[0]


def test_a_second_load_converts_nothing_and_says_the_same(
    path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = loaded(path, drop_columns=("who",), dequantise=True)
    said = capsys.readouterr().err
    assert "noise added    'count' [0, 1), 'price' [0, 0.01)" in said
    monkeypatch.setattr("flowbench.data.tables.loading.convert", lambda *_: pytest.fail("converted again"))
    second = loaded(path, drop_columns=("who",), dequantise=True)
    assert capsys.readouterr().err == said
    assert isinstance(second.train, np.memmap)
    np.testing.assert_array_equal(first.train, second.train)
    assert second.preprocessing == first.preprocessing
    monkeypatch.undo()


@pytest.mark.parametrize("damage", ["train.npy", "meta.json"])
def test_a_damaged_entry_is_made_again(damage: str, path: Path, prepared: Path) -> None:
    expected = np.array(loaded(path, columns=("time", "a")).train)
    (entry,) = prepared.iterdir()
    (entry / damage).write_bytes((entry / damage).read_bytes()[:-20])
    again = loaded(path, columns=("time", "a"))
    np.testing.assert_array_equal(again.train, expected)
    assert isinstance(again.train, np.memmap)
    assert list(prepared.iterdir()) == [entry]


def test_what_is_refused_or_interrupted_leaves_nothing(
    path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal(path)
    refusal(path, drop_columns=("who",))
    assert list(prepared.iterdir()) == []

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flowbench.data.tables.convert._write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loaded(path, columns=("a",))
    assert list(prepared.iterdir()) == []


def test_without_a_writable_cache_arrays_stay_in_memory(
    path: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = loaded(path, columns=("time", "a"))
    train = np.array(expected.train)
    shutil.rmtree(prepared.parent)
    prepared.parent.write_text("a file where the folder should be")
    found = loaded(path, columns=("time", "a"))
    assert not isinstance(found.train, np.memmap)
    assert not found.train.flags.writeable
    np.testing.assert_array_equal(found.train, train)
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_room_is_looked_for_before_it_is_taken(
    suffix: str, tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of as many rows as a header tells; of text for a while ahead."""
    table = RNG.normal(size=(3000, 4))
    np.save(tmp_path / "t.npy", table)
    pd.DataFrame(table, columns=list("abcd")).to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.setattr(table_spool, "LITTLE", 10_000)
    usage = shutil.disk_usage(tmp_path)._replace(free=12 * 3000 * 4 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"cannot be converted: needs 1\d\d\.\d kB in .*, 144\.0 kB are free") as caught:
        loaded(tmp_path / f"t.{suffix}")
    assert f"t.{suffix}" in str(caught.value)
    assert "XDG_CACHE_HOME" in str(caught.value.hint)
    assert "cannot be written (needs" in capsys.readouterr().err
    assert list(prepared.iterdir()) == []
    usage = usage._replace(free=200_000)
    assert sum(loaded(tmp_path / f"t.{suffix}").rows) == 3000


def test_what_ends_at_a_full_disk_leaves_nothing(path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table_spool.Spool, "encoded", full)
    with pytest.raises(DataError, match="cannot be converted: No space left"):
        loaded(path, columns=("time", "a"))
    assert list(prepared.iterdir()) == []


def test_memory_is_foreseen_where_arrays_must_stay_in_it(
    path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared.parent.parent.mkdir()
    prepared.parent.write_text("a file where the folder should be")
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(ShortOfMemoryError, match=r"takes 4\.0 kB of memory, and 1\.0 kB are available"):
        loaded(path, columns=("time", "a"))


def test_times_far_from_zero_keep_their_fractions(tmp_path: Path) -> None:
    times = 1.7e9 + np.sort(RNG.uniform(0, 100, N))
    pd.DataFrame({"t": times}).to_parquet(tmp_path / "t.parquet")
    data = loaded(tmp_path / "t.parquet", split="time")
    np.testing.assert_allclose(rows(data, "train")[:, 0] - 1.7e9, times[:400] - 1.7e9, atol=1e-4)
    assert standardisation(data)[1][0] == pytest.approx(times[:400].std(), rel=1e-9)


def test_a_folder_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for i in range(5):
        FRAME[["time", "a"]][100 * i : 100 * i + 100].to_csv(tmp_path / "parts" / f"{i}.csv", index=False)
    data = loaded(tmp_path / "parts", split="time")
    assert data.name == "parts"
    np.testing.assert_allclose(rows(data, "test")[:, 0], FRAME["time"][-50:], atol=1e-4)
