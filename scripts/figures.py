"""Write the README's figures from the committed records: ``python scripts/figures.py``, or ``--check`` that they are.

A block begins with ``<!-- figures: NAME -->`` and ends with ``<!-- end -->``; what stands between them is written here.
"""

from __future__ import annotations

import io
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from flowbench.report.layout import duration, significant
from flowbench.report.ranking.columns import device, ranking
from flowbench.report.ranking.sheet import render
from flowbench.report.ranking.tables import tables
from flowbench.report.runs import target_of
from flowbench.report.variational.tables import fits, paired, posteriors
from flowbench.results import costs
from flowbench.results.published import published, published_posteriors
from flowbench.results.record import Estimate, RunRecord
from flowbench.results.store import read_all
from flowbench.results.trainings import Others
from flowbench.results.variational import PosteriorTiming, TargetRecord

ROOT = Path(__file__).parents[1]
README, REFERENCE = ROOT / "README.md", ROOT / "results" / "reference"
WIDTH = 120
BLOCK = re.compile(r"(<!-- figures: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)

Records = Mapping[Path, RunRecord]


def written(readme: str, records: Records) -> str:
    """The README with its figures as the records have them."""
    return BLOCK.sub(lambda block: block[1] + _figures(block[2], records) + block[3], readme)


def _figures(name: str, records: Records) -> str:
    what, _, data = name.partition(" ")
    kinds: dict[str, Callable[[], str]] = {
        "compare": lambda: _compare(data, records),
        "likelihoods": lambda: _likelihoods(records),
        "truth": lambda: _truth(records),
        "directions": lambda: _directions(records),
        "peers": _peers,
        "posteriors": _posteriors,
        "targets": _targets,
    }
    return kinds[what]()


def _compare(data: str, records: Records) -> str:
    """What ``flowbench compare`` prints of one dataset."""
    out = io.StringIO()
    for table in tables(records, data):
        Console(file=out, width=WIDTH, color_system=None).print(render(ranking(table), WIDTH))
    lines = (line.rstrip() for line in out.getvalue().splitlines())
    return "\n".join(["```", *lines, "```", ""])


OWN = "resmade"
"""What the names of flowbench's own flows begin with."""


def _by_data(records: Records) -> dict[str, dict[str, RunRecord]]:
    """Of each flow on each dataset the run that is best on validation rows; the best of our own as ``OWN``, too."""
    found: dict[str, dict[str, RunRecord]] = {}
    for record in sorted(records.values(), key=lambda record: record.likelihoods.validation_ll_nats or -math.inf):
        if record.status == "ok":
            runs = found.setdefault(record.task.data, {})
            runs[record.task.flow] = record
            if record.task.flow.startswith(OWN):
                runs[OWN] = record
    return dict(sorted(found.items()))


def _likelihoods(records: Records) -> str:
    rows: list[tuple[str, ...]] = []
    for data, runs in _by_data(records).items():
        if data.startswith("truth-") or "maf" not in runs:
            continue
        maf = runs["maf"]
        # by its name: a later re-run is the same flow with as many transforms
        paper = [entry for entry in published(data) if entry.model == "MAF (5)" and not entry.conditional]
        beside = f"{paper[0].test_ll_nats:g} ± {paper[0].two_stderr_nats:g}" if paper else ""
        flows = "realnvp", "maf", "iaf", "made-mog", "maf-mog", "nsf-ar", OWN
        cells = (_interval(runs[flow].likelihoods.test_ll_nats) if flow in runs else "" for flow in flows)
        gaussian = _interval(maf.likelihoods.gaussian_test_ll_nats)
        took = (duration(runs[flow].training.train_seconds) if flow in runs else "" for flow in ("maf", OWN))
        rows.append((f"`{data}`", gaussian, *cells, *took, beside))
    names = "RealNVP", "MAF", "IAF", "MADE MoG", "MAF MoG", "NSF", "ResMADE"
    head = "data", "Gaussian", *names, "the MAF's training", "the ResMADE's", "published MAF (5), 2017"
    return _markdown(head, rows)


def _truth(records: Records) -> str:
    rows = []
    for data, runs in _by_data(records).items():
        if data.startswith("truth-") and "maf" in runs and "gaussian" in runs:
            truth = runs["maf"].likelihoods.true_test_ll_nats
            below = (
                _interval(runs[flow].likelihoods.nats_below_truth, 4) if flow in runs else ""
                for flow in (OWN, "maf", "gaussian")
            )
            rows.append((f"`{data}`", f"{truth:.3f}", *below))
    return _markdown(("data", "truth", "ResMADE below it", "MAF below it", "Gaussian below it"), rows)


def _directions(records: Records) -> str:
    rows = []
    for data, runs in _by_data(records).items():
        for flow in ("maf", "iaf", "realnvp"):
            if flow in runs and not data.startswith("truth-"):
                record = runs[flow]
                largest = max(record.timings, key=lambda timing: timing.batch)
                passes = f"{record.task.density_passes} / {record.task.sampling_passes}"
                costs = f"{largest.density_us_per_row:.3g}", f"{largest.sampling_us_per_row:.3g}"
                rows.append((f"`{data}`", record.model, passes, *costs, device(record.environment)))
    passes = "passes in the textbook, density / sampling"
    head = ("data", "model", passes, "density, µs/row", "sampling, µs/row", "on")
    return _markdown(head, rows)


def _peers() -> str:
    """Each time that was taken beside peers, and how many times longer the fastest of them took."""
    rows = []
    for record in map(costs.read, sorted(REFERENCE.glob("time-*.json"))):
        for shape in record.shapes:
            sizes = f"{shape.options.get('transforms', 1)} × {tuple(shape.options.get('hidden', ()))}"
            flow, where = f"{shape.flow} {sizes}, D = {shape.dim}", device(record.environment)
            for batch in sorted({cost.batch for cost in shape.costs}):
                cells = [_beside_peers(shape, work, batch) for work in costs.WORKS]
                if any(cells):
                    rows.append((flow, f"{batch:,}", *cells, where))
    return _markdown(("flow", "rows", *(f"{work}, µs" for work in costs.WORKS), "on"), rows)


def _beside_peers(shape: costs.Shape, work: str, batch: int) -> str:
    costs_there = [cost for cost in shape.costs if (cost.work, cost.batch) == (work, batch) and cost.inverse is None]
    others = [(cost.us / cost.ours_us, cost) for cost in costs_there if cost.ours_us]
    if not others:
        return ""
    ratio, fastest = min(others, key=lambda pair: pair[0])
    return f"{significant(fastest.ours_us)}; {fastest.model} {significant(ratio)}×"


def _others() -> Others:
    found = Others()
    read_all(REFERENCE, on_other=found.keep)
    return found


def _posteriors() -> str:
    """Bounds, and what a sample with its density and the density of a point cost."""
    rows = []
    for table in posteriors(_others().posteriors):
        for row in table.rows:
            record, bound = row.record, row.record.bound
            diagonal = next((each for each in table.rows if each.record.task.flow == "diagonal"), row)
            found = None if diagonal is row else paired(row, diagonal)
            gain = "" if found is None else f"{found.mean:+.3f} ± {2 * found.stderr:.3f}"
            estimates = map(_interval, (bound.bound_nats, bound.log_likelihood_nats, bound.kl_nats))
            below = _interval(bound.nats_below_truth, 4)
            rows.append((f"`{table.data}`", record.model, *estimates, below, gain, *_ways(record.costs)))
        for entry in published_posteriors(table.data):
            pairs = (entry.bound_nats, entry.log_likelihood_nats)
            cells = (f"{mean:.2f} ± {error:.2f}" for mean, error in pairs)
            rows.append((f"`{table.data}`", f"{entry.label} (published)", *cells, *[""] * 6))
    costs = "sample with density", "density of a point", "the slow one by D passes"
    head = "data", "posterior", "bound", "log p(x), estimated", "KL", "below the truth", "above the diagonal"
    return _markdown((*head, *costs), rows)


def _targets() -> str:
    """How near each flow came to each target: KL(q ‖ p), or the bound where log Z is not known; and KL(p ‖ q)."""
    rows = []
    for table in fits(_others().fits):
        found = {(record.task.flow, record.setup.config["max_seconds"] is not None): record for record in table.records}
        by_steps = [found.get((flow, False)) for flow in ("diagonal", "full-gaussian", "iaf", "maf")]
        by_time = [found.get((flow, True)) for flow in ("iaf", "maf")]
        reached = (_reached(record) for record in (*by_steps, *by_time))
        forward = (_interval(record.fit.forward_kl_nats if record else None, 4) for record in by_steps[2:])
        rows.append((f"`{target_of(table.data)}`", *reached, *forward))
    by_steps_too = "diagonal", "full Gaussian", "IAF", "MAF"
    return _markdown(("target", *by_steps_too, "IAF in 20 s", "MAF in 20 s", "IAF, KL(p ‖ q)", "MAF, KL(p ‖ q)"), rows)


def _reached(record: TargetRecord | None) -> str:
    if record is None:
        return ""
    fit = record.fit
    return _interval(fit.kl_nats, 4) if fit.kl_nats else f"bound {_interval(fit.bound_nats, 4)}"


def _ways(costs: Sequence[PosteriorTiming]) -> tuple[str, str, str]:
    """Microseconds a row at the largest batch: a sample, a density, and the slow one by the textbook's passes."""
    largest = max((cost.batch for cost in costs), default=0)
    at = {(cost.direction, cost.way == "passes"): cost.us_per_row for cost in costs if cost.batch == largest}
    slow = at.get(("sample", True), at.get(("density", True)))
    return significant(at.get(("sample", False))), significant(at.get(("density", False))), significant(slow)


def _interval(estimate: Estimate | None, places: int | None = None) -> str:
    if estimate is None or estimate.mean is None:
        return ""
    if places is None:
        places = 1 if estimate.stderr is None or estimate.stderr > 0.3 else 2 if estimate.stderr > 0.05 else 3
    error = "" if estimate.stderr is None else f" ± {2 * estimate.stderr:.{places}f}"
    return f"{estimate.mean:.{places}f}{error}"


def _markdown(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> int:
    """Write the README, or with ``--check`` only say whether it is current (exit code 1 if it is not)."""
    readme = README.read_text(encoding="utf-8")
    current = written(readme, read_all(REFERENCE))
    if "--check" in sys.argv[1:]:
        return int(current != readme)
    README.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
