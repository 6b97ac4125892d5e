"""The engine for CUDA: substitution with affine maps and relu or tanh units in one kernel each way."""
