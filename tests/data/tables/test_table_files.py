"""Tables in files, read in batches: every kind gives the same rows, however many batches it takes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flowbench.data.tables import arrow as table_arrow
from flowbench.data.tables import npy as table_npy
from flowbench.data.tables.files import OPENERS, open_table
from flowbench.errors import DataError, UsageError

RNG = np.random.RandomState(0)
ROWS = RNG.normal(size=(5000, 3))
ROWS[17, 1] = np.nan
FRAME = pd.DataFrame(ROWS, columns=["0", "1", "2"])

WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "t.csv": lambda frame, path: frame.to_csv(path, index=False),
    "t.tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "t.parquet": lambda frame, path: frame.to_parquet(path, row_group_size=1000),
    "rows.npy": lambda frame, path: np.save(path, np.ascontiguousarray(frame.to_numpy())),
    "columns.npy": lambda frame, path: np.save(path, np.asfortranarray(frame.to_numpy())),
    "rows.npz": lambda frame, path: np.savez(path, np.ascontiguousarray(frame.to_numpy())),
    "columns.npz": lambda frame, path: np.savez_compressed(path, np.asfortranarray(frame.to_numpy())),
    "named.npz": lambda frame, path: np.savez(path, **{name: frame[name].to_numpy() for name in frame}),
}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_arrow, "BLOCK_BYTES", 10_000)
    monkeypatch.setattr(table_arrow, "BATCH_VALUES", 1000)
    monkeypatch.setattr(table_npy, "BATCH_VALUES", 1000)


def whole(path: Path, columns: list[str] | None = None) -> np.ndarray:
    return np.concatenate(list(open_table(path).batches(columns)))


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_gives_the_same_rows_in_batches(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](FRAME, path)
    table = open_table(path)
    assert table.columns == ("0", "1", "2")
    batches = list(table.batches())
    assert len(batches) > 1 or name == "columns.npz"
    assert all(batch.dtype == np.float64 and batch.flags.c_contiguous for batch in batches)
    np.testing.assert_array_equal(np.concatenate(batches), ROWS)
    np.testing.assert_array_equal(whole(path, ["2", "0"]), ROWS[:, [2, 0]])
    labels = np.concatenate(list(table.labels("1")))
    assert labels[17] is None
    np.testing.assert_array_equal(np.delete(labels, 17).astype(float), np.delete(ROWS[:, 1], 17))
    assert set(OPENERS) == {Path(name).suffix for name in WRITERS}


def test_a_folder_is_its_files_one_after_the_other(tmp_path: Path) -> None:
    for i, part in enumerate(np.array_split(ROWS, 3)):
        pd.DataFrame(part, columns=["a", "b", "c"])[["c", "a", "b"] if i else ["a", "b", "c"]].to_csv(
            tmp_path / f"part-{i}.csv", index=False
        )
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".part.crc").touch()
    np.testing.assert_array_equal(whole(tmp_path), ROWS)
    (tmp_path / "part-3.csv").write_text("a,b,d\n1,2,3\n")
    with pytest.raises(DataError, match=r"part-3\.csv.*only one of them has 'c'"):
        open_table(tmp_path)
    np.save(tmp_path / "part-3.npy", ROWS)
    with pytest.raises(DataError, match="more than one kind"):
        open_table(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no files"):
        open_table(tmp_path)


def test_an_unknown_column_gets_the_nearest(tmp_path: Path) -> None:
    FRAME.rename(columns={"0": "voltage"}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UsageError, match="no column 'voltag'") as caught:
        whole(tmp_path / "t.csv", ["voltag"])
    assert "did you mean voltage?" in str(caught.value.hint)


def test_text_beyond_the_first_block_is_named_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,2\n" * 30_000 + "1,2.5\n3,fast\n")
    with pytest.raises(DataError, match="'b' is not numeric: it holds 'fast' in row 30002"):
        whole(path)
    assert len(whole(path, ["a"])) == 30_002
    assert list(open_table(path).labels("b"))[-1][-1] == "fast"
    FRAME.assign(c=["1"] * 4999 + ["slow"]).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="'c' is not numeric: it holds '1' in row 1"):
        whole(tmp_path / "t.parquet")


def test_truth_values_are_numbers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [True, False] * 10, "b": np.arange(20.0)})
    for name in ("t.csv", "t.parquet", "named.npz"):
        WRITERS[name](frame, tmp_path / name)
        np.testing.assert_array_equal(whole(tmp_path / name), frame.to_numpy(float))


def test_columns_whose_names_are_parts_of_others(tmp_path: Path) -> None:
    FRAME.set_axis(["a", "a.b", "b"], axis=1).to_parquet(tmp_path / "t.parquet")
    np.testing.assert_array_equal(whole(tmp_path / "t.parquet", ["a"]), ROWS[:, :1])
    np.testing.assert_array_equal(whole(tmp_path / "t.parquet", ["a.b", "a"]), ROWS[:, [1, 0]])


def test_pickles_in_an_archive_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", a=np.array([{}], object))
    with pytest.raises(DataError, match="pickled"):
        open_table(tmp_path / "t.npz")


def test_an_archive_of_unequal_columns_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", a=np.ones(3), b=np.ones(4))
    with pytest.raises(DataError, match="3 to 4 rows"):
        open_table(tmp_path / "t.npz")
