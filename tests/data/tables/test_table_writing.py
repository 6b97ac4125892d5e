"""Tables to standard output: what a terminal, a pipe and a reader that leaves early get."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pty = pytest.importorskip("pty")

PROGRAM = """
import numpy as np
from flowbench.data.tables.writing import Column, write_table
write_table(None, [Column("a\\x1b[31m"), Column("b")], (np.ones((10_000, 2)) for _ in range({batches})))
"""


def start(batches: int, stdout: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", PROGRAM.format(batches=batches)]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, cwd=Path(__file__).parents[3])


def test_a_name_that_would_steer_a_terminal_is_shown_to_it_as_text() -> None:
    ours, theirs = pty.openpty()
    process = start(0, theirs)
    assert process.communicate()[1] == b""
    os.close(theirs)
    assert os.read(ours, 100) == b"a\\x1b[31m,b\r\n"
    os.close(ours)
    assert process.wait() == 0


def test_a_pipe_gets_names_as_they_are() -> None:
    out, err = start(0, subprocess.PIPE).communicate()
    assert (out, err) == (b"a\x1b[31m,b\n", b"")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    process = start(1000, subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with process, process.stderr:
        assert process.stdout.readline() == b"a\x1b[31m,b\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
