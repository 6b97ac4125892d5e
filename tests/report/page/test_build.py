"""What a page is made of, and of what folders it can be made."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from records import ENVIRONMENT, full_record
from sketch_cases import HOSTILE, write_results

from flowbench.cli.report import report
from flowbench.errors import NothingToCompareError, UsageError
from flowbench.report.page.pool import Pool
from flowbench.results import store

pytest.importorskip("vl_convert", reason="the extra `report` is not installed")

REFERENCE = Path(__file__).parents[3] / "results" / "reference"


def document(file: Path) -> dict:
    found = re.search(r'<script type="application/json" id="document">(.*?)</script>', file.read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


def made(folder: Path, **chosen: str) -> dict:
    report(folder, out=folder / "page.html", **chosen)
    return document(folder / "page.html")


def test_one_bad_record_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path)
    (tmp_path / "damaged.json").write_text("{")
    (tmp_path / "newer.json").write_text('{"schema_version": 99, "kind": "run"}')
    (tmp_path / "foreign.json").write_text('{"kind": "something else"}')
    sketch = next(tmp_path.glob("run-0.*.sketch"))
    sketch.write_text(sketch.read_text()[:-9])
    found = made(tmp_path)
    assert [each["name"] for each in found["datasets"]] == ["mine", 'pow"er']
    assert len(found["problems"]) == 3
    assert "damaged" in found["runs"]["run-0"]["unsketched"]
    assert found["runs"]["run-0"]["sketch"] is None
    assert found["runs"]["run-1"]["sketch"]
    assert "damaged.json" in capsys.readouterr().err


def test_a_record_with_every_figure_and_one_with_none_are_shown(tmp_path: Path) -> None:
    store.write(full_record(run="full"), tmp_path)
    store.write(full_record(run="none", config_hash="b").without_figures(), tmp_path)
    found = made(tmp_path)
    assert len(found["runs"]["full"]["figures"]) > len(found["runs"]["none"]["figures"]) > 0


def test_runs_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    elsewhere = ENVIRONMENT.model_copy(update={"device_name": "another processor"})
    store.write(full_record(run="same"), tmp_path / "a")
    store.write(full_record(run="same", environment=elsewhere), tmp_path / "b")
    assert set(made(tmp_path)["runs"]) == {"same", "same (2)"}


def test_an_empty_folder_has_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(NothingToCompareError):
        report(tmp_path, out=tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_records_of_older_versions_are_shown(tmp_path: Path) -> None:
    report(REFERENCE, out=tmp_path / "page.html")
    found = document(tmp_path / "page.html")
    assert {"mnist", "patches"} <= {each["name"] for each in found["datasets"]}
    assert (tmp_path / "page.html").stat().st_size < 2e6


def test_what_is_chosen_is_shown(tmp_path: Path) -> None:
    write_results(tmp_path)
    assert [each["name"] for each in made(tmp_path, data='pow"er')["datasets"]] == ['pow"er']
    assert {
        name.partition(" ")[0] for each in made(tmp_path, flow="iaf")["runs"].values() for name in [each["title"]]
    } == {"iaf"}


def test_no_text_ends_a_script(tmp_path: Path) -> None:
    write_results(tmp_path)
    report(tmp_path, out=tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert HOSTILE not in text
    assert text.count("</script") == 3


def test_a_folder_that_takes_nothing_is_said_before_anything(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError):
        report(REFERENCE, out=tmp_path / "file" / "page.html")


def test_lists_that_several_have_are_there_once() -> None:
    pool = Pool()
    first, second, short = pool.put(list(range(9))), pool.put([float(i) for i in range(9)]), pool.put([1, 2])
    assert (first, pool.put(list(range(9))), short) == (0, 0, [1, 2])
    assert pool.values[second] == list(range(9))


def test_the_frontier_says_what_is_cheap(tmp_path: Path) -> None:
    write_results(tmp_path)
    words = made(tmp_path)["datasets"][0]["words"]
    assert words["best"].startswith("Highest likelihood (chosen on validation rows): maf 5 × (2×100)")
    first = words["costs"][0]
    assert (first["cost"], first["machine"]) == ("density, µs a row", "a processor (2 threads)")
    assert first["flows"][0][1:] == ["1.00 µs", "1.01 nats"]


def test_the_gate_judges_a_revision_by_the_one_before(tmp_path: Path) -> None:
    write_results(tmp_path)
    history = made(tmp_path)["datasets"][0]["pictures"]["history"]
    verdicts = [verdict for group in history["groups"] for verdict in group["columns"]["verdict"]]
    assert verdicts == ["first", "diverged", "undecided"]
    assert any("diverged" in note for note in history["notes"])
