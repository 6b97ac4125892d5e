"""Some stages of a chain on one tile of rows, there and back: the functions that are called by their addresses.

They are most of the code; as functions like others they would be compiled again into each of their callers.
"""

from __future__ import annotations

from flowbench.engines.numba.chain.backward import pull_stage
from flowbench.engines.numba.chain.forward import move
from flowbench.engines.numba.chain.found import Tile, chain_at, integers, memory_at, row_of
from flowbench.engines.numba.chain.normalise import pull_normalised, slopes
from flowbench.engines.numba.chain.registers import call, product_address
from flowbench.engines.numba.chain.tables import NORMALISED
from flowbench.engines.numba.vectors import address_of, jit


def _move(chain_address, memory_address, weights_address, base, pitch, width, rows, product, begin, end, zero):
    chain = chain_at(chain_address)
    memory, weights = memory_at(memory_address, chain.dim, zero), integers(weights_address, 1)
    tile = Tile(base, pitch, width, rows, zero, product)
    log_det = row_of(tile, chain.log_det)
    for index in range(begin, end):
        stage = chain.stages[index]
        move(tile, chain, stage, weights, log_det, memory.statistics[stage.norm])


def _pull(
    chain_address,
    memory_address,
    weights_address,
    base,
    pitch,
    width,
    rows,
    product,
    begin,
    end,
    number,
    thread,
    total,
    zero,
):
    chain = chain_at(chain_address)
    memory, weights = memory_at(memory_address, chain.dim, zero), integers(weights_address, 1)
    tile = Tile(base, pitch, width, rows, zero, product)
    pulled = row_of(tile, chain.log_det + 1)
    turned, gradient, first = memory.turned[thread], memory.gradients[thread], number == thread
    for index in range(end - 1, begin - 1, -1):
        stage = chain.stages[index]
        if stage.kind == NORMALISED:
            statistics, sums = memory.statistics[stage.norm], memory.sums[1, number, stage.norm]
            slopes(tile, stage, weights, statistics, sums)
            if not stage.by_batch:
                pull_normalised(tile, stage, weights, statistics, sums, memory.bounds[-1], total)
        else:
            pull_stage(tile, chain, stage, weights, pulled, turned, gradient, first)


def addresses(dtype, back):
    """Of the product, of `move_tile` and, if it is wanted, of `pull_tile` (else 0), for a dtype of numpy's."""
    pulls = address_of(_pull, dtype, integers=12, doubles=1) if back else 0
    return product_address(dtype), address_of(_move, dtype, integers=10), pulls


@jit
def move_tile(code, places, tile, begin, end):
    """Stages begin..end−1, forth; ``code`` is where the function is, ``places`` where chain, memory and weights are."""
    what = places[0], places[1], places[2], tile.base, tile.pitch, tile.width, tile.rows, tile.product, begin, end
    call(code, what, (tile.zero,))


@jit
def pull_tile(code, places, tile, span, number, thread, total):
    """Stages span[0]..span[1]−1, back, of the tile of that number; of a normalisation by the batch only the sums.

    ``total`` is the sum of log_det's cotangents over all rows.
    """
    shape = places[0], places[1], places[2], tile.base, tile.pitch, tile.width, tile.rows, tile.product
    call(code, (*shape, span[0], span[1], number, thread), (total, tile.zero))
