"""Test and validation rows in files of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_files import standardisation

from flowbench.data import Dataset, TableOptions, load
from flowbench.data.tables import npy as table_npy
from flowbench.data.tables import repeated
from flowbench.data.tables import spool as table_spool
from flowbench.data.tables.options import TEST as TEST_PART
from flowbench.data.tables.options import TRAIN as TRAIN_PART
from flowbench.data.tables.repeated import hashed
from flowbench.errors import DataError, FlowbenchError, UsageError

RNG = np.random.RandomState(0)


def frame(rows: int) -> pd.DataFrame:
    return pd.DataFrame(RNG.normal([3, -1, 0], [2, 0.1, 1], (rows, 3)), columns=list("abc"))


TRAIN, VALIDATION, TEST = frame(200), frame(30), frame(40)
PARTS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, and chunks of few rows."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(table_spool, "CHUNK_VALUES", 50)
    monkeypatch.setattr(table_npy, "BATCH_VALUES", 70)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The three files, as .csv and as .npy."""
    for name, table in zip(PARTS, (TRAIN, VALIDATION, TEST), strict=True):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        np.save(tmp_path / f"{name}.npy", table.to_numpy())
    return tmp_path


def loaded(
    folder: Path, data: str, test: str | None = None, validation: str | None = None, seed: int = 0, **options: object
) -> Dataset:
    test, validation = (None if name is None else str(folder / name) for name in (test, validation))
    table = TableOptions(**options)  # type: ignore[arg-type]
    return load(str(folder / data), split_seed=seed, table_options=table, test_data=test, validation_data=validation)


def refusal(folder: Path, *files: str | None, kind: type[FlowbenchError] = DataError, **options: object) -> str:
    with pytest.raises(kind) as caught:
        loaded(folder, *files, **options)  # type: ignore[arg-type]
    assert caught.value.hint
    return f"{caught.value} ({caught.value.hint})"


def rows(data: Dataset, part: str) -> np.ndarray:
    """A part in the table's own units."""
    location, scale = standardisation(data)
    return np.float64(getattr(data, part)) * scale + location


@pytest.mark.parametrize("kind", ["csv", "npy"])
def test_three_files_are_the_three_splits_in_their_order(kind: str, folder: Path) -> None:
    data = loaded(folder, *(f"{name}.{kind}" for name in ("train", "test", "validation")), seed=3)
    assert data.rows == (200, 30, 40)
    assert data.name == f"train.{kind}"
    assert data.split_seed is None
    for name, table in zip(PARTS, (TRAIN, VALIDATION, TEST), strict=True):
        np.testing.assert_allclose(rows(data, name), table.to_numpy(), atol=1e-5)
    location, scale = standardisation(data)
    np.testing.assert_allclose(location, TRAIN.to_numpy().mean(axis=0))
    np.testing.assert_allclose(scale, TRAIN.to_numpy().std(axis=0))


def test_what_has_no_file_is_drawn_from_the_table(folder: Path) -> None:
    data = loaded(folder, "train.csv", "test.csv", seed=3)
    assert data.rows == (180, 20, 40)
    assert data.split_seed == 3
    np.testing.assert_allclose(rows(data, "test"), TEST.to_numpy(), atol=1e-5)
    own = np.vstack([rows(data, "train"), rows(data, "validation")])
    np.testing.assert_allclose(own[own[:, 0].argsort()], TRAIN.sort_values("a").to_numpy(), atol=1e-5)
    last = loaded(folder, "train.csv", None, "validation.csv", split="time", test_fraction=0.2)
    assert last.rows == (160, 30, 40)
    np.testing.assert_allclose(rows(last, "test"), TRAIN.to_numpy()[-40:], atol=1e-5)
    assert not np.array_equal(data.train, loaded(folder, "train.csv", "test.csv", seed=4).train)


def test_what_would_split_nothing_is_refused(folder: Path) -> None:
    files = ("train.csv", "test.csv", "validation.csv")
    assert "--split has no effect" in refusal(folder, *files, kind=UsageError, split="time")
    assert "--test-fraction has no effect" in refusal(folder, *files, kind=UsageError, test_fraction=0.2)
    with pytest.raises(UsageError, match="splits of its own"):
        load("digits", test_data=str(folder / "test.csv"))


def test_the_files_and_what_they_are_for_decide_the_fingerprint(folder: Path) -> None:
    found = [
        loaded(folder, "train.csv"),
        loaded(folder, "train.csv", "test.csv"),
        loaded(folder, "train.csv", "validation.csv"),
        loaded(folder, "train.csv", None, "test.csv"),
        loaded(folder, "train.csv", "test.csv", "validation.csv"),
        loaded(folder, "train.csv", "validation.csv", "test.csv"),
    ]
    assert len({data.fingerprint for data in found}) == len(found)
    again = loaded(folder, "train.csv", "test.csv", "validation.csv", seed=7)
    assert again.fingerprint == found[4].fingerprint


def test_the_files_may_be_of_different_kinds_and_orders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = loaded(folder, "train.csv", "test.csv", "validation.csv")
    TEST[["c", "a", "b"]].to_parquet(folder / "t.parquet")
    np.savez(folder / "v.npz", **{name: VALIDATION[name].to_numpy() for name in "bca"})
    for files in (("t.parquet", "v.npz"), ("test.npy", "v.npz"), ("t.parquet", "validation.npy")):
        found = loaded(folder, "train.csv", *files)
        for part in PARTS:
            np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
    said = capsys.readouterr().err
    assert f"{folder}/test.npy has no names: the columns of {folder}/test.npy are taken in the order of" in said
    assert "left out" not in said
    nameless = loaded(folder, "train.npy", "test.csv", "validation.csv")
    assert nameless.columns == ("0", "1", "2")
    np.testing.assert_array_equal(nameless.test, expected.test)
    TEST.rename(columns=dict(zip("abc", "012", strict=True)))[["2", "0", "1"]].to_parquet(folder / "n.parquet")
    np.testing.assert_array_equal(loaded(folder, "train.npy", "n.parquet", "validation.npy").test, expected.test)


def test_a_folder_of_files_is_one_table(folder: Path) -> None:
    (folder / "parts").mkdir()
    TEST[:15].to_csv(folder / "parts" / "1.csv", index=False)
    TEST[15:].to_csv(folder / "parts" / "2.csv", index=False)
    found = loaded(folder, "train.csv", "parts", "validation.csv")
    np.testing.assert_array_equal(found.test, loaded(folder, "train.csv", "test.csv", "validation.csv").test)


def test_columns_that_do_not_match_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    TEST.rename(columns={"b": "B "}).to_csv(folder / "renamed.csv", index=False)
    assert "lacks column 'b', which the flow is trained on (rename 'B ' to 'b')" in refusal(
        folder, "train.csv", "renamed.csv"
    )
    np.save(folder / "narrow.npy", TEST.to_numpy()[:, :2])
    for table, other in (("train.npy", "narrow.npy"), ("train.csv", "narrow.npy"), ("narrow.npy", "test.csv")):
        assert "without names they are matched by position" in refusal(folder, table, other)
    TEST.assign(d=TEST["a"], e="text").to_csv(folder / "wide.csv", index=False)
    capsys.readouterr()
    assert loaded(folder, "train.csv", "wide.csv").dim == 3
    assert "wide.csv: left out columns 'd', 'e', which the flow is not trained on" in capsys.readouterr().err
    TEST[["c", "a"]].to_csv(folder / "few.csv", index=False)
    assert loaded(folder, "train.csv", "few.csv", drop_columns=("b",)).columns == ("a", "c")
    assert loaded(folder, "train.csv", "test.csv", drop_columns=("b",)).columns == ("a", "c")
    assert "left out" not in capsys.readouterr().err


def test_what_is_wrong_has_its_file_and_its_row_there(folder: Path) -> None:
    holed = TEST.copy()
    holed.loc[[4, 7], "b"] = np.nan
    holed.to_csv(folder / "holed.csv", index=False)
    assert f"{folder}/holed.csv: column 'b' has the first of 2 missing values in row 5" in refusal(
        folder, "train.csv", "holed.csv"
    )
    assert loaded(folder, "train.csv", "holed.csv", "validation.csv", missing="drop").rows == (200, 30, 38)
    holed.loc[:, "b"] = np.nan
    holed.to_csv(folder / "holed.csv", index=False)
    assert f"{folder}/holed.csv has no rows without missing values" in refusal(
        folder, "train.csv", "holed.csv", missing="drop"
    )
    endless = VALIDATION.to_numpy().copy()
    endless[29, 2] = -np.inf
    np.save(folder / "endless.npy", endless)
    said = refusal(folder, "train.npy", "test.npy", "endless.npy")
    assert f"{folder}/endless.npy: column '2' has 1 infinite value in row 30" in said
    TEST.assign(a=["fast", *TEST["a"][1:]]).to_csv(folder / "text.csv", index=False)
    assert f"{folder}/text.csv: column 'a' is not numeric: it holds 'fast' in row 1" in refusal(
        folder, "train.csv", "text.csv"
    )


def test_a_given_column_is_checked_in_every_file(folder: Path) -> None:
    for name, table in zip(PARTS, (TRAIN, VALIDATION, TEST), strict=True):
        table.assign(site=np.where(table["c"] > 0, "north", "south"), x=table["a"]).to_csv(
            folder / f"{name}.csv", index=False
        )
    files = ("train.csv", "test.csv", "validation.csv")
    given = {"columns": ("a", "b"), "given": ("c", "site")}
    data = loaded(folder, *files, **given)
    assert data.given[1].labels == ("north", "south")
    np.testing.assert_array_equal(data.test[:, 1], TEST["c"] <= 0)
    np.testing.assert_array_equal(data.train[:, 1], TRAIN["c"] <= 0)
    TEST.assign(site=[*["north"] * 39, "west"]).to_csv(folder / "test.csv", index=False)
    said = refusal(folder, *files, **given)
    assert f"{folder}/test.csv: column 'site' has the class 'west' in no training row" in said
    TEST.assign(site="north", c=[np.nan, *TEST["c"][1:]]).to_csv(folder / "test.csv", index=False)
    said = refusal(folder, *files, **given)
    assert f"{folder}/test.csv: column 'c', which is given, has a missing value in row 1" in said
    assert loaded(folder, *files, missing="drop", **given).rows == (200, 30, 39)


def test_numbers_are_the_same_classes_in_every_kind_of_file(folder: Path) -> None:
    kinds = [table.assign(kind=np.arange(len(table)) % 3) for table in (TRAIN, TEST)]
    kinds[0].to_csv(folder / "train.csv", index=False)
    np.save(folder / "test.npy", kinds[1].to_numpy(np.float32))
    data = loaded(folder, "train.csv", "test.npy", given=("kind",), classes=("kind",))
    assert data.given[0].labels == ("0", "1", "2")
    np.testing.assert_array_equal(data.test[:, 0], np.arange(40) % 3)


@pytest.mark.parametrize("test", ["test.csv", "test.npy"])
def test_a_group_is_needed_only_where_rows_are_drawn(test: str, folder: Path) -> None:
    TRAIN.assign(who=np.arange(200) // 20).to_csv(folder / "train.csv", index=False)
    data = loaded(folder, "train.csv", test, split="who")
    assert data.columns == ("a", "b", "c")
    assert data.rows == (180, 20, 40)
    validation = rows(data, "validation")[0]
    np.testing.assert_allclose(rows(data, "test"), TEST.to_numpy(), atol=1e-5)
    TEST.assign(a=[np.nan, *TEST["a"][1:]]).to_csv(folder / "holed.csv", index=False)
    assert loaded(folder, "train.csv", "holed.csv", split="who", missing="drop").rows == (180, 20, 39)
    start = int(np.abs(TRAIN.to_numpy() - validation).sum(axis=1).argmin())
    assert start % 20 == 0
    np.testing.assert_allclose(rows(data, "validation"), TRAIN.to_numpy()[start : start + 20], atol=1e-5)


def test_noise_and_profile_are_of_all_rows(folder: Path) -> None:
    counts = TRAIN.assign(n=RNG.poisson(3, 200)), TEST.assign(n=RNG.poisson(3, 40))
    counts[0].to_csv(folder / "train.csv", index=False)
    counts[1].to_csv(folder / "test.csv", index=False)
    said = refusal(folder, "train.csv", "test.csv")
    assert f"{folder}/train.csv: column 'n' has only whole numbers" in said
    data = loaded(folder, "train.csv", "test.csv", dequantise=True)
    assert data.dequantised == {"n": 1}
    noise = rows(data, "test")[:, 3] - counts[1]["n"]
    assert noise.between(-1e-5, 1 + 1e-5).all()
    assert noise.std() > 0.2
    # whole in training, and halves in the test file
    counts[1].assign(n=counts[1]["n"] / 2).to_csv(folder / "test.csv", index=False)
    assert loaded(folder, "train.csv", "test.csv", dequantise=True).dequantised == {"n": 0.5}
    # a wide range of whole numbers has no heavy ties, and one fraction in the test file makes it no whole numbers
    TRAIN.assign(n=RNG.permutation(10**6)[:200]).to_csv(folder / "train.csv", index=False)
    TEST.assign(n=TEST["a"]).to_csv(folder / "test.csv", index=False)
    assert loaded(folder, "train.csv", "test.csv").dequantised == {}


def test_a_column_may_be_constant_in_the_test_file_alone(folder: Path) -> None:
    TEST.assign(b=-1.0).to_csv(folder / "test.csv", index=False)
    assert np.ptp(loaded(folder, "train.csv", "test.csv").test[:, 1]) == 0
    TRAIN.assign(b=-1.0).to_csv(folder / "train.csv", index=False)
    VALIDATION.to_csv(folder / "test.csv", index=False)
    assert f"{folder}/train.csv: column 'b' has heavy ties" in refusal(folder, "train.csv", "test.csv")


@pytest.mark.parametrize("role", ["test", "validation"])
def test_one_row_is_enough_and_none_is_not(role: str, folder: Path) -> None:
    TEST[:1].to_csv(folder / "one.csv", index=False)
    TEST[:0].to_csv(folder / "none.csv", index=False)
    np.save(folder / "none.npy", np.empty((0, 3)))
    one = loaded(folder, "train.csv", **{role: "one.csv"})  # type: ignore[arg-type]
    np.testing.assert_allclose(rows(one, role), TEST.to_numpy()[:1], atol=1e-5)
    for name in ("none.csv", "none.npy"):
        said = refusal(folder, *((("train.csv", name)) if role == "test" else ("train.csv", None, name)))
        assert f"{folder}/{name} is an empty table: it has no rows" in said
    assert f"{folder}/none.csv is an empty table" in refusal(folder, "none.csv", "test.csv", "validation.csv")
    (folder / "zero.csv").touch()
    assert "zero.csv is an empty file" in refusal(folder, "train.csv", "zero.csv")


def test_a_pipe_is_no_table(folder: Path) -> None:
    import os

    os.mkfifo(folder / "pipe.csv")
    assert "there is no file" in refusal(folder, "train.csv", "pipe.csv")


def test_rows_that_are_trained_on_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.concat([TEST, TRAIN[10:14], TRAIN[10:11]]).to_csv(folder / "leaky.csv", index=False)
    loaded(folder, "train.csv", "leaky.csv", "validation.csv")
    first = capsys.readouterr().err
    assert "repeated       5 of 45 rows of leaky.csv are training rows, too" in first
    assert "warning" not in first
    loaded(folder, "train.csv", "leaky.csv", "validation.csv")
    assert capsys.readouterr().err == first
    loaded(folder, "train.csv", "test.csv", "validation.csv")
    assert "repeated" not in capsys.readouterr().err


def test_a_file_that_is_given_twice_is_warned_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "copy.csv").write_bytes((folder / "train.csv").read_bytes())
    assert loaded(folder, "train.csv", "copy.csv", "validation.csv").rows == (200, 30, 200)
    said = capsys.readouterr().err
    assert f"warning: {folder}/copy.csv has the content of {folder}/train.csv, whose rows are trained on" in said
    assert "200 of 200 rows of copy.csv are training rows, too" in said
    loaded(folder, "train.csv", "test.csv", "test.csv")
    assert "whose rows choose the epoch" in capsys.readouterr().err


def test_the_same_rows_have_one_hash_and_others_another() -> None:
    """Also of numbers whose low bits are all zero, and where a row is another in another order."""
    some = np.random.RandomState(0).normal(size=(2000, 2)).astype(np.float32)
    for table in (some, np.indices((300, 300)).reshape(2, -1).T, some[:, :1]):
        found = hashed(np.float64(table))
        assert len(np.unique(found)) == len(np.unique(table, axis=0))
        np.testing.assert_array_equal(hashed(np.float64(table)[::-1])[::-1], found)
    assert len(np.unique(hashed(np.arange(5000.0)[:, None]) & np.uint64(255))) == 256
    assert hashed(np.array([[0.0, 1.0]])) == hashed(np.array([[-0.0, 1.0]]))


def test_of_very_many_rows_some_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated, "MOST_ROWS", 7)
    table = np.arange(100.0)[:, None]
    parts = np.where(np.arange(100) < 40, TRAIN_PART, TEST_PART).astype(np.int8)
    table[70:] = table[:30]  # of 60 rows every ninth is looked for: rows 40, 49, 58, 67, 76, 85, 94
    chunks = lambda: ((table[i : i + 11], parts[i : i + 11]) for i in range(0, 100, 11))  # noqa: E731
    assert repeated.repeated_rows(chunks, TEST_PART, 60) == (3, 7)
