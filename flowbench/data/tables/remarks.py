"""What is remarked on in a table: no reason to refuse it, but one to doubt what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from flowbench.data.tables.fitness import followed
from flowbench.data.tables.kinds import Kinds
from flowbench.data.tables.profile import Profile
from flowbench.data.tables.tails import MERGED

NAMED = 10
"""Columns with a sentence of their own."""

Proposal = Callable[[str, str], str]
"""A column's name and its transform, as the caller of all this would ask for it."""


def remarks(profile: Profile, kinds: Kinds, proposal: Proposal) -> tuple[str, ...]:
    """Each in a sentence that names the columns; none of a table that is as it should be."""
    return (*_dependent(profile, kinds), *_heavy_tailed(profile, kinds, proposal), *_merged(profile, kinds))


def _dependent(profile: Profile, kinds: Kinds) -> Iterator[str]:
    """Columns that nearly follow from others, or do but for their noise; between masses, that is no danger."""
    for each in profile.dependences:
        members = [each.column, *each.others]
        if not kinds.mass[members].all():
            noisy = kinds.widths[members].any()
            rest = "the noise that they got" if noisy else f"{each.left:.0e} of its standard deviation"
            yield f"{followed(profile, each)}, but for {rest}: only that is left to be learnt of it. Leave it out"


def _heavy_tailed(profile: Profile, kinds: Kinds, proposal: Proposal) -> Iterator[str]:
    """Columns that a transform would bring in, and nothing does."""
    left = [i for i in range(len(profile.columns)) if not (i in kinds.transforms or i in kinds.bounds or kinds.mass[i])]
    proposed = {i: transform for i in left if (transform := profile.tails[i].transform)}
    if not proposed:
        return
    for i in list(proposed)[:NAMED]:
        name, tail = profile.columns[i], profile.tails[i]
        merged = f", and {tail.merged:.0%} are another's once standardised in float32" if tail.merged > MERGED else ""
        yield (
            f"column {name!r} has heavy tails: its farthest value is {tail.reach:.1g} times as far from the median as "
            f"half of them are{merged}. {proposal(name, proposed[i])} may help"
        )
    if len(proposed) > NAMED:
        yield f"{len(proposed) - NAMED:,} more columns have heavy tails"


def _merged(profile: Profile, kinds: Kinds) -> Iterator[str]:
    """Columns whose values are too near to each other for float32, where no tail is said to be the reason."""
    shares = np.array([0.0 if tail.transform else tail.merged for tail in profile.tails])
    shares[list(kinds.transforms)] = [kinds.merged.get(i, 0.0) for i in kinds.transforms]
    shares[(kinds.widths > 0) | [i in kinds.bounds for i in range(len(shares))]] = 0.0
    for i in np.flatnonzero(shares > MERGED):
        yield (
            f"{shares[i]:.0%} of the values of column {profile.columns[i]!r} are another's once standardised in "
            "float32: what sets them apart is lost. Round them to what they are known to, or bring the farthest nearer"
        )
