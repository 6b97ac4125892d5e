"""Nothing speaks to the terminal but flowbench: a pseudo-terminal gets no escape that a name or a file brought."""

from __future__ import annotations

import io
import json
import os
import select
from pathlib import Path

import forked
import pytest
from ranking_cases import rows, write_run
from rich.text import Text

from flowbench import console
from flowbench.report.comparison import Comparison, write_comparison
from flowbench.report.outputs import Output
from flowbench.report.ranking.tables import tables
from flowbench.results import store

pty = pytest.importorskip("pty")

HOSTILE = (
    "\x1b[2J\x1b]0;title\x07\x1b]8;;http://x\x1b\\l\x1b]8;;\x1b\\\x9b2J\u202e\rX[bold]b[/bold][link=http://x]l[/link]"
)

STEERING = {chr(code) for code in (*range(32), *range(0x7F, 0xA0), 0x202E)} - {"\n"}


def on_a_terminal(*arguments: str, cwd: Path) -> str:
    """What a terminal gets from both streams, without the carriage returns that it adds itself."""
    ours, theirs = pty.openpty()
    terminal = Path(os.ttyname(theirs))
    quiet = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100"}
    process = forked.begun(arguments, (Path(os.devnull), terminal, terminal), cwd, quiet)
    got = b""
    while select.select([ours], [], [], 0)[0] or process.is_alive():
        if select.select([ours], [], [], 0.02)[0]:
            got += os.read(ours, 1 << 16)
    os.close(theirs)
    os.close(ours)
    return got.decode().replace("\r\n", "\n")


def steering(text: str) -> set[str]:
    return STEERING & set(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three runs whose every name is hostile, and a file that is no record."""
    folder = tmp_path / "runs"
    for seed, lls in enumerate((rows(), rows(0.1), rows(0.2))):
        write_run(folder, "maf", lls, seed=seed, settings={"x": seed}, doubts=("why",))
    for number, path in enumerate(sorted(folder.glob("*.json"))):
        document = json.loads(path.read_text())
        document["task"] |= {"data": f"mine{HOSTILE}", "space": HOSTILE, "flow": f"maf{HOSTILE}"}
        document["setup"]["config"] |= {HOSTILE: f"{HOSTILE}{number}"}
        document["environment"] |= {"device_name": HOSTILE, "git_revision": HOSTILE}
        document |= {"doubts": [HOSTILE], **({"status": "failed", "error": HOSTILE} if number == 2 else {})}
        path.write_text(json.dumps(document))
    (folder / f"{HOSTILE.replace('/', '')}.json").write_text("{")
    return folder


COMPARISONS = [
    [],
    ["--format", "csv"],
    ["--format", "markdown"],
    ["--format", "latex"],
    ["--json"],
    ["--pairs"],
    ["--claims"],
    ["--data", HOSTILE],
    ["--against", "nowhere"],
    ["--against", "nowhere", "--format", "junit"],
]


@pytest.mark.parametrize("arguments", COMPARISONS, ids=lambda arguments: " ".join(arguments[:4:3]) or "table")
def test_compare_shows_what_would_steer(folder: Path, arguments: list[str]) -> None:
    shown = on_a_terminal("compare", str(folder), *arguments, cwd=folder.parent)
    assert "x1b[2J" in shown or "u001b[2J" in shown
    assert steering(shown) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", HOSTILE],
        ["train", "maf", "--data", HOSTILE],
        ["train", "maf", "--data", f"./{HOSTILE}.csv"],
        ["train", "maf", "--set", f"{HOSTILE}=1"],
        ["train", "maf", "--data", "table.csv", "--columns", HOSTILE],
        ["train", "maf", "--config", f"{HOSTILE}.toml"],
        ["train", "--resume", HOSTILE],
        ["sweep", HOSTILE],
        ["time", HOSTILE],
        ["sample", HOSTILE],
        ["log-prob", HOSTILE, "--data", HOSTILE],
        ["compare", HOSTILE],
        ["compare", "a", HOSTILE],
        ["compare", "--format", HOSTILE],
        ["compare", "--sort", HOSTILE],
        ["fetch", HOSTILE],
        ["cache", HOSTILE],
        ["check", HOSTILE],
        ["list", HOSTILE],
        ["list", f"--{HOSTILE}"],
        [HOSTILE],
        [f"--{HOSTILE}"],
        ["--debug", "train", HOSTILE],
    ],
    ids=lambda arguments: " ".join(arguments).replace(HOSTILE, "X"),
)
def test_every_command_shows_what_would_steer_in_its_arguments(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "table.csv").write_text("a,b\x1b[2J\n" + "1,2\n3,5\n" * 50)
    shown = on_a_terminal(*arguments, cwd=tmp_path)
    assert shown
    assert "defect" not in shown
    assert steering(shown) == set()


def test_in_a_pipe_names_are_exact_and_on_a_terminal_they_are_shown() -> None:
    out = io.BytesIO()
    shown = console.Shown(out)
    for byte in "é\x1b\x9b\n".encode():
        shown.write(bytes([byte]))
    assert out.getvalue().decode() == "é\\x1b\\x9b\n"


def test_a_console_lets_no_text_steer_whoever_made_it() -> None:
    file = io.StringIO()
    stream = console.into(file)
    stream.print(HOSTILE)
    stream.print(Text(HOSTILE))
    stream.out(HOSTILE)
    stream.rule(HOSTILE)
    assert steering(file.getvalue()) == set()
    assert "[bold]b[/bold][link=http://x]l[/link]" in file.getvalue()


def test_files_are_shown_escaped_but_csv_and_json_are_exact(folder: Path, tmp_path: Path) -> None:
    found = tables(store.read_all(folder))
    for form in ("table", "markdown", "latex", "csv", "json"):
        write_comparison(Comparison(found), [Output(form, tmp_path / form)])
        assert bool(steering((tmp_path / form).read_bytes().decode())) == (form == "csv"), form
