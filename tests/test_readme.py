"""What the README says is true: its figures, its commands, the files it points to."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from flowbench.results.store import read_all

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "scripts" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_figures_are_those_of_the_committed_records(figures: ModuleType) -> None:
    assert figures.written(README, read_all(figures.REFERENCE)) == README, "run scripts/figures.py"
    assert len(figures.BLOCK.findall(README)) == 7
    without = {path: record for path, record in read_all(figures.REFERENCE).items() if record.task.flow != "maf"}
    assert figures.written(README, without) != README


def test_the_files_it_points_to_are_there() -> None:
    pointed = re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", README)
    assert len(pointed) >= 8
    for path in pointed:
        assert (ROOT / "flowbench" / path).is_file() or (ROOT / path).is_file(), path


def test_its_commands_are_commands_with_these_options() -> None:
    from typer.main import get_command

    from flowbench.cli.app import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    shell = "\n".join(re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
    lines = re.findall(r"^(?:[A-Z_]+=\S+ )?flowbench (.+)$", shell, re.MULTILINE)
    used = {line.split()[0] for line in lines}
    assert {"train", "compare", "time", "sample", "log-prob", "list", "check"} <= used
    for line in lines:
        words = line.partition("#")[0].split()
        known = {option for parameter in commands[words[0]].params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, line


def test_the_workflow_runs_what_there_is() -> None:
    """With options that the commands have, and with scripts and baselines that are in the repository."""
    from typer.main import get_command

    from flowbench.cli.app import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    (workflow,) = re.findall(r"^<!-- workflow -->\n```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"bin/flowbench (\w+) (.+)$", workflow.replace("\\\n", ""), re.MULTILINE)
    assert [name for name, _ in lines] == ["compare", "time"]
    for name, arguments in lines:
        known = {option for parameter in commands[name].params for option in parameter.opts}
        used = {word for word in arguments.split() if word.startswith("-")}
        assert "--against" in used
        assert used <= known
    for path in re.findall(r"(?:head|base)/(results/\S+)", workflow):
        assert (ROOT / path).exists(), path
    assert list((ROOT / "results" / "ci").glob("*.json"))
