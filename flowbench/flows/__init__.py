"""Flows: a transform over a base density. One file a model; the file's name is its name on the command line.

A flow's file gives ``Options`` (a ``FlowOptions``) and ``build(dim, options) -> Flow``, which has a third parameter
``given`` where the flow can be conditioned; its docstring names its paper.
"""

from flowbench.flows.core.flow import Flow
from flowbench.flows.core.registry import FlowFile, build, built, code, load, names

__all__ = ["Flow", "FlowFile", "build", "built", "code", "load", "names"]
