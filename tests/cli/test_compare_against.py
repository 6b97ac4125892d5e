"""``flowbench compare --against`` as a CI job meets it: what it says, and its exit code."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import forked
import pytest
from gate_cases import rows, write_run

from flowbench.results import store


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "new", tmp_path / "baseline"


def gate(folders, *arguments):
    return forked.flowbench("compare", folders[0], "--against", folders[1], *arguments)


def test_nothing_has_changed(folders):
    for folder in folders:
        write_run(folder, rows())
    done = gate(folders)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "passed: 1 same"


def test_a_loss(folders):
    write_run(folders[0], rows(loss=0.1))
    write_run(folders[1], rows())
    done = gate(folders, "--format", "junit")
    assert done.returncode == 1
    assert ElementTree.fromstring(done.stdout).attrib["failures"] == "1"
    assert gate(folders, "--max-nats", "0.2").returncode == 0


def test_an_empty_folder(folders):
    folders[0].mkdir()
    write_run(folders[1], rows())
    done = gate(folders)
    assert done.returncode == 3
    assert "missing" in done.stdout
    assert "not decided: 1 missing" in done.stdout


def test_nothing_on_both_sides(folders):
    done = gate(folders)
    assert done.returncode == 3
    assert "no results were found" in done.stderr


def test_json_is_one_document(folders):
    write_run(folders[0], rows())
    done = gate(folders, "--json")
    assert done.returncode == 3
    assert [each["verdict"] for each in json.loads(done.stdout)["findings"]] == ["new"]


def test_accept(folders):
    write_run(folders[0], rows(loss=1))
    write_run(folders[1], rows())
    done = gate(folders, "--accept")
    assert done.returncode == 0
    assert "worse" in done.stdout  # what changes is printed all the same
    assert "now has the new runs of: maf 5 × (2×100) on d" in done.stderr
    (record,) = store.read_all(folders[1]).values()
    assert record.likelihoods.test_ll_nats.mean == pytest.approx(rows(loss=1).mean(), abs=1e-5)
    assert gate(folders).returncode == 0


def test_what_did_not_end_well_is_not_accepted(folders):
    write_run(folders[0], None, status="diverged", error="nan")
    write_run(folders[1], rows())
    done = gate(folders, "--accept")
    assert done.returncode == 1
    assert "not accepted" in done.stderr


def test_a_baseline_that_cannot_be_written(folders):
    write_run(folders[0], rows())
    folders[1].write_text("a file")
    done = gate(folders, "--accept")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


def test_options_of_the_gate_need_a_baseline(tmp_path):
    done = forked.flowbench("compare", tmp_path, "--accept")
    assert done.returncode == 2
    assert "name one with --against" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs"], "do not go with --against"),
        (["--sort", "test"], "do not go with --against"),
        (["--max-nats", "inf"], "a number of nats"),
        (["--format", "junit="], "names no file"),
        (["--json", "--format", "markdown"], "two formats for stdout"),
    ],
)
def test_what_makes_no_sense_is_refused(folders, arguments, message):
    for folder in folders:
        write_run(folder, rows())
    done = gate(folders, *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_document_in_the_folder_is_no_damaged_record(folders):
    for folder in folders:
        write_run(folder, rows())
    assert gate(folders, "--format", f"json={folders[0] / 'gate.json'}").returncode == 0
    assert gate(folders).returncode == 0
