"""The papers' claims held against made-up records: each holds, does not hold, and is not measured."""

import csv
import io
import json

import numpy as np
import pytest
from ranking_cases import rows, run, three_flows, write_run
from records import ENVIRONMENT, by_path, timing

from flowbench.errors import NothingToCompareError
from flowbench.report.claims.claims import claims, write_claims
from flowbench.report.outputs import Output
from flowbench.results import costs, store
from flowbench.results.costs import Cost, Shape, TimeRecord
from flowbench.results.inference import holm
from flowbench.results.record import Check, Estimate

MAF, IAF, REALNVP, FLEXIBLE, UNSUITED, DUALITY, POSTERIOR = range(7)
SIZE = {"transforms": 5, "hidden": [100, 100]}


def cost(model, work, us, batch, **more):
    return Cost(model=model, work=work, batch=batch, us=us, us_q1=us, us_q3=us, first_us=us, runs=5, **more)


def timed(flow="maf", density=2.0, sampling=2.0, data="d6", started_at="2026-01-02", **ways):
    """Costs per row of 10 rows, and of one row what nobody should look at; ``ways`` are those of the slow direction."""
    work = "density" if flow == "iaf" else "sampling"
    found = [
        cost(flow, direction, scale * batch, batch)
        for batch, density_us, sampling_us in ((1, 7.0, 7.0), (10, density, sampling))
        for direction, scale in (("density", density_us), ("sampling", sampling_us))
    ]
    found += [cost(f"{flow} {way}", work, 10 * us, 10, inverse=way, passes_taken=4.5) for way, us in ways.items()]
    found.append(cost("a peer", "density", 1e-3, 10))
    return TimeRecord(
        run=f"time-{flow}",
        data=data,
        matrix_gflops=50.0,
        shapes=[Shape(flow=flow, dim=6, options=SIZE, parameters=9, costs=found)],
        environment=ENVIRONMENT,
        started_at=started_at,
    )


def found(which, records=(), times=(), **options):
    """The findings of one claim."""
    return claims(by_path(records), list(times), **options)[which].findings


def verdicts(*arguments, **options):
    return [finding.verdict for finding in found(*arguments, **options)]


@pytest.mark.parametrize(("which", "flow", "slow"), [(MAF, "maf", "sampling"), (IAF, "iaf", "density")])
def test_a_slow_direction_is_told_by_each_way_to_invert(which, flow, slow):
    record = timed(flow, **{"density": 2.0, "sampling": 2.0, slow: 6.0}, passes=60.0, jacobi=6.1)
    passes, jacobi, own = found(which, times=[record])
    assert [passes.verdict, jacobi.verdict, own.verdict] == ["holds", "holds", "does not hold"]  # 3 times is not slow
    assert [each.figures["ratio"] for each in (passes, jacobi, own)] == pytest.approx([30.0, 3.05, 3.0])
    assert "30.00 ×" in passes.said
    assert "(4.5 a transform)" in jacobi.said
    assert "@ 10" in own.said
    other = "density" if slow == "sampling" else "sampling"
    assert verdicts(which, times=[timed(flow, **{other: 60.0})])[-1] == "does not hold"


def test_a_way_that_was_not_timed_is_not_measured_and_the_command_is_named():
    passes, jacobi, own = found(MAF, times=[timed(jacobi=3.0)])
    assert [passes.verdict, jacobi.verdict, own.verdict] == ["not measured", "does not hold", "does not hold"]
    assert "`flowbench time maf --inverse passes`" in passes.said
    (*_, own) = found(IAF, times=[timed(data="power")], data="power")
    assert "`flowbench time iaf --data power`" in own.said


def test_realnvp_is_fast_both_ways_or_not():
    assert verdicts(REALNVP, times=[timed("realnvp", 2.0, 3.0)]) == ["holds"]
    assert verdicts(REALNVP, times=[timed("realnvp", 2.0, 7.0)]) == ["does not hold"]
    assert verdicts(REALNVP, times=[timed("realnvp", 7.0, 2.0)]) == ["does not hold"]
    assert verdicts(REALNVP, times=[timed("maf")]) == ["not measured"]


def test_runs_tell_what_substitution_costs_where_no_times_were_taken():
    records = three_flows(data="mine")  # sampling of the MAF ten times as slow as its density
    *_, own = found(MAF, records)
    assert (own.verdict, own.on, own.figures["ratio"]) == ("holds", "maf 5 × (2×100) on mine", 10.0)
    assert own.figures["batch"] == 1000
    assert [each.figures["ratio"] for each in found(MAF, records, [timed(sampling=4.0)])[2:]] == [2.0]
    assert verdicts(MAF, [run(data="mine")])[-1] == "not measured"  # a run without times


def test_of_several_records_the_latest_counts_and_a_finished_one_before_others():
    times = [timed(sampling=4.0, started_at="2026-01-02"), timed(sampling=10.0, started_at="2026-01-03")]
    assert [each.figures["ratio"] for each in found(MAF, times=times)[2:]] == [5.0]
    times[1] = times[1].model_copy(update={"finished": False})
    assert [each.figures["ratio"] for each in found(MAF, times=times)[2:]] == [2.0]
    elsewhere = ENVIRONMENT.model_copy(update={"device_name": "another"})
    times[1] = times[1].model_copy(update={"environment": elsewhere})
    assert len(found(MAF, times=times)) == 4


def written(folder, *runs, **options):
    """All claims, of runs with such rows: flow and mean, and what else is different."""
    for flow, mean, changes in runs:
        write_run(folder, flow, rows(mean), **changes)
    return claims(store.read_all(folder), [], **options)


@pytest.mark.parametrize(
    ("maf", "holds"), [(0.02, "holds"), (0.002, "holds"), (-0.002, "holds"), (-0.02, "does not hold")]
)
def test_realnvp_is_no_more_flexible_unless_beyond_chance(tmp_path, maf, holds):
    other = {"settings": {"hidden": [7]}}
    (finding,) = written(tmp_path, ("maf", maf, {}), ("realnvp", 0.0, other))[FLEXIBLE].findings
    assert finding.verdict == holds
    assert finding.figures["difference_nats"] == pytest.approx(maf, abs=1e-6)
    assert finding.figures["is_paired"]
    assert finding.on == "maf 5 × (2×100) and realnvp 5 × (1×7) on mine"


@pytest.mark.parametrize(("iaf", "holds"), [(-0.02, "holds"), (-0.002, "does not hold"), (0.02, "does not hold")])
def test_iaf_does_not_suit_density_estimation_only_where_it_is_worse_beyond_chance(tmp_path, iaf, holds):
    effort = {"epochs": 9, "train_seconds": 30.0}
    runs = ("maf", 0.0, effort), ("iaf", iaf, effort | {"epochs": 8})
    (finding,) = written(tmp_path, *runs)[UNSUITED].findings
    assert finding.verdict == holds
    assert finding.said.endswith("; epochs 8 and 9; training 30 s and 30 s")
    assert (finding.figures["epochs"], finding.figures["train_seconds"]) == ([8, 9], [30.0, 30.0])


def test_what_is_not_alike_is_not_compared(tmp_path):
    for settings in ({"transforms": 10}, {"learning_rate": 0.1}):
        folder = tmp_path / next(iter(settings))
        said = written(folder, ("maf", 0.0, {}), ("iaf", -1.0, {"settings": settings}))
        assert [each.verdict for each in said[UNSUITED].findings] == ["not measured"]
    folder = tmp_path / "realnvp"
    said = written(folder, ("maf", 0.0, {}), ("realnvp", 1.0, {"settings": {"transforms": 10}}))
    (finding,) = said[FLEXIBLE].findings
    assert (finding.verdict, "`flowbench sweep maf realnvp --data patches`" in finding.said) == ("not measured", True)
    said = written(folder, ("realnvp", 1.0, {"data": "other"}))
    assert [each.verdict for each in said[FLEXIBLE].findings] == ["not measured"]


def test_without_the_rows_the_error_is_that_of_two_means(tmp_path):
    runs = ("maf", -0.02, {}), ("realnvp", 0.0, {})
    (finding,) = written(tmp_path, *runs)[FLEXIBLE].findings
    for path in tmp_path.glob("*.npy"):
        path.unlink()
    (unpaired,) = claims(store.read_all(tmp_path), [])[FLEXIBLE].findings
    assert (finding.verdict, unpaired.verdict) == ("does not hold", "holds")
    assert ("unpaired" in finding.said, "unpaired" in unpaired.said) == (False, True)
    each = float(np.std(rows(), ddof=1) / np.sqrt(1000))
    assert unpaired.figures["stderr_nats"] == pytest.approx(np.hypot(each, each), rel=1e-2)
    far = [run("maf", 0.0, data="mine"), run("realnvp", 0.5, data="mine")]
    assert verdicts(FLEXIBLE, far) == ["does not hold"]
    nothing = [run(flow, data="mine", test_ll_nats={"mean": 0.5}) for flow in ("maf", "realnvp")]
    assert verdicts(FLEXIBLE, nothing) == ["not measured"]


def test_chance_is_that_of_all_data_together(tmp_path):
    runs = [(flow, mean, {"data": data}) for data in ("a", "b") for flow, mean in (("maf", 0.0), ("iaf", -0.006))]
    written(tmp_path, *runs)
    records = store.read_all(tmp_path)
    alone = [claims(records, [], data)[UNSUITED].findings[0].figures["p_holm"] for data in ("a", "b")]
    together = claims(records, [])[UNSUITED].findings
    assert [each.figures["p_holm"] for each in together] == pytest.approx(list(holm(alone)))


def test_the_best_by_validation_is_taken_and_never_what_a_sweep_did_not_choose(tmp_path):
    runs = [("realnvp", 0.0, {})]
    runs += [("maf", mean, {"settings": {"rate": mean}, "validation_ll_nats": -mean}) for mean in (-0.5, 0.5)]
    best = written(tmp_path, *runs)[FLEXIBLE].findings[0].figures["difference_nats"]
    assert best == pytest.approx(-0.5, abs=1e-6)
    (worse,) = (path.stem for path in tmp_path.glob("maf*.json") if store.read(path).setup.config["rate"] == -0.5)
    (finding,) = claims(store.read_all(tmp_path), [], passed_over={worse})[FLEXIBLE].findings
    assert finding.figures["difference_nats"] == pytest.approx(0.5, abs=1e-6)


def test_what_no_record_can_tell_is_said_to_be_so():
    (posterior,) = found(POSTERIOR, times=[timed()])
    assert posterior.verdict == "not measured"


def dual(off, flow="maf", data="truth-banana", limit=1e-6, noise=0.0312, **changes):
    """A run that measured both divergences; a row of theirs is ``off`` by as much."""
    check = Check(value=off, limit=limit, passed=off is not None and off <= limit, what="both")
    kls = {f"kl_of_{of}_nats": Estimate(mean=mean, stderr=0.0011) for of, mean in (("data", 0.0312), ("noise", noise))}
    return run(flow, data=data, checks={"duality": check}, **kls, **changes)


def test_fitting_a_maf_is_fitting_its_implicit_iaf_as_far_as_runs_measured_it():
    (finding,) = found(DUALITY, [dual(2e-12)])
    assert (finding.verdict, finding.on) == ("holds", "maf 5 × (2×100) on truth-banana")
    sides = "KL(π_x ‖ p_x) 0.0312 ± 0.0022, KL(p_u ‖ π_u) 0.0312 ± 0.0022 nats"
    assert finding.said == f"{sides}; largest difference of a row 2e-12"
    assert (finding.figures["kl_of_noise_nats"], finding.figures["largest_difference_nats"]) == (0.0312, 2e-12)
    worse = dual(0.4, noise=0.5, status="failed")
    for runs in ([dual(1e-12), worse, dual(3e-12)], [worse, dual(1e-12)]):  # the worst of a dataset is told
        (finding,) = found(DUALITY, runs)
        assert (finding.verdict, finding.figures["largest_difference_nats"]) == ("does not hold", 0.4)
    (finding,) = found(DUALITY, [dual(None), worse])
    assert (finding.verdict, "row not finite" in finding.said) == ("does not hold", True)
    both = found(DUALITY, [dual(1e-12, data="truth-student"), dual(2e-12)])
    assert [each.on.rpartition(" ")[2] for each in both] == ["truth-banana", "truth-student"]
    assert len(found(DUALITY, [dual(1e-12, data="truth-student"), dual(2e-12)], data="truth-student")) == 1


def test_where_no_density_is_known_duality_is_not_measured():
    for records in ([], [run()], [dual(1e-12, flow="iaf")]):
        (finding,) = found(DUALITY, records, [timed()])
        assert finding.verdict == "not measured"
        assert "`flowbench train maf --data truth-gaussian`" in finding.said


def test_only_the_data_asked_for_is_looked_at():
    times = [timed(data="power~2"), timed(data="gas", sampling=9.0)]
    assert [each.on.rpartition(" ")[2] for each in found(MAF, times=times)[2:]] == ["power~2", "gas"]
    assert [each.on.rpartition(" ")[2] for each in found(MAF, times=times, data="power")[2:]] == ["power~2"]
    for records in ([], [run()]):
        with pytest.raises(NothingToCompareError):
            found(MAF, records, times, data="mien")


def test_records_of_times_are_read_from_their_folder(tmp_path):
    record = timed(jacobi=3.0)
    costs.write(record, tmp_path)
    write_run(tmp_path, lls=rows())
    times = []
    store.read_all(tmp_path, on_other=costs.into(times))
    assert times == [record]


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "csv", "json"])
def test_every_form_has_claims_figures_and_verdicts(tmp_path, form):
    records = [timing(10, 2.0, 3.0)]
    said = claims(by_path([run(data="mine", timings=records)]), [timed(passes=60.0, jacobi=6.0)])
    write_claims(said, [Output(form, tmp_path / "out")])
    text = (tmp_path / "out").read_text()
    if form == "json":
        first = json.loads(text)["claims"][0]
        assert first["claim"].startswith("MAF: a density is fast")
        assert [each["verdict"] for each in first["findings"]] == ["holds", "does not hold", "does not hold"]
        assert (first["findings"][0]["ratio"], first["findings"][0]["density_us_per_row"]) == (30.0, 2.0)
    elif form == "csv":
        first, *_, last = csv.DictReader(io.StringIO(text))
        assert (first["verdict"], first["ratio"], last["verdict"]) == ("holds", "30.0", "not measured")
    else:
        lines = text.splitlines()
        (title,) = (n for n, line in enumerate(lines) if "MAF: a density is fast, one pass" in line)
        (holds,) = (n for n, line in enumerate(lines) if "30.00" in line)
        assert title < holds
        assert "holds" in lines[holds]
        assert "not measured" in text
        assert "more than 3 times" in text


def test_devices_are_told_apart_where_there_are_several(tmp_path):
    other = timed().model_copy(update={"environment": ENVIRONMENT.model_copy(update={"device_name": "a card"})})
    for times, told in (([timed()], False), ([timed(), other], True)):
        write_claims(claims({}, times), [Output("table", tmp_path / "out")])
        assert ("a processor" in (tmp_path / "out").read_text()) is told
