"""How often the likelihood gate is wrong, measured on real trainings: false alarms, and planted losses that it finds.

    python results/ci/calibration.py FOLDER [--tables 500]

trains three flows on six datasets with eight seeds each (144 small runs, kept in FOLDER: half an hour on two cores, and
an interrupted one goes on) and prints three Markdown tables. A simulated table has one line for each flow and dataset.
Its sides are seeds drawn without replacement, so nothing has changed between them and every ``worse`` is false. For the
second the new side's rows are lowered by a constant: what varies around it are real seeds and real rows. For the third
each seed's rows are moved to their line's common mean before: what varies are rows alone, as those of real runs do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from flowbench.report.gate.likelihoods import findings
from flowbench.report.gate.lines import Line
from flowbench.report.runs import Run, each_once, grouped
from flowbench.results import store
from flowbench.results.record import Estimate, configuration
from flowbench.results.statistics import mean_and_stderr

FLOWS = ("maf", "iaf", "realnvp")
DATASETS = ("truth-banana", "truth-gaussian", "truth-mixture", "truth-student", "patches", "power")
SEEDS = range(8)
SETTINGS = ("hidden=64,64", "transforms=3", "max_steps=1500")
ROWS = 10_000
LOSSES = (0.05, 0.2, 1.0)
SIDES = ((1, 1), (5, 1), (3, 2), (5, 3), (4, 4))
"""Seeds of the baseline, and new ones."""

Lines = list[tuple[Run, ...]]


def train(folder: Path, jobs: int) -> None:
    """Train what FOLDER lacks, so many at a time with one thread each."""

    def one(job: tuple[str, str, int]) -> None:
        flow, data, seed = job
        command = [sys.executable, "-m", "flowbench", "train", flow, "--data", data, "--seed", str(seed)]
        command += ["--threads", "1", "--allow-partial", "--out", str(folder)]
        done = subprocess.run([*command, *(part for each in SETTINGS for part in ("--set", each))], capture_output=True)
        print(f"{flow} {data} seed {seed}: exit code {done.returncode}", file=sys.stderr)

    everything = [(flow, data, seed) for seed in SEEDS for data in DATASETS for flow in FLOWS]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, everything))


def runs_of(folder: Path) -> Lines:
    """The runs of each flow and dataset."""
    found = [run for run in each_once(store.read_all(folder)) if run.record.status == "ok"]
    return grouped(found, lambda record: (record.task.data, record.task.flow, configuration(record)))


def shortened(groups: Lines, folder: Path, loss: float = 0.0, rows_alone: bool = False) -> Lines:
    """Copies of the runs in ``folder`` that were tested on `ROWS` rows at the most, lowered by ``loss`` nats.

    ``rows_alone``: all seeds have one mean.
    """

    def copied(run: Run) -> Run:
        lls = store.read_test_lls(run.record, run.path.parent)
        assert lls is not None
        lls = lls[:ROWS] - loss
        if rows_alone:
            lls = lls - lls.mean() - loss
        mean, stderr = mean_and_stderr(lls)
        likelihoods = run.record.likelihoods.model_copy(update={"test_ll_nats": Estimate(mean=mean, stderr=stderr)})
        task = run.record.task.model_copy(update={"n_test": len(lls)})
        record = run.record.model_copy(update={"task": task, "likelihoods": likelihoods})
        return Run(store.write(record, folder, lls), store.read(folder / f"{record.run}.json"))

    return [tuple(copied(run) for run in group) for group in groups]


def tables(null: Lines, new: Lines, sides: tuple[int, int], number: int) -> Iterator[list[Line]]:
    """Tables whose sides are different seeds of the same runs."""
    rng = np.random.default_rng(0)
    for _ in range(number):
        drawn = [rng.permutation(len(group))[: sum(sides)] for group in null]
        yield [
            Line(tuple(old[i] for i in order[: sides[0]]), tuple(now[i] for i in order[sides[0] :]))
            for old, now, order in zip(null, new, drawn, strict=True)
        ]


def false_alarms(null: Lines, number: int) -> Iterator[str]:
    """What is said where nothing has changed, as a table."""
    yield "| seeds before / now | tables that say `worse` | `same` | `undecided` | median of the least found, nats |"
    yield "| --- | --- | --- | --- | --- |"
    for sides in SIDES:
        alarms, verdicts, least = 0, Counter[str](), []
        for table in tables(null, null, sides, number):
            found = findings(table)
            alarms += any(finding.verdict == "worse" for finding in found)
            verdicts.update(finding.verdict for finding in found)
            least += [finding.measured.least_found or np.inf for finding in found if finding.measured]
        share = {verdict: count / sum(verdicts.values()) for verdict, count in verdicts.items()}
        yield (
            f"| {sides[0]} / {sides[1]} | {alarms / number:.1%} of {number} | {share.get('same', 0):.0%} of lines | "
            f"{share.get('undecided', 0):.0%} | {np.median(least):.2g} |"
        )


def losses_found(null: Lines, planted: dict[float, Lines], number: int) -> Iterator[str]:
    """How often planted losses are found, as a table; each line is a table of its own to the gate."""
    yield "| loss, nats | seeds before / now | found, all lines | found, lines that say they would | such lines |"
    yield "| --- | --- | --- | --- | --- |"
    for loss, new in planted.items():
        for sides in SIDES:
            found = [
                (finding.verdict == "worse", (finding.measured.least_found or np.inf) <= loss)
                for table in tables(null, new, sides, number)
                for line in table
                for finding in findings([line])
                if finding.measured
            ]
            promised = [hit for hit, promise in found if promise]
            kept = f"{np.mean(promised):.1%}" if promised else ""
            share, hits = len(promised) / len(found), np.mean([hit for hit, _ in found])
            yield f"| {loss} | {sides[0]} / {sides[1]} | {hits:.1%} | {kept} | {share:.0%} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--no-training", action="store_true")
    given = parser.parse_args(arguments)
    if not given.no_training:
        train(given.folder, given.jobs)
    groups = runs_of(given.folder)
    with TemporaryDirectory() as name:
        place = Path(name)
        null = shortened(groups, place / "null")
        planted = {loss: shortened(groups, place / str(loss), loss) for loss in LOSSES}
        rows_alone = [shortened(groups, place / f"rows-{loss}", loss, rows_alone=True) for loss in (0.0, LOSSES[0])]
        print(f"{len(groups)} lines, {min(map(len, groups))} seeds each\n", flush=True)
        print(*false_alarms(null, given.tables), "", sep="\n", flush=True)
        print(*losses_found(null, planted, given.tables // 5), "", sep="\n", flush=True)
        print(*losses_found(rows_alone[0], {LOSSES[0]: rows_alone[1]}, given.tables // 5), sep="\n", flush=True)


if __name__ == "__main__":
    main()
