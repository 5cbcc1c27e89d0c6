"""Where a traced function meets whatever runs graphs: the compiler registers itself here, so nothing imports it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from layerflow import config
from layerflow.errors import TraceError
from layerflow.graph import trace
from layerflow.graph.ir import Graph
from layerflow.graph.ops import random
from layerflow.graph.ops.primitive import placeholder
from layerflow.graph.symbolic import INPUT, Op, SymbolicTensor
from layerflow.graph.tensor import wrap
from layerflow.graph.variable import Variable

# run(graph, arguments, scalars by input name) -> arrays of the outputs; updates are written into the variables.
Runner = Callable[[Graph, Sequence[np.ndarray], dict[str, float], Mapping[Op, np.ndarray]], list[np.ndarray]]
_runner: list[Runner] = []


Bound = Callable[[Sequence[np.ndarray], Sequence[np.ndarray], dict[str, Any]], list[np.ndarray]]
_binder: list[Callable[[Graph, Sequence[Op]], Bound]] = []


def set_runner(run: Runner, bind: Callable[[Graph, Sequence[Op]], Bound]) -> None:
    _runner[:], _binder[:] = [run], [bind]


def bind(graph: Graph, constants: Sequence[Op] = ()) -> Bound:
    """The graph ready to be run many times: a function of (arguments, arrays of the constants, scalars)."""
    return _registered(_binder)(graph, constants)


def _registered(what: list[Any]) -> Any:
    if not what:
        raise TraceError("no compiler is registered; import layerflow, not layerflow.graph alone.")
    return what[0]


def run(
    graph: Graph,
    arguments: Sequence[np.ndarray],
    scalars: dict[str, float] | None = None,
    captured: Mapping[Op, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Runs a graph on arrays with the registered runner; `captured` replaces arrays captured when it was traced."""
    return _registered(_runner)(graph, arguments, scalars or {}, captured or {})


def as_array(value: Any) -> np.ndarray:
    """An argument as an array: Python's numbers as floats."""
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind not in "fiub":
        raise TraceError(f"an argument of type {type(value).__name__} is not an array of numbers.")
    if array.dtype == np.float64 and not isinstance(value, (np.ndarray, np.generic)):
        array = array.astype(config.floatx())
    return array.astype(config.floatx()) if array.dtype.kind in "iu" and isinstance(value, int) else array


def listed(value: Any) -> Any:
    """Nested lists of numbers are arrays; lists of arrays stay lists."""

    def numeric(v: Any) -> bool:
        return all(map(numeric, v)) if isinstance(v, list) else isinstance(v, (int, float))

    return np.asarray(value, config.floatx()) if isinstance(value, list) and value and numeric(value) else value


def _traced(f: Callable, args: Sequence[Any], kwargs: dict[str, Any]):
    """Traces f on placeholders of the arguments' shapes: (trace, symbols, arrays, result)."""
    args = [listed(a) for a in args]
    leaves, rebuild = trace.flatten(list(args))
    arrays = [as_array(v) for v in leaves]
    symbols = [placeholder(a.shape, a.dtype, f"argument{i}") for i, a in enumerate(arrays)]
    with trace.tracing() as record:
        result = f(*rebuild(list(symbols)), **kwargs)
    return record, symbols, arrays, result


def jit(f: Callable) -> Callable:
    """A compiled form of `f`, a function of arrays (or nested lists, tuples and dicts of them) to arrays.

    Traced once for each set of argument shapes and dtypes; arrays and variables that `f` captures are inputs of the
    compiled code.
    """
    traces: dict[tuple, tuple[Bound, Callable]] = {}

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        if trace.is_tracing() or any(isinstance(a, SymbolicTensor) for a in trace.flatten(list(args))[0]):
            return f(*args, **kwargs)
        args = tuple(listed(a) for a in args)
        leaves, _ = trace.flatten(list(args))
        arrays = [as_array(v) for v in leaves]
        key = (
            tuple((a.shape, a.dtype.str) for a in arrays),
            repr(trace.flatten(list(args))[1]([0] * len(arrays))),
            repr(sorted(kwargs.items())),
            (config.jit(), config.winograd(), config.check_numerics()),
        )
        if key not in traces:
            record, symbols, _, result = _traced(f, args, kwargs)
            outputs, rebuild = trace.flatten(result)
            traces[key] = (bind(record.graph(symbols, outputs)), rebuild)
        bound, rebuild = traces[key]
        return rebuild([wrap(y) for y in bound(arrays, (), draw())])

    return call


def draw() -> dict[str, float]:
    """Seed and a fresh step number for the random ops of one run."""
    return {"seed": random.seed_value(), "step": random.next_step()}


@functools.cache
def _scalar(name: str, dtype: np.dtype) -> Op:
    """The input of a graph that holds a number of the optimizer."""
    return Op(INPUT, (), {"name": name}, (), dtype)


def apply_updates(record: trace.Trace, optimizer: Any, pairs: Sequence[tuple[Variable, Any]]) -> None:
    """Adds the optimizer's update of each (variable, gradient) to a trace: new weights, new slots, constraints."""
    dtype = np.result_type(np.float32, *(v.dtype for v, _ in pairs))
    step, rate = (SymbolicTensor(_scalar(name, dtype)) for name in ("iteration", "learning_rate"))
    record.updates.update(optimizer.updates(pairs, step, rate))


def step_scalars(optimizer: Any) -> dict[str, Any]:
    """What the next step of an optimizer reads: its number, the learning rate, the seed."""
    return {**optimizer.scalars(), **draw()}


def apply_gradients(optimizer: Any, pairs: Sequence[tuple[Variable, Any]]) -> None:
    """One optimizer step with given gradients."""
    arrays = [np.asarray(g, v.dtype) for v, g in pairs]
    symbols = [placeholder(a.shape, a.dtype, f"gradient{i}") for i, a in enumerate(arrays)]
    with trace.tracing() as record:
        apply_updates(record, optimizer, [(v, s) for (v, _), s in zip(pairs, symbols, strict=True)])
    run(record.graph(symbols, []), arrays, step_scalars(optimizer))
    optimizer.advance()
