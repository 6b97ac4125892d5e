"""What is swept over, as it is ordered."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowbench.config import read_toml
from flowbench.data import TableOptions
from flowbench.errors import UsageError
from flowbench.sweep.spec import Job, Spec, checked, grid, jobs
from flowbench.training.order import Order


def test_every_flow_meets_every_dataset_setting_and_seed_once() -> None:
    spec = Spec(flows=("maf", "iaf"), data=("digits", "patches"), seeds=3, seed=5, grid={"transforms": [5, 10]})
    found = jobs(spec)
    assert [job.number for job in found] == list(range(24))
    points = {(job.order.flow, job.order.data, job.order.settings["transforms"], job.order.seed) for job in found}
    assert points == {
        (f, d, t, s) for f in ("maf", "iaf") for d in ("digits", "patches") for t in (5, 10) for s in (5, 6, 7)
    }
    assert len({job.label for job in found}) == 24


def test_a_point_of_the_grid_wins_over_what_all_share() -> None:
    spec = Spec(flows=("maf",), settings={"transforms": 3, "hidden": [8]}, grid={"transforms": [5]})
    (job,) = jobs(spec)
    assert job.order.settings == {"transforms": 5, "hidden": [8]}
    assert job.settings == "transforms=5"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("transforms=5,10", [5, 10]),
        ("learning_rate=1e-3, 5e-3", [1e-3, 5e-3]),
        ("activation=relu,tanh", ["relu", "tanh"]),
        ("batch_norm=true,false", [True, False]),
        ("hidden=[64,64],[128]", [[64, 64], [128]]),
        ("plateau=none,3", ["none", 3]),
    ],
)
def test_values_are_read_as_toml_where_they_are(text: str, values: list[object]) -> None:
    assert list(grid([text]).values()) == [values]


@pytest.mark.parametrize("text", ["transforms", "=5", "transforms="])
def test_a_grid_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="key=value,value"):
        grid([text])


def test_a_file_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(
        'flows = ["maf", "iaf"]\ndata = ["digits"]\nseeds = 2\npick = true\nvalidation_data = "v.csv"\n'
        "[grid]\ntransforms = [5, 10]\n[settings]\nhidden = [8]\n[table]\ndequantise = true\n"
    )
    spec = checked(read_toml(path))
    same = Spec(
        flows=("maf", "iaf"), data=("digits",), seeds=2, pick=True, grid={"transforms": [5, 10]},
        settings={"hidden": [8]}, table=TableOptions(dequantise=True), validation_data="v.csv",
    )  # fmt: skip
    assert spec == same
    assert jobs(spec)[0].order.table.dequantise
    assert str(jobs(spec)[0].order.validation_data).endswith("/v.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flows = [", "not TOML"),
        ("flow = ['maf']", "no 'flow'"),
        ("flows = []", "flows"),
        ("flows=['maf']\nseeds = 0", "seeds"),
    ],
)
def test_a_file_that_says_something_else_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(text)
    with pytest.raises(UsageError, match=said):
        checked(read_toml(tmp_path / "sweep.toml"))


def test_a_label_is_a_file_s_name() -> None:
    order = Order(flow="/a/b/my flow.py", data="../c d/tab|le.csv")
    label = Job(0, order, {"hidden": [64, 64]}).label
    assert label == "my_flow.py-tab_le.csv-hidden=64,64-seed0"


def test_files_are_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (job,) = jobs(Spec(flows=("./flow.py",), data=("table.csv",), test_data="test.npy"))
    assert (job.order.flow, job.order.data) == (str(tmp_path / "flow.py"), str(tmp_path / "table.csv"))
    assert (job.order.test_data, job.order.validation_data) == (str(tmp_path / "test.npy"), None)
