"""``flowbench merge`` at the command line: what is said, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from records import make_record
from typer.testing import CliRunner

from flowbench.cli.app import app
from flowbench.results import store

RUN = make_record().run


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Two folders of which the second has the first's run, one of its name and an unfinished one."""
    store.write(make_record(), tmp_path / "a")
    store.write(make_record(), tmp_path / "b" / "below")
    store.write(make_record(seed=1), tmp_path / "b")
    (tmp_path / "b" / "unfinished" / "run").mkdir(parents=True)
    (tmp_path / "b" / "unfinished" / "run" / "000001.0.safetensors").touch()
    return [str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "out")]


def test_what_became_of_the_records_is_said(folders: list[str]) -> None:
    done = CliRunner().invoke(app, ["merge", *folders])
    assert done.exit_code == 0
    assert done.stdout == (
        f"2 records copied to {folders[-1]}, 1 of them under a name of its own, 1 found again and kept once\n"
    )
    assert f"and is {RUN}-2 there" in done.stderr
    assert "checkpoints are not merged: 1 unfinished run" in done.stderr
    assert "2 seeds" in CliRunner().invoke(app, ["compare", folders[-1]]).stdout
    again = CliRunner().invoke(app, ["merge", *folders])
    assert again.stdout == f"0 records copied to {folders[-1]}, 3 found again and kept once, 2 were there\n"


def test_the_document_has_every_path(folders: list[str], tmp_path: Path) -> None:
    document = json.loads(CliRunner().invoke(app, ["merge", *folders, "--json"]).stdout)
    assert document["copied"] == [str(tmp_path / f"out/{RUN}.json"), str(tmp_path / f"out/{RUN}-2.json")]
    assert document["renamed"] == {str(tmp_path / f"b/{RUN}.json"): str(tmp_path / f"out/{RUN}-2.json")}
    assert document["same"] == [str(tmp_path / f"b/below/{RUN}.json")]


def test_exit_codes(folders: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for first, code in (("empty", 3), ("nowhere", 2)):
        assert CliRunner().invoke(app, ["merge", str(tmp_path / first), *folders[2:]]).exit_code == code
    (tmp_path / "out").write_text("a file")
    assert CliRunner().invoke(app, ["merge", *folders]).exit_code == 2
