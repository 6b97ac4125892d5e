"""What a shell completes: names of flows, datasets, recipes and runs. They are read from folders; no torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def flows(incomplete: str) -> list[str]:
    """The flows whose names begin so."""
    from flowbench import plugins
    from flowbench.config import PACKAGE

    own = [path.stem for path in (PACKAGE / "flows").glob("[!_]*.py")]
    return sorted(name for name in (*own, *plugins.find("flows", own)) if name.startswith(incomplete))


def posteriors(incomplete: str) -> list[str]:
    """The posteriors whose names begin so."""
    from flowbench.variational.options import GAUSSIANS

    return [name for name in (*GAUSSIANS, *flows(incomplete)) if name.startswith(incomplete)]


def targets(incomplete: str) -> list[str]:
    """The targets whose names begin so."""
    from flowbench.variational.targets import names

    return [name for name in names() if name.startswith(incomplete)]


def datasets(incomplete: str) -> list[str]:
    """The datasets whose names begin so."""
    from flowbench.data import registry

    return [name for name in registry.names() if name.startswith(incomplete)]


def recipes(incomplete: str) -> list[str]:
    """The recipes whose names begin so."""
    from flowbench import config

    return [name for name in config.recipes() if name.startswith(incomplete)]


def runs(incomplete: str) -> list[str]:
    """The runs in the folder of results whose names begin so."""
    from flowbench.results.store import results_dir

    return _matching(results_dir().glob("[!.]*.json"), incomplete)


def _matching(paths: Iterable[Path], incomplete: str) -> list[str]:
    return sorted(path.stem for path in paths if path.stem.startswith(incomplete))
