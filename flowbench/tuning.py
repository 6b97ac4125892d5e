"""The constants that only speed depends on, each with the measurement that chose it.

All on two cores of an Intel Xeon with AVX-512 unless it says otherwise, medians, in turns in one process.
"""

STRIPS, STRIPPED = 4, 1 << 17
"""A layer of STRIPPED weights or more is kept in STRIPS strips (`transforms.packing`): 5/8 of the arithmetic.

4 strips took 0.70 of the time at (1024, 784) and 0.75 at (512, 512), 8 no less, 2 some 0.85; at (512, 43) they took
longer than the whole.
"""

TORCH_BLOCK = 32
"""Columns in a block of substitution where torch takes the steps. Smaller: more large products. Larger: more of the
work in short steps."""

TRITON_BLOCK = 16
"""Columns between two rounds of large products in the CUDA kernel: the least that tensor cores take. Not measured yet:
no GPU has run it."""

TRITON_SHAPE = {"UNITS": 16, "KNOWN": 32, "TILE": 32}
"""Of the tiles of a product there: the least that tensor cores take, and with it the most programs, since rows are few
where steps are many. Not measured yet either."""


def numba_block(dim: int) -> int:
    """Columns in a block of substitution where compiled steps do all inside it and torch's products the rest.

    At D = 43 and 63 blocks of 16 are best, where many hidden units belong to each column; at D = 784 blocks of 64,
    where there is one and the products would be thin. What is no multiple of 16 takes longer.
    """
    return 16 if dim < 128 else 32 if dim < 512 else 64


WALK_WORK = 1 << 22
"""Weights times rows up to which the steps of substitution do all of a network that chains do not know, without torch's
products between blocks."""

POINTWISE = 1 << 17
"""Numbers up to which what is done to each of them is compiled, on one thread: a call of torch's on a few thousand
numbers takes longer to make than to do. In torch's calls instead, on two cores of an AMD EPYC: a RealNVP's density at
D = 6 and 100 rows took 1.31 times as long, its step 1.17 times; a MAF's with 2×512 units at D = 43 1.12 and 1.07
times."""

THREADED = 1 << 18
"""Parameters of mixtures from which a kernel takes as many threads as torch: to begin two takes 0.1 ms.
The density of a mixture of ten and its gradient took 49 ms for 784 columns and 500 rows on one thread, and in torch's
calls 188 on two; for six columns, 15 components and 500 rows 0.46 against 1.33 (AMD EPYC)."""

TILE = 256
"""Rows that go through a compiled kernel together: their values stay in the nearest cache."""

LANES = 16
"""Hidden values have a whole number of so many rows: what remains of a row that vectors do not divide is slow."""

GRAPH_WARM = 2
"""Calls of each shape before a CUDA graph is captured: they compile kernels and make what is made once."""

CHAIN_TILE = 128
"""Rows that go through a chain together: of wider networks they still lie in the nearest caches."""

CHAIN_BLOCK = 24, 16
"""Columns that are one block of substitution in a chain, and those of a block where there are more."""

CHAIN_WORK = 1 << 20
"""Multiplications for which a chain takes another thread, some hundredths of a millisecond of them: one that still
looks out for work takes it at once, and one that sleeps within a tenth."""

ADAM_WORK = 1 << 18
"""Weights for which the optimizer takes another thread."""

RUN_GAP = 64
"""Forbidden weights up to which the optimizer goes through them, too: each run of weights takes some time to begin."""
