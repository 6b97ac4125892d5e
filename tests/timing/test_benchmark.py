"""``flowbench time``: what it counts, what it sets beside each other, what it writes. Its times are not judged here."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from flow_cases import shaken
from typer.testing import CliRunner

from flowbench.cli.app import app
from flowbench.errors import UsageError
from flowbench.flows import maf
from flowbench.report import times
from flowbench.results import costs
from flowbench.results import store as results
from flowbench.timing import benchmark, scaling, works, yardsticks

pytestmark = pytest.mark.usefixtures("quick")


def invoke(*arguments: str) -> tuple[int, str]:
    outcome = CliRunner().invoke(app, ["time", *arguments])
    return outcome.exit_code, outcome.output


def timed(tmp_path: Path, *arguments: str) -> costs.TimeRecord:
    quick = ["--seconds", "0", "--threads", "1", "--out", str(tmp_path)]
    code, output = invoke(*arguments, *quick)
    assert code == 0, output
    (path,) = tmp_path.glob("time-*.json")
    return costs.TimeRecord.model_validate_json(path.read_text())


def test_it_times_all_works_of_all_flows_at_all_batches(tmp_path: Path) -> None:
    row = timed(tmp_path, "maf", "realnvp", "gaussian", "--dim", "3", "--hidden", "8", "--batch", "1,7")
    assert [shape.flow for shape in row.shapes] == ["maf", "realnvp", "gaussian"]
    works = [(c.batch, c.work) for c in row.shapes[0].costs]
    assert works == [(batch, work) for batch in (1, 7) for work in ("density", "sampling", "step")]
    assert {c.work for c in row.shapes[2].costs} == {"density", "sampling"}  # nothing to train
    assert row.shapes[0].options["hidden"] == [8]
    for shape in row.shapes:
        for cost in shape.costs:
            assert 0 < cost.us_q1 <= cost.us <= cost.us_q3
            assert cost.peak_bytes is not None
    assert row.environment.threads == 1
    assert row.matrix_gflops > 0


def test_a_row_of_times_is_no_run(tmp_path: Path) -> None:
    timed(tmp_path, "maf", "--dim", "2", "--batch", "5", "--hidden", "4")
    assert results.read_all(tmp_path) == {}


def test_json_is_one_document_and_the_row(tmp_path: Path) -> None:
    code, output = invoke(
        "maf", "--dim", "2", "--batch", "5", "--hidden", "4", "--seconds", "0", "--json", "--out", str(tmp_path)
    )
    assert code == 0
    assert costs.TimeRecord.model_validate(json.loads(output)).shapes[0].dim == 2


def test_other_inverses_stand_beside_substitution(tmp_path: Path) -> None:
    ways = ["--inverse", "jacobi,passes", "--tolerance", "0.5"]
    row = timed(tmp_path, "maf", "iaf", "realnvp", "--dim", "5", "--batch", "4", "--hidden", "9", *ways)
    beside = [[cost for cost in shape.costs if cost.model != shape.flow] for shape in row.shapes]
    for flow, work, found in zip(("maf", "iaf"), ("sampling", "density"), beside, strict=False):
        assert [(cost.model, cost.work) for cost in found] == [
            (f"{flow}, 5 passes", work),
            (f"{flow}, jacobi to 0.5", work),
        ]
        passes, jacobi = found
        assert (passes.inverse, passes.tolerance, passes.passes_taken) == ("passes", None, 5)
        assert passes.one_pass in ("engine", "written")
        assert (jacobi.inverse, jacobi.tolerance) == ("jacobi", 0.5)
        assert 1 <= jacobi.passes_taken < 5
    assert beside[2] == []


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["maf", "iaf"])
@pytest.mark.parametrize("way", [works.Way("passes"), works.Way("jacobi", 1e-9)], ids=lambda way: way.name)
def test_a_flow_inverted_in_another_way_is_the_same_flow(name: str, way: works.Way) -> None:
    flow = shaken(name, 6)
    other = works.inverted_by(flow, way)
    assert other is not None
    x = torch.randn(4, 6)
    torch.testing.assert_close(other(x), flow(x))
    seed = torch.Generator().manual_seed(3)
    torch.testing.assert_close(other.sample(4, seed), flow.sample(4, torch.Generator().manual_seed(3)))
    assert works.inverted_by(shaken("realnvp", 6), way) is None


def test_connections_are_the_weights_that_masks_leave() -> None:
    # 1 -> 1, 1 -> 2, 2 -> 2 into the hidden units of degrees 1 and 2; from them to two outputs of columns 2 and 3
    flow = maf.build(3, maf.Options(hidden=(2,), transforms=2))
    assert yardsticks.connections(flow) == 2 * (3 + 2 * 3)
    flow.add_module("another's", torch.nn.Linear(3, 4))
    assert yardsticks.connections(flow) == 2 * (3 + 2 * 3) + 12
    assert yardsticks.connections(shaken("gaussian", 3)) == 0


def test_the_floor_is_the_counted_operations_at_the_measured_rate(tmp_path: Path, matrix_rate: float) -> None:
    row = timed(tmp_path, "maf", "--dim", "3", "--hidden", "2", "--transforms", "2", "--batch", "10")
    density, sampling, step = row.shapes[0].costs
    assert row.matrix_gflops == pytest.approx(matrix_rate / 1e9)
    floor = 2 * 18 * 10 / row.matrix_gflops / 1e3
    assert density.arithmetic_us == pytest.approx(floor)
    assert sampling.arithmetic_us == pytest.approx(floor)
    assert step.arithmetic_us == pytest.approx(3 * floor)


def test_peak_memory_is_what_is_held_at_once() -> None:
    def work() -> torch.Tensor:
        kept = torch.zeros(1000)
        for _ in range(3):
            passing = torch.zeros(5000)
            del passing
        return kept

    assert yardsticks.peak_bytes(work, "cpu") == 4 * 6000


def test_an_exponent_is_the_slope_of_logarithms() -> None:
    assert scaling.slope([64, 128, 1024], [5 * d**1.5 for d in (64, 128, 1024)]) == pytest.approx(1.5)


def test_scaling_fits_both_directions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "DIMS", (2, 4))
    row = timed(tmp_path, "maf", "--scaling", "--hidden", "8", "--batch", "3")
    assert [(e.flow, e.work, e.dims) for e in row.exponents] == [
        ("maf", "density", (2, 4)),
        ("maf", "sampling", (2, 4)),
    ]
    assert all(math.isfinite(e.exponent) and len(e.us_per_row) == 2 for e in row.exponents)
    assert row.shapes == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mfa", "--dim", "3"], "unknown flow"),
        (["--dim", "0"], "--dim"),
        (["--batch", "1,x"], "--batch takes sizes"),
        (["--batch", "0"], "--batch takes sizes"),
        (["--data", "digits", "--dim", "3"], "leave --dim"),
        (["--inverse", "passes,jacoby"], "did you mean jacobi"),
        (["--inverse", "passes", "--tolerance", "0.1"], "--inverse jacobi"),
        (["--inverse", "jacobi", "--tolerance", "inf"], "--tolerance is a number"),
        (["maf", "--dim", "3", "--set", "hiden=4"], "no"),
        (["maf", "--dim", "3", "--hidden", "0"], "hidden"),
        (["--dim", "3", "--device", "tpu"], "unknown device"),
        (["--data", "no-such-data"], "no-such-data"),
    ],
)
def test_what_is_asked_wrongly_is_said(arguments: list[str], message: str, tmp_path: Path) -> None:
    code, output = invoke(*arguments, "--seconds", "0", "--out", str(tmp_path))
    assert code == 2
    assert message in output
    assert "Traceback" not in output


def test_a_setting_of_another_flow_in_the_same_call_is_passed_over() -> None:
    chosen = benchmark.choose(["maf", "realnvp"], None, ["activation=tanh", "hidden=5"])
    assert chosen["maf"].model_dump()["activation"] == "tanh"
    assert chosen["realnvp"].model_dump()["hidden"] == (5,)
    with pytest.raises(UsageError, match="activation"):
        benchmark.choose(["realnvp"], None, ["activation=tanh"])


def test_beside_peers_a_flow_is_built_as_they_are_unless_told_otherwise() -> None:
    for data, activation in ((None, "relu"), ("gas", "tanh")):
        (own,) = benchmark.choose(["maf"], data, []).values()
        assert own.model_dump() | {"batch_norm": True, "activation": activation} == own.model_dump()
        (alike,) = benchmark.choose(["maf"], data, [], as_peers=True).values()
        assert alike.model_dump() == own.model_dump() | {"batch_norm": False, "activation": "relu"}
        (told,) = benchmark.choose(["maf"], data, ["batch_norm=true"], as_peers=True).values()
        assert told.model_dump()["batch_norm"]


def test_tables_show_ratios_floor_and_memory() -> None:
    def cost(model: str, us: float, **more: float) -> costs.Cost:
        times = {"us": us, "us_q1": us, "us_q3": us, "first_us": us}
        return costs.Cost.model_validate({"model": model, "work": "density", "batch": 10, "runs": 5, **times, **more})

    mine = cost("maf", 100.0, arithmetic_us=50.0, peak_bytes=3_000_000)
    options = {"hidden": [4, 5], "transforms": 2, "batch_norm": False}
    shape = costs.Shape(
        flow="maf", dim=3, options=options, parameters=9, costs=[mine, cost("zuko", 250.0, ours_us=100.0)]
    )
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as captured:
        console.print(times._shape_table(shape))
    shown = captured.get()
    for part in ("maf 2 × (4-5), 3 columns, without batch norm", "10 (10–10)", "2.00×", "3.0 MB", "25 (25–25)  2.50×"):
        assert part in shown
