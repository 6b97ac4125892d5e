"""Which source of a dataset is taken, and what its fingerprint covers."""

from pathlib import Path

import pytest

from flowbench.data import READY_MADE, Card, RawFile
from flowbench.data.sources import raw
from flowbench.errors import DataError

CARD = Card(
    name="made-up",
    version=1,
    title="",
    source_url="",
    licence="",
    citation="",
    dim=1,
    n_train=1,
    n_validation=1,
    n_test=1,
    space="raw",
    files=(RawFile("a.zip", "https://x/a.zip", alternatives=("a.txt", "a")), RawFile("b.zip", "https://x/b.zip")),
    ready_made=("data/Made-Up/a.npy", "data/Made-Up/b.npy"),
)


def put(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_the_publishers_files_come_first(folder: Path) -> None:
    for name in ("a.txt", "b.zip", "a.npy", "b.npy"):
        put(folder / "made-up" / name)
    assert raw.status(CARD) == "present"
    assert raw.find(CARD) == {"a.zip": folder / "made-up/a.txt", "b.zip": folder / "made-up/b.zip"}


@pytest.mark.parametrize("where", ["made-up", "data/Made-Up"])
def test_ready_made_members_serve_where_a_raw_file_is_missing(where: str, folder: Path) -> None:
    put(folder / "made-up/a.zip")
    members = {name: put(folder / where / name) for name in ("a.npy", "b.npy")}
    assert raw.status(CARD) == "present"
    assert raw.find(CARD) == members


def test_half_of_each_source_is_none_and_the_error_names_both(folder: Path) -> None:
    put(folder / "made-up/a.zip")
    put(folder / "made-up/b.npy")
    assert raw.status(CARD) == "missing"
    with pytest.raises(DataError, match=r"missing b\.zip") as caught:
        raw.find(CARD)
    hint = str(caught.value.hint)
    assert "https://x/b.zip" in hint
    assert "https://x/a.zip" not in hint
    for part in (*CARD.ready_made, READY_MADE.url, READY_MADE.checksum, str(folder)):
        assert part in hint


def test_a_fingerprint_covers_what_was_taken(folder: Path) -> None:
    for name in ("a.zip", "b.zip", "a.npy", "b.npy"):
        put(folder / "made-up" / name, name)
    first = raw.fingerprint(CARD, raw.find(CARD))
    put(folder / "made-up/b.npy", "not taken")
    assert raw.fingerprint(CARD, raw.find(CARD)) == first
    put(folder / "made-up/b.zip", "taken")
    assert raw.fingerprint(CARD, raw.find(CARD)) != first
    (folder / "made-up/b.zip").unlink()
    ready_made = raw.fingerprint(CARD, raw.find(CARD))
    put(folder / "made-up/b.npy", "taken now")
    assert raw.fingerprint(CARD, raw.find(CARD)) != ready_made


def test_an_unpacked_folder_stands_for_its_archive(folder: Path) -> None:
    put(folder / "made-up/b.zip")
    put(folder / "made-up/a/1", "one")
    found = raw.find(CARD)
    assert found["a.zip"] == folder / "made-up/a"
    first = raw.fingerprint(CARD, found)
    put(folder / "made-up/a/1", "another one")
    assert raw.fingerprint(CARD, found) != first
