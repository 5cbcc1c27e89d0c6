"""Functions over primitives: nobody lowers them, their gradients follow from their parts."""

from __future__ import annotations

from typing import Any

from layerflow.graph import shapes, symbolic
from layerflow.graph.ops import elementwise as e
from layerflow.graph.ops import indexing, movement, reduction
from layerflow.graph.ops.primitive import as_op
from layerflow.graph.symbolic import SymbolicTensor


def _remember(y: Any, kind: str, x: Any) -> Any:
    """Notes on `y` that it is the softmax or sigmoid of `x`."""
    if isinstance(y, SymbolicTensor):
        y.op.origin = (kind, as_op(x))
    return y


def softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / sum(exp(x)) along `axis`."""
    top = e.stop_gradient(reduction.max_(x, axis, keepdims=True))
    powers = e.exp(x - top)
    y = powers / reduction.sum_(powers, axis, keepdims=True)
    rank = len(movement._shape(x))
    return _remember(y, "softmax", x) if shapes.normalize_axis(axis, rank) == rank - 1 else y


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return _remember(e.sigmoid(x), "sigmoid", x)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """log(softmax(x)), exact where softmax underflows."""
    shifted = x - e.stop_gradient(reduction.max_(x, axis, keepdims=True))
    return shifted - e.log(reduction.sum_(e.exp(shifted), axis, keepdims=True))


def logits_of(p: Any) -> tuple[str, Any] | None:
    """("softmax" or "sigmoid", logits) if the symbol `p` was made that way, else None."""
    if isinstance(p, SymbolicTensor):
        op = p.op
        while op.name == "reshape" and op.origin is None and op.inputs[0].shape[-1] == op.shape[-1]:
            op = op.inputs[0]
        if op.origin is not None and op.shape == p.op.shape:
            return op.origin[0], SymbolicTensor(op.origin[1])
    return None


def softmax_cross_entropy(labels: Any, logits: Any) -> Any:
    """-sum(labels * log_softmax(logits)) over the last axis; stable for any logits."""
    return -reduction.sum_(labels * log_softmax(logits), -1)


def sparse_softmax_cross_entropy(labels: Any, logits: Any) -> Any:
    """The same with integer labels of shape [...], logits [..., classes]."""
    return softmax_cross_entropy(indexing.one_hot(labels, movement._shape(logits)[-1]), logits)


def sigmoid_cross_entropy(labels: Any, logits: Any) -> Any:
    """Elementwise max(x, 0) - x z + log(1 + exp(-|x|)) for logits x and labels z."""
    return e.softplus(logits) - logits * labels


def l2_normalize(x: Any, axis: Any = -1, epsilon: float = 1e-12) -> Any:
    """x / sqrt(max(sum(x**2), epsilon)) along `axis`."""
    return x * e.rsqrt(e.maximum(reduction.sum_(e.square(x), axis, keepdims=True), epsilon))


def squared_difference(a: Any, b: Any) -> Any:
    return e.square(e.subtract(a, b))


def moments(x: Any, axes: Any = None, keepdims: bool = False) -> tuple[Any, Any]:
    """(mean, variance) of `x` over `axes`; all of them by default.  The variance is the biased one."""
    mean = reduction.mean(x, axes, keepdims=True)
    variance = reduction.mean(e.square(reduction.as_float(x) - mean), axes, keepdims)
    rank = len(movement._shape(x))
    return mean if keepdims else movement.squeeze(mean, shapes.normalize_axes(axes, rank)), variance


def assign(variable: Any, value: Any) -> Any:
    """Inside a trace: the variable takes `value` when the graph has run.  Outside: at once."""
    trace = symbolic.current_trace.get()
    if trace is None:
        variable.assign(value)
    else:
        trace.updates[variable] = value
    return value


def assigned(variable: Any) -> Any:
    """What `assign` gave the variable so far: inside a trace the value recorded last, outside the variable itself."""
    trace = symbolic.current_trace.get()
    return variable if trace is None else trace.updates.get(variable, variable)
