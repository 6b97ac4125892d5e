"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Folder of results [default: $FLOWBENCH_RESULTS_DIR or ./results].", show_default=False),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:0, mps.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.", show_default="torch's choice")]
