"""The compiler: op graph in, native code out.

Importing it loads neither Numba nor llvmlite; the first compilation does.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from layerflow import config
from layerflow.graph.ir import Graph
from layerflow.graph.symbolic import Op
from layerflow.jit.interpreter import Interpreted, interpret


def _pipeline() -> Any:
    """The compiler proper; loading it takes a quarter of a second, so only a compilation does."""
    return importlib.import_module("layerflow.jit.pipeline")


def program(graph: Graph, source_types: Mapping[Op, np.dtype] | None = None) -> Any:
    """A program that runs batches of the graph: compiled, or interpreted where LAYERFLOW_JIT=0."""
    return _pipeline().compile(graph, source_types) if config.jit() else Interpreted(graph)


def run(
    graph: Graph,
    arguments: Sequence[np.ndarray],
    scalars: dict[str, float],
    captured: Mapping[Op, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Runs a graph of known shapes once; `captured` replaces arrays that it captured when it was traced."""
    if config.jit():
        return _pipeline().run(graph, arguments, scalars, captured or {})
    return interpret(graph, arguments, scalars, captured=captured)


def bind(graph: Graph, constants: Sequence[Op]) -> Callable[..., list[np.ndarray]]:
    """A graph of known shapes ready to be run many times: a function of (arguments, arrays of constants, scalars)."""
    if config.jit():
        return importlib.import_module("layerflow.jit.bound").bind(graph, constants)

    def call(
        arguments: Sequence[np.ndarray], arrays: Sequence[np.ndarray], scalars: dict[str, Any]
    ) -> list[np.ndarray]:
        return interpret(graph, arguments, scalars, captured=dict(zip(constants, arrays, strict=True)))

    return call
