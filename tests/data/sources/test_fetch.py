"""What a dataset lacks: from which source, where to, and what `flowbench fetch` says of it."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import loopback
import numpy as np
import pytest
from fetch_cases import BODY, OTHER, assert_fetched, card, left_behind, raw_file, sha256
from loopback import LoopbackServer

from flowbench.data.card import RawFile
from flowbench.data.sources import fetch as fetching
from flowbench.data.sources import raw
from flowbench.data.sources.fetch import fetch
from flowbench.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("data_dir")


def test_a_file_that_is_there_is_left_alone_whatever_its_checksum(server: LoopbackServer, data_dir: Path) -> None:
    (data_dir / "toy").mkdir(parents=True)
    (data_dir / "toy/toy.bin").write_bytes(OTHER)
    assert fetch(card(raw_file(server.serve("good", loopback.whole(BODY))))) == []
    assert server.seen == []
    assert (data_dir / "toy/toy.bin").read_bytes() == OTHER


def test_without_a_published_checksum_a_file_is_taken_and_that_is_said(
    server: LoopbackServer, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(card(raw_file(server.serve("good", loopback.whole(BODY)), body=None)))
    assert_fetched(data_dir)
    assert "no published checksum" in capsys.readouterr().err


def test_offline_asks_nobody(server: LoopbackServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWBENCH_OFFLINE", "1")
    file = raw_file(server.serve("good", loopback.whole(BODY)))
    with pytest.raises(DataError, match="FLOWBENCH_OFFLINE") as caught:
        fetch(card(file, ready_made=("data/toy/data.npy",)))
    for said in (file.url, str(data_dir / "toy"), file.checksum, "data/toy/data.npy"):
        assert said in str(caught.value.hint)
    assert server.seen == []
    assert not data_dir.exists()
    monkeypatch.setenv("FLOWBENCH_OFFLINE", "0")
    assert fetch(card(file))


def test_a_folder_that_cannot_be_written(server: LoopbackServer, data_dir: Path) -> None:
    file = raw_file(server.serve("good", loopback.whole(BODY)))
    data_dir.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="cannot write to") as caught:
        fetch(card(file))
    assert "FLOWBENCH_DATA_DIR" in str(caught.value.hint)
    data_dir.unlink()
    (data_dir / "toy").mkdir(parents=True)
    (data_dir / "toy").chmod(0o500)
    if os.access(data_dir / "toy", os.W_OK):
        pytest.skip("root may write everywhere")
    with pytest.raises(DataError, match="read-only"):
        fetch(card(file))
    assert server.seen == []


# the ready-made archive


@pytest.fixture
def archive(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RawFile:
    """An archive with two members of `toy` and one of another dataset."""
    for name in ("toy/a.csv", "toy/b.csv", "other/c.csv"):
        path = tmp_path / "source/data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    packed = Path(shutil.make_archive(str(tmp_path / "data"), "gztar", tmp_path / "source", "data")).read_bytes()
    url = server.serve("archive", loopback.whole(packed))
    file = RawFile("data.tar.gz", url, md5=hashlib.md5(packed).hexdigest())
    monkeypatch.setattr(fetching, "READY_MADE", file)
    return file


MEMBERS = ("data/toy/a.csv", "data/toy/b.csv")


def test_the_archive_stands_in_for_a_publisher_that_is_gone(
    server: LoopbackServer, archive: RawFile, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = card(raw_file(server.url("gone")), ready_made=MEMBERS)
    fetched = fetch(gone)
    assert [(file.path.name, file.url) for file in fetched] == [("a.csv", archive.url), ("b.csv", archive.url)]
    assert left_behind(data_dir) == {"data.tar.gz", "toy/a.csv", "toy/b.csv"}
    assert (data_dir / "toy/a.csv").read_text() == "toy/a.csv"
    assert set(raw.find(gone)) == {"a.csv", "b.csv"}
    said = capsys.readouterr().err
    assert "404 Not Found" in said
    assert "ready-made archive" in said
    assert "is kept" in said
    assert fetch(gone) == []


def test_the_archive_is_downloaded_once_for_all(server: LoopbackServer, archive: RawFile, data_dir: Path) -> None:
    toy = card(raw_file(server.url("gone")), ready_made=MEMBERS)
    other = replace(toy, name="other", ready_made=("data/other/c.csv",))
    fetch(toy, "ready-made")
    fetch(other, "ready-made")
    assert len(server.seen) == 1
    assert left_behind(data_dir) == {"data.tar.gz", "toy/a.csv", "toy/b.csv", "other/c.csv"}


def test_an_archive_put_there_by_hand_needs_no_network(
    server: LoopbackServer,
    archive: RawFile,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data_dir.mkdir()
    (data_dir / "data.tar.gz").write_bytes(gzip.compress(gzip.decompress((tmp_path / "data.tar.gz").read_bytes()), 1))
    toy = card(raw_file(server.url("gone")), ready_made=MEMBERS)
    fetch(toy, "ready-made")
    shutil.rmtree(data_dir / "toy")
    monkeypatch.setenv("FLOWBENCH_OFFLINE", "1")
    for source in ("ready-made", None):
        fetched = fetch(toy, source)
        assert [file.url for file in fetched] == [None, None]
        shutil.rmtree(data_dir / "toy")
    assert server.seen == []
    assert "is not the published archive" in capsys.readouterr().err


def test_the_source_asked_for_is_the_only_one(server: LoopbackServer, archive: RawFile, data_dir: Path) -> None:
    good = card(raw_file(server.serve("good", loopback.whole(BODY))), ready_made=MEMBERS)
    with pytest.raises(DataError, match="404"):
        fetch(replace(good, files=(raw_file(server.url("gone")),)), "raw")
    assert left_behind(data_dir) == set()
    assert len(fetch(good, "ready-made")) == 2
    (fetched,) = fetch(good, "raw")
    assert fetched.path.name == "toy.bin"
    with pytest.raises(UsageError, match="not in the ready-made archive"):
        fetch(card(raw_file(server.url("gone"))), "ready-made")


def test_both_sources_gone(server: LoopbackServer, archive: RawFile) -> None:
    del server.scenarios["archive"]
    with pytest.raises(DataError, match=r"data\.tar\.gz cannot be downloaded") as caught:
        fetch(card(raw_file(server.url("gone")), ready_made=MEMBERS))
    assert server.url("gone") in str(caught.value.hint)


# the command line, in processes of its own


@pytest.fixture
def flowbench(tmp_path: Path, server: LoopbackServer) -> Callable[..., subprocess.Popen[str]]:
    """Start flowbench with one dataset more, `toy`, that the loopback has; server.scenarios["toy.npy"] is its file."""
    table = tmp_path / "toy.npy"
    np.save(table, np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32))
    content = table.read_bytes()
    server.serve("toy.npy", loopback.whole(content))
    shipped = Path(__file__).parents[3] / "datasets"
    recipes = Path(shutil.copytree(shipped, tmp_path / "datasets", ignore=shutil.ignore_patterns("__pycache__")))
    for name, path in (("toy", "toy.npy"), ("gone", "gone.npy")):
        url = server.url(path)
        (recipes / f"{name}.py").write_text(
            "import numpy as np\n"
            "from flowbench.data import Card, RawFile, Splits\n"
            f"FILE = RawFile('toy.npy', {url!r}, sha256={sha256(content)!r}, size_bytes={len(content)})\n"
            f"CARD = Card({name!r}, 1, 'Toy', 'https://x', 'CC0', 'me', 2, 200, 100, 100, 'raw', files=(FILE,))\n"
            "def prepare(raw, rng):\n"
            "    rows = np.load(raw['toy.npy'])\n"
            "    return Splits(rows[:200], rows[200:300], rows[300:])\n"
        )
    program = (
        "import sys, pathlib, flowbench.__main__, flowbench.data.registry as registry\n"
        f"registry.folder = lambda: pathlib.Path({str(recipes)!r})\n"
        "sys.argv = sys.argv[1:]\nflowbench.__main__.main()"
    )

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, "flowbench", *arguments]
        environment = os.environ | {"FLOWBENCH_RESULTS_DIR": str(tmp_path / "results")}
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
        )

    return start


Flowbench = Callable[..., "subprocess.Popen[str]"]


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stderr
    return process.returncode, stdout, stderr


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_fetch_says_what_it_did(flowbench: Flowbench, data_dir: Path) -> None:
    code, stdout, stderr = finish(flowbench("fetch", "toy", "digits"))
    assert code == 0, stderr
    assert stdout.splitlines() == [f"toy: toy.npy (3.3 kB) in {data_dir / 'toy'}", "digits: needs no files"]
    code, stdout, stderr = finish(flowbench("fetch", "toy"))
    assert (code, stdout, stderr) == (0, f"toy: already in {data_dir / 'toy'}\n", "")


def test_fetch_as_json(flowbench: Flowbench, data_dir: Path, server: LoopbackServer) -> None:
    code, stdout, _ = finish(flowbench("fetch", "toy", "gone", "digits", "--json"))
    assert code == 4
    toy, gone, digits = json.loads(stdout)["datasets"]
    (file,) = toy["files"]
    path = data_dir / "toy/toy.npy"
    assert (file["path"], file["url"]) == (str(path), server.url("toy.npy"))
    assert (file["sha256"], file["bytes"]) == (sha256(path.read_bytes()), path.stat().st_size)
    assert [it["status"] for it in (toy, gone, digits)] == ["fetched", "failed", "embedded"]
    assert "404" in gone["error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toi"], "did you mean toy?"),
        (["toy", "--from", "row"], "'row' is not one of 'raw'"),
        (["toy", "--from", "ready-made"], "not in the ready-made archive"),
        ([], "NAME"),
    ],
)
def test_a_wrong_argument_fetches_nothing(
    arguments: list[str], message: str, flowbench: Flowbench, server: LoopbackServer
) -> None:
    code, stdout, stderr = finish(flowbench("fetch", *arguments))
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert server.seen == []


def test_training_downloads_what_is_missing(flowbench: Flowbench, data_dir: Path) -> None:
    code, stdout, stderr = finish(flowbench("train", "gaussian", "--data", "toy", "--threads", "1"))
    assert code == 0, stderr
    assert "fetching toy.npy" in stderr
    assert "test log-likelihood" in stdout
    assert left_behind(data_dir) == {"toy/toy.npy"}


def test_two_processes_at_once_download_once(flowbench: Flowbench, data_dir: Path, server: LoopbackServer) -> None:
    content = (data_dir.parent / "toy.npy").read_bytes()
    waits = threading.Event()

    def when_the_other_waits(request: loopback.Request) -> None:
        waits.wait(20)
        request.answer(200, content)

    server.serve("toy.npy", when_the_other_waits)
    first = flowbench("fetch", "toy")
    wait_for(lambda: bool(server.seen))
    second = flowbench("fetch", "toy")
    assert second.stderr is not None
    assert "waiting for it" in second.stderr.readline()
    waits.set()
    assert finish(first)[:2] == (0, f"toy: toy.npy (3.3 kB) in {data_dir / 'toy'}\n")
    assert finish(second)[:2] == (0, f"toy: already in {data_dir / 'toy'}\n")
    assert len(server.seen) == 1
    assert left_behind(data_dir) == {"toy/toy.npy"}


def test_ctrl_c_leaves_what_the_next_fetch_goes_on_from(
    flowbench: Flowbench, data_dir: Path, server: LoopbackServer
) -> None:
    content = (data_dir.parent / "toy.npy").read_bytes()
    server.serve("toy.npy", loopback.stalled(content, 1000, ETag='"v1"'), loopback.ranged(content))
    process = flowbench("fetch", "toy")
    part = data_dir / "toy/toy.npy.part"
    wait_for(lambda: part.exists() and part.stat().st_size == 1000)
    process.send_signal(signal.SIGINT)
    code, stdout, stderr = finish(process)
    assert (code, stdout) == (130, "")
    assert "interrupted" in stderr
    assert left_behind(data_dir) == {"toy/toy.npy.part", "toy/toy.npy.part.json"}
    assert finish(flowbench("fetch", "toy"))[0] == 0
    assert server.ranges() == [None, "bytes=1000-"]
    assert left_behind(data_dir) == {"toy/toy.npy"}
