"""Chains of transforms whole in one compiled call: see `program` for what an engine asks, `kernels` for what is done."""
