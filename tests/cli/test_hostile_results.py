"""A folder of results that nobody should trust: one bad record hides no other, and each is named."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ranking_cases import rows, write_run
from records import timing

from flowbench.errors import NothingToCompareError
from flowbench.report.claims.claims import claims, write_claims
from flowbench.report.comparison import Comparison, write_comparison
from flowbench.report.outputs import Output
from flowbench.report.ranking.tables import tables
from flowbench.report.ranking.write import write_curves
from flowbench.results import beside, costs, store, sweeps

FORMS = ("table", "markdown", "csv", "latex", "json")


def good(folder: Path) -> Path:
    """Two seeds and another flow, all of which every report must show."""
    for seed in (0, 1):
        write_run(folder, "maf", rows(0.1, seed=seed), seed=seed, timings=[timing()])
    write_run(folder, "realnvp", rows(), validation_ll_nats=-1.0, timings=[timing()])
    return folder


def bad(folder: Path, where: str, value: Any) -> Path:
    """A record of another seed of the same flow, with a value in a place of it."""
    write_run(folder, "maf", rows(0.1, seed=2), seed=2, timings=[timing()])
    (path,) = (path for path in folder.glob("*.json") if json.loads(path.read_text())["setup"]["seed"] == 2)
    document = part = json.loads(path.read_text())
    *parents, last = where.split(".")
    for key in parents:
        part = part[int(key) if isinstance(part, list) else key]
    part[last] = value
    path.write_text(json.dumps(document))
    return path


def report(folder: Path, tmp_path: Path) -> str:
    """Every report in every form; the ranking as a table."""
    times: list[costs.TimeRecord] = []
    runs, swept = sweeps.with_runs(folder, costs.into(times))
    found = tables(runs, passed_over=sweeps.passed_over(swept))
    write_comparison(Comparison(found), [Output(form, tmp_path / form) for form in FORMS])
    write_claims(claims(runs, times), [Output(form, tmp_path / f"claims.{form}") for form in ("table", "json")])
    with suppress(NothingToCompareError):  # no history
        write_curves(found, [Output("json", tmp_path / "curve")])
    json.loads((tmp_path / "json").read_text(), parse_constant=lambda name: pytest.fail(f"bare {name}"))
    return (tmp_path / "table").read_text()


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("likelihoods.test_ll_nats.stderr", -1.0),
        ("likelihoods.test_ll_nats.stderr", 1e308),
        ("likelihoods.test_ll_nats.mean", 1e308),
        ("likelihoods.test_ll_nats.mean", -1e308),
        ("likelihoods.validation_ll_nats", 1e308),
        ("timings.0.density_us_per_row", 0.0),
        ("timings.0.sampling_us_per_row", -1.0),
        ("timings.0.batch", -1),
        ("training.train_seconds", -1e300),
        ("task.n_test", 10**40),
        ("task.dim", -5),
        ("task.flow", "x" * 1001),
        ("setup.seed", 10**400),
        ("environment.threads", 10**300),
        ("files.test_lls", "../../etc/passwd"),
        ("files.test_lls", "/etc/passwd"),
        ("files.test_lls", "a\0b.npy"),
        ("files.test_lls", "a" * 5000 + ".npy"),
        ("files.test_lls", "maf.json"),
        ("files.weights", "other.npy"),
        ("error", "\ud800"),
        ("timings", [{}] * 100_000),
        ("doubts", [1] * 100_000),
        ("checks", {str(n): 1 for n in range(100_000)}),
    ],
)
def test_a_bad_field_is_named_and_the_others_are_shown(
    tmp_path: Path, where: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bad(good(tmp_path / "runs"), where, value)
    shown = report(tmp_path / "runs", tmp_path)
    assert "maf" in shown
    assert "2 seeds" in shown
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith(f"warning: passed over: {path} is not")
    assert len(warning) < 500


@pytest.mark.parametrize(
    "config",
    [
        {"hidden": [[1]], "transforms": 2},
        {"hidden": [], "transforms": [[1]]},
        {"hidden": {"a": 1}, "transforms": {"a": 1}},
        {"hidden": ["\x1b[2J"], "transforms": "\x1b[2J"},
        {"hidden": [1] * 10_000, "transforms": 1},
        {"transforms": 10**4000, "hidden": [10**4000]},
        {"deep": json.loads("[" * 150 + "]" * 150)},
        {"x": "y" * 100_000, "": None, "\n": "\n"},
    ],
)
def test_odd_settings_are_a_run_like_any_other(
    tmp_path: Path, config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    bad(good(tmp_path / "runs"), "setup.config", config)
    shown = report(tmp_path / "runs", tmp_path)
    assert capsys.readouterr().err == ""
    assert "realnvp" in shown
    assert "seed 2" in shown
    assert max(map(len, shown.splitlines())) < 3000
    assert "\x1b" not in shown


ODD = {"no array": b"no array", "empty": b"", "zip": b"PK\3\4" + bytes(100)}


def _npy(header: str) -> bytes:
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode()


for _shape in ("(1000000000,)", "(10, 100)", "(1000, 1)", "(999,)", "((((((1", "(-1,)"):
    for _kind in ("'<f4'", "'|O'", "'<i4'", "[('a', '<f4')]"):
        _header = f"{{'descr': {_kind}, 'fortran_order': False, 'shape': {_shape}, }}"
        ODD[f"{_shape} of {_kind}"] = _npy(_header) + bytes(4000)
ODD["F order"] = _npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1000,), }") + bytes(4000)
ODD["short"] = _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000,), }") + bytes(3999)
ODD["NaN"] = beside.npy(np.full(1000, math.nan))
ODD["infinite"] = beside.npy(np.full(1000, -math.inf))
ODD["few"] = beside.npy(np.zeros(999))


def _is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "realnvp" in report(folder, tmp_path)
    (warning,) = capsys.readouterr().err.splitlines()
    assert "rows cannot be paired" in warning
    assert "rows.npy is damaged" in warning


def _with_rows(folder: Path) -> Path:
    """A run's file of rows, which is not there yet and goes by the first schema's name, for any content."""
    run = store.read(bad(folder, "files.test_lls", "rows.npy"))
    path = next(path for path in folder.glob("*.json") if store.read(path) == run)
    document = json.loads(path.read_text()) | {"run": "rows"}
    path.write_text(json.dumps(document))
    return folder / "rows.npy"


@pytest.mark.parametrize("content", ODD.values(), ids=ODD)
def test_odd_rows_are_named(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    _with_rows(good(tmp_path / "runs")).write_bytes(content)
    _is_named(tmp_path / "runs", tmp_path, capsys)


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        Path.mkdir,
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/etc/passwd"),
    ],
    ids=["pipe", "folder", "circle", "device", "elsewhere"],
)
def test_what_is_no_file_of_rows_is_named(
    tmp_path: Path, make: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = _with_rows(good(tmp_path / "runs"))
    make(path)
    _is_named(tmp_path / "runs", tmp_path, capsys)
    run = next(each for each in store.read_all(path.parent).values() if each.run == "rows")
    (path.parent / "rows.json").write_bytes(store.strict_json(run.model_copy(update={"files": run.files})))
    assert store.finished(path.parent, "rows") is None


def test_rows_of_float64_are_read(tmp_path: Path) -> None:
    found = rows(0.1)
    path = _with_rows(good(tmp_path / "runs"))
    np.save(path, found)
    run = next(each for each in store.read_all(path.parent).values() if each.run == "rows")
    read = store.read_test_lls(run, path.parent)
    assert read is not None
    np.testing.assert_array_equal(read, found)


def test_a_record_never_removes_the_files_of_another(tmp_path: Path) -> None:
    folder = good(tmp_path / "runs")
    theirs = next(folder.glob("realnvp*.npy"))
    path = bad(folder, "files.test_lls", theirs.name)
    store.remove(path)
    assert theirs.is_file()
    assert not path.exists()


def test_folders_may_lie_in_each_other_a_thousand_times(tmp_path: Path) -> None:
    deep = good(tmp_path / "runs")
    for _ in range(1200):
        deep = deep / "d"
    subprocess.run(["mkdir", "-p", str(deep)], check=True)
    try:
        assert len(store.read_all(tmp_path / "runs")) == 3
    finally:  # pytest itself cannot
        subprocess.run(["rm", "-r", str(tmp_path / "runs")], check=True)


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (good(tmp_path / "runs") / "theirs").mkdir()
    scandir = os.scandir

    def refused(path: str) -> Any:
        if str(path).endswith("theirs"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert len(store.read_all(tmp_path / "runs")) == 3
    assert "theirs cannot be read: Permission denied" in capsys.readouterr().err


def test_a_name_that_is_no_utf8_is_printed(tmp_path: Path) -> None:
    folder = good(tmp_path / "runs")
    path = bad(folder, "task.data", "mine")
    os.rename(path, os.fsencode(folder) + b"/\xff.json")
    for form in FORMS:
        done = forked.flowbench("compare", str(folder), "--format", form)
        assert (done.returncode, done.stderr) == (0, ""), form
    assert "\\xff.json" in forked.flowbench("compare", str(folder), "--json").stdout.replace("\\\\", "\\")


def test_a_doubted_run_is_marked(tmp_path: Path) -> None:
    folder = good(tmp_path / "runs")
    bad(folder, "doubts", ["test rows are of another kind"])
    shown = report(folder, tmp_path)
    assert "best ?" in shown
    assert ": test rows are of another kind" in shown
    document = json.loads((tmp_path / "json").read_text())
    assert [line["doubts"] for line in document["tables"][0]["lines"]] == [["test rows are of another kind"], []]


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -(10**400), 1e308, -1e308, 1e-320, math.nan, math.inf, [], {}, [[]], {"": []}])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["\x1b[2J", "\ud800", "\u202e", "[bold]x[/bold]", "[link=http://x]x[/link]", "\0", "a\nb", "/"])
    | st.lists(st.floats() | st.text(max_size=3), max_size=3)
)


def places(part: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All paths in a document."""
    items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    """A record with odd values in some places, some bytes of it flipped, or cut off."""
    document = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(0, 3))):
        *parents, last = draw(st.sampled_from(places(document)[1:]))
        part = document
        for key in parents:
            part = part[key]
        part[last] = draw(VALUES)
    content = bytearray(json.dumps(document).encode())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        content[draw(st.integers(0, len(content) - 1))] ^= draw(st.integers(1, 255))
    return bytes(content[: draw(st.sampled_from([None, None, None, 10, 1000, 3000]))])


@pytest.fixture(scope="module")
def beside_good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    folder = good(tmp_path_factory.mktemp("fuzzed") / "runs")
    path = bad(folder, "error", None)
    return folder, path, json.loads(path.read_text())


@settings(
    max_examples=int(os.environ.get("FUZZED", "80")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_whatever_a_record_holds_the_others_are_shown(
    data: st.DataObject, beside_good: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, path, document = beside_good
    path.write_bytes(data.draw(mutated(document)))
    shown = report(folder, tmp_path)
    assert "realnvp" in shown
    assert "2 seeds" in shown or "3 seeds" in shown
    assert shown.replace("\n", "").isprintable()
