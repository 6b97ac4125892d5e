"""What is kept on a machine: listed as it is, removed whole, and never from under a process that uses it."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from flowbench.data import cache, inventory, load
from flowbench.data.inventory import Kept, chosen, everything, remove
from flowbench.data.meta import Meta
from flowbench.errors import DataError, UsageError

DAY = 24 * 3600.0


@pytest.fixture(autouse=True)
def kernels(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, an empty data folder, and kernels in a folder of the test's own."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    return tmp_path / "numba"


def table(path: Path, rows: int = 40) -> Path:
    np.save(path, np.random.default_rng(0).normal(size=(rows, 3)))
    return path


def one(name: str) -> Kept:
    (found,) = [kept for kept in everything() if kept.name == name]
    return found


def aged(path: Path, days: float) -> None:
    os.utime(path, (time.time() - days * DAY,) * 2)


def test_nothing_is_kept_at_first() -> None:
    assert everything() == []


def test_datasets_and_tables_are_listed_with_what_is_known_of_them(tmp_path: Path) -> None:
    data, own = load("truth-banana"), load(str(table(tmp_path / "mine.npy")))
    found = everything()
    assert [kept.name for kept in found] == ["truth-banana", "mine.npy"]  # the largest first
    banana, mine = found
    assert (banana.kind, banana.rows, banana.columns, banana.state) == ("prepared", 130_000, 2, "")
    assert banana.digits == data.fingerprint[:12]
    assert banana.n_bytes == sum(path.stat().st_size for path in banana.paths[0].iterdir()) > 130_000 * 2 * 4
    assert (mine.rows, mine.columns, mine.source) == (40, 3, tmp_path / "mine.npy")
    assert mine.fingerprint == own.fingerprint


def test_the_time_of_use_is_that_of_the_last_loading_and_listing_is_none() -> None:
    load("truth-banana")
    (entry,) = one("truth-banana").paths
    aged(entry / "meta.json", 9)
    aged(entry, 5)
    for _ in range(2):
        kept = one("truth-banana")
        assert [round((time.time() - at) / DAY) for at in (kept.made, kept.used)] == [9, 5]
    load("truth-banana")
    assert [round((time.time() - at) / DAY) for at in (one("truth-banana").made, one("truth-banana").used)] == [9, 0]


@pytest.mark.parametrize("damage", ["{", "null", "{}", '{"fingerprint": 1}', None, "gone"])
def test_a_damaged_entry_is_listed_as_such_and_goes(damage: str | None) -> None:
    load("truth-banana")
    (entry,) = one("truth-banana").paths
    if damage == "gone":
        (entry / "meta.json").unlink()
    elif damage is None:
        (entry / "test.npy").write_bytes(b"short")
    else:
        (entry / "meta.json").write_text(damage)
    assert one("truth-banana").state == "damaged"
    assert remove(one("truth-banana"))
    assert everything() == []


def test_an_entry_of_other_code_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    load("truth-banana")
    monkeypatch.setattr(cache, "data_code_digest", lambda: "other")
    assert one("truth-banana").state == "other version"


def test_a_table_of_an_unknown_path_is_a_table(tmp_path: Path) -> None:
    load(str(table(tmp_path / "mine.npy")))
    (entry,) = one("mine.npy").paths
    Meta.read(entry).model_copy(update={"source": None}).write(entry)
    assert one("table").source is None


def test_an_entry_of_an_older_version_is_told_from_a_damaged_one() -> None:
    load("truth-banana")
    (entry,) = one("truth-banana").paths
    (entry / "meta.json").write_text(json.dumps({"fingerprint": "f", "shapes": {}, "source": "/there/own.npy"}))
    kept = one("own.npy")
    assert (kept.state, kept.digits, kept.source) == ("other version", "f", Path("/there/own.npy"))


def test_what_a_killed_process_left_is_temporary_and_what_is_written_is_in_work() -> None:
    for name, days in (("old", 2), ("new", 0)):
        left = cache.prepared() / f".truth-banana-v1-{name}-{'0' * 32}"
        left.mkdir(parents=True)
        (left / "train.npy").write_bytes(bytes(1000))
        for path in (left / "train.npy", left):
            aged(path, days)
    found = everything()
    assert sorted((kept.kind, kept.state, kept.n_bytes) for kept in found) == [
        ("temporary", "", 1000),
        ("temporary", "in work", 1000),
    ]
    (old,) = chosen(found, ["temporary"])
    assert remove(old)
    assert [kept.state for kept in everything()] == ["in work"]


def test_kernels_are_listed_and_what_is_not_flowbench_s_is_not(kernels: Path) -> None:
    for name in ("numba-0123456789abcdef", "other", "numba-other"):
        (kernels / name).mkdir(parents=True)
        (kernels / name / "kernel.nbc").write_bytes(bytes(10))
    (cache.prepared() / "somebody-s").mkdir(parents=True)
    (kept,) = everything()
    assert (kept.kind, kept.n_bytes) == ("kernels", 10)
    assert remove(kept)
    assert {path.name for path in kernels.iterdir()} == {"other", "numba-other"}


def test_downloaded_files_stay_unless_they_are_asked_for(folder: Path) -> None:
    for name in ("mnist/train-images-idx3-ubyte", "mnist/t10k-images-idx3-ubyte.gz.part", "mnist/mine.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(100))
    found = everything()
    (kept,) = found
    assert (kept.kind, kept.name, kept.n_bytes, kept.state) == ("downloaded", "mnist", 200, "partly")
    assert chosen(found, []) == chosen(found, ["mnist"]) == []
    assert chosen(found, ["mnist"], downloaded=True) == [kept]
    assert remove(kept)
    assert {path.name for path in (folder / "mnist").iterdir()} == {"mine.txt", ".fetch.lock"}


def test_a_link_is_removed_and_not_what_it_leads_to(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cifar").mkdir()
    (tmp_path / "cifar/data_batch_1.bin").write_bytes(bytes(5))
    (folder / "cifar10").mkdir(parents=True)
    (folder / "cifar10/cifar-10-batches-bin").symlink_to(tmp_path / "cifar")
    assert remove(one("cifar10"))
    assert (tmp_path / "cifar/data_batch_1.bin").exists()
    assert everything() == []


def test_a_choice_by_name_path_digits_and_age(tmp_path: Path, kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load("truth-banana")
    load(str(table(tmp_path / "mine.npy")))
    (kernels / "numba-0123456789abcdef").mkdir(parents=True)
    found = everything()
    banana, mine, compiled = found
    for names in (["mine.npy"], ["./mine.npy"], [str(tmp_path / "mine.npy")], [mine.digits], [mine.paths[0].name]):
        assert chosen(found, names) == [mine], names
    assert chosen(found, ["prepared"]) == [banana, mine]
    assert chosen(found, ["kernels"]) == [compiled]
    assert chosen(found, []) == found
    assert chosen(found, ["digits"]) == []  # a dataset of which there is nothing
    for unknown in ("", "x", "elsewhere/mine.npy"):
        with pytest.raises(UsageError, match="nothing called"):
            chosen(found, [unknown])
    aged(banana.paths[0], 3)
    assert [kept.name for kept in chosen(everything(), [], 2.0)] == ["truth-banana"]
    assert chosen(everything(), ["mine.npy"], 2.0) == []


def test_who_has_mapped_an_entry_keeps_it_and_the_next_makes_it_again(tmp_path: Path) -> None:
    path = str(table(tmp_path / "mine.npy", 400))
    data = load(path)
    assert isinstance(data.train, np.memmap)
    assert remove(one("mine.npy"))
    assert np.isfinite(data.train).all()
    assert np.isfinite(data.gaussian_lls).all()  # which it would have kept beside the arrays
    assert set(data.rows_sha256) == {"train", "validation", "test"}
    assert everything() == []
    np.testing.assert_array_equal(load(path).train, data.train)


def test_of_two_that_remove_at_once_one_does(tmp_path: Path) -> None:
    load(str(table(tmp_path / "mine.npy")))
    kept, done = one("mine.npy"), []
    threads = [threading.Thread(target=lambda: done.append(remove(kept))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False] * 7 + [True]
    assert list(cache.prepared().iterdir()) == []


def test_what_vanishes_while_it_is_looked_at_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    load("truth-banana")
    looked_at = cache.looked_at

    def vanishing(folder: Path) -> object:
        shutil.rmtree(folder)
        return looked_at(folder)

    monkeypatch.setattr(cache, "looked_at", vanishing)
    assert everything() == []


def test_what_the_system_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load("truth-banana")
    kept = one("truth-banana")

    def refused(*_: object) -> None:
        raise PermissionError(13, "Read-only file system")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(DataError, match=r"truth-banana-v1.* cannot be removed: Read-only file system"):
        remove(kept)


def test_a_folder_that_is_a_file_is_empty() -> None:
    cache.prepared().parent.mkdir(parents=True)
    cache.prepared().write_text("a file where the folder should be")
    assert everything() == []


def test_a_download_under_way_is_waited_for(folder: Path) -> None:
    (folder / "mnist").mkdir(parents=True)
    (folder / "mnist/train-images-idx3-ubyte").write_bytes(bytes(5))
    kept = one("mnist")
    with inventory.alone(folder / "mnist"):
        waiting = threading.Thread(target=remove, args=(kept,))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert kept.paths[0].exists()
    waiting.join(10)
    assert not kept.paths[0].exists()
