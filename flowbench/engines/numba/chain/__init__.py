"""Chains of transforms, each whole in one compiled call: `program` is what an engine asks, `kernels` what is done."""
