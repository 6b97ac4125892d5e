"""Own tables: what is made of a good one, and what is said of a bad one."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_files import standardisation

from flowbench.data import TableOptions, load
from flowbench.errors import DataError

RNG = np.random.RandomState(0)
GOOD = pd.DataFrame({"a": RNG.normal(3, 2, 103), "b": RNG.normal(-1, 0.1, 103)})

Writer = Callable[[pd.DataFrame, Path], None]
WRITERS: dict[str, Writer] = {
    "t.csv": lambda frame, path: frame.to_csv(path, index=False),
    "T.CSV": lambda frame, path: frame.to_csv(path, index=False),
    "t.tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    "t.parquet": lambda frame, path: frame.to_parquet(path),
    "t.npy": lambda frame, path: np.save(path, np.asfortranarray(frame.to_numpy())),
}


WHOLE = TableOptions()


def refusal(path: Path, options: TableOptions = WHOLE) -> str:
    with pytest.raises(DataError) as caught:
        load(str(path), table_options=options)
    assert caught.value.exit_code == 4
    assert caught.value.hint
    assert str(path) in str(caught.value)
    return str(caught.value)


def refusal_of(content: str | bytes, path: Path) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return refusal(path)


@pytest.mark.parametrize("name", WRITERS)
def test_reads_standardises_and_leads_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](GOOD, path)
    data = load(str(path))
    assert data.name == name
    assert data.rows == (83, 10, 10)
    assert data.card is None
    assert data.columns == (("0", "1") if name == "t.npy" else ("a", "b"))
    location, scale = standardisation(data)
    for part in (data.train, data.validation, data.test):
        assert part.dtype == np.float32
        assert part.flags.c_contiguous
    np.testing.assert_allclose(data.train.mean(axis=0, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(data.train.std(axis=0, dtype=np.float64), 1, atol=1e-6)
    back = np.vstack([data.train, data.validation, data.test]) * scale + location
    original = GOOD.to_numpy()
    np.testing.assert_allclose(back[back[:, 0].argsort()], original[original[:, 0].argsort()], rtol=1e-5)


def test_the_seed_splits_and_marks(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    GOOD.to_csv(path, index=False)
    first, again, other = (load(str(path), split_seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.train, again.train)
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint
    assert not np.array_equal(first.test, other.test)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty file"),
        ("a,b\n", "no rows"),
        ("a,b\n1,2\n", "only 1 row"),
        ("a,b\n" + "1.5,2\n" * 9, "only 9 rows"),
        ("a,b\n" + "1.5,2.5\n" * 20 + "3,fast\n", "'b' is not numeric: it holds 'fast' in row 21"),
        ("a,b\n" + "1.5,2.5\n" * 20 + "3,1_000\n", "'b' is not numeric"),
        ("a,b\n" + "1.5,2.5\n" * 20 + "3,\n4,\n", "'b' has 2 missing values, the first in row 21"),
        ("a,b\n" + "1.5,\n" * 20, "'b' has 20 missing values"),
        ("a,b\n" + "1.5,2.5\n" * 20 + "-inf,2\n", "'a' has 1 infinite value in row 21"),
        ("a,b\n" + "".join(f"{i / 3},7\n" for i in range(20)), "'b' is constant (7)"),
        ("a,a\n" + "1.5,2.5\n" * 20, "more than one column 'a'"),
        ("a,b\n" + "1.5,2.5\n" * 20 + "1,2,3\n", "Row #22"),
        ("a,b\n" + "1.5,2.5\n" * 20 + "1\n", "Row #22"),
        (",a\n" + "1.5,2.5\n" * 20, "column 1"),
        ("1.5,2.5\n" * 20, "the first line"),
        ("a;b\n" + "1.5;2.5\n" * 20, "no commas between its columns: 'a;b'"),
        ("a;b\n" + "1,5;2,5\n" * 20, "no commas between its columns: 'a;b'"),
    ],
)
def test_refuses_a_csv_by_name_of_the_fault(text: str, expected: str, tmp_path: Path) -> None:
    assert expected in refusal_of(text, tmp_path / "t.csv")


@pytest.mark.parametrize(("encoding", "expected"), [("latin-1", "can't decode byte"), ("utf-16", "UTF-16")])
def test_refuses_another_encoding(encoding: str, expected: str, tmp_path: Path) -> None:
    assert expected in refusal_of(("größe,b\n" + "1.5,2.5\n" * 20).encode(encoding), tmp_path / "t.csv")


def test_refuses_what_is_compressed(tmp_path: Path) -> None:
    assert "compressed by gzip" in refusal_of(gzip.compress(b"a,b\n1.5,2.5\n"), tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.arange(30.0), "shape (30,)"),
        (np.ones((3, 3, 3)), "shape (3, 3, 3)"),
        (np.full((30, 2), 1j), "complex"),
        (np.array([[1, "a"]] * 30, dtype=object), "Python objects"),
        (np.array([["a", "b"]] * 30), "dtype"),
        (np.ones((30, 0)), "no columns"),
        (np.ones((0, 3)), "no rows"),
        (RNG.normal(size=(30, 1)) * 1e300, "'0' has values or a spread beyond"),
        (RNG.normal(size=(30, 1)) * 1e-300, "'0' has values or a spread beyond"),
    ],
)
def test_refuses_an_npy_by_name_of_the_fault(array: np.ndarray, expected: str, tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", array, allow_pickle=True)
    assert expected in refusal(tmp_path / "t.npy")


def test_never_unpickles(tmp_path: Path) -> None:
    path = tmp_path / "t.npy"
    GOOD.to_pickle(path)
    assert "magic" in refusal(path)
    np.savez(tmp_path / "t.npz", a=GOOD.to_numpy())
    assert "magic" in refusal((tmp_path / "t.npz").rename(path))


@pytest.mark.parametrize("name", ["t.parquet", "t.npy"])
def test_refuses_a_file_cut_short(name: str, tmp_path: Path) -> None:
    WRITERS[name](GOOD, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert "cannot read" in refusal_of(content[: len(content) // 2], tmp_path / name)


def test_refuses_text_in_parquet_and_leaves_out_its_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.parquet"
    GOOD.assign(c=["1.5"] * len(GOOD)).to_parquet(path)
    assert "'c' is not numeric: it holds '1.5'" in refusal(path)
    GOOD.set_index(RNG.permutation(len(GOOD))).to_parquet(path)
    assert load(str(path)).columns == ("a", "b")
    assert "left out the pandas index" in capsys.readouterr().err


def test_column_constant_in_training_only_is_refused_not_divided_by(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": RNG.normal(size=10), "b": [0.5, 0.5, *RNG.normal(size=8)]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    options = TableOptions(split="time", test_fraction=0.4)
    assert "'b' is constant in the training rows" in refusal(tmp_path / "t.csv", options)


def test_other_kinds_missing_files_and_folders(tmp_path: Path) -> None:
    assert "no file" in refusal(tmp_path / "absent.csv")
    assert "cannot read files like" in refusal_of("x", tmp_path / "t.xlsx")
    (tmp_path / "folder.csv").mkdir()
    assert "no file" in refusal(tmp_path / "folder.csv")


def test_integers_turn_to_floats_wherever_the_first_fraction_stands(tmp_path: Path) -> None:
    # beyond pyarrow's first block, from which a streaming reader would infer the type
    (tmp_path / "t.csv").write_text("a\n" + "1234567\n" * 300_000 + "1.5\n")
    data = load(str(tmp_path / "t.csv"), table_options=TableOptions(dequantise=True))
    assert sum(data.rows) == 300_001
    assert data.dequantised == {"a": 1234565.5}
