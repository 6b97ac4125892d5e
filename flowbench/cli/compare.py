"""``flowbench compare``."""

from __future__ import annotations

from flowbench.cli.options import Json, Out
from flowbench.console import print_json, stdout


def compare(out: Out = None, as_json: Json = False) -> None:
    """Compare all runs with each other and with the published numbers, in one table for each dataset."""
    from flowbench.report import compare as comparison
    from flowbench.report.show import show
    from flowbench.results import store as results

    tables = comparison.tables(results.read_all(results.results_dir(out)))
    if as_json:
        print_json(comparison.document(tables))
    else:
        show(tables, stdout())
