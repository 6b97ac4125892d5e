"""That fitting a MAF to data is variational inference of its implicit IAF: two divergences, measured. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable

from flowbench.report.claims.findings import Claim, Finding, not_measured, verdict
from flowbench.report.layout import decimals
from flowbench.results.record import Estimate, RunRecord

SAID = "fitting a MAF to data is fitting the implicit IAF to the base: KL(π_x ‖ p_x) = KL(p_u ‖ π_u)"

CHECK = "duality"
"""The closing check by which a run holds both sides against each other, row by row."""


def dual(records: Iterable[RunRecord]) -> Claim:
    """That both divergences are the same, of the MAFs that measured it: on each data the run that is farthest off."""
    worst: dict[str, RunRecord] = {}
    for record in records:
        if record.task.flow == "maf" and CHECK in record.checks:
            there = worst.get(record.task.data)
            if there is None or _off(record) > _off(there):
                worst[record.task.data] = record
    findings = [_finding(worst[data]) for data in sorted(worst)]
    how = "it needs data whose density is known: `flowbench train maf --data truth-gaussian` measures it"
    return Claim(SAID, tuple(findings or [not_measured(how, "maf")]))


def _off(record: RunRecord) -> tuple[bool, float]:
    """Whether beyond the limit, and by how much both sides differ; what is not finite is more than all."""
    check = record.checks[CHECK]
    return not check.passed, math.inf if check.value is None else check.value


def _finding(record: RunRecord) -> Finding:
    check, found = record.checks[CHECK], record.likelihoods
    data, noise = found.kl_of_data_nats, found.kl_of_noise_nats
    figures = {
        "run": record.run,
        "data": record.task.data,
        "kl_of_data_nats": None if data is None else data.mean,
        "kl_of_data_stderr_nats": None if data is None else data.stderr,
        "kl_of_noise_nats": None if noise is None else noise.mean,
        "kl_of_noise_stderr_nats": None if noise is None else noise.stderr,
        "largest_difference_nats": check.value,
        "limit_nats": check.limit,
    }
    sides = f"KL(π_x ‖ p_x) {_nats(data)}, KL(p_u ‖ π_u) {_nats(noise)} nats"
    largest = "not finite" if check.value is None else f"{check.value:.0e}"
    said = f"{sides}; largest difference of a row {largest}"
    return Finding(f"{record.model} on {record.task.data}", verdict(check.passed), said, figures)


def _nats(found: Estimate | None) -> str:
    """A mean ± 2 standard errors."""
    if found is None or found.mean is None:
        return "not finite"
    if not found.stderr:
        return f"{found.mean:.4f}"
    places = decimals(2 * found.stderr)
    return f"{found.mean:.{places}f} ± {2 * found.stderr:.{places}f}"
