"""Downloads, against a real HTTP server on the loopback: what comes, what is refused, and what is left behind."""

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
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import loopback
import numpy as np
import pytest
from loopback import LoopbackServer, Scenario

from flowbench.console import DataError, UsageError
from flowbench.data import download, raw
from flowbench.data import fetch as fetching
from flowbench.data.card import Card, RawFile
from flowbench.data.fetch import fetch

BODY = np.random.default_rng(0).bytes(200_000)
HALF = len(BODY) // 2
OTHER = bytes(len(BODY))


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with loopback.running() as it:
        yield it


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, downloads allowed, and no waiting for a server to recover."""
    monkeypatch.setenv("FLOWBENCH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("FLOWBENCH_OFFLINE")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.01)
    return tmp_path / "data"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def raw_file(url: str, *mirrors: str, body: bytes | None = BODY) -> RawFile:
    return RawFile("toy.bin", url, mirrors, sha256=None if body is None else sha256(body))


def card(*files: RawFile, ready_made: tuple[str, ...] = ()) -> Card:
    return Card("toy", 1, "Toy", "https://x", "CC0", "me", 2, 8, 1, 1, "raw", files=files, ready_made=ready_made)


def left_behind(data_dir: Path) -> set[str]:
    """All files in the data folder but the empty ones of locks."""
    paths = (path for path in data_dir.rglob("*") if path.is_file() and path.name != ".fetch.lock")
    return {str(path.relative_to(data_dir)) for path in paths}


def assert_fetched(data_dir: Path) -> None:
    assert (data_dir / "toy/toy.bin").read_bytes() == BODY
    assert left_behind(data_dir) == {"toy/toy.bin"}


def test_a_good_file_is_fetched_once(
    server: LoopbackServer, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.serve("good", loopback.whole(BODY))
    (fetched,) = fetch(card(raw_file(url)))
    assert (fetched.path, fetched.url) == (data_dir / "toy/toy.bin", url)
    assert (fetched.sha256, fetched.n_bytes) == (sha256(BODY), len(BODY))
    assert_fetched(data_dir)
    assert "200.0 kB" in capsys.readouterr().err
    assert fetch(card(raw_file(url))) == []
    (request,) = server.seen
    assert request.headers["User-Agent"].startswith("flowbench/")
    assert request.headers["Accept-Encoding"] == "identity"


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


def test_md5_serves_where_it_is_what_is_published(server: LoopbackServer, data_dir: Path) -> None:
    url, wrong = server.serve("good", loopback.whole(BODY)), server.serve("wrong", loopback.whole(OTHER))
    file = RawFile("toy.bin", wrong, (url,), md5=hashlib.md5(BODY).hexdigest())
    (fetched,) = fetch(card(file))
    assert fetched.url == url
    assert_fetched(data_dir)


@pytest.mark.parametrize("answer", [loopback.whole(OTHER), loopback.status(404), loopback.whole(BODY[:-1])])
def test_a_wrong_or_missing_file_sends_to_the_mirror(answer: Scenario, server: LoopbackServer, data_dir: Path) -> None:
    mirror = server.serve("mirror", loopback.whole(BODY))
    (fetched,) = fetch(card(raw_file(server.serve("first", answer), mirror)))
    assert fetched.url == mirror
    assert len(server.seen) == 2
    assert_fetched(data_dir)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (loopback.whole(OTHER), "does not match"),
        (loopback.status(404), "404 Not Found"),
        (loopback.whole(b"<html>", Content_Type="text/html; charset=utf-8"), "web page"),
        (loopback.status(302, Location="http://example.invalid/toy.bin"), "not https"),
    ],
)
def test_what_cannot_be_had_is_an_error_that_says_what_to_do(
    answer: Scenario, reason: str, server: LoopbackServer, data_dir: Path
) -> None:
    file = raw_file(server.serve("bad", answer))
    with pytest.raises(DataError, match=reason) as caught:
        fetch(card(file))
    hint = str(caught.value.hint)
    assert file.url in hint
    assert str(data_dir / "toy") in hint
    assert file.checksum in hint
    assert len(server.seen) == 1  # asking again would not help
    assert left_behind(data_dir) == set()


def test_a_server_that_recovers_is_asked_again(server: LoopbackServer, data_dir: Path) -> None:
    fetch(card(raw_file(server.serve("ill", loopback.status(500), loopback.status(503), loopback.whole(BODY)))))
    assert_fetched(data_dir)
    assert len(server.seen) == 3


def test_a_server_that_does_not_recover_is_given_up(server: LoopbackServer, data_dir: Path) -> None:
    with pytest.raises(DataError, match="500 Internal Server Error"):
        fetch(card(raw_file(server.serve("ill", loopback.status(500)))))
    assert len(server.seen) == download.ATTEMPTS
    assert left_behind(data_dir) == set()


def test_a_server_that_asks_to_wait_is_waited_for(server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    busy = [loopback.status(429, Retry_After="7"), loopback.status(503, Retry_After="86400")]
    fetch(card(raw_file(server.serve("busy", *busy, loopback.whole(BODY)))))
    assert waits == [7, download.LONGEST_WAIT_SECONDS]


def test_no_server_at_all(server: LoopbackServer) -> None:
    server.server_close()
    with pytest.raises(DataError, match="Connection refused"):
        fetch(card(raw_file(server.url("gone"))))


def test_a_cut_connection_is_resumed(server: LoopbackServer, data_dir: Path) -> None:
    url = server.serve("cut", loopback.cut(BODY, HALF, ETag='"v1"'), loopback.ranged(BODY))
    fetch(card(raw_file(url)))
    assert server.ranges() == [None, f"bytes={HALF}-"]
    assert_fetched(data_dir)


@pytest.mark.parametrize("honest", [True, False])
def test_progress_earns_new_attempts(honest: bool, server: LoopbackServer, data_dir: Path) -> None:
    """More pieces than attempts: from a server that gives no more at once, or whose connection breaks."""
    step = len(BODY) // 10

    def answer(request: loopback.Request) -> None:
        first = request.first_byte
        headers = {"Content_Range": f"bytes {first}-{len(BODY) - 1}/{len(BODY)}"} if first else {}
        body = BODY[first : first + step]
        promised = step if first and honest else len(BODY) - first
        request.answer(206 if first else 200, body, length=promised, ETag='"v1"', **headers)

    fetch(card(raw_file(server.serve("flaky", answer))))
    assert_fetched(data_dir)
    assert len(server.seen) == 10 > download.ATTEMPTS


def misplaced(request: loopback.Request) -> None:
    span = f"bytes 0-{len(BODY) - 1}/{len(BODY)}"
    request.answer(206 if request.first_byte else 200, BODY, ETag='"v1"', Content_Range=span)


@pytest.mark.parametrize(
    ("headers", "then"),
    [
        ({"ETag": '"v0"'}, loopback.ranged(BODY)),  # the file was changed meanwhile
        ({"ETag": '"v1"'}, loopback.whole(BODY)),  # the server knows no ranges
        ({"ETag": 'W/"v1"'}, loopback.ranged(BODY, 'W/"v1"')),  # nothing tells whether it is the same
        ({}, loopback.ranged(BODY)),
        ({"ETag": '"v1"'}, misplaced),  # a range, but not the one asked for
    ],
)
def test_a_cut_connection_begins_anew_where_the_rest_may_be_of_another_file(
    headers: dict[str, str], then: Scenario, server: LoopbackServer, data_dir: Path
) -> None:
    fetch(card(raw_file(server.serve("cut", loopback.cut(OTHER, HALF, **headers), then), body=None)))
    assert_fetched(data_dir)


def test_a_mirror_does_not_go_on_with_the_first_servers_bytes(server: LoopbackServer, data_dir: Path) -> None:
    first = server.serve("first", loopback.cut(OTHER, HALF, ETag='"v1"'), loopback.status(404))
    fetch(card(raw_file(first, server.serve("mirror", loopback.ranged(BODY)))))
    assert server.ranges() == [None, f"bytes={HALF}-", None]
    assert_fetched(data_dir)


def test_the_next_call_goes_on_where_this_one_gave_up(server: LoopbackServer, data_dir: Path) -> None:
    cut, dead = loopback.cut(BODY, HALF, Last_Modified="Sat, 01 Jan 2000 00:00:00 GMT"), loopback.status(500)
    rest = loopback.ranged(BODY, etag="Sat, 01 Jan 2000 00:00:00 GMT")
    file = raw_file(server.serve("cut", cut, *[dead] * download.ATTEMPTS, rest))
    with pytest.raises(DataError):
        fetch(card(file))
    assert left_behind(data_dir) == {"toy/toy.bin.part", "toy/toy.bin.part.json"}
    fetch(card(file))
    assert server.ranges()[-1] == f"bytes={HALF}-"
    assert_fetched(data_dir)


@pytest.mark.parametrize("left", [BODY, BODY + b"more"])
def test_a_partial_file_that_is_whole_or_too_long(left: bytes, server: LoopbackServer, data_dir: Path) -> None:
    url = server.serve("good", loopback.status(416), loopback.ranged(BODY))
    (data_dir / "toy").mkdir(parents=True)
    (data_dir / "toy/toy.bin.part").write_bytes(left)
    origin = {"url": url, "validator": '"v1"', "total": len(BODY)}
    (data_dir / "toy/toy.bin.part.json").write_text(json.dumps(origin))
    fetch(card(raw_file(url)))
    assert_fetched(data_dir)
    assert len(server.seen) == (0 if left == BODY else 2)


def test_a_file_of_unknown_length(server: LoopbackServer, data_dir: Path) -> None:
    def chunked(request: loopback.Request) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))

    fetch(card(raw_file(server.serve("chunked", chunked))))
    assert_fetched(data_dir)


def test_a_compressed_file_is_stored_as_it_is(server: LoopbackServer, data_dir: Path) -> None:
    """Old web servers label a .tgz as compressed for transfer."""
    packed = gzip.compress(BODY)
    fetch(card(raw_file(server.serve("tgz", loopback.whole(packed, Content_Encoding="x-gzip")), body=packed)))
    assert (data_dir / "toy/toy.bin").read_bytes() == packed


@pytest.mark.parametrize("slow", [loopback.silent, loopback.stalled(BODY, HALF), loopback.dripping(BODY)])
def test_a_slow_server_is_given_up(
    slow: Scenario, server: LoopbackServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    started = time.monotonic()
    with pytest.raises(DataError, match="silent, or too slow"):
        fetch(card(raw_file(server.serve("slow", slow))))
    assert time.monotonic() - started < 3
    assert not (data_dir / "toy/toy.bin").exists()


def test_no_credentials_are_sent(server: LoopbackServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fetch(card(raw_file(server.serve("good", loopback.whole(BODY)))))
    assert "Authorization" not in server.seen[0].headers


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


def test_a_disk_too_small_is_found_before_the_first_byte(
    server: LoopbackServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(data_dir.parent)._replace(free=len(BODY) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"needs 200\.0 kB .* 200\.0 kB are free"):
        fetch(card(raw_file(server.serve("good", loopback.whole(BODY)))))
    assert len(server.seen) == 1
    assert not (data_dir / "toy/toy.bin").exists()


def test_a_disk_that_fills_up_on_the_way(
    server: LoopbackServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left") as caught:
        fetch(card(raw_file(server.serve("good", loopback.whole(BODY)))))
    assert str(data_dir / "toy") in str(caught.value)
    assert not (data_dir / "toy/toy.bin").exists()


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
    server: LoopbackServer, archive: RawFile, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir.mkdir()
    (data_dir / "data.tar.gz").write_bytes(gzip.compress(gzip.decompress((tmp_path / "data.tar.gz").read_bytes()), 1))
    toy = card(raw_file(server.url("gone")), ready_made=MEMBERS)
    fetch(toy, "ready-made")
    shutil.rmtree(data_dir / "toy")
    monkeypatch.setenv("FLOWBENCH_OFFLINE", "1")
    assert len(fetch(toy, "ready-made")) == 2
    assert server.seen == []


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
    shipped = Path(__file__).parents[1] / "datasets"
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
        "import sys, pathlib, flowbench.cli, flowbench.data.registry as registry\n"
        f"registry.folder = lambda: pathlib.Path({str(recipes)!r})\n"
        "sys.argv = sys.argv[1:]\nflowbench.cli.main()"
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
        (["toy", "--from", "row"], "did you mean raw?"),
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
