"""The engine for CPUs: affine maps with relu or tanh units in kernels that numba compiles on the user's machine."""
