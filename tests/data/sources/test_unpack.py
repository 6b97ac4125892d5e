"""Members out of archives that mean no good."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from flowbench.data.sources.unpack import unpack
from flowbench.errors import DataError

CONTENT = b"what is wanted"


def plain(name: str, content: bytes = CONTENT) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def packed(folder: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    path = folder / "data.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where members go, two levels below the temporary folder, so that what leaves it is seen."""
    inside = tmp_path / "data/toy"
    inside.mkdir(parents=True)
    return inside


def files(tmp_path: Path) -> set[str]:
    return {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}


def test_only_the_named_members_are_written(tmp_path: Path, folder: Path) -> None:
    members = ["data/toy/a.csv", "data/toy/b.csv", "data/other/a.csv", "data/toy/unasked"]
    archive = packed(tmp_path, *(plain(name, name.encode()) for name in members))
    assert unpack(archive, members[:2], folder) == [folder / "a.csv", folder / "b.csv"]
    assert (folder / "a.csv").read_text() == "data/toy/a.csv"
    assert files(tmp_path) == {"data.tar.gz", "data/toy/a.csv", "data/toy/b.csv"}
    assert unpack(archive, [], folder) == []


def test_no_member_leaves_the_folder(tmp_path: Path, folder: Path) -> None:
    outside = tmp_path / "outside"
    archive = packed(
        tmp_path,
        plain("../evil"),
        plain("data/toy/../../evil"),
        plain(str(outside / "evil")),
        special("data/toy", tarfile.SYMTYPE, str(outside)),  # a folder that leads elsewhere, and a file in it
        special("../toy/link", tarfile.SYMTYPE, str(outside)),
        plain("./data/toy/a.csv"),
    )
    outside.mkdir()
    unpack(archive, ["data/toy/a.csv"], folder)
    assert (folder / "a.csv").read_bytes() == CONTENT
    assert files(tmp_path) == {"data.tar.gz", "data/toy/a.csv"}


def test_a_link_that_waits_in_the_folder_is_replaced_not_followed(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "precious").write_bytes(b"untouched")
    (folder / "a.csv").symlink_to(tmp_path / "precious")
    unpack(packed(tmp_path, plain("data/toy/a.csv")), ["data/toy/a.csv"], folder)
    assert (tmp_path / "precious").read_bytes() == b"untouched"
    assert (folder / "a.csv").read_bytes() == CONTENT


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_plain_file_is_refused(kind: bytes, tmp_path: Path, folder: Path) -> None:
    archive = packed(tmp_path, plain("data/toy/other"), special("data/toy/a.csv", kind, "data/toy/other"))
    with pytest.raises(DataError, match="not a plain file"):
        unpack(archive, ["data/toy/a.csv"], folder)
    assert files(tmp_path) == {"data.tar.gz"}


def test_a_missing_member_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match=r"has no data/toy/b\.csv"):
        unpack(packed(tmp_path, plain("data/toy/a.csv")), ["data/toy/a.csv", "data/toy/b.csv"], folder)


def test_a_damaged_archive_leaves_no_half_file(tmp_path: Path, folder: Path) -> None:
    noise = bytes(i * i % 251 for i in range(100_000))
    archive = packed(tmp_path, plain("data/toy/a.csv", noise))
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cannot read .*data\.tar\.gz"):
        unpack(archive, ["data/toy/a.csv"], folder)
    assert files(tmp_path) == {"data.tar.gz"}


def test_room_is_looked_for_first(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed(tmp_path, plain("data/toy/a.csv", bytes(10_000)))
    usage = shutil.disk_usage(tmp_path)._replace(free=9_999)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"needs 10\.0 kB"):
        unpack(archive, ["data/toy/a.csv"], folder)
    assert files(tmp_path) == {"data.tar.gz"}
