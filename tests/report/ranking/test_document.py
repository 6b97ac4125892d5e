"""Rankings as programs read them: JSON and CSV, with figures of full precision."""

import csv
import io
import json

import pytest
from ranking_cases import read, rows, run, write_run
from records import by_path, full_record, timing

from flowbench.report.ranking.document import csv_rows, csv_text, document
from flowbench.report.ranking.tables import tables
from flowbench.report.ranking.write import strict


@pytest.fixture
def seeds(tmp_path):
    for seed, mean in enumerate((0.0, 0.3)):
        write_run(tmp_path, lls=rows(mean, seed=seed), seed=seed, timings=[timing(100, 2.0, 3.0)])
    write_run(tmp_path, "iaf", rows(-0.2), true_test_ll_nats=0.5)
    return read(tmp_path)


def test_the_document_is_strict_json_with_whole_records():
    records = [full_record(given={}), run("iaf", status="diverged", error="loss was nan"), run(data="patches")]
    found = json.loads("".join(strict(document(tables(by_path(records))))))
    assert (found["schema_version"], [table["data"] for table in found["tables"]]) == (3, ["patches", "power"])
    best, diverged = found["tables"][1]["lines"]
    assert (best["mark"], best["to_best_nats"], best["seeds"]) == ("best", None, [0])
    assert best["runs"][0]["record"]["timings"][0]["density_us_per_row"] == 2.0
    assert best["runs"][0]["path"] == "0.json"
    assert diverged["test_ll_nats"] is None
    assert diverged["runs"][0]["record"]["likelihoods"]["test_ll_nats"] is None
    assert diverged["runs"][0]["record"]["error"] == "loss was nan"
    entry = next(each for each in found["tables"][1]["published"] if each["model"] == "MAF (5)")
    assert {"test_ll_nats": 0.14, "two_stderr_nats": 0.01, "density": "exact", "secondhand": False}.items() <= (
        entry.items()
    )
    assert found["tables"][0]["published"] == []


def test_the_errors_of_a_difference_stand_apart(seeds):
    line = json.loads("".join(strict(document([seeds]))))["tables"][0]["lines"][1]
    difference = seeds.lines[1].to_best.difference
    assert line["to_best_nats"] == {
        "mean": difference.mean,
        "stderr": difference.stderr,
        "rows_stderr": difference.rows_stderr,
        "seeds_stderr": difference.seeds_stderr,
        "p_holm": seeds.lines[1].to_best.p,
    }


def test_csv_has_a_row_a_line_with_raw_numbers(seeds):
    best, other, truth = csv.DictReader(io.StringIO(csv_text(csv_rows([seeds]))))
    line = seeds.lines[0]
    assert (best["kind"], best["model"], best["seeds"], best["mark"]) == ("runs", "maf 5 × (2×100)", "0 1", "best")
    assert float(best["test_ll_nats"]) == line.test_ll_nats.mean
    assert float(best["test_ll_stderr_nats"]) == line.test_ll_nats.stderr
    assert float(best["test_ll_sd_over_seeds_nats"]) == line.test_ll_nats.seeds_sd
    assert (best["density_us_per_row_at_100"], best["sampling_us_per_row_at_100"]) == ("2.0", "3.0")
    assert float(other["to_best_nats"]) == seeds.lines[1].to_best.mean
    assert (other["test_ll_sd_over_seeds_nats"], other["density_us_per_row_at_100"]) == ("", "")
    assert (truth["kind"], truth["model"], truth["test_ll_nats"]) == ("reference", "truth", "0.5")


def test_csv_quotes_what_needs_it():
    (row, *published) = csv.DictReader(io.StringIO(csv_text(csv_rows(tables(by_path([run('a,"b"\n', run="x")]))))))
    assert row["flow"] == 'a,"b"\n'
    assert {each["kind"] for each in published} == {"published", "published, estimated density"}
