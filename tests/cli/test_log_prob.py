"""`flowbench log-prob` on streams: answers as rows come, names of rows, bad rows, the least likely ones."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from forked import flowbench
from numpy.typing import NDArray

from flowbench import flows
from flowbench.data.discrete import Atoms, Category, Discrete
from flowbench.data.preprocessing import Bounded, Dequantise, Standardise
from flowbench.data.tables.inputs import open_source
from flowbench.errors import DataError
from flowbench.flows.core.density import Density
from flowbench.training import weights
from flowbench.use import trained
from flowbench.use.densities import BadRows, scored

NAMES = ("kind", "x", "share")
DISCRETE = Discrete(categories=(Category(name="kind", labels=("a", "b")),), atoms=(Atoms(column=0, values=(None,)),))


def save(path: Path, name: str = "maf", discrete: Discrete | None = DISCRETE, seed: int = 0) -> str:
    """The weights of a flow that was never trained."""
    torch.manual_seed(seed)
    options = flows.load(name).Options.model_validate({"hidden": (8,)} | ({"transforms": 2} if name == "maf" else {}))
    steps = (
        Bounded(lower=(None, 0.0), upper=(None, 1.0), margin=(0.0, 1e-6)),
        Standardise(location=(1.0, 0.0), scale=(2.0, 1.0)),
    )
    about = weights.About(columns=NAMES if discrete else NAMES[1:], preprocessing=steps, discrete=discrete)
    weights.save(path, flows.build(name, 2, options, (), discrete).eval(), name, options, about)
    return str(path)


def table(rows: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    x = np.where(random.random(rows) < 0.2, np.nan, random.normal(1, 2, rows))
    return pd.DataFrame({"id": [f"r{i}" for i in range(rows)], "share": random.random(rows), "kind": "b", "x": x})


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flowbench", "log-prob", *arguments, "--device", "cpu", "--threads", "1"]


def answered(*arguments: str, content: bytes = b"") -> subprocess.CompletedProcess[str]:
    return flowbench("log-prob", *arguments, "--device", "cpu", "--threads", "1", piped=content)


def read(done: subprocess.CompletedProcess[str]) -> pd.DataFrame:
    assert done.returncode == 0, done.stderr
    return pd.read_csv(io.StringIO(done.stdout))


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Sequence[bytes]], None]]:
    """Have standard input give these parts, one after the other; in this process, since torch starts in seconds."""
    files: list[io.BufferedReader] = []

    def put(parts: Sequence[bytes]) -> None:
        reading, writing = os.pipe()
        files.append(os.fdopen(reading, "rb"))
        monkeypatch.setattr(sys, "stdin", files[-1])
        threading.Thread(target=_feed, args=(os.fdopen(writing, "wb"), parts), daemon=True).start()

    yield put
    for file in files:
        file.close()


def _feed(pipe: io.BufferedWriter, parts: Sequence[bytes]) -> None:
    with contextlib.suppress(OSError), pipe:
        for part in parts:
            pipe.write(part)
            pipe.flush()


def test_a_pipe_gives_what_the_file_does_whatever_parts_it_comes_in(
    tmp_path: Path, piped: Callable[[Sequence[bytes]], None]
) -> None:
    density, frame = trained.load(Path(save(tmp_path / "w.safetensors"))), table(300)
    frame.to_csv(tmp_path / "t.csv", index=False)

    def scores(data: str) -> tuple[list[str], NDArray[np.float64]]:
        found = list(scored(density, open_source(data), BadRows(), "id"))
        ids = [name for some in found if some.ids is not None for name in some.ids]
        return ids, np.concatenate([some.lls for some in found])

    ids, expected = scores(str(tmp_path / "t.csv"))
    assert ids == list(frame["id"])
    assert np.isfinite(expected).all()
    content = (tmp_path / "t.csv").read_bytes()
    stream = io.BytesIO()
    batch = pa.RecordBatch.from_pandas(frame, preserve_index=False)
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        for start, rows in ((0, 100), (100, 1), (101, 199)):
            writer.write_batch(batch.slice(start, rows))
    for whole in (content, content.replace(b"\n", b"\r\n"), content.rstrip(b"\n"), stream.getvalue()):
        piped([whole[start:stop] for start, stop in itertools.pairwise([0, 3, 40, 41, 2000, len(whole)])])
        found_ids, found = scores("-")
        assert found_ids == ids
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_row_is_answered_before_the_next_one_comes(tmp_path: Path) -> None:
    run = save(tmp_path / "w.safetensors")
    with subprocess.Popen(command(run, "--data", "-"), stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin
        assert process.stdout
        stop = threading.Timer(100, process.kill)
        stop.start()
        process.stdin.write(b"x,kind,share\n")
        for row in (b"1,a,.5\n", b",b,.25\n", b"2,b,1\n"):
            process.stdin.write(row)
            process.stdin.flush()
            answer = process.stdout.readline()
            answer = process.stdout.readline() if answer.strip() == b"log_prob" else answer
            assert np.isfinite(float(answer))
        process.stdin.close()
        assert process.wait(100) == 0
        stop.cancel()


BAD = b"x,kind,share\n1,a,.5\nfast,a,.5\n1,c,.5\n1,a,\n1,a,1.5\ninf,a,.5\n,a,0\n"
"""Of seven rows the second to the sixth have no density; the last one's x is missing, and may be."""


def test_a_bad_row_stops_and_those_before_it_are_answered(
    tmp_path: Path, piped: Callable[[Sequence[bytes]], None]
) -> None:
    density = trained.load(Path(save(tmp_path / "w.safetensors")))
    piped([BAD])
    rows = scored(density, open_source("-"), BadRows("stop"))
    assert len(next(rows).lls) == 1
    with pytest.raises(DataError, match=r"standard input: .*'fast'.* in row 2"):
        next(rows)
    piped([BAD])
    (found,) = scored(density, open_source("-"), BadRows("nan"))
    np.testing.assert_array_equal(np.isnan(found.lls), [False, True, True, True, True, True, False])


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    run = save(tmp_path / "w.safetensors")
    skipped = answered(run, "--data", "-", "--on-bad-row", "skip", content=BAD)
    assert list(read(skipped)["row"]) == [1, 7]
    said = " ".join(skipped.stderr.split())
    for kind in ("5 rows skipped", "1 that is no number", "1 of an unknown class", "1 with a missing value"):
        assert kind in said
    assert "1 with a value outside of its bounds" in said
    assert "1 with an infinite value" in said


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
def test_a_fifo_is_a_stream(tmp_path: Path) -> None:
    path, content = tmp_path / "pipe.csv", table(5).to_csv(index=False).encode()
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=(content,), daemon=True).start()
    density = trained.load(Path(save(tmp_path / "w.safetensors")))
    assert sum(len(some.lls) for some in scored(density, open_source(str(path)), BadRows())) == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"), (b"\n\n", "is empty"), (b"x;kind;share\n1;a;.5\n", "no commas"),
        (b"x,x,kind,share\n", "more than one"), (b"x,kind\n1,a\n", "lacks column 'share'"), (b"\x1f\x8b\x08", "gzip"),
        (b"PAR1\0\0\0", "Parquet"), (b"1,2,3\n", "holds numbers"), (b"\xff\xff\xff\xff\x10", "cannot read"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_told(
    tmp_path: Path, piped: Callable[[Sequence[bytes]], None], content: bytes, words: str
) -> None:
    density = trained.load(Path(save(tmp_path / "w.safetensors")))
    piped([content])
    with pytest.raises(DataError) as caught:
        list(scored(density, open_source("-"), BadRows()))
    assert words in str(caught.value)


def test_a_table_of_no_rows_has_no_answers(tmp_path: Path, piped: Callable[[Sequence[bytes]], None]) -> None:
    density = trained.load(Path(save(tmp_path / "w.safetensors")))
    piped([b"x,kind,share\n"])
    assert list(scored(density, open_source("-"), BadRows())) == []


def test_whoever_reads_may_leave(tmp_path: Path) -> None:
    run = save(tmp_path / "w.safetensors")
    content = table(30_000).to_csv(index=False).encode()
    with subprocess.Popen(command(run, "--data", "-"), stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        threading.Thread(target=_feed, args=(process.stdin, [content]), daemon=True).start()
        assert process.stdout.readline() == b"log_prob\n"
        process.stdout.close()
        assert process.wait(100) in (0, 141, -13)
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("flow", ["made-mog", "maf"])
def test_the_lowest_rows_and_what_is_odd_of_them(tmp_path: Path, flow: str) -> None:
    """Of one order conditional densities, of a stack of orders what another value gains; both name the column."""
    run = save(tmp_path / "w.safetensors", flow, discrete=None)
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"x": random.normal(1, 2, 400), "share": random.uniform(0.2, 0.8, 400)})
    planted = {7: "x", 77: "share", 305: "x"}
    frame.loc[7, "x"], frame.loc[77, "share"], frame.loc[305, "x"] = 60.0, 1 - 1e-12, -70.0
    found = read(answered(run, "--data", "-", "--lowest", "3", content=frame.to_csv(index=False).encode()))
    kind = "log_prob" if flow == "made-mog" else "gain"
    assert list(found.columns) == ["row", "log_prob", "odd_column", f"{kind}_x", f"{kind}_share"]
    assert found["log_prob"].is_monotonic_increasing
    assert {int(row) - 1: column for row, column in zip(found["row"], found["odd_column"], strict=True)} == planted
    if kind == "log_prob":
        np.testing.assert_allclose(found[[f"{kind}_x", f"{kind}_share"]].sum(axis=1), found["log_prob"], rtol=1e-4)


def test_atoms_lie_wherever_they_do_and_noise_ends_with_its_bound(tmp_path: Path) -> None:
    """A mark for what is unknown is no value outside of its column's bounds."""
    discrete = Discrete(atoms=(Atoms(column=0, values=(-999.0, None)),))
    steps = (
        Dequantise(steps=(0.0, 1.0), origin=(0.0, 0.0)),
        Bounded(lower=(0.0, 0.0), upper=(None, 11.0), margin=(1e-6, 1e-6)),
        Standardise(location=(0.0, 0.0), scale=(1.0, 1.0)),
    )
    options = flows.load("maf").Options(hidden=(8,))
    density = Density(flows.build("maf", 2, options, (), discrete).eval(), steps, (), discrete)
    rows = np.array([[-999.0, 3], [np.nan, 0], [0.0, 10], [2.0, 11], [-1.0, 3], [np.inf, 3], [1.0, np.nan]])
    expected = [[False, False]] * 3 + [[False, True], [True, False], [True, False], [False, True]]
    np.testing.assert_array_equal(density.unfit(rows), expected)
    assert np.isfinite(density.log_prob(rows[:3])).all()


def test_a_row_that_is_misshapen_is_a_bad_row_of_a_file_too(tmp_path: Path) -> None:
    run, path = save(tmp_path / "w.safetensors"), tmp_path / "t.csv"
    path.write_bytes(b"x,kind,share\n1,a\n2,a,.5\n1,a,.5,7\n")
    done = answered(run, "--data", str(path), "--on-bad-row", "skip")
    assert list(read(done)["row"]) == [2]
    assert "2 rows skipped: 2 with another number of fields" in done.stderr
    stopped = answered(run, "--data", str(path))
    assert (stopped.returncode, stopped.stdout) == (4, "")
    assert "there are 2 fields and not 3 ('1,a') in row 1" in stopped.stderr


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no terminals here")
def test_a_terminal_is_shown_the_oddest_columns(tmp_path: Path) -> None:
    run = save(tmp_path / "w.safetensors", "made-mog", discrete=None)
    ours, theirs = os.openpty()
    content = b"id,x,share\nfirst,1,.5\nlast\x1b[31m,-70,.5\n"
    options = {"stdout": theirs, "stderr": subprocess.PIPE, "env": os.environ | {"TERM": "dumb", "COLUMNS": "80"}}
    arguments = command(run, "--data", "-", "--id", "id", "--lowest", "1")
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, **options) as process:
        error = process.communicate(content, timeout=100)[1].decode()
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 0, error
    head, row = shown.splitlines()
    assert head.split() == ["id", "log_prob", "odd", "columns"]
    assert row.split()[0] == "last\\x1b[31m"  # what comes from a table does not steer a terminal
    assert row.index("x (") < row.index("share (")
    assert "they add up to log_prob" in " ".join(error.split())


def test_an_interrupt_ends_it_quietly(tmp_path: Path) -> None:
    run = save(tmp_path / "w.safetensors")
    with subprocess.Popen(command(run, "--data", "-"), stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"x,kind,share\n1,a,.5\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"log_prob\n"
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        error = process.stderr.read() if process.stderr else b""
        assert process.wait(100) == 130
    assert error == b"interrupted\n"
