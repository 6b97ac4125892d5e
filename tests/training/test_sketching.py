"""What is kept of a trained flow for pictures."""

from __future__ import annotations

import base64
import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from flow_cases import shaken
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture
from records import make_record
from sketch_cases import sketch as some_sketch

from flowbench import flows
from flowbench.data.dataset import Dataset, Splits
from flowbench.data.discrete import Atoms, Category, Discrete
from flowbench.data.given import GivenColumn
from flowbench.data.preprocessing import Dequantise, Logit, Standardise, SubtractMean
from flowbench.errors import FlowbenchError
from flowbench.flows.core.density import log_likelihoods
from flowbench.results import sketch as schema
from flowbench.results import store
from flowbench.results.record import Files
from flowbench.training import sketching
from flowbench.training.sketching import counts, sketch

EVERY_FLOW = pytest.mark.parametrize("name", flows.names())


def dataset_of(rows: np.ndarray, **about: object) -> Dataset:
    splits = {"train": rows, "validation": rows, "test": rows}
    fields = {name: about.pop(name) for name in list(about) if name in Splits.__dataclass_fields__}
    return Dataset.of(
        Splits(**splits, **fields), **{"name": "x", "version": 1, "space": "standardised", "fingerprint": "f"} | about
    )


def sketched(flow: flows.Flow, dataset: Dataset) -> schema.Sketch:
    lls = log_likelihoods(flow, torch.from_numpy(np.array(dataset.test)))
    found = sketch(flow.eval(), dataset, lls, seed=1)
    assert found is not None
    return found


def rows_of(n: int, dim: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)


@EVERY_FLOW
@pytest.mark.parametrize(("n", "dim"), [(1, 3), (50, 1), (60, 4)])
def test_every_flow_has_one(name: str, n: int, dim: int) -> None:
    flow = shaken(name, dim).float()
    found = sketched(flow, dataset_of(rows_of(n, dim)))
    assert len(found.marginals) == len(found.columns) == dim
    assert found.n_rows == n
    assert all(sum(each.rows) == n for each in found.marginals)
    assert all(sum(each.samples) == found.n_samples for each in found.marginals)
    assert bool(found.calibration) == flow.bijective == (found.uncalibrated is None)
    assert schema.Sketch.model_validate_json(schema.content(found)) == found


def test_samples_are_of_a_seed_and_touch_no_other_random_numbers() -> None:
    flow, data = shaken("maf", 3).float(), dataset_of(rows_of(50, 3))
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    assert sketched(flow, data) == sketched(flow, data)
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_is_of_the_data_is_shared_by_all_flows() -> None:
    data = dataset_of(rows_of(400, 3))
    one, other = (sketched(shaken(name, 3).float(), data) for name in ("maf", "realnvp"))
    assert [(each.low, each.high, each.rows) for each in one.marginals] == [
        (each.low, each.high, each.rows) for each in other.marginals
    ]
    assert one.rows == other.rows


@pytest.mark.parametrize(
    ("name", "settings", "exact"),
    [
        ("made", {}, True),
        ("made-mog", {}, True),
        ("made", {"order": "random"}, True),
        ("maf", {"transforms": 3}, False),
        ("realnvp", {}, False),
    ],
)
def test_only_one_transform_s_noise_is_a_conditional_s(name: str, settings: dict, exact: bool) -> None:
    found = sketched(shaken(name, 4, **settings).float(), dataset_of(rows_of(60, 4)))
    assert found.exact == exact
    assert len(found.calibration) == 4


def test_a_column_of_noise_is_that_of_its_column_whatever_the_order() -> None:
    """A column that the density gets wrong is wrong under its own number."""
    torch.manual_seed(3)
    module = flows.load("made")
    flow = module.build(4, module.Options.model_validate({"order": "random", "hidden": (8,)})).eval()
    order = next(leaf for leaf, _ in flow.transform.leaves() if hasattr(leaf, "order")).order
    assert not torch.equal(order, torch.arange(4))
    rows = rows_of(2000, 4)
    rows[:, 2] *= 9
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.zero_()  # u is x
    found = sketched(flow, dataset_of(rows))
    assert max(found.calibration, key=lambda each: each.distance).column == 2
    assert found.calibration[2].sd == pytest.approx(9, rel=0.1)
    assert found.calibration_distances[2] == max(found.calibration_distances) > 0.3


def test_a_flow_that_is_right_differs_by_chance() -> None:
    module = flows.load("gaussian")
    flow = module.build(3, module.Options())
    rows = rows_of(5000, 3)
    flow.fit_closed_form(torch.from_numpy(rows), torch.from_numpy(rows))
    found = sketched(flow, dataset_of(rows))
    by_chance = 1.95 * (1 / found.n_rows + 1 / found.n_samples) ** 0.5  # 99.9%
    assert all(each.distance < by_chance for each in found.marginals)
    assert all(each.distance < 1.95 / 5000**0.5 for each in found.calibration)
    assert found.log_densities is not None


def test_values_are_in_the_data_s_own_units_and_the_extreme_rows_are_the_rows() -> None:
    steps = (Standardise(location=(100.0, 0.0), scale=(10.0, 1.0)),)
    rows = rows_of(300, 2)
    rows[17] = [9.0, 9.0]
    flow = shaken("gaussian", 2).float()
    found = sketched(flow, dataset_of(rows, preprocessing=steps, columns=("heat", "b")))
    assert (found.units, found.columns) == ("the data's own units", ["heat", "b"])
    assert found.least_likely[0].row == 17
    assert found.least_likely[0].values == pytest.approx([190.0, 9.0])
    assert len(found.least_likely) == len(found.most_likely) == schema.MOST_EXTREME
    assert found.marginals[0].low == pytest.approx(100, abs=60)


def test_classes_atoms_and_what_is_missing_are_counted_as_what_they_are() -> None:
    discrete = Discrete(
        categories=(Category(name="c", labels=("x", "y")),), atoms=(Atoms(column=0, values=(None, 0.0)),)
    )
    module = flows.load("maf")
    flow = flows.build("maf", 2, module.Options.model_validate({"hidden": (8,)}), (), discrete).eval()
    codes = np.random.default_rng(0).integers(0, [2, 3], (200, 2))
    data = dataset_of(
        np.concatenate([codes, rows_of(200, 2)], 1).astype(np.float32), columns=("c", "a", "b"), discrete=discrete
    )
    found = sketched(flow, data)
    classes, atoms, number = found.marginals
    assert (classes.labels, sum(classes.rows)) == (["x", "y"], 200)
    assert sum(atoms.rows) == (codes[:, 1] != 1).sum()  # without what is missing
    assert sum(number.rows) == 200
    assert found.paired == [1, 2]
    assert any(None in row for row in found.rows)
    assert "discrete" in (found.uncalibrated or "")


def test_a_conditional_flow_is_given_what_test_rows_are_given() -> None:
    module = flows.load("maf")
    given_columns = (GivenColumn(name="k", labels=("p", "q", "r")),)
    flow = flows.build("maf", 2, module.Options.model_validate({"hidden": (8,)}), (3,), None).eval()
    rows = rows_of(90, 3)
    rows[:, 0] = np.arange(90) % 3
    found = sketched(flow, dataset_of(rows, given=given_columns, columns=("a", "b")))
    assert found.columns == ["a", "b"]
    assert found.n_samples == counts(3, 90)[1]
    assert len(found.calibration) == 2


@pytest.mark.parametrize(
    ("steps", "dim", "mode", "side"),
    [
        ((Dequantise(steps=(1.0,)), Logit(alpha=0.01, levels=17)), 64, "L", 8),
        ((Dequantise(steps=(1.0,)), Logit(alpha=0.05, levels=256)), 48, "RGB", 4),
        ((SubtractMean(levels=256),), 63, "L", 8),
    ],
)
def test_rows_of_pixels_are_pictures(steps: tuple, dim: int, mode: str, side: int) -> None:
    found = sketched(shaken("gaussian", dim).float(), dataset_of(rows_of(100, dim), preprocessing=steps))
    assert found.images is not None
    for image, count in ((found.images.rows, 16), (found.images.least_likely, 8)):
        with Picture.open(io.BytesIO(base64.b64decode(image.png))) as picture:
            assert (picture.mode, picture.width) == (mode, 4 * side + 3)
        assert (image.side, image.count) == (side, count)


@pytest.mark.parametrize(("steps", "dim"), [((), 64), ((Dequantise(steps=(1.0,)), Logit(alpha=0.01, levels=2)), 60)])
def test_other_rows_are_none(steps: tuple, dim: int) -> None:
    assert sketched(shaken("gaussian", dim).float(), dataset_of(rows_of(30, dim), preprocessing=steps)).images is None


def test_wide_rows_have_a_small_one_and_the_widest_none() -> None:
    module = flows.load("realnvp")
    few = module.Options.model_validate({"hidden": (2,), "transforms": 1})
    found = sketched(module.build(1000, few), dataset_of(rows_of(40, 1000)))
    assert len(found.marginals) == schema.MOST_COLUMNS
    assert len(schema.content(found)) < 120_000
    assert sketch(module.build(5000, few), dataset_of(rows_of(3, 5000)), np.zeros(3), 0) is None


def test_it_looks_at_as_many_rows_as_there_is_time_for() -> None:
    assert counts(6, 10**6) == (10_000, 2_000)
    assert counts(784, 10_000) == (2_551, 510)
    assert counts(3, 1) == (1, 2_000)


def test_samples_that_overflow_are_left_out() -> None:
    flow = shaken("gaussian", 2).float()
    draws = flow.draws
    flow.draws = lambda noise, given=None: torch.where(noise[0, :, :1] > 0, torch.inf, draws(noise, given))  # type: ignore[method-assign]
    found = sketched(flow, dataset_of(rows_of(30, 2)))
    assert 0 < found.n_samples < counts(2, 30)[1]


def test_what_fails_is_told_and_costs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    from flowbench.cli import app

    monkeypatch.setattr(sketching, "_spread", lambda n, most: 1 / 0)
    arguments = ["flowbench", "train", "gaussian", "--data", "truth-banana", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert not ended.value.code
    assert "no sketch is kept for pictures: ZeroDivisionError" in capfd.readouterr().err
    monkeypatch.undo()
    (record,) = store.read_all(tmp_path).values()
    assert (record.status, record.files.sketch) == ("ok", None)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_run_keeps_it_if_it_may(wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowbench.cli import app

    arguments = ["flowbench", "train", "gaussian", "--data", "truth-banana", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments + ([] if wanted else ["--no-sketch"]))
    with pytest.raises(SystemExit):
        app.main()
    (record,) = store.read_all(tmp_path).values()
    found = store.read_sketch(record, tmp_path)
    assert (found is not None) == wanted
    assert len(list(tmp_path.glob("*.sketch"))) == wanted


class TestFiles:
    def written(self, folder: Path) -> Path:
        store.write(make_record(run="r"), folder, sketch=some_sketch())
        return next(folder.glob("r.*.sketch"))

    def test_it_goes_with_its_record(self, tmp_path: Path) -> None:
        self.written(tmp_path)
        record = store.read(tmp_path / "r.json")
        assert store.read_sketch(record, tmp_path) == some_sketch()
        store.write(make_record(run="r"), tmp_path)
        assert not list(tmp_path.glob("*.sketch"))
        self.written(tmp_path)
        store.remove(tmp_path / "r.json")
        assert not list(tmp_path.iterdir())

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_a_damaged_one_is_named_and_nothing_else(self, tmp_path_factory, data: st.DataObject) -> None:
        folder = tmp_path_factory.mktemp("damaged")
        path = self.written(folder)
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(1, 30))] = data.draw(st.binary(max_size=20))
        named = folder / f"r.{store.content_digest(bytes(content))}.sketch" if data.draw(st.booleans()) else path
        named.write_bytes(content)
        record = store.read(folder / "r.json").model_copy(update={"files": Files(sketch=named.name)})
        with contextlib.suppress(FlowbenchError):  # and nothing else
            store.read_sketch(record, folder)

    def test_one_that_is_not_there_is_none(self, tmp_path: Path) -> None:
        self.written(tmp_path).unlink()
        assert store.read_sketch(store.read(tmp_path / "r.json"), tmp_path) is None
