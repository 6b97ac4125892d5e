"""`flowbench log-prob` on streams: answers as rows come, names of rows, bad rows, the least likely ones."""

from __future__ import annotations

import io
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from flowbench import flows
from flowbench.data.discrete import Atoms, Category, Discrete
from flowbench.data.preprocessing import Bounded, Standardise
from flowbench.training import weights

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


def answered(*arguments: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command(*arguments), input=content, capture_output=True, check=False, timeout=120)


def read(done: subprocess.CompletedProcess[bytes]) -> pd.DataFrame:
    assert done.returncode == 0, done.stderr.decode()
    return pd.read_csv(io.BytesIO(done.stdout))


def test_a_pipe_gives_what_the_file_does_whatever_parts_it_comes_in(tmp_path: Path) -> None:
    run, frame = save(tmp_path / "w.safetensors"), table(300)
    frame.to_csv(tmp_path / "t.csv", index=False)
    expected = read(answered(run, "--data", str(tmp_path / "t.csv"), "--id", "id"))
    assert list(expected.columns) == ["id", "log_prob"]
    assert expected["log_prob"].notna().all()
    content = (tmp_path / "t.csv").read_bytes()
    stream = io.BytesIO()
    batch = pa.RecordBatch.from_pandas(frame, preserve_index=False)
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        for start in (0, 100, 101):
            writer.write_batch(batch.slice(start, {0: 100, 100: 1, 101: 199}[start]))
    for whole in (content, content.replace(b"\n", b"\r\n"), content.rstrip(b"\n"), stream.getvalue()):
        with subprocess.Popen(command(run, "--data", "-", "--id", "id"), stdin=-1, stdout=-1, stderr=-1) as process:
            assert process.stdin
            cuts = [0, 3, 40, 41, 2000, len(whole)]
            for start, stop in itertools.pairwise(cuts):
                process.stdin.write(whole[start:stop])
                process.stdin.flush()
            out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error.decode()
        found = pd.read_csv(io.BytesIO(out))
        assert list(found["id"]) == list(expected["id"])
        np.testing.assert_allclose(found["log_prob"], expected["log_prob"], atol=1e-5)


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


def test_bad_rows_stop_or_are_skipped_or_are_nan_and_are_counted(tmp_path: Path) -> None:
    run = save(tmp_path / "w.safetensors")
    content = b"x,kind,share\n1,a,.5\nfast,a,.5\n1,c,.5\n1,a,\n1,a,1.5\ninf,a,.5\n,a,0\n"
    stopped = answered(run, "--data", "-", content=content)
    assert stopped.returncode == 4
    assert len(stopped.stdout.split()) == 2  # the first row was answered
    assert "in row 2" in stopped.stderr.decode()
    skipped = answered(run, "--data", "-", "--on-bad-row", "skip", content=content)
    assert list(read(skipped)["row"]) == [1, 7]
    said = " ".join(skipped.stderr.decode().split())
    for kind in ("5 rows skipped", "1 that is no number", "1 of an unknown class", "1 with a missing value"):
        assert kind in said
    assert "1 with a value outside of its bounds" in said
    assert "1 with an infinite value" in said
    with_nan = read(answered(run, "--data", "-", "--on-bad-row", "nan", content=content))
    np.testing.assert_array_equal(with_nan["log_prob"].isna(), [False, True, True, True, True, True, False])


@pytest.fixture(params=["-", "fifo"])
def piped(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "-":
        yield "-"
        return
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no FIFOs here")
    os.mkfifo(tmp_path / "pipe.csv")
    yield str(tmp_path / "pipe.csv")


def test_a_fifo_is_a_stream(piped: str, tmp_path: Path) -> None:
    run, content = save(tmp_path / "w.safetensors"), table(5).to_csv(index=False).encode()
    if piped != "-":
        threading.Thread(target=lambda: Path(piped).write_bytes(content), daemon=True).start()
    assert len(read(answered(run, "--data", piped, content=content if piped == "-" else b""))) == 5


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    run = save(tmp_path / "w.safetensors")
    for content, words in {
        b"": "is empty", b"\n\n": "is empty", b"x;kind;share\n1;a;.5\n": "no commas", b"x,x,kind,share\n": "more than",
        b"x,kind\n1,a\n": "lacks column 'share'", b"\x1f\x8b\x08": "gzip", b"PAR1\0\0\0": "Parquet",
        b"1,2,3\n": "holds numbers", b"\xff\xff\xff\xff\x10": "damaged",
    }.items():  # fmt: skip
        done = answered(run, "--data", "-", content=content)
        assert done.returncode == 4, (content, done.stderr)
        assert words in done.stderr.decode() + done.stderr.decode().replace("\n", " "), (content, done.stderr)
        assert b"defect" not in done.stderr
    assert read(answered(run, "--data", "-", content=b"x,kind,share\n")).empty
    assert answered(run, "--data", "-", "--id", "name", content=b"x,kind,share\n").returncode == 2


def test_whoever_reads_may_leave(tmp_path: Path) -> None:
    run = save(tmp_path / "w.safetensors")
    content = table(30_000).to_csv(index=False).encode()
    with subprocess.Popen(command(run, "--data", "-"), stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        threading.Thread(target=_feed, args=(process.stdin, content), daemon=True).start()
        assert process.stdout.readline() == b"log_prob\n"
        process.stdout.close()
        assert process.wait(100) in (0, 141, -13)
        assert b"Traceback" not in process.stderr.read()


def _feed(pipe: io.BufferedWriter, content: bytes) -> None:
    try:
        pipe.write(content)
        pipe.close()
    except OSError:
        pass


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


def test_a_row_that_is_misshapen_is_a_bad_row_of_a_file_too(tmp_path: Path) -> None:
    run, path = save(tmp_path / "w.safetensors"), tmp_path / "t.csv"
    path.write_bytes(b"x,kind,share\n1,a\n2,a,.5\n1,a,.5,7\n")
    done = answered(run, "--data", str(path), "--on-bad-row", "skip")
    assert list(read(done)["row"]) == [2]
    assert "2 rows skipped: 2 with another number of fields" in done.stderr.decode()
    stopped = answered(run, "--data", str(path))
    assert (stopped.returncode, stopped.stdout) == (4, b"")
    assert "there are 2 fields and not 3 ('1,a') in row 1" in stopped.stderr.decode()


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
