"""Help and completion: what is said is whole, in words, and quick."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from flowbench import data, flows
from flowbench.cli.app import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def flowbench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flowbench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=True)


def helps() -> Iterator[tuple[str, str]]:
    """Each command's and each parameter's help, as it was written."""
    for name, command in COMMANDS.items():
        yield name, command.help
        for parameter in command.params:
            yield f"{name} {parameter.name}", getattr(parameter, "help", None) or ""


def test_every_help_is_a_sentence() -> None:
    for what, text in helps():
        assert text.endswith("."), what


@pytest.mark.parametrize("width", ["80", "120"])
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_of_a_help_is_swallowed_as_markup(command: str, width: str) -> None:
    shown = flowbench(command, "--help", COLUMNS=width, TERM="dumb").stdout
    assert all(len(line) <= int(width) for line in shown.splitlines())
    # the boxes' third column holds the text, line below line
    words = re.sub(r"[\s│]+", "", shown)
    for what, text in helps():
        if what.split(" ")[0] == command and " " not in what:
            assert re.sub(r"\s+", "", text) in words
    assert not re.search(r" \.( |$)", shown, re.MULTILINE)
    if command in ("train", "time", "compare"):
        assert "$FLOWBENCH_RESULTS_DIR" in shown
        assert "./results" in shown


def test_help_comes_at_once() -> None:
    flowbench("--help")  # compiles what is not yet
    took = []
    for _ in range(3):
        before = os.times()
        flowbench("--help")
        after = os.times()
        took.append(after.children_user - before.children_user + after.children_system - before.children_system)
    assert min(took) < 0.6  # the processor's seconds, of which a busy machine takes more: 0.2 on a quiet one


def completed(line: str, shell: str = "bash", **environment: str) -> set[str]:
    """What a shell offers at the end of a line."""
    words = line.split(" ")
    environment |= {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_FLOWBENCH_COMPLETE": f"complete_{shell}"}
    return set(flowbench(**environment).stdout.split())


def test_names_complete(tmp_path: Path) -> None:
    (tmp_path / "maf-power-1.json").touch()
    (tmp_path / "iaf-power-1.json").touch()
    (tmp_path / "maf-power-1.0123456789ab.safetensors").touch()
    assert completed("flowbench com") == {"compare"}
    assert completed("flowbench train ") == set(flows.names())
    assert completed("flowbench time maf rea") == {"realnvp"}
    assert completed("flowbench train maf --data truth-b") == {"truth-banana"}
    assert completed("flowbench fetch digits ") >= set(data.names())
    assert completed("flowbench fit-target iaf --target f") == {"funnel"}
    assert completed("flowbench train maf --recipe ") == {"fast", "best", "paper"}
    for command in ("sample", "log-prob"):
        assert completed(f"flowbench {command} m", FLOWBENCH_RESULTS_DIR=str(tmp_path)) == {"maf-power-1"}


def test_completion_does_not_load_torch(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom flowbench.cli import complete\n"
        "every = complete.flows, complete.datasets, complete.recipes, complete.runs, complete.targets\n"
        "for names in every: names('')\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_a_shell_takes_the_script(tmp_path: Path) -> None:
    script = flowbench("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1").stdout
    assert "_FLOWBENCH_COMPLETE" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    environment: dict[str, Any] = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    flowbench("--install-completion", "bash", **environment)
    assert [path for path in tmp_path.rglob("*") if path.name == "flowbench.sh"]
