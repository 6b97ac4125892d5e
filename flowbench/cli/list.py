"""``flowbench list``."""

from __future__ import annotations

from flowbench.cli.options import Json
from flowbench.console import print_json, stdout


def list_(as_json: Json = False) -> None:
    """List the flows, and the datasets with their sizes, sources and licences, and whether their raw files are here.

    Last come the names of the targets of fit-target.
    """
    from flowbench.report import catalogue
    from flowbench.variational import targets

    if as_json:
        print_json(catalogue.document() | {"targets": targets.names()})
    else:
        console = stdout()
        console.print(catalogue.render(console))
        console.print(f"\ntargets of fit-target: {', '.join(targets.names())}")
