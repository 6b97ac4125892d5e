"""What the columns of a ranking are: plain cells, which every form of output is made of. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from flowbench.console import one_line, plural
from flowbench.report.layout import LAST, Column, Figure, decimals, duration, figured, significant
from flowbench.report.ranking.lines import Line, OverSeeds, mean
from flowbench.report.ranking.sheet import Sheet, sheet
from flowbench.report.ranking.tables import BELOW_GAUSSIAN, DOUBTED, Table
from flowbench.report.runs import code
from flowbench.results.published import Published, published_shape, unlabelled
from flowbench.results.record import Environment, Estimate, RunRecord

NEARLY_AS_FAST = 1.5
"""A direction is coloured as fast if it costs at most this many times what the same line's faster one does."""

STYLES = {"best": "bold", "tied": "underline", "not chosen": "dim", "": ""}
"""Of the figures of lines with these marks, in a terminal as in LaTeX."""

NOTHING = Figure(None, None)


def ranking(table: Table) -> Sheet:
    """The table with its heading, its papers by their numbers and its notes."""
    notes = [*papers(table), *(f"* {note}" for note in table.notes)]
    return sheet(heading(table), columns(table), len(table.lines), _sections(table), notes)


def papers(table: Table) -> list[str]:
    """The sources of published numbers by the numbers that the table has for them."""
    return [f"[{number}] {source}" for number, source in enumerate(_sources(table), start=1)]


def heading(table: Table) -> str:
    """The data, its size, and the unit of likelihoods."""
    task = table.task
    size = f"{plural(task.dim, 'column')}, {plural(task.n_test, 'test row')}"
    return one_line(f"{table.name}: {size}, nats in {task.space} space")


def columns(table: Table) -> list[Column]:
    """Of the lines, then the references, then the published numbers; without those that have nothing to say."""
    lines = table.lines
    records = [line.record for line in lines]
    names = [*(line.model for line in lines), *(reference.model for reference in table.references)]
    names += [_published_name(entry, _sources(table)) for entry in table.published]
    costs = [line.costs() for line in lines]
    batches = sorted({batch for each in costs for batch in each})
    where = Column("device", tuple(device(record.environment) for record in records), rank=21, folds=True, right=False)
    telling = [
        Column("recipe", tuple(record.setup.recipe for record in records), rank=17, folds=True, right=False),
        Column("seeds", tuple(map(_seeds, lines)), rank=16, folds=True, named=False, right=False),
        Column("settings", tuple(map(spelt_out, lines)), rank=15, folds=True, named=False, right=False),
        Column("revision", _revisions(records), rank=19, folds=True, right=False),
    ]
    found = [
        Column("model", tuple(names), right=False),
        *telling,
        Column("config", _hashes(records, [names, *(each.cells for each in (*telling, where))]), rank=20, folds=True),
        _validation_column(table),
        _test_column(table),
        Column("", tuple(map(_marks, lines)), rank=1, right=False),
        figured("s.d. of\nseeds", [_seeds_sd(line.test_ll_nats) for line in lines], rank=4),
        _to_best_column(table),
        figured("± 2 s.e. by\nphotograph", [_by_group(line.test_ll_nats) for line in lines], rank=8),
        _bits_column(table),
        _averaged_column(table),
        figured("nats below\ntruth", [_figure(line.nats_below_truth) for line in lines], rank=4),
        _training_column(lines),
        Column("passes\nd / s", tuple(map(_passes, records)), rank=9),
        *(_cost_column(direction, costs, batch, batches) for batch in batches for direction in (0, 1)),
        where,
    ]
    return [_padded(column, len(names)) for column in found if any(map(str.strip, column.cells))]


def validation_places(lines: Sequence[Line]) -> int:
    """The decimals of validation likelihoods: those of the test rows' likelihoods of the same lines."""
    errors = [2 * line.test_ll_nats.stderr for line in lines if line.test_ll_nats and line.test_ll_nats.stderr]
    return max(map(decimals, errors), default=2)


def spelt_out(line: Line) -> str:
    """The settings that differ, as ``--set`` takes them."""
    return " ".join(f"{key}={value}" for key, value in line.settings.items())


def device(environment: Environment) -> str:
    """Where figures were measured, in words."""
    name = environment.device_name or environment.device
    cpu, usual = environment.device.startswith("cpu"), environment.dtype == "float32"
    words = [*([plural(environment.threads, "thread")] if cpu else []), *([] if usual else [environment.dtype])]
    return f"{name} ({', '.join(words)})" if words else name


def _sources(table: Table) -> list[str]:
    """The papers of the published numbers, each once; its place is its number in the table."""
    return list(dict.fromkeys(entry.source for entry in table.published))


def _sections(table: Table) -> dict[int, str]:
    """The rows at which a part of the table begins, with its title: references, published numbers, estimated ones."""
    references, entries = len(table.lines), len(table.lines) + len(table.references)
    exact = sum(entry.density == "exact" for entry in table.published)
    found = {references: ""} if table.references else {}
    if exact:
        found[entries] = "published"
    if exact < len(table.published):
        found[entries + exact] = "published, estimated densities"
    return found


def _padded(column: Column, length: int) -> Column:
    """The cells as a terminal may have them, blank for references and published models that know nothing of them."""
    more = length - len(column.cells)
    cells = *map(one_line, column.cells), *[""] * more
    return replace(column, cells=cells, values=column.values and (*column.values, *[None] * more))


def _published_name(entry: Published, papers: Sequence[str]) -> str:
    secondhand = ", second-hand" if entry.secondhand else ""
    return f"{entry.model} [{papers.index(entry.source) + 1}{secondhand}]"


def _seeds(line: Line) -> str:
    seeds, runs = len(line.seeds), len(line.runs)
    if runs == 1:
        return f"seed {line.seeds[0]}"
    return f"{seeds} of {runs} seeds" if line.ended and seeds < runs else f"{runs} seeds"


def _revisions(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """Git's revision where lines come of several codes; with the code's digest where the revision is the same."""
    codes: dict[str, set[str]] = {}
    for record in records:
        codes.setdefault(_revision(record), set()).add(code(record))
    if len({each for found in codes.values() for each in found}) < 2:
        return ("",) * len(records)
    return tuple(
        f"{name} ({code(record)[:6]})" if len(codes[name]) > 1 else name
        for name, record in ((_revision(record), record) for record in records)
    )


def _revision(record: RunRecord) -> str:
    revision = record.environment.git_revision or code(record) or "unknown"
    return revision[:7] + "+" * revision.endswith("+")


def _hashes(records: Sequence[RunRecord], shown: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The configuration's hash, where nothing that is shown tells two lines apart."""
    lines = list(zip(*shown, strict=False))  # there are more names than lines
    seen = Counter(lines)
    return tuple(
        record.setup.config_hash[:8] if seen[line] > 1 else "" for record, line in zip(records, lines, strict=True)
    )


def _validation_column(table: Table) -> Column:
    means, places = [mean(line.validation_ll_nats) for line in table.lines], validation_places(table.lines)
    return figured("validation\nnats", [Figure(nats, None, places) for nats in means], rank=2, high=True)


def _test_column(table: Table) -> Column:
    figures = [_figure(line.test_ll_nats) for line in table.lines]
    figures += [_figure(reference.test_ll_nats) for reference in table.references]
    figures += [] if table.task.given else _published_figures(table)
    column = figured("test nats\n± 2 s.e.", figures, rank=0, high=True)
    cells = list(column.cells)
    for index, line in enumerate(table.lines):
        status = line.record.status
        cells[index] = cells[index] if status == "ok" else status
    return replace(column, cells=tuple(cells), styles=tuple(map(_style, table.lines)))


def _averaged_column(table: Table) -> Column:
    """What flows that were given the class say of the rows alone; this is what is published of such flows."""
    figures = [_figure(line.class_averaged_test_ll_nats) for line in table.lines]
    figures += [NOTHING] * len(table.references)
    figures += _published_figures(table) if table.task.given else []
    return figured("mean over\nclasses\n± 2 s.e.", figures, rank=2, high=True)


def _published_figures(table: Table) -> list[Figure]:
    shape = published_shape(unlabelled(table.task.data))
    places = shape.decimals if shape else None
    return [Figure(entry.test_ll_nats, entry.two_stderr_nats, places) for entry in table.published]


def _style(line: Line) -> str:
    alarming = line.is_below_gaussian or line.record.status != "ok"
    return " ".join(filter(None, [STYLES[line.mark], "red" if alarming else ""]))


def _marks(line: Line) -> str:
    signs = BELOW_GAUSSIAN * line.is_below_gaussian, DOUBTED * bool(line.doubts)
    return " ".join(filter(None, [line.mark, *signs]))


def _to_best_column(table: Table) -> Column:
    """Nats above (+) or below (−) the best line; of what is no density of this kind nothing."""
    best = table.best.test_ll_nats if table.best else None
    figures = [_difference(line) for line in table.lines]
    others = [reference.test_ll_nats.mean for reference in table.references]
    comparable = [entry.density == "exact" and not entry.conditional for entry in table.published]
    others += [entry.test_ll_nats if own else None for own, entry in zip(comparable, table.published, strict=True)]
    figures += [Figure(None if best is None or nats is None else nats - best.mean, None, 2) for nats in others]
    header = "to best\n± 2 s.e." if any(figure.error is not None for figure in figures) else "to best"
    return figured(header, figures, rank=3, sign="+", high=True)


def _difference(line: Line) -> Figure:
    if line.to_best is None:
        return NOTHING
    found = line.to_best.difference
    error = None if found is None else 2 * found.stderr
    return Figure(line.to_best.mean, error, decimals(error) if error else 2)


def _seeds_sd(found: OverSeeds | None) -> Figure:
    sd = found.seeds_sd if found else None
    return Figure(sd, None, decimals(sd) if sd else None)


def _by_group(found: OverSeeds | None) -> Figure:
    error = 2 * found.stderr_by_group if found and found.stderr_by_group else None
    return Figure(error, None, decimals(error) if error else None)


def _bits_column(table: Table) -> Column:
    figures = [_figure(line.bits_per_pixel) for line in table.lines] + [NOTHING] * len(table.references)
    figures += [Figure(entry.bits_per_pixel, None, 2) for entry in table.published]
    return figured("bits/pixel", figures, rank=7)


def _training_column(lines: Sequence[Line]) -> Column:
    seconds = tuple(line.train_seconds for line in lines)
    return Column("train", tuple(map(duration, seconds)), rank=12, values=seconds)


def _figure(found: OverSeeds | Estimate | None) -> Figure:
    if found is None:
        return NOTHING
    return Figure(found.mean, None if found.stderr is None else 2 * found.stderr)


def _passes(record: RunRecord) -> str:
    task = record.task
    return "" if task.density_passes is None else f"{task.density_passes} / {task.sampling_passes}"


def _cost_column(
    direction: int, costs: Sequence[dict[int, tuple[float, float]]], batch: int, batches: Sequence[int]
) -> Column:
    """The largest batch stays longest, then the smallest; what lies between leaves early."""
    rank = LAST if batch == batches[-1] else 6 if batch == batches[0] else 10
    found = [each.get(batch) for each in costs]
    values = tuple(None if each is None else each[direction] for each in found)
    fast = ("green" if each is not None and each[direction] <= NEARLY_AS_FAST * min(each) else "" for each in found)
    return Column(
        f"{('density', 'sample')[direction]}\nµs/row\n@ {batch}",
        tuple(map(significant, values)),
        rank,
        styles=tuple(fast),
        values=values,
    )
