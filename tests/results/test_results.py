import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from records import full_record, make_record, timing

from flowbench import files
from flowbench.errors import FlowbenchError, UsageError
from flowbench.results import store as results
from flowbench.results.record import Check, Estimate

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


class TestRoundTrip:
    def test_every_field_comes_back(self, tmp_path):
        record = full_record()
        parts = {"record": record, "task": record.task, "setup": record.setup, "training": record.training}
        parts |= {"likelihoods": record.likelihoods}
        unset = [
            name for part in parts.values() for name in type(part).model_fields if getattr(part, name) in (None, {}, [])
        ]
        assert unset == ["error"]
        assert results.read(results.write(record, tmp_path)) == record

    def test_the_file_is_named_after_the_run(self, tmp_path):
        assert (
            results.write(make_record(run="maf-power~256869-1.5"), tmp_path) == tmp_path / "maf-power~256869-1.5.json"
        )

    @settings(deadline=None)  # it writes to the disk and waits for it
    @given(
        figure=st.none() | st.floats(),
        text=st.text(st.characters(codec="utf-8")),
        config=st.dictionaries(
            st.text(),
            st.recursive(
                st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(),
                lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
                max_leaves=5,
            ),
            max_size=4,
        ),
    )
    def test_whatever_is_written_is_strict_json_and_reads_the_same(self, tmp_path_factory, figure, text, config):
        folder = tmp_path_factory.mktemp("results")
        record = make_record(
            test_ll_nats=Estimate(mean=figure, stderr=figure), train_seconds=figure, error=text, config=config
        )
        path = results.write(record, folder)
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"bare {name}"))
        assert results.read(path) == record
        if figure is not None and math.isfinite(figure):
            assert results.read(path).likelihoods.test_ll_nats == Estimate(mean=figure, stderr=figure)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_figure_that_is_no_number_is_none(self, tmp_path, value):
        check = Check(value=value, limit=0.0, passed=False, what="worst row")
        config = {"clip_norm": value, "deep": [{"x": value}]}
        record = make_record(validation_ll_nats=value, checks={"rows": check}, config=config)
        assert record.likelihoods.validation_ll_nats is None
        assert record.checks["rows"].value is None
        assert record.setup.config == {"clip_norm": str(value), "deep": [{"x": str(value)}]}
        assert repr(float(record.setup.config["clip_norm"])) == repr(value)  # the configuration reads it back
        document = json.loads(results.write(record, tmp_path).read_text())
        assert document["likelihoods"]["validation_ll_nats"] is None

    def test_a_nan_that_model_copy_let_in_is_not_written(self, tmp_path):
        record = make_record().model_copy(update={"total_seconds": math.nan, "timings": [timing()]})
        path = results.write(record, tmp_path)
        assert "NaN" not in path.read_text()
        assert results.read(path).total_seconds is None
        assert results.read(path).timings == [timing()]

    def test_a_record_cannot_be_changed(self):
        with pytest.raises(ValidationError, match="frozen"):
            make_record().training.train_seconds = 3.0

    @pytest.mark.parametrize("run", ["", ".", "..", "../maf", "a/b", "/etc/passwd", "a\0b", ".hidden", "a\nb"])
    def test_a_run_cannot_be_named_out_of_the_folder(self, run):
        with pytest.raises(ValidationError, match="run"):
            make_record(run=run)


def the(folder: Path, kind: str) -> Path:
    (path,) = folder.glob(f"*.{kind}")
    return path


def lls_beside(path: Path):
    return results.read_test_lls(results.read(path), path.parent)


class TestLikelihoods:
    def test_they_lie_beside_the_record_in_single_precision(self, tmp_path):
        path = results.write(make_record(run="maf-1.5", n_test=2), tmp_path, np.array([1.5, -2.0], dtype=np.float32))
        found = lls_beside(path)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, [1.5, -2.0])
        results.write(make_record(run="maf-1.5", n_test=2), tmp_path, np.array([0.1, -1e30], np.float32))
        np.testing.assert_array_equal(lls_beside(path), np.array([0.1, -1e30], np.float32))  # to the last bit
        assert the(tmp_path, "npy").name == results.read(path).files.test_lls
        assert len(list(tmp_path.iterdir())) == 2  # the first ones are gone

    def test_there_may_be_none(self, tmp_path):
        assert lls_beside(results.write(make_record(), tmp_path)) is None

    def test_a_run_without_them_does_not_keep_an_older_one_s(self, tmp_path):
        results.write(make_record(), tmp_path, np.zeros(3))
        path = results.write(make_record(status="diverged", error="loss was nan"), tmp_path)
        assert lls_beside(path) is None

    @pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array at all"])
    def test_damage_is_named(self, tmp_path, content):
        path = results.write(make_record(), tmp_path, np.zeros(3))
        the(tmp_path, "npy").write_bytes(content)
        with pytest.raises(FlowbenchError, match=r"maf-power-1a2b3c4d.*\.npy"):
            lls_beside(path)

    def test_pickles_are_never_loaded(self, tmp_path):
        path = results.write(make_record(), tmp_path, np.zeros(3))
        np.save(the(tmp_path, "npy"), np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(results.UnreadableRecordError):
            lls_beside(path)


class TestAtomicity:
    @pytest.fixture
    def written(self, tmp_path):
        results.write(make_record(seed=1, n_test=3), tmp_path, np.ones(3), b"weights 1")
        return tmp_path

    def assert_untouched(self, folder):
        ((path, record),) = results.read_all(folder).items()
        assert record.setup.seed == 1
        np.testing.assert_array_equal(lls_beside(path), np.ones(3))
        assert results.weights(path).read_bytes() == b"weights 1"
        assert len(list(folder.iterdir())) == 3  # and nothing of the other's

    @pytest.mark.parametrize("nth", [1, 2, 3])
    def test_a_full_disk_leaves_the_old_files_whole(self, written, monkeypatch, nth):
        real, calls = os.fsync, []

        def fsync(descriptor):
            calls.append(descriptor)
            if len(calls) == nth:
                raise OSError(28, "No space left on device")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(UsageError, match="No space left on device"):
            results.write(make_record(seed=2, n_test=3), written, np.zeros(3), b"weights 2")
        assert len(calls) == nth
        monkeypatch.undo()
        self.assert_untouched(written)

    def test_ctrl_c_in_the_middle_leaves_the_old_files_whole(self, written, monkeypatch):
        def interrupted(descriptor):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            results.write(make_record(seed=2, n_test=3), written, np.zeros(3), b"weights 2")
        monkeypatch.undo()
        self.assert_untouched(written)

    def test_a_name_is_never_seen_on_a_half_written_file(self, tmp_path, monkeypatch):
        seen = []
        real = os.fsync

        def fsync(descriptor):
            seen.extend(path.name for path in tmp_path.iterdir() if path.suffix in (".json", ".npy"))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        path = results.write(make_record(), tmp_path, np.ones(3))
        assert seen == []
        assert path.exists()

    def test_the_other_files_are_there_before_the_record_is(self, tmp_path, monkeypatch):
        order = []
        real = Path.replace

        def replace(self, target):
            order.append(Path(target).suffix)
            return real(self, target)

        monkeypatch.setattr(Path, "replace", replace)
        results.write(make_record(), tmp_path, np.ones(3), b"weights")
        assert order == [".npy", ".safetensors", ".json"]

    @pytest.mark.parametrize("nth", [1, 2, 3])
    def test_a_renaming_that_fails_leaves_the_old_files_whole(self, written, monkeypatch, nth):
        real, calls = Path.replace, []

        def replace(self, target):
            calls.append(target)
            if len(calls) == nth:
                raise OSError(5, "Input/output error")
            return real(self, target)

        monkeypatch.setattr(Path, "replace", replace)
        with pytest.raises(UsageError, match="Input/output error"):
            results.write(make_record(seed=2, n_test=3), written, np.zeros(3), b"weights 2")
        monkeypatch.undo()
        self.assert_untouched(written)

    @pytest.mark.parametrize(
        ("step", "nth"), [*(("replace", nth) for nth in (1, 2, 3, 4)), *(("unlink", nth) for nth in (1, 4, 5, 6))]
    )
    def test_whenever_a_process_is_killed_a_record_stands_beside_its_own_files(self, written, step, nth):
        program = f"""
import os, pathlib, numpy
from records import make_record
from flowbench.results import store
real, calls = pathlib.Path.{step}, []
def killed(self, *arguments, **options):
    calls.append(self)
    if len(calls) == {nth}:
        os._exit(9)  # nothing is tidied up, as by kill -9 or a power cut
    return real(self, *arguments, **options)
pathlib.Path.{step} = killed
store.write(make_record(seed=2, n_test=3), pathlib.Path({str(written)!r}), numpy.zeros(3), b"weights 2")
"""
        folder = str(Path(__file__).parents[1])
        path = os.pathsep.join([folder, *filter(None, sys.path)])
        done = subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": path}, check=False)
        assert done.returncode == (0 if (step, nth) in {("replace", 4), ("unlink", 6)} else 9)
        ((path, record),) = results.read_all(written).items()
        seed = record.setup.seed
        assert seed == (1 if step == "replace" and nth < 4 else 2)
        assert results.weights(path).read_bytes() == f"weights {seed}".encode()
        np.testing.assert_array_equal(lls_beside(path), np.full(3, 2.0 - seed))

    def test_the_same_files_again_are_kept(self, written):
        results.write(make_record(seed=1, n_test=3), written, np.ones(3), b"weights 1")
        self.assert_untouched(written)

    def test_the_first_schemas_files_go_with_their_record(self, tmp_path):
        for kind in ("npy", "safetensors"):
            (tmp_path / f"maf-patches-440f1a45.{kind}").write_bytes(b"")
        shutil.copy(REFERENCE / "maf-patches-440f1a45.json", tmp_path)
        assert results.weights(tmp_path / "maf-patches-440f1a45.json") == tmp_path / "maf-patches-440f1a45.safetensors"
        path = results.write(make_record(run="maf-patches-440f1a45"), tmp_path)
        assert list(tmp_path.iterdir()) == [path]


class TestUnwritable:
    @pytest.fixture
    def blocked(self, tmp_path):
        """A folder below a regular file: root may not write there either."""
        (tmp_path / "file").write_text("")
        return tmp_path / "file" / "results"

    @pytest.mark.parametrize("attempt", [files.ensure_writable, lambda folder: results.write(make_record(), folder)])
    def test_it_is_refused_with_a_hint(self, blocked, attempt):
        with pytest.raises(UsageError, match="file/results") as caught:
            attempt(blocked)
        assert caught.value.exit_code == 2
        assert "--out" in caught.value.hint

    def test_a_folder_that_exists_but_takes_no_file_is_refused(self, tmp_path, monkeypatch):
        def denied(self, content):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "write_bytes", denied)
        with pytest.raises(UsageError, match="Permission denied"):
            files.ensure_writable(tmp_path)

    def test_a_folder_that_can_be_created_is_not_yet(self, tmp_path):
        files.ensure_writable(tmp_path / "a" / "b")
        assert list(tmp_path.iterdir()) == []

    def test_write_creates_the_folder(self, tmp_path):
        assert results.write(make_record(), tmp_path / "a" / "b").exists()


class TestReading:
    def test_unknown_keys_of_a_later_flowbench_are_passed_over(self, tmp_path):
        path = results.write(full_record(), tmp_path)
        document = json.loads(path.read_text())
        document["invented"] = document["environment"]["invented"] = document["timings"][0]["invented"] = 1
        path.write_text(json.dumps(document))
        assert results.read(path) == full_record()

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("", "JSON"),
            ('{"run": "maf', "JSON"),
            ("[1, 2]", "not a record"),
            ("null", "not a record"),
            ("{}", "not a record"),
            ('{"schema_version": 99}', "schema version 99"),
        ],
    )
    def test_a_file_that_is_no_record_is_named_and_skipped(self, tmp_path, capsys, content, said):
        results.write(make_record(), tmp_path)
        bad = tmp_path / "bad.json"
        bad.write_text(content)
        with pytest.raises(results.UnreadableRecordError, match=said):
            results.read(bad)
        assert list(results.read_all(tmp_path).values()) == [make_record()]
        assert "bad.json" in capsys.readouterr().err

    def test_bytes_that_are_no_text_are_skipped(self, tmp_path, capsys):
        (tmp_path / "bad.json").write_bytes(b"\xff\xfe\x00{")
        assert results.read_all(tmp_path) == {}
        assert "bad.json" in capsys.readouterr().err

    def test_subfolders_are_read_in_the_order_of_their_paths(self, tmp_path):
        for folder, run in (("reference", "b"), ("reference", "a"), (".", "z"), (".", "c")):
            results.write(make_record(run=run), tmp_path / folder)
        assert [record.run for record in results.read_all(tmp_path).values()] == ["c", "a", "b", "z"]

    def test_a_folder_that_is_not_there_has_no_records(self, tmp_path):
        assert results.read_all(tmp_path / "none") == {}

    @pytest.fixture
    def twenty_seconds(self):
        def late(number, frame):
            raise TimeoutError

        signal.signal(signal.SIGALRM, late)
        signal.alarm(20)
        yield
        signal.alarm(0)

    def test_a_whole_record_of_a_newer_schema_is_not_misread(self, tmp_path, capsys):
        text = results.write(make_record(), tmp_path).read_text()
        (tmp_path / "newer.json").write_text(text.replace('"schema_version": 2', '"schema_version": 3'))
        assert len(results.read_all(tmp_path)) == 1
        assert "schema version 3" in capsys.readouterr().err

    @pytest.mark.usefixtures("twenty_seconds")
    def test_what_is_no_file_is_named_and_not_waited_for(self, tmp_path, capsys):
        path = results.write(make_record(), tmp_path)
        os.mkfifo(tmp_path / "pipe.json")
        (tmp_path / "folder.json").mkdir()
        (tmp_path / "link.json").symlink_to(tmp_path / "nowhere")
        (tmp_path / "circle.json").symlink_to(tmp_path / "circle.json")
        (tmp_path / "device.json").symlink_to("/dev/zero")
        assert list(results.read_all(tmp_path)) == [path]
        warnings = capsys.readouterr().err.splitlines()
        names = ["circle", "device", "folder", "link", "pipe"]
        assert all(f"passed over: {tmp_path}/{name}.json" in line for name, line in zip(names, warnings, strict=True))
        assert all("Too many" in line for line in warnings[:1])
        assert results.finished(tmp_path, "pipe") is None
        with pytest.raises(results.UnreadableRecordError, match="no regular file"):
            results.read(tmp_path / "pipe.json")

    def test_a_file_too_large_for_a_record_is_not_read(self, tmp_path, capsys):
        with (tmp_path / "huge.json").open("wb") as file:
            file.truncate(1 << 40)
        assert results.read_all(tmp_path) == {}
        assert "huge.json" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "config", ["[" * 100_000, '{"a":' * 400 + "1" + "}" * 400, "1" * 5000, '{"x": 1e999}', '{"x": "\\ud800"}']
    )
    def test_odd_settings_do_not_end_the_reading(self, tmp_path, config):
        text = results.write(make_record(config={"here": 1}), tmp_path).read_text()
        (tmp_path / "odd.json").write_text(odd := re.sub(r'{\s*"here": 1\s*}', lambda _: config, text))
        assert "here" not in odd
        assert make_record(config={"here": 1}) in results.read_all(tmp_path).values()

    @pytest.mark.parametrize("status", ["diverged", "failed", "interrupted"])
    def test_only_a_run_that_ended_well_is_finished(self, tmp_path, status):
        record = make_record()
        assert results.finished(tmp_path, record.run) is None
        results.write(record, tmp_path)
        assert results.finished(tmp_path, record.run) is None  # without its weights and rows
        path = results.write(record, tmp_path, np.zeros(3), b"weights")
        assert results.finished(tmp_path, record.run) == results.read(path)
        results.write(make_record(status=status), tmp_path, np.zeros(3), b"weights")
        assert results.finished(tmp_path, record.run) is None

    def test_a_damaged_run_is_not_finished(self, tmp_path, capsys):
        (tmp_path / "maf.json").write_text("{")
        assert results.finished(tmp_path, "maf") is None
        assert "maf.json" in capsys.readouterr().err


class TestFolder:
    def test_the_option_wins_over_the_environment_over_the_working_folder(self, monkeypatch, tmp_path):
        monkeypatch.delenv("FLOWBENCH_RESULTS_DIR", raising=False)
        assert results.results_dir() == Path("results")
        monkeypatch.setenv("FLOWBENCH_RESULTS_DIR", str(tmp_path / "env"))
        assert results.results_dir() == tmp_path / "env"
        assert results.results_dir(tmp_path / "out") == tmp_path / "out"

    def test_an_empty_variable_is_none(self, monkeypatch):
        monkeypatch.setenv("FLOWBENCH_RESULTS_DIR", "")
        assert results.results_dir() == Path("results")

    def test_a_tilde_is_the_home_folder(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert results.results_dir(Path("~/runs")) == tmp_path / "runs"


def test_neither_torch_nor_pandas_is_imported():
    code = (
        "import flowbench.report.summary, flowbench.report.ranking.write, flowbench.report.times, sys;"
        "print(sorted({'torch', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
