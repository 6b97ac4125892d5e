"""``flowbench cache``: what it lists, what it asks, and what it refuses."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from forked import flowbench

from flowbench.cli.cache import cache
from flowbench.data import load
from flowbench.data.cache import prepared
from flowbench.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def entry(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only entry of a cache."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    load("truth-banana")
    (there,) = prepared().iterdir()
    return there


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_a_list_says_what_there_is(capsys: pytest.CaptureFixture[str], entry: Path) -> None:
    cache()
    shown = capsys.readouterr().out
    assert "truth-banana  prepared     130,000 × 2" in shown
    assert "in 1 entry" in shown
    cache(as_json=True)
    document = json.loads(capsys.readouterr().out)
    (found,) = document["entries"]
    assert document["total_bytes"] == found["bytes"]
    assert (found["rows"], found["columns"], found["state"], found["paths"]) == (130_000, 2, "whole", [str(entry)])


def test_nothing_goes_without_a_yes(
    capsys: pytest.CaptureFixture[str], entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="without asking"):
        cache("clear", ["truth-banana"])
    for answer in ("n\n", "\n", ""):
        on_a_terminal(monkeypatch, answer)
        cache("clear", ["truth-banana"])
        assert entry.exists()
    said = capsys.readouterr()
    assert said.err.count("remove 1 entry") == said.err.count("nothing was removed") == 3
    on_a_terminal(monkeypatch, "y\n")
    cache("clear", ["truth-banana"])
    assert not entry.exists()
    assert "freed: 1 entry removed" in capsys.readouterr().out


def test_a_yes_beforehand_is_not_asked_for(capsys: pytest.CaptureFixture[str], entry: Path) -> None:
    size = sum(path.stat().st_size for path in entry.iterdir())
    cache("clear", all_=True, yes=True, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["freed_bytes"] == size
    assert [each["name"] for each in document["removed"]] == ["truth-banana"]
    cache("clear", all_=True, yes=True)
    assert "0 bytes freed: 0 entries removed" in capsys.readouterr().out


def test_what_makes_no_sense_is_refused(entry: Path) -> None:
    for options in ({"all_": True}, {"yes": True}, {"raw": True}, {"older_than": 1.0}):
        with pytest.raises(UsageError, match="go with `flowbench cache clear`"):
            cache(**options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="what is to be cleared"):
        cache("clear", yes=True)
    with pytest.raises(UsageError, match="what is to be cleared"):
        cache("clear", ["truth-banana"], all_=True, yes=True)
    with pytest.raises(UsageError, match="nothing called 'truth-banan'"):
        cache("clear", ["truth-banan"], yes=True)
    cache("clear", older_than=1.0, yes=True)
    assert entry.exists()


def test_what_was_removed_is_said_before_what_was_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("digits", "truth-mixture"):
        load(name)
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if "banana" not in path.name:
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(DataError, match=r"-v1.* cannot be removed: Permission denied"):
        cache("clear", all_=True, yes=True)
    said = capsys.readouterr()
    assert "freed: 1 entry removed" in said.out
    assert said.err.count("cannot be removed: Permission denied") == 1  # and the last is raised


WORDS = [
    "clear",
    "list",
    "truth-banana",
    "",
    "x",
    "--all",
    "--yes",
    "--raw",
    "--json",
    "--older-than",
    "1",
    "-1",
    "nan",
]


def test_nothing_is_older_than_tomorrow(entry: Path) -> None:
    assert flowbench("cache", "clear", "--older-than", "-1", "--yes").returncode == 2
    assert entry.exists()


def test_any_words_end_in_a_message_or_in_what_they_say(entry: Path) -> None:
    """A seeded walk over command lines, in one process: no traceback, known codes, one document with --json."""
    draw = random.Random(0)
    lines = [draw.choices(WORDS, k=draw.randint(0, 5)) for _ in range(60)]
    program = (
        "import sys, json, contextlib, io\nfrom flowbench.cli import app\n"
        "for line in json.loads(sys.stdin.read()):\n"
        "    out, err = io.StringIO(), io.StringIO()\n"
        "    with contextlib.redirect_stdout(out):\n"
        "        try: code = app.app(line, standalone_mode=True)\n"
        "        except SystemExit as end: code = end.code\n"
        "    assert code in (0, 2, None), (line, code)\n"
        "    if '--json' in line and not code: json.loads(out.getvalue())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps([["cache", *line] for line in lines]), capture_output=True,
        text=True, env=os.environ | {"FLOWBENCH_OFFLINE": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr
