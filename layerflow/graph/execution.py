"""Where a traced function meets whatever runs graphs: the compiler registers itself here, so nothing imports it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from layerflow import config
from layerflow.errors import TraceError
from layerflow.graph import autodiff, trace
from layerflow.graph.ir import Graph
from layerflow.graph.ops import random
from layerflow.graph.ops.primitive import placeholder
from layerflow.graph.symbolic import INPUT, Op, SymbolicTensor
from layerflow.graph.tensor import wrap
from layerflow.graph.variable import Variable

# run(graph, arguments, scalars by input name) -> arrays of the outputs; updates are written into the variables.
Runner = Callable[[Graph, Sequence[np.ndarray], dict[str, float], Mapping[Op, np.ndarray]], list[np.ndarray]]
_runner: list[Runner] = []


def set_runner(run: Runner) -> None:
    _runner[:] = [run]


def run(
    graph: Graph,
    arguments: Sequence[np.ndarray],
    scalars: dict[str, float] | None = None,
    captured: Mapping[Op, np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Runs a graph on arrays with the registered runner; `captured` replaces arrays captured when it was traced."""
    if not _runner:
        raise TraceError("no compiler is registered; import layerflow, not layerflow.graph alone.")
    return _runner[0](graph, arguments, scalars or {}, captured or {})


def _as_array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind not in "fiub":
        raise TraceError(f"an argument of type {type(value).__name__} is not an array of numbers.")
    if array.dtype == np.float64 and not isinstance(value, (np.ndarray, np.generic)):
        array = array.astype(config.floatx())
    return array.astype(config.floatx()) if array.dtype.kind in "iu" and isinstance(value, int) else array


def _listed(value: Any) -> Any:
    """Nested lists of numbers are arrays; lists of arrays stay lists."""

    def numeric(v: Any) -> bool:
        return all(map(numeric, v)) if isinstance(v, list) else isinstance(v, (int, float))

    return np.asarray(value, config.floatx()) if isinstance(value, list) and value and numeric(value) else value


def _traced(f: Callable, args: Sequence[Any], kwargs: dict[str, Any]):
    """Traces f on placeholders of the arguments' shapes: (trace, symbols, arrays, result)."""
    args = [_listed(a) for a in args]
    leaves, rebuild = trace.flatten(list(args))
    arrays = [_as_array(v) for v in leaves]
    symbols = [placeholder(a.shape, a.dtype, f"argument{i}") for i, a in enumerate(arrays)]
    with trace.tracing() as record:
        result = f(*rebuild(list(symbols)), **kwargs)
    return record, symbols, arrays, result


def jit(f: Callable) -> Callable:
    """A compiled form of `f`, a function of arrays (or nested lists, tuples and dicts of them) to arrays.

    Traced once for each set of argument shapes and dtypes; arrays and variables that `f` captures are inputs of the
    compiled code.
    """
    traces: dict[tuple, tuple[Graph, Callable]] = {}

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        if trace.is_tracing() or any(isinstance(a, SymbolicTensor) for a in trace.flatten(list(args))[0]):
            return f(*args, **kwargs)
        args = tuple(_listed(a) for a in args)
        leaves, _ = trace.flatten(list(args))
        arrays = [_as_array(v) for v in leaves]
        key = (
            tuple((a.shape, a.dtype.str) for a in arrays),
            repr(trace.flatten(list(args))[1]([0] * len(arrays))),
            repr(sorted(kwargs.items())),
        )
        if key not in traces:
            record, symbols, _, result = _traced(f, args, kwargs)
            outputs, rebuild = trace.flatten(result)
            traces[key] = (record.graph(symbols, outputs), rebuild)
        graph, rebuild = traces[key]
        return rebuild([wrap(y) for y in run(graph, arrays, draw())])

    return call


def draw() -> dict[str, float]:
    """Seed and a fresh step number for the random ops of one run."""
    return {"seed": random.seed_value(), "step": random.next_step()}


def value_and_grad(f: Callable) -> Callable:
    """A function of the same arguments giving (f(...), gradient with respect to the first argument)."""

    @functools.wraps(f)
    def call(x: Any, *rest: Any) -> tuple[Any, Any]:
        x = _listed(x)
        record, symbols, arrays, result = _traced(f, (x, *rest), {})
        leaves, rebuild = trace.flatten(x)
        with trace.tracing():
            gradient = autodiff.gradients(result, symbols[: len(leaves)])
        for i, g in enumerate(gradient):
            if g is None:
                raise TraceError(
                    f"cannot compute the gradient of y=f(x) with respect to x{'' if len(leaves) == 1 else f'[{i}]'}: "
                    "y does not depend on it."
                )
        out = run(record.graph(symbols, [result, *gradient]), arrays, draw())
        return wrap(out[0]), rebuild([wrap(g) for g in out[1:]])

    return call


def grad(f: Callable) -> Callable:
    """A function of the same arguments: the gradient of f (summed over its elements) with respect to the first one."""
    both = value_and_grad(f)

    @functools.wraps(f)
    def call(x: Any, *rest: Any) -> Any:
        return both(x, *rest)[1]

    return call


def _loss_of(f: Callable, variables: Sequence[Variable] | None) -> tuple[trace.Trace, Any, list[Variable]]:
    """Traces a closure and finds the variables to differentiate."""
    with trace.tracing() as record:
        loss = f()
    if not isinstance(loss, SymbolicTensor):
        raise TraceError(
            "cannot find a connection between any variable and the result of the loss function: it returned numbers, "
            "not a computation with variables."
        )
    if loss.shape != ():
        raise TraceError(f"the loss function must return a scalar, got shape {list(loss.shape)}; take its mean or sum.")
    found = trace.reachable_variables([loss.op])
    chosen = [v for v in (variables if variables is not None else found) if v.trainable]
    if not any(v in found for v in chosen):
        raise TraceError(
            "cannot find a connection between any trainable variable and the result of the loss function y=f(x)."
        )
    return record, loss, [v for v in chosen if v in found]


def gradients_of(f: Callable, var_list: Sequence[Variable] | None = None) -> tuple[Any, dict[Variable, Any]]:
    """(value of the scalar f(), {variable: gradient}) for the trainable variables f uses."""
    record, loss, variables = _loss_of(f, var_list)
    with trace.tracing():
        gradient = autodiff.gradients(loss, variables)
    kept = [(v, g) for v, g in zip(variables, gradient, strict=True) if g is not None]
    out = run(record.graph([], [loss, *(g for _, g in kept)]), [], draw())
    return wrap(out[0]), {v: wrap(g) for (v, _), g in zip(kept, out[1:], strict=True)}


def variable_grads(f: Callable, var_list: Sequence[Variable] | None = None) -> tuple[Any, dict[str, Any]]:
    """(value of the scalar f(), {variable name: gradient}) for the trainable variables f uses."""
    value, gradients = gradients_of(f, var_list)
    return value, {v.name: g for v, g in gradients.items()}


@functools.cache
def _scalar(name: str, dtype: np.dtype) -> Op:
    """The input of a graph that holds a number of the optimizer."""
    return Op(INPUT, (), {"name": name}, (), dtype)


def apply_updates(record: trace.Trace, optimizer: Any, pairs: Sequence[tuple[Variable, Any]]) -> None:
    """Adds the optimizer's update of each (variable, gradient) to a trace: new weights, new slots, constraints."""
    dtype = np.result_type(np.float32, *(v.dtype for v, _ in pairs))
    step, rate = (SymbolicTensor(_scalar(name, dtype)) for name in ("iteration", "learning_rate"))
    record.updates.update(optimizer.updates(pairs, step, rate))


def minimize(optimizer: Any, f: Callable, var_list: Sequence[Variable] | None = None) -> Any:
    """One optimizer step on the scalar f(); returns its value before the step.

    The closure is traced at each call; a structure seen before is not compiled again, whatever the data.
    """
    record, loss, variables = _loss_of(f, var_list)
    forward = record.graph([], [loss])
    key = (forward.signature, tuple(id(v) for v in variables), _identity(optimizer, forward))
    known = optimizer.__dict__.setdefault("_steps", {})
    if key not in known:
        if len(known) >= MAX_STEPS:
            known.clear()
        with trace.tracing():
            gradient = autodiff.gradients(loss, variables)
            apply_updates(
                record, optimizer, [(v, g) for v, g in zip(variables, gradient, strict=True) if g is not None]
            )
        known[key] = (record.graph([], [loss]), forward.constants)
    graph, constants = known[key]
    captured = {old: new.payload for old, new in zip(constants, forward.constants, strict=True)}
    out = run(graph, [], {**optimizer.scalars(), **draw()}, captured)
    optimizer.advance()
    return wrap(out[0])


MAX_STEPS = 64  # structures of closures that an optimizer remembers


def _identity(optimizer: Any, forward: Graph) -> tuple[Any, ...]:
    """What else a remembered step depends on: the variables themselves and the optimizer's constants."""
    return (tuple(id(op.payload) for op in forward.parameters), optimizer.version)


def apply_gradients(optimizer: Any, pairs: Sequence[tuple[Variable, Any]]) -> None:
    """One optimizer step with given gradients."""
    arrays = [np.asarray(g, v.dtype) for v, g in pairs]
    symbols = [placeholder(a.shape, a.dtype, f"gradient{i}") for i, a in enumerate(arrays)]
    with trace.tracing() as record:
        apply_updates(record, optimizer, [(v, s) for (v, _), s in zip(pairs, symbols, strict=True)])
    run(record.graph(symbols, []), arrays, optimizer.scalars())
    optimizer.advance()
