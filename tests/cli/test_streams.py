"""Readers that leave early and streams that are closed: neither ends a command, and neither leaves a trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowbench.config import PACKAGE

TINY = "--data truth-banana --set hidden=4 --set transforms=1 --set batch_size=5000 --max-epochs 2"


def shell(line: str, results: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``flowbench`` is the command and ``$OUT`` a folder; the status of its first part."""
    environment = os.environ | {"OUT": str(results)}
    program = f'flowbench() {{ "{sys.executable}" -m flowbench "$@"; }}; set -o pipefail; {line}'
    return subprocess.run(
        ["bash", "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


REFERENCE = PACKAGE.parent / "results" / "reference"


@pytest.mark.parametrize(
    "line",
    [
        "list | head -1",
        "list --json | true",  # which closes its end before anything is written
        f"compare --out {REFERENCE} | head -1",
        f"compare --json --out {REFERENCE} | true",
        "train --settings | true",
        "fetch digits patches | true",
        "cache | true",
        "train gaussian --data truth-banana --out $OUT | true",
    ],
)
def test_a_reader_that_leaves_early_is_no_error(line: str, results: Path) -> None:
    done = shell(f"flowbench {line}", results)
    assert done.returncode == 0, done.stderr
    assert not [word for word in ("Traceback", "BrokenPipe", "Exception", "error") if word in done.stderr]


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-", "2> >(true)"])
def test_a_training_goes_on_without_stderr(closed: str, results: Path) -> None:
    done = shell(f"flowbench train maf {TINY} --out $OUT {closed}", results)
    assert done.returncode == 0
    (record,) = [json.loads(path.read_text()) for path in results.glob("*.json")]
    assert (record["status"], record["training"]["epochs"]) == ("ok", 2)
    assert ("test log-likelihood" in done.stdout) == ("1>&-" not in closed)
    assert "validation" not in done.stdout  # that is progress, and stays away


def test_a_comparison_goes_on_without_stderr(results: Path) -> None:
    whole = shell(f"flowbench compare --out {REFERENCE}", results)
    for closed in ("2>&-", "2> >(true)"):
        done = shell(f"flowbench compare --out {REFERENCE} {closed}", results)
        assert (done.returncode, done.stdout) == (0, whole.stdout)


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    program = (
        "import os, sys, flowbench.cli.command as command\n"
        "command.open_standard_streams()\n"
        f"file = open({str(tmp_path / 'file')!r}, 'w')\n"
        "os.write(2, b'lost')\n"  # as a library does that is not Python's
        "print('lost', file=sys.stderr)\n"
        "assert file.fileno() > 2"
    )
    done = subprocess.run(["bash", "-c", f'"{sys.executable}" -c "$0" 2>&- 0<&-', program], text=True, check=False)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == ""


def test_a_full_disk_is_told_with_the_documents_too() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "flowbench", "list", "--json"]
        failed = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert failed.returncode == 4
    assert "No space left" in failed.stderr
