"""``flowbench list``."""

from __future__ import annotations

from flowbench.cli.options import Json
from flowbench.console import print_json, stdout


def list_(as_json: Json = False) -> None:
    """List the flows, and the datasets with their sizes, sources and licences, and whether their raw files are here."""
    from flowbench.report import catalogue

    if as_json:
        print_json(catalogue.document())
    else:
        console = stdout()
        console.print(catalogue.render(console))
