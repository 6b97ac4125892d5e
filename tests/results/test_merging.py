"""Folders of results put together: all is kept, nothing twice, and nothing is overwritten."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from records import full_record, make_record

from flowbench.errors import FlowbenchError, NothingToCompareError, UsageError
from flowbench.results import costs, store, sweeps
from flowbench.results.carried import Carried
from flowbench.results.merging import Merged, merge
from flowbench.results.record import RunRecord

REFERENCE = Path(__file__).parents[2] / "results" / "reference"

RUN = make_record().run


def put(folder: Path, nats: float = 1.0, **changes: object) -> Path:
    """A run whose rows and weights are its own."""
    record = full_record(n_test=3, validation_ll_nats=nats, **changes)
    return store.write(record, folder, np.full(3, nats), f"weights of {nats}".encode() * 1000)


def sweep(folder: Path, name: str = "sweep-1", **runs: list[str]) -> Path:
    ordered = {"grid": {}}
    found = sweeps.Sweep(name=name, started_at="2026-01-01T00:00:00+00:00", ordered=ordered, **{"runs": [], **runs})
    return sweeps.write(found, folder)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def whole(folder: Path) -> dict[str, RunRecord]:
    """The records of runs by their names, each of which has its own rows and weights beside it."""
    found = {}
    for path, record in store.read_all(folder).items():
        assert path.stem == record.run
        nats = record.likelihoods.validation_ll_nats
        np.testing.assert_array_equal(store.read_test_lls(record, path.parent), np.full(3, nats))
        weights = store.weights(path)
        assert weights is not None
        assert weights.read_bytes().startswith(f"weights of {nats}".encode())
        assert all(name is None or name.startswith(f"{record.run}.") for name in record.files.model_dump().values())
        found[record.run] = record
    return found


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return tmp_path / "a"


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return tmp_path / "b"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_all_that_is_a_record_goes_with_its_files_to_where_it_lay(a: Path, b: Path, out: Path) -> None:
    put(a)
    put(b / "below", 2.0, run="other")
    sweep(b, runs=["other"])
    shutil.copy(next(REFERENCE.glob("time-*.json")), b / "below")
    notes = b / "notes.txt"
    notes.write_text("of no record")
    merged = merge([a, b], out)
    notes.unlink()
    assert len(merged.copied) == 4
    assert content(out) == content(a) | content(b)


def test_a_second_time_nothing_is_written(a: Path, b: Path, out: Path) -> None:
    put(a)
    put(b, 2.0)
    sweep(b, runs=[RUN], chosen=[RUN])
    merge([a, b], out)

    def state() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in out.rglob("*")}

    before = state()
    merged = merge([a, b], out)
    assert (merged.copied, merged.renamed, len(merged.same)) == ([], {}, 3)
    assert state() == before


def test_the_same_run_is_kept_once_wherever_it_lies_and_whatever_wrote_its_record(a: Path, b: Path, out: Path) -> None:
    path = put(a)
    shutil.copytree(a, b / "below")
    shutil.copytree(a, b / "again")
    document = json.loads(path.read_text())
    (b / "again" / path.name).write_text(json.dumps(document | {"newer": 1}, sort_keys=True))
    merged = merge([a, b], out)
    assert content(out) == content(a)
    assert len(merged.same) == 2


def test_a_record_of_the_first_schema_is_the_same_as_when_it_was_written_again(a: Path, b: Path, out: Path) -> None:
    old = REFERENCE / "maf-truth-banana-139e7942.json"
    assert json.loads(old.read_text())["schema_version"] == 1
    a.mkdir()
    shutil.copy(old, a)
    store.write(store.read(old), b)
    merged = merge([a, b], out)
    assert (len(merged.copied), len(merged.same), merged.missing) == (1, 1, [])
    assert content(out) == content(a)


def test_different_runs_of_one_name_are_both_kept(a: Path, b: Path, out: Path, tmp_path: Path) -> None:
    put(a)
    second = put(b / "below", 2.0)
    put(tmp_path / "c", 3.0)
    merged = merge([a, b, tmp_path / "c"], out)
    assert merged.renamed[second] == out / "below" / f"{RUN}-2.json"
    assert merged.there == []
    found = whole(out)
    assert {name: found[name].likelihoods.validation_ll_nats for name in found} == {
        RUN: 1.0,
        f"{RUN}-2": 2.0,
        f"{RUN}-3": 3.0,
    }


def test_of_one_name_the_run_that_ended_well_keeps_it(a: Path, b: Path, out: Path) -> None:
    put(a, 1.0, status="interrupted")
    put(b, 2.0)
    merge([a, b], out)
    assert whole(out)[RUN].status == "ok"
    assert whole(out)[f"{RUN}-2"].status == "interrupted"


def test_of_one_name_the_run_in_a_file_of_that_name_keeps_it(a: Path, out: Path) -> None:
    put(a)
    second = put(a / "below", 2.0)
    for path in (a / "below").iterdir():
        path.rename(a / ("a copy.json" if path == second else path.name))
    merge([a], out)
    assert whole(out)[RUN].likelihoods.validation_ll_nats == 1.0
    assert whole(out)[f"{RUN}-2"].likelihoods.validation_ll_nats == 2.0


def test_a_run_of_the_first_schema_takes_another_name_with_its_files(a: Path, b: Path, out: Path) -> None:
    old = REFERENCE / "maf-truth-banana-139e7942.json"
    for folder, seconds in ((a, 1.0), (b, 2.0)):
        folder.mkdir()
        (folder / old.name).write_text(json.dumps(json.loads(old.read_text()) | {"total_seconds": seconds}))
        (folder / f"{old.stem}.safetensors").write_bytes(f"weights of {seconds}".encode())
    merge([a, b], out)
    for stem, seconds in ((old.stem, 1.0), (f"{old.stem}-2", 2.0)):
        record = store.read(out / f"{stem}.json")
        assert (record.run, record.total_seconds) == (stem, seconds)
        weights = store.weights(out / f"{stem}.json")
        assert weights is not None
        assert weights.read_text() == f"weights of {seconds}"


def test_a_sweep_knows_its_runs_by_the_names_that_they_have_now(a: Path, b: Path, out: Path) -> None:
    put(a)
    sweep(a, "mine", runs=[RUN], chosen=[RUN])
    put(b, 2.0)
    sweep(b, "before the runs", runs=[RUN, "gone"], not_chosen=[RUN])
    merge([a, b], out)
    found = {each.name: each for each in sweeps.read_all(out)}
    assert found["mine"].chosen == [RUN]
    assert (found["before the runs"].runs, found["before the runs"].not_chosen) == ([f"{RUN}-2", "gone"], [f"{RUN}-2"])
    assert sweeps.passed_over(found.values()) == {f"{RUN}-2"}


def test_times_that_are_not_finished_are_beside_those_that_are(a: Path, b: Path, out: Path) -> None:
    times = costs.read(next(REFERENCE.glob("time-*.json")))
    costs.write(times, a)
    costs.write(times.model_copy(update={"finished": False}), b)
    costs.write(times.model_copy(update={"finished": False, "matrix_gflops": 1.0}), b / "z")
    merge([a, b], out)
    names = {f"{times.run}.json", f"{times.run}.unfinished.json", f"z/{times.run}-2.unfinished.json"}
    assert set(content(out)) == names
    assert costs.read(out / f"z/{times.run}-2.unfinished.json").run == f"{times.run}-2"


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_file_that_one_copy_of_a_run_lacks_comes_from_the_other(a: Path, b: Path, out: Path, first: str) -> None:
    put(a)
    shutil.copytree(a, b)
    next(b.glob("*.safetensors")).unlink()
    merge([a, b] if first == "a" else [b, a], out)
    assert content(out) == content(a)


def test_a_record_that_names_fewer_files_takes_no_other_s_place(a: Path, b: Path, out: Path) -> None:
    record = store.read(put(a))
    store.write(record, b)  # as a baseline has it
    assert len(merge([a, b], out).same) == 1
    merge([a], b)
    assert {record.files.weights is None for record in store.read_all(b).values()} == {True, False}


def test_damaged_foreign_and_newer_records_are_named_and_passed_over(
    a: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(a)
    put(out, 5.0, run="there")
    (a / "damaged.json").write_text("{")
    (a / "foreign.json").write_text('{"kind": "ranking"}')
    (a / "odd.json").write_text('{"kind": ["run"]}')
    (a / "newer.json").write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    (a / "sweep.json").write_text('{"kind": "sweep", "runs": 3}')
    (a / "folder.json").mkdir()
    os.mkfifo(a / "pipe.json")
    (a / "circle.json").symlink_to(a / "circle.json")
    (out / f"{RUN}.json").write_text("damaged")
    merged = merge([a], out)
    names = {"damaged", "foreign", "odd", "newer", "sweep", "folder", "pipe", "circle"}
    assert {each.stem for each in merged.passed_over} == names | {RUN}
    assert capsys.readouterr().err.count("warning: passed over: ") == len(names) + 1
    assert (out / f"{RUN}.json").read_text() == "damaged"
    (out / f"{RUN}.json").unlink()
    assert set(whole(out)) == {"there", f"{RUN}-2"}


def test_a_damaged_file_stays_away_and_its_record_comes(a: Path, out: Path) -> None:
    put(a)
    weights, rows = next(a.glob("*.safetensors")), next(a.glob("*.npy"))
    weights.write_bytes(b"damaged")
    rows.unlink()
    os.mkfifo(rows)
    merged = merge([a], out)
    assert set(merged.passed_over) == {weights, rows}
    assert set(content(out)) == {f"{RUN}.json"}


def test_a_file_there_that_has_the_name_of_one_that_comes_stays(a: Path, out: Path) -> None:
    put(a)
    weights = next(a.glob("*.safetensors")).name
    out.mkdir()
    (out / weights).write_bytes(b"damaged")
    merge([a], out)
    assert (out / weights).read_bytes() == b"damaged"
    assert set(whole(out)) == {f"{RUN}-2"}


def test_checkpoints_stay(a: Path, out: Path) -> None:
    put(a)
    place = a / "unfinished" / "other"
    place.mkdir(parents=True)
    (place / "000001.0123.safetensors").write_bytes(b"")
    assert merge([a], out).unfinished == [place]
    assert not (out / "unfinished").exists()


def test_a_source_may_lie_in_the_destination_or_be_it_or_have_it_in_it(a: Path) -> None:
    put(a)
    put(a / "below", 2.0, run="other")
    before = content(a)
    assert merge([a / "below"], a).copied == []
    assert merge([a, a / "below"], a).copied == []
    assert content(a) == before
    with pytest.raises(NothingToCompareError):
        merge([a], a)
    merged = merge([a], a / "below")
    assert merged.copied == [a / "below" / f"{RUN}.json"]
    merged = merge([a], a / "below")
    assert (merged.copied, len(merged.same)) == ([], 1)


def test_nothing_to_merge_is_said(a: Path, out: Path) -> None:
    a.mkdir()
    with pytest.raises(NothingToCompareError):
        merge([a], out)
    with pytest.raises(UsageError, match="nowhere is no folder"):
        merge([a / "nowhere"], out)
    assert not out.exists()


def test_nothing_goes_behind_a_link(a: Path, out: Path, tmp_path: Path) -> None:
    put(a / "below")
    out.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (out / "below").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="below is a link"):
        merge([a], out)
    assert not content(tmp_path / "elsewhere")


@pytest.mark.parametrize("nats", [1.0, 2.0])
def test_what_another_process_merges_meanwhile_is_looked_at(a: Path, b: Path, out: Path, nats: float) -> None:
    put(a)
    put(b, nats)

    def meanwhile(what: str) -> None:
        if what.startswith("copying"):
            shutil.copytree(b, out, dirs_exist_ok=True)

    merge([a], out, meanwhile)
    found = {name: record.likelihoods.validation_ll_nats for name, record in whole(out).items()}
    assert found == ({RUN: 1.0} if nats == 1.0 else {RUN: 2.0, f"{RUN}-2": 1.0})


def test_a_file_that_another_process_makes_meanwhile_stays(a: Path, out: Path) -> None:
    put(a)

    def meanwhile(what: str) -> None:
        if what.startswith("copying"):
            out.mkdir(exist_ok=True)
            (out / what.removeprefix("copying ")).write_bytes(b"another")

    merge([a], out, meanwhile)
    assert b"another" in content(out).values()
    assert set(whole(out)) == {f"{RUN}-2"}


def test_a_name_that_no_file_can_have_is_passed_over(a: Path, out: Path) -> None:
    put(a)
    (a / "long.json").write_bytes(store.as_written(full_record(run="x" * 255).model_dump(mode="json")))
    assert set(merge([a], out).passed_over) == {a / "long.json"}
    assert set(whole(out)) == {RUN}


def _full(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)


def _replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def written(self: Carried, *_: object) -> bytes:
        self.path.write_text("{}")
        return original(self, *_)  # type: ignore[arg-type]

    original = Carried.written
    monkeypatch.setattr(Carried, "written", written)


def _made(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(_: Path, path: Path) -> None:
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize(
    ("happens", "said"), [(_full, "No space left"), (_made, "another process"), (_replaced, "nothing to merge")]
)
def test_what_fails_half_way_leaves_no_part_of_a_file(
    a: Path, out: Path, happens: Callable[[pytest.MonkeyPatch], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(a)
    happens(monkeypatch)
    with pytest.raises(FlowbenchError, match=said):
        merge([a], out)
    assert not out.exists() or not content(out)


def test_a_file_system_without_links_is_written_to(a: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(_: Path, path: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    put(a)
    merge([a], out)
    assert content(out) == content(a)


def test_the_reference_records_are_merged_as_they_are(out: Path) -> None:
    merged: Merged = merge([REFERENCE], out)
    assert content(out) == content(REFERENCE)
    assert not merged.passed_over
