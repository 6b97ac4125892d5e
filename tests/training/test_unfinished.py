"""What is kept of a run until it is finished."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoint_cases import RUN, about, number_of, state, written

from flowbench.errors import DataError, FlowbenchError
from flowbench.results.beside import content_digest
from flowbench.training import unfinished
from flowbench.training.sealed import sealed, unsealed
from flowbench.training.unfinished import Unfinished, abouts, read


@pytest.fixture(autouse=True)
def refuge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only one there is."""
    monkeypatch.setattr(unfinished, "refuges", lambda folder: iter([tmp_path / "refuge"]))
    return tmp_path / "refuge"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written(tmp_path, 1.5)
    found = Unfinished(tmp_path, RUN).newest()
    assert found is not None
    assert found.about == about()
    assert torch.equal(found.state.tensors["flow.weight"], torch.full((3,), 1.5))
    assert found.state.numbers["seconds"] == 1.0
    assert str(found.state.numbers["epochs"][0]["train_ll_nats"]) == "nan"
    assert abouts(tmp_path) == {tmp_path / "unfinished" / RUN: about()}


def test_the_last_two_are_kept_and_then_none(tmp_path: Path) -> None:
    assert number_of(tmp_path) is None
    paths = written(tmp_path, 1, 2, 3, 4)
    assert [path.name[:6] for path in paths] == ["000003", "000004"]
    assert number_of(tmp_path) == 4
    Unfinished(tmp_path, RUN).remove()
    assert number_of(tmp_path) is None
    assert not any((tmp_path / "unfinished" / RUN).iterdir())


def test_the_tenth_is_newer_than_the_ninth(tmp_path: Path) -> None:
    written(tmp_path, *range(12))
    assert number_of(tmp_path) == 11
    folder = tmp_path / "unfinished" / RUN
    for path in folder.iterdir():  # as after a million
        path.rename(folder / path.name.replace("000012", "1000012").replace("000011", "999999"))
    assert number_of(tmp_path) == 11


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "emptied": lambda path: path.write_bytes(b""),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_of_a_damaged_one_is_warned_and_the_one_before_taken(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = written(tmp_path, 1, 2)
    DAMAGE[damage](second)
    assert number_of(tmp_path) == 1
    told = capsys.readouterr().err
    assert f"warning: {second} is not a readable checkpoint" in told
    assert str(first) not in told
    with pytest.raises(FlowbenchError, match="not a readable checkpoint"):
        read(second)
    DAMAGE[damage](first)
    assert number_of(tmp_path) is None
    assert str(first) in capsys.readouterr().err


NUMBERS = state(1).numbers

HOSTILE: dict[str, dict[str, str]] = {
    "about that is a list": {"about": "[]"},
    "about that is null": {"about": "null"},
    "deep about": {"about": "[" * 100_000},
    "no run": {"about": "{}"},
    "numbers that are none": {"numbers": "5"},
    "deep numbers": {"numbers": "[" * 100_000},
    "no epochs": {"numbers": "{}"},
    "epochs that are none": {"numbers": json.dumps(NUMBERS | {"epochs": [{"number": 1}]})},
    "a negative step": {"numbers": json.dumps(NUMBERS | {"steps_of_epoch": -1})},
    "seconds that are none": {"numbers": json.dumps(NUMBERS | {"seconds": float("nan")})},
    "a huge number": {"numbers": json.dumps(NUMBERS | {"rate": 1}).replace('"rate": 1', '"rate": 1' + "0" * 400)},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_one_that_is_what_it_is_named_after_is_still_not_believed(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = written(tmp_path, 1, 2)
    found = unsealed(bytearray(second.read_bytes()))
    content = sealed(found.tensors, found.metadata | HOSTILE[what])
    second.unlink()
    second = second.with_name(f"000002.{content_digest(content)}.safetensors")
    second.write_bytes(content)
    assert number_of(tmp_path) == 1
    assert f"warning: {second} is not a readable checkpoint" in capsys.readouterr().err
    assert abouts(tmp_path) == {first.parent: about()}


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    (path,) = written(tmp_path, 1)
    os.mkfifo(path.with_name("000002.0123456789ab.safetensors"))
    assert number_of(tmp_path) == 1
    assert len(abouts(tmp_path)) == 1


def test_a_later_flowbench_s_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = written(tmp_path, 1)
    monkeypatch.setattr(unfinished, "FORMAT", 0)
    with pytest.raises(FlowbenchError, match="its format is 1, this flowbench knows 0"):
        read(path)


def test_a_folder_that_takes_nothing_has_a_refuge(
    tmp_path: Path, refuge: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "unfinished").write_text("in the way")
    kept = Unfinished(results, RUN)
    kept.write(about(), state(7))
    told = capsys.readouterr().err
    assert "warning: results cannot be written to" in told
    assert f"checkpoints go to {refuge / 'unfinished' / RUN}" in told
    assert number_of(results) == 7
    assert list(abouts(results)) == [refuge / "unfinished" / RUN]
    (results / "unfinished").unlink()  # there is room again
    kept.write(about(), state(8))
    assert len(list((results / "unfinished" / RUN).iterdir())) == 1
    assert number_of(results) == 8  # counted on, wherever they lie
    kept.remove()
    assert number_of(results) is None
    assert not (refuge / "unfinished" / RUN).exists()


def test_nowhere_at_all_is_warned_of_and_ends_nothing(
    tmp_path: Path, refuge: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (tmp_path / "results", refuge):
        place.write_text("in the way")
    Unfinished(tmp_path / "results", RUN).write(about(), state(7))
    assert capsys.readouterr().err.count("warning: no checkpoint can be written") == 1


def test_checkpoints_of_another_name_are_taken_over(tmp_path: Path) -> None:
    written(tmp_path, 1, 2)
    other = Unfinished(tmp_path, "another-run")
    other.adopt(tmp_path / "unfinished" / RUN)
    assert number_of(tmp_path) is None
    found = other.newest()
    assert found is not None
    assert found.state.tensors["flow.weight"][0] == 2


@pytest.mark.parametrize(
    ("refusal", "said"), [(MemoryError("short"), MemoryError), (PermissionError(13, "Permission denied"), DataError)]
)
def test_one_that_the_system_does_not_give_is_not_taken_for_damaged(
    refusal: Exception, said: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = written(tmp_path, 1, 2)
    kept = Unfinished(tmp_path, RUN)
    found = kept.newest()
    assert found is not None

    def refused(_: Path) -> None:
        raise refusal

    monkeypatch.setattr(unfinished, "content_of", refused)
    with pytest.raises(said):
        kept.newest()
    with pytest.raises(said):
        _ = found.state
    assert all(path.exists() for path in paths)
