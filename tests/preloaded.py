"""What is imported once, for all commands that ``forked`` runs: each would spend two seconds on it.

And flowbench's clock is told to be brief. After each training it times the flow for two seconds; for whether a row
with times is written, and is read again, a moment says as much. Lengths and medians have tests of their own.
"""

from __future__ import annotations

import gc

from flowbench import engines
from flowbench.training import clock

engines._numba()  # loading compiled kernels takes half a second
clock.SECONDS, clock.BLOCK_SECONDS = 0.01, 1e-3
gc.freeze()  # and no command looks for garbage in it
