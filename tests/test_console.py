"""What is printed, as a reader of a terminal and of a log sees it."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from flowbench import console
from flowbench.errors import UsageError


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What goes to stderr where there is no terminal."""
    file = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=file, highlight=False, soft_wrap=True, emoji=False))
    return file


def test_what_looks_like_markup_or_steers_a_terminal_is_shown_as_text(
    log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "[red]a[/red]\x1b[2J:smile:\\"
    console.note(name)
    console.warn(name)
    console.show_error(UsageError(name, hint=name))
    console.print_json({name: 1})
    shown = r"[red]a[/red]\x1b[2J:smile:" + "\\"
    assert log.getvalue().splitlines() == [shown, f"warning: {shown}", f"error: {shown}", f"hint: {shown}"]
    assert "[red]a[/red]" in capsys.readouterr().out


def test_one_is_not_many() -> None:
    assert [console.plural(n, "epoch") for n in (0, 1, 2, 1000)] == ["0 epochs", "1 epoch", "2 epochs", "1,000 epochs"]


def test_a_log_on_a_full_disk_is_no_reason_to_stop_but_a_result_is() -> None:
    code = (
        "import os, sys\nfrom flowbench import console\n"
        "full = os.open('/dev/full', os.O_WRONLY)\nos.dup2(full, int(sys.argv[1]))\n"
        "(console.note if sys.argv[1] == '2' else console.print_result)('x')\nprint('went on', file=sys.stdout)\n"
    )
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    log = subprocess.run([sys.executable, "-c", code, "2"], capture_output=True, text=True, check=False)
    assert (log.returncode, log.stdout) == (0, "went on\n")
    result = subprocess.run([sys.executable, "-c", code, "1"], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "No space left" in result.stderr
