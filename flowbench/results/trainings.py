"""The records of all kinds of training, and what else a folder of results holds. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowbench.results import store
from flowbench.results.costs import TimeRecord
from flowbench.results.costs import into as times_into
from flowbench.results.documents import UnreadableRecordError, known, parsed
from flowbench.results.record import RunRecord, Trained
from flowbench.results.variational import PosteriorRecord, TargetRecord

KINDS: Mapping[str, type[Trained]] = {"run": RunRecord, "posterior": PosteriorRecord, "target": TargetRecord}
"""By the ``kind`` that a record says it is."""


TRAINED = frozenset(KINDS) - {"run"}
"""Those of trainings that are no runs."""


@dataclass
class Others:
    """What is in a folder beside runs: posteriors and fits to targets by their paths, and times.

    ``kinds`` are those that are wanted: the others are not even read through.
    """

    kinds: frozenset[str] = TRAINED
    posteriors: dict[Path, PosteriorRecord] = field(default_factory=dict)
    fits: dict[Path, TargetRecord] = field(default_factory=dict)
    times: list[TimeRecord] = field(default_factory=list)

    def keep(self, path: Path, found: dict[str, Any]) -> None:
        """Put a record of another kind where it belongs: what `store.read_all` is to do with it.

        Raises:
            UnreadableRecordError: it is damaged.
        """
        kind = found.get("kind")
        if not isinstance(kind, str) or kind not in self.kinds:
            return
        if kind == "posterior":
            self.posteriors[path] = _parsed(PosteriorRecord, path, found)
        elif kind == "target":
            self.fits[path] = _parsed(TargetRecord, path, found)
        else:
            times_into(self.times)(path, found)

    @property
    def trained(self) -> dict[Path, Trained]:
        """The trainings among them."""
        return {**self.posteriors, **self.fits}


def read_all(folder: Path, on_damage: Callable[[Path, UnreadableRecordError], None]) -> dict[Path, Trained]:
    """The records of all trainings under ``folder``; see `store.read_all`."""
    others = Others()
    return {**store.read_all(folder, on_damage, others.keep), **others.trained}


def _parsed(kind: type[store.T], path: Path, found: dict[str, Any]) -> store.T:
    return parsed(path, known(path, found), kind, lambda old: old)
