"""What had been reached by when: made-up histories, and the tables of them."""

import csv
import io
import json

import pytest
from ranking_cases import line_of, only, run
from records import ENVIRONMENT

from flowbench.errors import NothingToCompareError
from flowbench.report.outputs import Output
from flowbench.report.ranking.curves import curves, reached
from flowbench.report.ranking.write import write_curves

NOTHING = {name: [] for name in ("train_ll_nats", "learning_rate", "gradient_norm")}


def trained(flow="maf", epochs=((5.0, 1.0), (20.0, 3.0), (29.0, 2.0), (200.0, 3.5)), **changes):
    """A run whose epochs ended after so many seconds with such validation likelihoods."""
    seconds, nats = zip(*epochs, strict=True)
    history = NOTHING | {"seconds": list(seconds), "validation_ll_nats": list(nats)}
    return run(flow, max(each for each in nats if each is not None), history=history, data="mine", **changes)


def shown(records, tmp_path, form="table"):
    write_curves([only(records)], [Output(form, tmp_path / "out")])
    return (tmp_path / "out").read_text()


def test_the_best_epoch_until_then_counts_and_after_the_end_what_was_kept():
    (line,) = only([trained(epochs=((5.0, 1.0), (20.0, 3.0), (29.0, 2.0), (40.0, None)))]).lines
    assert [reached(line, seconds) for seconds in (4.9, 5, 10, 20, 30, 100)] == [None, 1.0, 1.0, 3.0, 3.0, 3.0]


def test_of_seeds_it_is_the_mean_and_nothing_until_each_has_ended_an_epoch():
    seeds = [trained(epochs=((5.0, 1.0), (20.0, 3.0))), trained(epochs=((15.0, 2.0),), seed=1)]
    (line,) = only(seeds).lines
    assert [reached(line, seconds) for seconds in (10, 15, 30)] == [None, 1.5, 2.5]


def test_lines_without_a_history_are_counted_and_left_out():
    records = [trained(), run("gaussian", -1.0, data="mine"), trained("iaf", status="diverged")]
    (found,) = curves([only(records)])
    assert [line.record.task.flow for line in found.table.lines] == ["maf"]
    assert "without a history of their training, and left out: 2" in found.notes
    with pytest.raises(NothingToCompareError, match="history"):
        curves([only(records[1:])])


def test_a_table_shows_each_time_and_the_best_of_each_in_bold(tmp_path):
    late = trained("iaf", epochs=((40.0, 4.0), (250.0, 4.25)), train_seconds=250.0)
    text = shown([trained(), late], tmp_path)
    assert line_of(text, "model").split() == ["model", "10", "s", "30", "s", "100", "s", "300", "s", "best", "train"]
    assert line_of(text, "iaf").split()[-7:] == ["–", "–", "4.000", "4.250", "4.250", "4", "min"]
    assert line_of(text, "maf").split()[-7:] == ["1.000", "3.000", "3.000", "3.500", "3.500", "77", "s"]
    assert "different devices" not in text
    markdown = line_of(shown([trained(), late], tmp_path, "markdown"), "| maf")
    assert [cell.strip() for cell in markdown.split("|")][-7:-3] == ["**1.000**", "**3.000**", "3.000", "3.500"]
    assert r"\textbf{4.250}" in line_of(shown([trained(), late], tmp_path, "latex"), "iaf")


def test_what_tells_lines_apart_is_said(tmp_path):
    elsewhere = ENVIRONMENT.model_copy(update={"threads": 8})
    records = [trained(settings={"learning_rate": rate}) for rate in (0.1, 0.2)] + [trained(environment=elsewhere)]
    text = shown(records, tmp_path)
    assert {"learning_rate=0.1", "learning_rate=0.2"} <= set(text.split())
    assert "different devices" in text


def test_programs_read_every_figure_in_full(tmp_path):
    records = [trained(epochs=((25.0, 1 / 3), (90.0, 2 / 3)), settings={"batch_size": 7})]
    (row,) = csv.DictReader(io.StringIO(shown(records, tmp_path, "csv")))
    assert [row[f"validation_ll_nats_within_{seconds}_s"] for seconds in (10, 30, 100)] == ["", str(1 / 3), str(2 / 3)]
    assert (row["data"], row["flow"], row["seeds"], row["train_seconds"]) == ("mine", "maf", "0", "77.0")
    found = json.loads(shown(records, tmp_path, "json"))
    assert (found["kind"], found["tables"][0]["data"]) == ("curves", "mine")
    (line,) = found["tables"][0]["lines"]
    assert line["reached"][:2] == [
        {"seconds": 10, "validation_ll_nats": None},
        {"seconds": 30, "validation_ll_nats": 1 / 3},
    ]
    assert line["validation_ll_nats"] == 2 / 3
