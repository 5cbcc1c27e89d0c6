"""Gradients of Python functions: of their arguments, of the variables they use, and one optimizer step on them."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from layerflow.errors import ShapeError, TraceError
from layerflow.graph import autodiff, execution, forms, ops, trace
from layerflow.graph.forms import Form, Memory
from layerflow.graph.ir import substitute, topological
from layerflow.graph.ops.primitive import as_op, placeholder
from layerflow.graph.symbolic import INPUT, Op, SymbolicTensor, intern, is_symbolic
from layerflow.graph.tensor import Tensor, wrap
from layerflow.graph.variable import Variable, revision


class ValueAndGrad(NamedTuple):
    """What `value_and_grad(f)` gives: a pair, also by TF.js's names."""

    value: Any
    grad: Any


class ValueAndGrads(NamedTuple):
    """What `value_and_grads(f)` and `variable_grads(f)` give: a pair, also by TF.js's names."""

    value: Any
    grads: Any


# --- gradients with respect to arguments -------------------------------------------------------------------------


class _Differentiated:
    """A function with its gradients with respect to the first `count` arguments (None: all of them)."""

    def __init__(self, f: Callable, name: str):
        self.f, self.name = f, name
        self.memory = Memory()
        self.inputs: dict[Any, SymbolicTensor] = {}

    def __call__(self, xs: Sequence[Any], rest: Sequence[Any], dy: Any) -> tuple[Any, list[Any], Callable]:
        """(value, gradients of the leaves of xs, the function that puts them in the places of the leaves)."""
        xs, rest = [execution.listed(x) for x in xs], [execution.listed(x) for x in rest]
        leaves, rebuild = trace.flatten([*xs, *rest])
        if any(map(is_symbolic, leaves)):
            return self._inside(xs, rest, dy)
        arrays = [execution.as_array(v) for v in leaves]
        count = len(trace.flatten(xs)[0])
        for i, array in enumerate(arrays[:count]):
            if array.dtype.kind != "f":
                raise TraceError(
                    f"{self.name}: x{'' if count == 1 else f'[{i}]'} is of dtype {array.dtype}; gradients are of "
                    'floats. Use lf.cast(x, "float32").'
                )
        symbols = [self._symbol(i, a) for i, a in enumerate(arrays)]
        with trace.tracing(self.memory.recall.captures()) as record:
            y = self.f(*rebuild(list(symbols)))
            weights = None if dy is None else execution.as_array(execution.listed(dy))
        y = self._checked(y, weights)
        if weights is not None:
            symbols.append(self._symbol(len(symbols), weights))
            arrays.append(weights)
        key = (y.op, tuple(s.op for s in symbols), count, dy is None, forms.updates(record), forms.mode())
        make = functools.partial(self._form, record, y, symbols, count, dy is None)
        form = make() if record.custom else self.memory.form(key, make)
        out = form(arrays, record, execution.draw())
        grads = [wrap(g) for g in out[1:]]
        return wrap(out[0]), grads, trace.flatten(xs)[1]

    def _inside(self, xs: Sequence[Any], rest: Sequence[Any], dy: Any) -> tuple[Any, list[Any], Callable]:
        """The same as part of a trace: gradients of gradients.

        The arguments become symbols of their own and are put back afterwards, so that f is not differentiated with
        respect to what else was computed from them.
        """
        leaves, rebuild = trace.flatten(list(xs))
        given = [as_op(v) for v in leaves]
        own = [SymbolicTensor(Op(INPUT, (), {"name": "inner"}, op.shape, op.dtype)) for op in given]
        y = self._checked(self.f(*rebuild(list(own)), *rest), None)
        gradient = autodiff.gradients(y, own, dy)
        gradient = [self._zeros(x) if g is None else g for g, x in zip(gradient, own, strict=True)]

        def again(op: Op, inputs: tuple[Op, ...]) -> Op:
            return intern(op.primitive, inputs, op.attrs, op.shape, op.dtype)

        replace = {s.op: op for s, op in zip(own, given, strict=True)}
        value, *found = map(SymbolicTensor, substitute([y.op, *(as_op(g) for g in gradient)], replace, again))
        return value, found, rebuild

    @staticmethod
    def _zeros(x: SymbolicTensor) -> Any:
        return ops.broadcast_to(ops.cast(ops.zeros_like(x), x.dtype), x.op.shape)

    def _symbol(self, i: int, array: np.ndarray) -> SymbolicTensor:
        key = (i, array.shape, array.dtype)
        if key not in self.inputs:
            self.inputs[key] = placeholder(array.shape, array.dtype, f"argument{i}")
        return self.inputs[key]

    def _checked(self, y: Any, dy: np.ndarray | None) -> SymbolicTensor:
        if not isinstance(y, SymbolicTensor):
            what = "several values" if isinstance(y, (tuple, list, dict)) else f"{type(y).__name__}"
            raise TraceError(
                f"{self.name}: the function returned {what}, not one tensor computed from its arguments; cannot "
                "compute the gradient of y=f(x) with respect to x."
            )
        if dy is not None and dy.shape != y.shape:
            raise ShapeError(f"{self.name}: dy has shape {list(dy.shape)}, but f(x) has {list(y.shape)}.")
        return y

    def _form(self, record: trace.Trace, y: Any, symbols: list[SymbolicTensor], count: int, ones: bool) -> Form:
        with trace.tracing():
            gradient = autodiff.gradients(y, symbols[:count], None if ones else symbols[-1])
            reached = set(topological([y.op]))
            for i, (g, x) in enumerate(zip(gradient, symbols, strict=False)):
                if g is None and x.op not in reached:
                    raise TraceError(
                        f"cannot compute the gradient of y=f(x) with respect to x{'' if count == 1 else f'[{i}]'}: "
                        "y does not depend on it."
                    )
                if g is None:  # through steps (floor, sign, comparisons) only: constant almost everywhere
                    gradient[i] = self._zeros(x)
        return Form(record.graph(symbols, [y, *gradient]), self.memory.recall)


def value_and_grad(f: Callable) -> Callable:
    """A function of the same arguments giving (value, grad): f(...), and its gradient for the first argument.

    Args:
        f: computes one tensor; if it is no scalar, the gradient is that of its sum, or of sum(dy * f(x)) when the
            made function is called with `dy=`.

    >>> lf.value_and_grad(lambda x: (x * x).sum())(lf.tensor([1, 2])).grad
    Tensor([2., 4.], dtype=float32)

    Raises:
        TraceError: f(x) does not depend on x, or an operation in between has no gradient.
    """
    made = _Differentiated(f, "value_and_grad")

    @functools.wraps(f)
    def call(x: Any, *rest: Any, dy: Any = None) -> ValueAndGrad:
        value, grads, rebuild = made([x], rest, dy)
        return ValueAndGrad(value, rebuild(grads)[0])

    return call


def grad(f: Callable) -> Callable:
    """A function of the same arguments: the gradient of f (summed over its elements) for the first one.

    `dy=` weights the elements of f(x), as the second argument does in TF.js.
    """
    both = value_and_grad(f)

    @functools.wraps(f)
    def call(x: Any, *rest: Any, dy: Any = None) -> Any:
        return both(x, *rest, dy=dy)[1]

    return call


def value_and_grads(f: Callable) -> Callable:
    """A function giving (value, grads): f(*xs), and the list of its gradients for all arguments.

    The made function takes the arguments themselves, or one list of them as in TF.js: `g([a, b])` or `g(a, b)`.
    """
    made = _Differentiated(f, "value_and_grads")

    @functools.wraps(f)
    def call(*xs: Any, dy: Any = None) -> ValueAndGrads:
        arguments = list(xs[0]) if len(xs) == 1 and isinstance(xs[0], (list, tuple)) else list(xs)
        value, grads, rebuild = made(arguments, (), dy)
        return ValueAndGrads(value, rebuild(grads))

    return call


def grads(f: Callable) -> Callable:
    """A function giving the list of the gradients of f for all its arguments; see `value_and_grads`."""
    both = value_and_grads(f)

    @functools.wraps(f)
    def call(*xs: Any, dy: Any = None) -> list[Any]:
        return both(*xs, dy=dy).grads

    return call


# --- gradients with respect to variables -------------------------------------------------------------------------


def _checked_loss(loss: Any) -> SymbolicTensor:
    if not isinstance(loss, SymbolicTensor):
        raise TraceError(
            "cannot find a connection between any variable and the result of the loss function: it returned "
            + ("numbers" if isinstance(loss, (np.ndarray, np.generic, int, float)) else f"{type(loss).__name__}")
            + ", not a computation with variables."
        )
    if loss.shape != ():
        raise TraceError(f"the loss function must return a scalar, got shape {list(loss.shape)}; take its mean or sum.")
    return loss


def _chosen(loss: SymbolicTensor, variables: Sequence[Variable] | None) -> list[Variable]:
    """The variables to differentiate: trainable, and connected with the loss."""
    found = trace.reachable_variables([loss.op])
    for v in variables or ():
        if not isinstance(v, Variable):
            raise TraceError(f"var_list holds a {type(v).__name__}; it must hold variables (lf.variable).")
        if v.trainable and v.dtype.kind != "f":
            raise TraceError(f"variable {v.name!r} is of dtype {v.dtype}; only float variables have gradients.")
    wanted = found if variables is None else variables
    chosen = [v for v in wanted if v.trainable and v in found and v.dtype.kind == "f"]
    if not chosen:
        raise TraceError(
            "cannot find a connection between any trainable variable and the result of the loss function y=f(x)."
            + (" The variables that it uses are not trainable." if found else "")
        )
    return chosen


_memories: weakref.WeakKeyDictionary[Any, Memory] = weakref.WeakKeyDictionary()


def _memory_of(f: Callable) -> Memory:
    """The memory of closures made by the same piece of source."""
    code = getattr(f, "__code__", None)
    if code is None:
        return Memory()
    found = _memories.get(code)
    if found is None:
        found = _memories[code] = Memory()
    return found


def variable_grads(f: Callable, var_list: Sequence[Variable] | None = None) -> ValueAndGrads:
    """(value of the scalar f(), {variable name: gradient}).

    Args:
        f: called without arguments.
        var_list: by default all trainable variables f uses.  One that is not trainable has None in the result.

    Raises:
        TraceError: f returns no scalar, or uses no trainable variable.
    """
    value, found = gradients_of(f, var_list)
    missing = {v.name: None for v in var_list or () if not v.trainable}
    return ValueAndGrads(value, {**{v.name: g for v, g in found.items()}, **missing})


def gradients_of(f: Callable, var_list: Sequence[Variable] | None = None) -> tuple[Any, dict[Variable, Any]]:
    """(value of the scalar f(), {variable: gradient}) for the trainable variables f uses."""
    memory = _memory_of(f)
    with trace.tracing(memory.recall.captures()) as record:
        loss = f()
    loss = _checked_loss(loss)

    def make() -> Form:
        variables = _chosen(loss, var_list)
        with trace.tracing():
            gradient = autodiff.gradients(loss, variables)
        kept = [(v, g) for v, g in zip(variables, gradient, strict=True) if g is not None]
        graph = record.graph([], [loss, *(g for _, g in kept)])
        return Form(graph, memory.recall, [v for v, _ in kept])

    listed = None if var_list is None else tuple(var_list)
    key = (loss.op, listed, revision(), forms.updates(record), forms.mode())
    form = make() if record.custom else memory.form(key, make)
    out = form((), record, execution.draw())
    return wrap(out[0]), {v: wrap(g) for v, g in zip(form.rest, out[1:], strict=True)}


def minimize(optimizer: Any, f: Callable, var_list: Sequence[Variable] | None = None) -> Tensor:
    """One optimizer step on the scalar f(); returns its value before the step.

    `f` runs at each call.  A computation seen before is neither differentiated nor compiled again, whatever the data.
    """
    memory = optimizer.__dict__.get("_steps")
    if memory is None:
        memory = optimizer.__dict__["_steps"] = Memory()
    with trace.tracing(memory.recall.captures()) as record:
        loss = f()
    if type(loss) is not SymbolicTensor:
        loss = _checked_loss(loss)
    listed = None if var_list is None else tuple(var_list)
    key = (loss.op, listed, revision(), forms.updates(record), forms.mode(), optimizer.version)
    make = functools.partial(_step, optimizer, memory, record, loss, var_list)
    form = make() if record.custom else memory.forms.get(key) or memory.form(key, make)
    out = form((), record, execution.step_scalars(optimizer))
    optimizer.advance()
    return wrap(out[0])


def _step(optimizer: Any, memory: Memory, record: trace.Trace, loss: Any, var_list: Any) -> Form:
    """The form of a training step: loss, gradients and update."""
    variables = _chosen(_checked_loss(loss), var_list)
    with trace.tracing():
        gradient = autodiff.gradients(loss, variables)
        pairs = [(v, g) for v, g in zip(variables, gradient, strict=True) if g is not None]
        execution.apply_updates(record, optimizer, pairs)
    return Form(record.graph([], [loss]), memory.recall, pairs)


# --- gradients of one's own ----------------------------------------------------------------------------------------


def custom_grad(f: Callable) -> Callable:
    """A function with a gradient of one's own.

    Args:
        f: `f(*xs)` gives (value, grad_func), or a dict with these two keys; `grad_func(dy)` gives the gradient for
            each x: one, or a list of them.  If `f` has an argument `save`, it is a function that keeps tensors, and
            they arrive as `grad_func(dy, saved)`, as in TF.js.

    >>> clipped = lf.custom_grad(lambda x: (x, lambda dy: lf.clip(dy, -1, 1)))
    """
    wants_save = "save" in getattr(getattr(f, "__code__", None), "co_varnames", ())[: _arguments(f)]

    @functools.wraps(f)
    def call(*xs: Any) -> Any:
        saved: list[Any] = []
        result = f(*xs, save=lambda tensors: saved.extend(_several(tensors))) if wants_save else f(*xs)
        if isinstance(result, dict):
            result = (result.get("value"), result.get("grad_func", result.get("gradFunc")))
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            raise TraceError(
                "custom_grad: the function must return (value, grad_func), or a dict with `value` and `grad_func`."
            )
        value, rule = result
        assert callable(rule)

        def backward(dy: Any) -> list[Any]:
            return _several(rule(dy, saved) if wants_save else rule(dy))

        return ops.with_gradient(value, xs, backward)

    return call


def _arguments(f: Callable) -> int:
    code = getattr(f, "__code__", None)
    return code.co_argcount + code.co_kwonlyargcount if code else 0


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


__all__ = ["Form", "custom_grad", "grad", "grads", "minimize", "value_and_grad", "value_and_grads", "variable_grads"]
