import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from records import full_row, make_row, timing

from flowbench import files
from flowbench.errors import FlowbenchError, UsageError
from flowbench.results import record as results
from flowbench.results.record import Check, Row


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix not in (".json", ".npy")]


class TestRoundTrip:
    def test_every_field_comes_back(self, tmp_path):
        row = full_row()
        unset = [name for name in Row.model_fields if getattr(row, name) in (None, {}, [])]
        assert unset == ["error"]
        assert results.read(results.write(row, tmp_path)) == row

    def test_the_file_is_named_after_the_run(self, tmp_path):
        assert results.write(make_row(run="maf-power~256869-1.5"), tmp_path) == tmp_path / "maf-power~256869-1.5.json"

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
        row = make_row(test_ll_nats=figure, bits_per_pixel=figure, error=text, config=config)
        path = results.write(row, folder)
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"bare {name}"))
        assert results.read(path) == row
        if figure is not None and math.isfinite(figure):
            assert results.read(path).test_ll_nats == figure

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_figure_that_is_no_number_is_none(self, tmp_path, value):
        check = Check(value=value, limit=0.0, passed=False, what="worst row")
        row = make_row(test_ll_nats=value, checks={"rows": check}, config={"clip_norm": value, "deep": [{"x": value}]})
        assert row.test_ll_nats is None
        assert row.checks["rows"].value is None
        assert row.config == {"clip_norm": str(value), "deep": [{"x": str(value)}]}
        assert repr(float(row.config["clip_norm"])) == repr(value)  # the configuration reads it back
        document = json.loads(results.write(row, tmp_path).read_text())
        assert document["test_ll_nats"] is None

    def test_a_nan_that_model_copy_let_in_is_not_written(self, tmp_path):
        row = make_row().model_copy(update={"test_ll_nats": math.nan, "timings": [timing()]})
        path = results.write(row, tmp_path)
        assert "NaN" not in path.read_text()
        assert results.read(path).test_ll_nats is None
        assert results.read(path).timings == [timing()]

    def test_a_row_cannot_be_changed(self):
        with pytest.raises(ValidationError, match="frozen"):
            make_row().test_ll_nats = 3.0

    @pytest.mark.parametrize("run", ["", ".", "..", "../maf", "a/b", "/etc/passwd", "a\0b", ".hidden", "a\nb"])
    def test_a_run_cannot_be_named_out_of_the_folder(self, run):
        with pytest.raises(ValidationError, match="run"):
            make_row(run=run)


class TestLikelihoods:
    def test_they_lie_beside_the_row_in_float64(self, tmp_path):
        path = results.write(make_row(run="maf-1.5"), tmp_path, np.array([1.5, -2.0], dtype=np.float32))
        found = results.read_test_lls(path)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, [1.5, -2.0])
        results.write(make_row(run="maf-1.5"), tmp_path, np.array([0.1, 1e-300]))
        np.testing.assert_array_equal(results.read_test_lls(path), [0.1, 1e-300])  # to the last bit
        assert sorted(file.name for file in tmp_path.iterdir()) == ["maf-1.5.json", "maf-1.5.npy"]

    def test_there_may_be_none(self, tmp_path):
        assert results.read_test_lls(results.write(make_row(), tmp_path)) is None

    def test_a_run_without_them_does_not_keep_an_older_one_s(self, tmp_path):
        results.write(make_row(), tmp_path, np.zeros(3))
        path = results.write(make_row(status="diverged", error="loss was nan"), tmp_path)
        assert results.read_test_lls(path) is None

    @pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array at all"])
    def test_damage_is_named(self, tmp_path, content):
        path = results.write(make_row(), tmp_path, np.zeros(3))
        path.with_suffix(".npy").write_bytes(content)
        with pytest.raises(FlowbenchError, match=r"maf-power-1a2b3c4d\.npy"):
            results.read_test_lls(path)

    def test_pickles_are_never_loaded(self, tmp_path):
        path = results.write(make_row(), tmp_path)
        np.save(path.with_suffix(".npy"), np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(results.UnreadableRowError):
            results.read_test_lls(path)


class TestAtomicity:
    @pytest.fixture
    def written(self, tmp_path):
        results.write(make_row(test_ll_nats=1.0), tmp_path, np.ones(3))
        return tmp_path

    def assert_untouched(self, folder):
        (row,) = results.read_all(folder)
        assert row.test_ll_nats == 1.0
        np.testing.assert_array_equal(results.read_test_lls(folder / f"{row.run}.json"), np.ones(3))
        assert temporaries(folder) == []

    @pytest.mark.parametrize("nth", [1, 2])
    def test_a_full_disk_leaves_the_old_files_whole(self, written, monkeypatch, nth):
        real, calls = os.fsync, []

        def fsync(descriptor):
            calls.append(descriptor)
            if len(calls) == nth:
                raise OSError(28, "No space left on device")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(UsageError, match="No space left on device"):
            results.write(make_row(test_ll_nats=2.0), written, np.zeros(3))
        assert len(calls) == nth
        monkeypatch.undo()
        self.assert_untouched(written)

    def test_ctrl_c_in_the_middle_leaves_the_old_files_whole(self, written, monkeypatch):
        def interrupted(descriptor):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            results.write(make_row(test_ll_nats=2.0), written, np.zeros(3))
        monkeypatch.undo()
        self.assert_untouched(written)

    def test_a_name_is_never_seen_on_a_half_written_file(self, tmp_path, monkeypatch):
        seen = []
        real = os.fsync

        def fsync(descriptor):
            seen.extend(path.name for path in tmp_path.iterdir() if path.suffix in (".json", ".npy"))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        path = results.write(make_row(), tmp_path, np.ones(3))
        assert seen == []
        assert path.exists()

    def test_the_likelihoods_are_there_before_the_row_is(self, tmp_path, monkeypatch):
        order = []
        real = Path.replace

        def replace(self, target):
            order.append(Path(target).suffix)
            return real(self, target)

        monkeypatch.setattr(Path, "replace", replace)
        results.write(make_row(), tmp_path, np.ones(3))
        assert order == [".npy", ".json"]


class TestUnwritable:
    @pytest.fixture
    def blocked(self, tmp_path):
        """A folder below a regular file: root may not write there either."""
        (tmp_path / "file").write_text("")
        return tmp_path / "file" / "results"

    @pytest.mark.parametrize("attempt", [files.ensure_writable, lambda folder: results.write(make_row(), folder)])
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
        assert results.write(make_row(), tmp_path / "a" / "b").exists()


class TestReading:
    def test_unknown_keys_of_a_later_flowbench_are_passed_over(self, tmp_path):
        path = results.write(full_row(), tmp_path)
        document = json.loads(path.read_text())
        document["invented"] = document["environment"]["invented"] = document["timings"][0]["invented"] = 1
        path.write_text(json.dumps(document))
        assert results.read(path) == full_row()

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("", "JSON"),
            ('{"run": "maf', "JSON"),
            ("[1, 2]", "not a row"),
            ("null", "not a row"),
            ("{}", "not a row"),
            ('{"schema_version": 99}', "schema version 99"),
        ],
    )
    def test_a_file_that_is_no_row_is_named_and_skipped(self, tmp_path, capsys, content, said):
        results.write(make_row(), tmp_path)
        bad = tmp_path / "bad.json"
        bad.write_text(content)
        with pytest.raises(results.UnreadableRowError, match=said):
            results.read(bad)
        assert results.read_all(tmp_path) == [make_row()]
        assert "bad.json" in capsys.readouterr().err

    def test_bytes_that_are_no_text_are_skipped(self, tmp_path, capsys):
        (tmp_path / "bad.json").write_bytes(b"\xff\xfe\x00{")
        assert results.read_all(tmp_path) == []
        assert "bad.json" in capsys.readouterr().err

    def test_subfolders_are_read_in_the_order_of_their_paths(self, tmp_path):
        for folder, run in (("reference", "b"), ("reference", "a"), (".", "z"), (".", "c")):
            results.write(make_row(run=run), tmp_path / folder)
        assert [row.run for row in results.read_all(tmp_path)] == ["c", "a", "b", "z"]

    def test_a_folder_that_is_not_there_has_no_rows(self, tmp_path):
        assert results.read_all(tmp_path / "none") == []

    @pytest.mark.parametrize("status", ["diverged", "failed", "interrupted"])
    def test_only_a_run_that_ended_well_is_finished(self, tmp_path, status):
        row = make_row()
        assert results.finished(tmp_path, row.run) is None
        results.write(row, tmp_path)
        assert results.finished(tmp_path, row.run) == row
        results.write(make_row(status=status), tmp_path)
        assert results.finished(tmp_path, row.run) is None

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


def test_the_frame_has_one_line_a_run_and_flat_figures():
    frame = results.frame([full_row(), make_row(run="other")])
    assert list(frame["run"]) == ["maf-power-1a2b3c4d", "other"]
    first = frame.iloc[0]
    assert first["timings.1000.density_us_per_row"] == 2.0
    assert first["checks.inverse.passed"]
    assert first["environment.threads"] == 2
    assert first["environment.versions.torch"] == "2.13.0"
    assert first["config.hidden"] == [100, 100]
    assert frame["test_ll_nats"].isna().tolist() == [False, True]


def test_neither_torch_nor_pandas_is_imported():
    code = (
        "import flowbench.results, flowbench.results.statistics, flowbench.report.compare, sys;"
        "print(sorted({'torch', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
