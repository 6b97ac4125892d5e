"""The streams of random numbers that a seed gives: one for each use, independent of each other. No torch."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Use = Literal[
    "split",
    "noise",
    "initialisation",
    "shuffling",
    "absent",
    "projections",
    "sketch",
    "binarisation",
    "latents",
    "target",
    "exact draws",
]

_STREAMS = {use: number for number, use in enumerate(get_args(Use))}
"""Numbers that a stream keeps for ever: another one gives other numbers. New uses come last."""


def stream(seed: int, use: Use) -> int:
    """A seed of 64 bits for one use of randomness, from the seed (0 or more) of all.

    It is what numpy's ``SeedSequence(seed, spawn_key=(number of the use,))`` generates: the weights that a seed begins
    with do not tell the order of its batches, and neither tells which rows are held out.

    >>> stream(0, "split") == stream(0, "split"), stream(0, "split") == stream(0, "noise")
    (True, False)
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(_STREAMS[use],))
    return int(sequence.generate_state(1, np.uint64)[0])
