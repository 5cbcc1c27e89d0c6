"""The compiler: op graph in, native code out.

Importing it does not load llvmlite; the first compilation does.
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
from layerflow.jit.watch import Watched, watched_call


def _pipeline() -> Any:
    """The compiler proper; loading it takes a quarter of a second, so only a compilation does."""
    return importlib.import_module("layerflow.jit.pipeline")


def program(graph: Graph, source_types: Mapping[Op, np.dtype] | None = None) -> Any:
    """A program that runs batches of the graph: compiled, or interpreted where LAYERFLOW_JIT=0."""
    return _pipeline().compile(graph, source_types) if config.jit() else Interpreted(graph)


def watched(made: Any, graph: Graph, advance: Callable[[int], None]) -> Any:
    """A program that finds what made a NaN or infinity, where `config.check_numerics()`; else the program itself."""
    return Watched(made, graph, advance) if config.check_numerics() and graph.updates else made


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


def singles(compiled: Any, arrays: Sequence[np.ndarray], batch_size: int, order: np.ndarray | None) -> Any:
    """A short way to run single batches of the same arrays: see `layerflow.jit.singles`; None where there is none."""
    if isinstance(compiled, Interpreted):
        return None
    return importlib.import_module("layerflow.jit.singles").singles(compiled, arrays, batch_size, order)


def bind(graph: Graph, constants: Sequence[Op]) -> Callable[..., list[np.ndarray]]:
    """A graph of known shapes ready to be run many times: a function of (arguments, arrays of constants, scalars)."""
    call = importlib.import_module("layerflow.jit.bound").bind if config.jit() else _interpreted
    bound = call(graph, constants)
    return watched_call(bound, graph, constants) if config.check_numerics() else bound


def _interpreted(graph: Graph, constants: Sequence[Op]) -> Callable[..., list[np.ndarray]]:
    def call(
        arguments: Sequence[np.ndarray], arrays: Sequence[np.ndarray], scalars: dict[str, Any]
    ) -> list[np.ndarray]:
        return interpret(graph, arguments, scalars, captured=dict(zip(constants, arrays, strict=True)))

    return call
