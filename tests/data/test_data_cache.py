"""The cache of prepared arrays: whole or absent, repaired when damaged, never required."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from flowbench.data import cache, load, loading


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that prepared arrays go to, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "flowbench" / "prepared"


def test_a_map_tells_its_file_for_what_is_computed_goes_beside_it(prepared: Path) -> None:
    dataset = load("truth-banana")
    (entry,) = prepared.iterdir()
    assert dataset.train.filename == str(entry / "train.npy")  # type: ignore[attr-defined]


def test_prepares_once(monkeypatch: pytest.MonkeyPatch, prepared: Path) -> None:
    first = load("truth-banana")
    monkeypatch.setattr(loading, "_prepare", lambda *_: pytest.fail("prepared again"))
    second = load("truth-banana")
    np.testing.assert_array_equal(first.test, second.test)
    assert isinstance(second.train, np.memmap)
    assert list(prepared.iterdir()) == [cache.place("truth-banana-v1", first.fingerprint)]


@pytest.mark.parametrize("damage", ["cut", "gone", "meta", "other"])
def test_a_damaged_entry_is_made_again(damage: str, prepared: Path) -> None:
    expected = np.array(load("truth-banana").test)
    (entry,) = prepared.iterdir()
    if damage == "cut":
        content = (entry / "test.npy").read_bytes()
        (entry / "test.npy").write_bytes(content[:-1000])
    elif damage == "gone":
        (entry / "train.npy").unlink()
    elif damage == "meta":
        (entry / "meta.json").write_text("{")
    else:
        np.save(entry / "test.npy", expected[:10])
    again = load("truth-banana")
    assert isinstance(again.test, np.memmap)
    np.testing.assert_array_equal(again.test, expected)
    assert list(prepared.iterdir()) == [entry]


def test_an_interrupted_write_leaves_nothing(monkeypatch: pytest.MonkeyPatch, prepared: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load("truth-banana")
    assert list(prepared.iterdir()) == []


def test_what_a_killed_process_left_is_removed_after_a_day_and_what_another_writes_is_not(prepared: Path) -> None:
    killed = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom flowbench.data import cache\n"
        "with cache.unfinished(Path(sys.argv[1]), 'f') as place:\n"
        "    (place / 'train.npy').write_bytes(bytes(1000))\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", killed, str(prepared / "first")], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = prepared.iterdir()
    assert left.name.startswith(".first-")
    with cache.unfinished(prepared / "second", "f") as second:
        assert left.exists()  # it may be another process's that still writes
        os.utime(left, (time.time() - cache.ABANDONED_SECONDS - 1,) * 2)
        with cache.unfinished(prepared / "third", "f"):
            assert second.exists()
            assert not left.exists()
    assert sorted(prepared.rglob("*")) == [prepared / "second", prepared / "third"]


def test_an_entry_of_a_faster_process_is_kept(prepared: Path) -> None:
    with cache.unfinished(prepared / "entry", "f") as slower:
        (slower / "test.npy").write_bytes(b"slower")
        with cache.unfinished(prepared / "entry", "f") as faster:
            (faster / "test.npy").write_bytes(b"faster")
    assert [path.read_bytes() for path in prepared.rglob("*.npy")] == [b"faster"]
    assert list(prepared.iterdir()) == [prepared / "entry"]


def test_a_damaged_entry_that_another_process_has_discarded_is_no_error(prepared: Path) -> None:
    prepared.mkdir(parents=True)
    assert not cache.discard(prepared / "entry")
    assert list(prepared.iterdir()) == []


def test_without_a_writable_cache_arrays_stay_in_memory(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared.parent.parent.mkdir(exist_ok=True)
    prepared.parent.write_text("a file where the folder should be")
    first = load("truth-banana")
    second = load("truth-banana")
    assert not isinstance(first.train, np.memmap)
    assert not first.train.flags.writeable
    np.testing.assert_array_equal(first.train, second.train)
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_processes_at_once_agree_and_leave_one_entry(prepared: Path, tmp_path: Path) -> None:
    code = "from flowbench.data import load; d = load('truth-student'); print(d.test_true_ll.sum(), d.fingerprint)"
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        for _ in range(4)
    ]
    outputs = {run.communicate()[0] for run in runs}
    assert all(run.returncode == 0 for run in runs)
    assert len(outputs) == 1
    assert len(list(prepared.iterdir())) == 1
    shutil.rmtree(prepared)


def test_data_is_loaded_without_torch() -> None:
    code = (
        "import sys, flowbench.data as d; d.load('patches'); d.load('truth-gaussian');sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
