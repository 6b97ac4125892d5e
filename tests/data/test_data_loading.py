"""Known datasets: raw files found, judged and read, prepared once, and mapped from the cache."""

import gzip
import io
import os
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowbench import config
from flowbench.data import READY_MADE, card, load, names, raw_status, registry
from flowbench.data.card import RawFile
from flowbench.data.preprocessing import Dequantise, Standardise
from flowbench.data.sources import raw
from flowbench.data.sources.raw import opened, read_idx
from flowbench.errors import DataError, UsageError

REAL_DATA = os.environ.get("FLOWBENCH_DATA_DIR")
POWER_HEADER = (
    "Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;"
    "Sub_metering_1;Sub_metering_2;Sub_metering_3\n"
)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder and an empty cache; returns the data folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FLOWBENCH_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def put(folder: Path, content: bytes) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_bytes(content)
    return folder


def power_text(n: int, seed: int = 0) -> str:
    rng = np.random.RandomState(seed)
    rows = (
        f"1/1/2007;{i // 60 % 24:02d}:{i % 60:02d}:00;{g:.3f};0.1;{v:.3f};{4 * g:.1f};{a};{b};{c}.000"
        for i, (g, v, a, b, c) in enumerate(
            zip(rng.rand(n) * 5, 230 + rng.rand(n) * 20, *rng.randint(0, 30, (3, n)), strict=True)
        )
    )
    return POWER_HEADER + "\n".join(rows) + "\n"


def zipped(text: str, member: str = "household_power_consumption.txt") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, text)
    return buffer.getvalue()


def idx(n: int) -> bytes:
    pixels = np.random.RandomState(n).randint(0, 256, (n, 28, 28), dtype=np.uint8)
    return b"\x00\x00\x08\x03" + np.array(pixels.shape, ">i4").tobytes() + pixels.tobytes()


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").glob("flowbench/prepared/*")) + sorted(
        (tmp_path / "cache").glob("flowbench/prepared/.*")
    )


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        load("minst")
    assert "did you mean mnist?" in str(caught.value.hint)


def test_names_are_files_and_import_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken-recipe.py").write_text("raise RuntimeError('my own error')")
    monkeypatch.setattr(registry, "folder", lambda: tmp_path)
    assert names() == ["broken-recipe"]
    with pytest.raises(RuntimeError, match="my own error"):
        card("broken-recipe")


def test_another_package_named_datasets_is_not_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(tmp_path / "datasets/__init__.py", b"")  # Hugging Face's, beside an installed flowbench
    monkeypatch.setattr(config, "PACKAGE", tmp_path / "flowbench")
    assert registry.folder() == tmp_path / "flowbench" / "_datasets"
    assert config.shipped("configs") == tmp_path / "flowbench" / "_configs"
    put(tmp_path / "pyproject.toml", b"")  # a checkout's
    assert registry.folder() == tmp_path / "datasets"


@pytest.mark.parametrize("name", [name for name in names() if card(name).files])
def test_a_missing_file_says_where_from_where_to_and_which(name: str, folders: Path) -> None:
    assert raw_status(name) == "missing"
    with pytest.raises(DataError) as caught:
        load(name)
    hint = str(caught.value.hint)
    assert str(folders / name) in hint
    for file in card(name).files:
        assert file.name in str(caught.value)
        assert file.url in hint
        assert file.checksum in hint
    for part in (*card(name).ready_made, READY_MADE.url, READY_MADE.checksum):
        assert part in hint


def test_the_seven_have_both_sources() -> None:
    seven = {"power", "gas", "hepmass", "miniboone", "bsds300", "mnist", "cifar10"}
    assert {name for name in names() if card(name).files} == seven
    assert {name for name in names() if card(name).ready_made} == seven


def test_a_folder_that_cannot_be_looked_into_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(raw, "_whole_source", refused)
    assert raw_status("power") == "unreadable"
    assert raw_status("digits") == "embedded"


def test_status() -> None:
    assert raw_status("digits") == "embedded"


def cut_mnist(folder: Path) -> Path:
    packed = gzip.compress(idx(100))
    put(folder / "mnist/t10k-images-idx3-ubyte.gz", packed)
    return put(folder / "mnist/train-images-idx3-ubyte.gz", packed[: len(packed) // 2])


def cut_idx(folder: Path) -> Path:
    put(folder / "mnist/t10k-images-idx3-ubyte", idx(100))
    return put(folder / "mnist/train-images-idx3-ubyte", idx(100)[:-1])


def cut_zip(folder: Path) -> Path:
    packed = zipped(power_text(500))
    return put(folder / "power/household_power_consumption.zip", packed[: len(packed) // 2])


def cut_text(folder: Path) -> Path:
    return put(folder / "power/household_power_consumption.txt", power_text(500).encode()[:-20])


def other_zip(folder: Path) -> Path:
    return put(folder / "power/household_power_consumption.zip", zipped(power_text(500), "other.txt"))


def photographs(n: int, n_test: int = 0) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for i in range(n + n_test):
            jpeg = io.BytesIO()
            Image.fromarray(np.random.RandomState(i).randint(0, 256, (32, 32, 3), dtype=np.uint8)).save(jpeg, "JPEG")
            member = tarfile.TarInfo(f"BSDS300/images/{'train' if i < n else 'test'}/{i}.jpg")
            member.size = len(jpeg.getvalue())
            archive.addfile(member, io.BytesIO(jpeg.getvalue()))
    return buffer.getvalue()


def cut_tgz(folder: Path) -> Path:
    packed = photographs(20)
    return put(folder / "bsds300/BSDS300-images.tgz", packed[: len(packed) // 2])


def short_tgz(folder: Path) -> Path:
    return put(folder / "bsds300/BSDS300-images.tgz", photographs(20))


@pytest.mark.parametrize("damage", [cut_mnist, cut_idx, cut_zip, cut_text, other_zip, cut_tgz, short_tgz])
def test_a_damaged_file_is_named_and_nothing_is_written(
    damage: Callable[[Path], Path], folders: Path, tmp_path: Path
) -> None:
    path = damage(folders)
    with pytest.raises(DataError) as caught:
        load(path.parent.name, allow_partial=True)
    assert path.name in str(caught.value)
    assert caught.value.hint
    assert entries(tmp_path) == []


def test_labels_in_place_of_images_are_refused(folders: Path) -> None:
    labels = b"\x00\x00\x08\x01" + np.array([100], ">i4").tobytes() + bytes(100)
    put(folders / "mnist/train-images-idx3-ubyte", labels)
    put(folders / "mnist/t10k-images-idx3-ubyte", idx(100))
    with pytest.raises(DataError, match="expected \\(rows, 28, 28\\)"):
        load("mnist")


def test_mnist_splits_by_position(folders: Path) -> None:
    put(folders / "mnist/train-images-idx3-ubyte", idx(10_003))
    put(folders / "mnist/t10k-images-idx3-ubyte", idx(5))
    data = load("mnist", allow_partial=True)
    official = read_idx(folders / "mnist/train-images-idx3-ubyte", 1 << 26).reshape(-1, 784)
    for part, pixels in (
        (data.train, official[:8336]),
        (data.validation, official[8336:]),
        (data.test, read_idx(folders / "mnist/t10k-images-idx3-ubyte", 1 << 26).reshape(-1, 784)),
    ):
        assert (np.floor(256 / (1 + np.exp(-np.float64(part)))) == pixels).mean() > 0.999


@pytest.mark.parametrize(("name", "sources"), [("patches", (20, 4, 8)), ("bsds300", (180, 20, 100))])
def test_splits_share_no_image(
    name: str, sources: tuple[int, int, int], folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[set[bytes]] = []

    def spy(images: list[np.ndarray], n: int, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
        used.append({image.tobytes() for image in images})
        return np.zeros((n, 64), np.uint8), np.zeros(n, np.int32)

    recipe = registry.recipe(name)
    monkeypatch.setattr("flowbench.data.preparing.images.sample_patches", spy)
    for split in ("n_train", "n_validation", "n_test"):
        monkeypatch.setitem(vars(recipe.CARD), split, 7)
    archive = put(folders / "bsds300/BSDS300-images.tgz", photographs(200, 100))
    recipe.prepare({archive.name: archive}, np.random.RandomState(0))
    assert tuple(map(len, used)) == sources
    assert len(set.union(*used)) == sum(sources)


def test_idx_is_read_as_written(tmp_path: Path) -> None:
    path = put(tmp_path / "x.idx", b"\x00\x00\x08\x02" + np.array([2, 3], ">i4").tobytes() + bytes(range(6)))
    np.testing.assert_array_equal(read_idx(path, 6), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("lengths", "body", "said"),
    [
        ([2, 3], bytes(5), "2 x 3 bytes, 5 follow"),
        ([2, 3], bytes(7), "2 x 3 bytes, more follow"),
        ([2, 3], bytes(64 << 20), "2 x 3 bytes, more follow"),
        ([60_000, 100_000], b"", "1,000,000 are the most"),
        ([2**31 - 1] * 8, b"", "1,000,000 are the most"),
        ([2**31 - 1] * 255, b"", "does not begin as"),
        ([-2, -3], bytes(6), "promises -2 x -3"),
        ([], b"", "are the most|follow"),
    ],
)
def test_no_more_of_an_idx_file_is_unpacked_than_there_may_be(
    lengths: list[int], body: bytes, said: str, packed: bool, tmp_path: Path
) -> None:
    content = bytes([0, 0, 8, len(lengths)]) + np.array(lengths, ">i4").tobytes() + body
    path = put(tmp_path / "x.idx", gzip.compress(content, 1) if packed else content)
    tracemalloc.start()
    with pytest.raises(DataError, match=said):
        read_idx(path, 1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["x.txt.gz", "x.zip", "x.txt"])
def test_a_raw_file_unpacks_to_what_was_published_and_no_more(name: str, tmp_path: Path) -> None:
    content = bytes(64 << 20)
    packed = {
        "x.txt.gz": lambda: gzip.compress(content, 1),
        "x.zip": lambda: zipped(content.decode()),
        "x.txt": lambda: content,
    }
    path = put(tmp_path / name, packed[name]())
    with opened(path, "household_power_consumption.txt", 64 << 20) as stream:
        assert stream.read(10) == bytes(10)
    with (
        pytest.raises(DataError, match=r"more than 1\.0 MB unpacked"),
        opened(path, "household_power_consumption.txt", 1_000_000) as stream,
    ):
        stream.readline()


def test_fewer_rows_are_refused_unless_allowed_and_then_named(folders: Path) -> None:
    put(folders / "power/household_power_consumption.zip", zipped(power_text(1000)))
    for _ in range(2):  # prepared afresh, and refused from the cache just so
        with pytest.raises(DataError, match="810 / 90 / 100") as caught:
            load("power")
        assert "--allow-partial" in str(caught.value.hint)
        data = load("power", allow_partial=True)
        assert (data.name, data.partial, data.rows) == ("power~1000", True, (810, 90, 100))


def test_a_partial_file_too_short_to_split_is_refused(folders: Path) -> None:
    put(folders / "power/household_power_consumption.txt", power_text(5).encode())
    with pytest.raises(DataError, match="5 / 0 / 0"):
        load("power", allow_partial=True)


def test_power_follows_the_published_preprocessing(folders: Path) -> None:
    """Against the reference's steps written out again, on a text with incomplete rows among the others."""
    text = power_text(400) + "21/12/2006;11:23:00;?;?;?;?;?;?;\n" + power_text(200, seed=1).removeprefix(POWER_HEADER)
    put(folders / "power/household_power_consumption.txt", text.encode())
    fields = [line.split(";") for line in text.splitlines()[1:] if "?" not in line]
    minutes = [60 * int(f[1][:2]) + int(f[1][3:5]) for f in fields]
    rows = np.column_stack([np.array([[float(v) for v in f[2:]] for f in fields]), minutes])
    rng = np.random.RandomState(42)
    rng.shuffle(rows)
    rows = np.delete(rows, [1, 3], axis=1)
    n = len(rows)
    noise_voltage, noise_power = 0.01 * rng.rand(n, 1), 0.001 * rng.rand(n, 1)
    rows += np.hstack([noise_power, noise_voltage, rng.rand(n, 3), rng.rand(n, 1)])
    seen = rows[:-60]
    expected = (rows - seen.mean(axis=0)) / seen.std(axis=0)
    data = load("power", allow_partial=True)
    assert data.rows == (486, 54, 60)
    np.testing.assert_allclose(np.vstack([data.train, data.validation, data.test]), expected, rtol=1e-5, atol=1e-6)
    assert data.preprocessing is not None
    noise, standardise = data.preprocessing
    assert noise == Dequantise(steps=(0.001, 0.01, 1, 1, 1, 1))
    assert isinstance(standardise, Standardise)
    assert standardise.location == pytest.approx(seen.mean(axis=0).tolist(), rel=1e-12)
    assert standardise.scale == pytest.approx(seen.std(axis=0).tolist(), rel=1e-12)
    assert data.dequantised["Voltage"] == 0.01


def test_power_reads_the_file_as_published(folders: Path) -> None:
    head = Path(REAL_DATA or ".") / "power" / "household_power_consumption.head.txt"
    if not head.exists():
        pytest.skip("the head of the published file is not in the data folder")
    put(folders / "power/household_power_consumption.txt", head.read_bytes())
    assert load("power", allow_partial=True).rows == (1785, 198, 220)


def test_another_checksum_is_used_with_a_warning_and_its_own_fingerprint(
    folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(folders / "power/household_power_consumption.zip", zipped(power_text(1000)))
    first = load("power", allow_partial=True).fingerprint
    assert "not the published file" not in capsys.readouterr().err  # UCI publishes no checksum
    put(path, zipped(power_text(1000, seed=1)))
    assert load("power", allow_partial=True).fingerprint != first
    for known in (RawFile(path.name, "https://x", sha256="0" * 64), RawFile(path.name, "https://x", md5="0" * 32)):
        put(path, zipped(power_text(1000, seed=2 if known.md5 else 3)))
        monkeypatch.setitem(vars(card("power")), "files", (known,))
        load("power", allow_partial=True)
        assert "not the published file" in capsys.readouterr().err


def test_a_wrong_gaussian_value_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(vars(card("truth-banana")), "gaussian_test_ll", -2.7)
    with pytest.raises(DataError, match=r"a Gaussian reaches -2\.773 nats"):
        load("truth-banana")
    assert entries(tmp_path) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = registry.recipe("truth-banana")
    honest = recipe.prepare

    def damaged(raw: object, rng: np.random.RandomState) -> object:
        splits = honest({}, rng)
        splits.validation[3, 1] = bad
        return splits

    monkeypatch.setattr(recipe, "prepare", damaged)
    with pytest.raises(DataError, match="row 3 of validation"):
        load("truth-banana")
