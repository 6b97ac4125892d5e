"""What a sweep shows while it is under way: on a terminal a live table, elsewhere a line as a run begins and ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flowbench.console import clock, is_live, note, printable, stderr
from flowbench.progress import Moving
from flowbench.sweep.conduct import Stage, State

ORDER: tuple[Stage, ...] = (
    "running", "starting", "failed", "diverged", "interrupted", "elsewhere", "ok", "finished", "waiting"
)  # fmt: skip
"""What is shown first where the terminal has not room for all runs."""


class Board(Moving):
    """The states of a sweep's runs on stderr."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._live = self._table = Live(console=stderr, refresh_per_second=4, transient=True) if is_live() else None

    def show(self, states: Sequence[State], changed: State | None) -> None:
        """The states as they are; ``changed`` has begun or ended."""
        if self._table:
            self._table.update(_page(states, self._counts(states), stderr.height - 6))
        elif changed is not None:
            note(f"{_line(changed)} ({self._counts(states)})")

    def _counts(self, states: Sequence[State]) -> str:
        found = Counter(state.stage for state in states)
        parts = [f"{found[stage]} {stage}" for stage in ORDER if found[stage]]
        left = _seconds_left(states, self._slots)
        return " · ".join([*parts, *([] if left is None else [f"about {clock(left)} left"])])


def _page(states: Sequence[State], counts: str, room: int) -> Group:
    """The counts, and as many runs as there is room for; those that matter most, in their order."""
    by_rank = sorted(states, key=lambda state: (ORDER.index(state.stage), state.job.number))
    shown = sorted(by_rank[: max(1, room)], key=lambda state: state.job.number)
    more = [Text(f"and {len(states) - len(shown)} more")] if len(shown) < len(states) else []
    return Group(Text(counts), _table(shown), *more)


def _table(states: Sequence[State]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("flow", "data", "settings", "seed", "", "", "time", "left"):
        table.add_column(name, overflow="ellipsis", no_wrap=True)
    for state in states:
        order, told = state.job.order, state.told
        left = told.seconds_left if told and state.stage == "running" else None
        cells = (order.flow, order.data, state.job.settings, str(order.seed), _stage(state), _progress(state))
        seconds = _seconds(state)
        times = clock(seconds) if seconds else "", "" if left is None else clock(left)
        table.add_row(*(Text(printable(cell)) for cell in (*cells, *times)))
    return table


def _line(state: State) -> str:
    parts = [f"{state.job.label}: {_stage(state)}", _progress(state)]
    return " · ".join([*filter(None, parts), *([clock(_seconds(state))] if state.ended else [])])


def _stage(state: State) -> str:
    return state.stage + (f" (retried {state.retried}×)" if state.retried else "")


def _progress(state: State) -> str:
    if state.stage in ("failed", "diverged", "elsewhere") and state.error:
        return state.error.partition("\n")[0]
    told = state.told
    if told is None or state.stage in ("waiting", "finished"):
        return ""
    return f"epoch {told.epoch}{f'/{told.of}' if told.of else ''} · validation {told.validation_ll_nats:.3f} nats"


def _seconds(state: State) -> float:
    return state.seconds + (time.monotonic() - state.began if state.began is not None else 0.0)


def _seconds_left(states: Sequence[State], slots: int) -> float | None:
    """By what runs that have ended took on average; None before there is one."""
    took = [state.seconds for state in states if state.stage in ("ok", "diverged", "failed")]
    if not took or all(state.ended for state in states):
        return None
    each = sum(took) / len(took)
    ahead = [max(0.0, each - _seconds(state)) for state in states if not state.ended]
    return max(sum(ahead) / slots, *ahead)
