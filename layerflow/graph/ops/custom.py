"""A value whose gradient the user gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from layerflow.errors import ShapeError, TraceError
from layerflow.graph import shapes, symbolic
from layerflow.graph.ops import movement
from layerflow.graph.ops.primitive import Composite
from layerflow.graph.symbolic import Op


class _WithGradient(Composite):
    def operand_dtype(self, ops: Sequence[Op]) -> Any:
        return ops[0].dtype


with_gradient_p = _WithGradient("with_gradient", lambda value, *xs, rule: value, lambda value, *xs, rule: value)
with_gradient_p.expansion(lambda value, *xs, rule: value)


@with_gradient_p.vjp
def _(g, y, value, *xs, rule):
    gradients = rule(g)
    if len(gradients) != len(xs):
        raise TraceError(f"custom_grad: grad_func gave {len(gradients)} gradients for {len(xs)} arguments.")
    for x, gradient in zip(xs, gradients, strict=True):
        if gradient is not None and movement._shape(gradient) != movement._shape(x):
            raise ShapeError(
                f"custom_grad: grad_func gave a gradient of shape {shapes.text(movement._shape(gradient))} for an "
                f"argument of shape {shapes.text(movement._shape(x))}."
            )
    return (None, *gradients)


def with_gradient(value: Any, xs: Sequence[Any], rule: Callable[[Any], Sequence[Any]]) -> Any:
    """`value`, computed from `xs`; its gradient is what `rule(dy)` gives for each of them."""
    if not any(map(symbolic.is_symbolic, xs)):
        return value
    trace = symbolic.current_trace.get()
    if trace is not None:
        trace.custom = True
    return with_gradient_p.bind([value, *xs], rule=rule)


def is_rule(op: Op) -> bool:
    return op.primitive is with_gradient_p
