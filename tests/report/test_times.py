"""The tables of times."""

import pytest
from records import ENVIRONMENT, make_record
from rich.console import Console

from flowbench.report import times
from flowbench.results import costs
from flowbench.results.costs import Cost, Exponent, Missing, Shape, TimeRecord


def record(flow="maf", model="maf", threads=2, **options):
    figures = {"us": 100.0, "us_q1": 90.0, "us_q3": 110.0, "first_us": 1000.0, "runs": 5}
    own = {"model": model, "batch": 10, "arithmetic_us": 50.0, "peak_bytes": 3_000_000}
    peer = {"model": "[b]peer[/b]", "batch": 10, "ours_us": 40.0}
    found = [Cost(work=work, **each, **figures) for each in (own, peer) for work in ("density", "step")]
    growth = Exponent(flow=flow, work="density", exponent=1.5, dims=(2, 4), us_per_row=(1.0, 3.0))
    return TimeRecord(
        run="time-maf",
        data="d3",
        matrix_gflops=50.0,
        shapes=[Shape(flow=flow, dim=3, options=options, parameters=9, costs=found)],
        exponents=[growth],
        environment=ENVIRONMENT.model_copy(update={"threads": threads}),
        started_at="2026-01-02T03:04:05+00:00",
    )


def shown(found):
    console = Console(width=200, color_system=None)
    with console.capture() as captured:
        console.print(times.tables(found))
    return captured.get()


def test_ratios_memory_and_exponents_are_shown():
    text = shown(record(hidden=(4, 5), transforms=2, batch_norm=False))
    for part in ("maf 2 × (4-5), 3 columns, without batch norm", "10 (9–11)", "2.00×", "3.0 MB", "2.50×", "1.50"):
        assert part in text
    assert "2 threads" in text
    assert "1 thread)" in shown(record(threads=1))


def test_the_arithmetic_is_no_floor():
    text = shown(record())
    assert "floor" not in text
    assert "× products: against the same arithmetic at the rate of large square products" in text


def test_what_is_missing_says_why(tmp_path):
    found = record()
    gap = Missing(model="[i]zuko[/i]", work="sampling", batch=10, reason="skipped: it would take 9 GB")
    shape = found.shapes[0].model_copy(update={"missing": [gap]})
    found = found.model_copy(update={"shapes": [shape], "finished": False})
    text = shown(found)
    assert text.startswith("unfinished · a processor")
    assert "[i]zuko[/i] sampling, batch 10: skipped: it would take 9 GB" in text
    assert [line for line in text.splitlines() if "[i]zuko[/i] " in line and line.strip().endswith("skipped")]
    first = costs.write(found, tmp_path)
    assert costs.write(found.model_copy(update={"finished": True}), tmp_path).name == "time-maf.json"
    assert not first.exists()


@pytest.mark.parametrize("options", [{"transforms": 5, "hidden": [512, 512]}, {"transforms": 5, "hidden": (8, 4)}, {}])
def test_a_size_is_spelt_as_compare_spells_it(options):
    assert record(**options).shapes[0].title.startswith(f"{make_record(config=options).model}, ")


@pytest.mark.parametrize("name", ["[red]x[/red]", "[/]"])
def test_markup_in_names_is_only_text(name):
    text = shown(record(flow=name, model=name))
    assert text.count(name) == 3
    assert "[b]peer[/b]" in text


def test_the_passes_that_another_inverse_took_are_shown():
    one = record()
    (shape,) = one.shapes
    jacobi = shape.costs[0].model_copy(update={"model": "maf, jacobi", "inverse": "jacobi", "passes_taken": 4.75})
    shape = shape.model_copy(update={"costs": [*shape.costs, jacobi]})
    assert "4.75 a transform" in shown(one.model_copy(update={"shapes": [shape]}))
    assert "a transform" not in shown(one)
