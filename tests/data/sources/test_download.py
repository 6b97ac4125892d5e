"""One file over HTTP, from a real server on the loopback: what comes, what is refused, what is left behind."""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import loopback
import pytest
from fetch_cases import BODY, HALF, OTHER, assert_fetched, card, left_behind, raw_file, sha256
from loopback import LoopbackServer, Scenario

from flowbench.data.card import RawFile
from flowbench.data.sources import download
from flowbench.data.sources.fetch import fetch
from flowbench.errors import DataError

pytestmark = pytest.mark.usefixtures("data_dir")


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


def test_a_server_may_say_when_or_nothing_that_is_understood(
    server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    when = email.utils.formatdate(time.time() + 30, usegmt=True)
    busy = [loopback.status(503, Retry_After="soon"), loopback.status(503, Retry_After=when)]
    fetch(card(raw_file(server.serve("busy", *busy, loopback.whole(BODY)))))
    assert waits[0] == 0
    assert waits[1] == pytest.approx(30, abs=5)


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


def published(url: str) -> RawFile:
    return RawFile("toy.bin", url, sha256=sha256(BODY), size_bytes=len(BODY))


def test_an_endless_body_is_cut_at_the_published_size(server: LoopbackServer, data_dir: Path) -> None:
    with pytest.raises(DataError, match=r"sends more than the 200\.0 kB that the file has"):
        fetch(card(published(server.serve("endless", loopback.endless(200, 64 << 20)))))
    assert not server.ended
    assert len(server.seen) == 1
    assert left_behind(data_dir) == set()


def test_a_rest_that_does_not_end_is_cut_where_its_server_said(server: LoopbackServer, data_dir: Path) -> None:
    span = f"bytes {HALF}-{len(BODY) - 1}/{len(BODY)}"
    rest = loopback.endless(206, 64 << 20, ETag='"v1"', Content_Range=span)
    url = server.serve("rest", loopback.cut(BODY, HALF, ETag='"v1"'), rest)
    with pytest.raises(DataError, match="sends more than"):
        fetch(card(raw_file(url)))
    assert not server.ended
    assert left_behind(data_dir) == set()


def test_more_than_was_published_is_not_begun(server: LoopbackServer, data_dir: Path) -> None:
    offer = server.serve("large", loopback.cut(bytes(1 << 20), 100))
    with pytest.raises(DataError, match=r"offers 1\.0 MB, and 200\.0 kB were published"):
        fetch(card(published(offer)))
    assert left_behind(data_dir) == set()


def test_the_body_of_a_redirect_is_not_read(server: LoopbackServer, data_dir: Path) -> None:
    good = server.serve("good", loopback.whole(BODY))
    fetch(card(published(server.serve("moved", loopback.endless(302, 64 << 20, Location=good)))))
    assert not server.ended
    assert_fetched(data_dir)


def test_a_body_of_no_known_length_ends_with_the_room(
    server: LoopbackServer, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(data_dir.parent)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(download, "_STRETCH", 2 << 20)
    with pytest.raises(DataError, match=r"toy\.bin needs 2\.1 MB .* 1\.0 MB are free"):
        fetch(card(raw_file(server.serve("endless", loopback.endless(200, 64 << 20)))))
    assert not server.ended


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
