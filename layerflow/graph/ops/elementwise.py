"""Kind *map*: one output element from one element of each operand.

Each kernel is one NumPy expression; the compiler inlines that same expression.  Gradient rules are code over ops.
"""

from __future__ import annotations

import ast
import functools
import math
from typing import Any

import numpy as np

from layerflow.graph.ops import special
from layerflow.graph.ops.primitive import MapPrimitive, elementwise, numpy_op

_TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)


@elementwise(numpy=np.add)
def add(a, b):
    return a + b


@add.vjp
def _(g, y, a, b):
    return g, g


@elementwise(numpy=np.subtract)
def subtract(a, b):
    return a - b


@subtract.vjp
def _(g, y, a, b):
    return g, -g


@elementwise(numpy=np.multiply)
def multiply(a, b):
    return a * b


@multiply.vjp
def _(g, y, a, b):
    return g * b, g * a


@elementwise(numpy=(np.divide, np.true_divide))
def divide(a, b):
    return a / b


@divide.vjp
def _(g, y, a, b):
    return g / b, -g * y / b


@elementwise(numpy=np.floor_divide)
def floor_divide(a, b):
    return np.floor_divide(a, b)


@elementwise(numpy=(np.mod, np.remainder))
def mod(a, b):
    return np.mod(a, b)


@mod.vjp
def _(g, y, a, b):
    return g, -g * floor(a / b)


@elementwise(numpy=(np.power, np.float_power))
def power(a, b):
    return np.power(a, b)


@power.vjp
def _(g, y, a, b):
    safe = where(a > 0, a, 1)  # d/db is a**b log a, taken as 0 where a <= 0
    return g * b * power(a, b - 1), where(a > 0, g * y * log(safe), 0)


@elementwise(numpy=(np.maximum, np.fmax))
def maximum(a, b):
    return np.maximum(a, b)


@maximum.vjp
def _(g, y, a, b):
    return where(a >= b, g, 0), where(a >= b, 0, g)


@elementwise(numpy=(np.minimum, np.fmin))
def minimum(a, b):
    return np.minimum(a, b)


@minimum.vjp
def _(g, y, a, b):
    return where(a <= b, g, 0), where(a <= b, 0, g)


@elementwise(numpy=np.negative)
def negative(x):
    return -x


@negative.vjp
def _(g, y, x):
    return -g


@elementwise(numpy=(np.abs, np.absolute, np.fabs))
def abs_(x):
    return np.abs(x)


@abs_.vjp
def _(g, y, x):
    return g * sign(x)


@elementwise(numpy=np.sign)
def sign(x):
    return np.where(x > 0, 1, np.where(x < 0, -1, x * 0))


@elementwise(numpy=np.exp)
def exp(x):
    return np.exp(x)


@exp.vjp
def _(g, y, x):
    return g * y


@elementwise(numpy=np.expm1)
def expm1(x):
    return np.expm1(x)


@expm1.vjp
def _(g, y, x):
    return g * (y + 1)


@elementwise(numpy=np.log)
def log(x):
    return np.log(x)


@log.vjp
def _(g, y, x):
    return g / x


@elementwise(numpy=np.log1p)
def log1p(x):
    return np.log1p(x)


@log1p.vjp
def _(g, y, x):
    return g / (1 + x)


@elementwise(numpy=np.sqrt)
def sqrt(x):
    return np.sqrt(x)


@sqrt.vjp
def _(g, y, x):
    return g * 0.5 / y


@elementwise()
def rsqrt(x):
    return 1 / np.sqrt(x)


@rsqrt.vjp
def _(g, y, x):
    return -0.5 * g * y * y * y


@elementwise(numpy=np.square)
def square(x):
    return x * x


@square.vjp
def _(g, y, x):
    return g * 2 * x


@elementwise(numpy=np.reciprocal)
def reciprocal(x):
    return 1 / x


@reciprocal.vjp
def _(g, y, x):
    return -g * y * y


@elementwise(numpy=np.tanh)
def tanh(x):
    return np.tanh(x)


@tanh.vjp
def _(g, y, x):
    return g * (1 - y * y)


@elementwise()
def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow on either side."""
    return special.sigmoid(x)


@sigmoid.vjp
def _(g, y, x):
    return g * y * (1 - y)


@elementwise()
def softplus(x):
    """log(1 + exp(x)), without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@softplus.vjp
def _(g, y, x):
    return g * sigmoid(x)


@elementwise()
def relu(x):
    return np.maximum(x, 0)


@relu.vjp
def _(g, y, x):
    return where(y > 0, g, 0)


@elementwise()
def erf(x):
    return special.erf(x)


@erf.vjp
def _(g, y, x):
    return g * _TWO_OVER_SQRT_PI * exp(-x * x)


@elementwise(numpy=np.floor)
def floor(x):
    return np.floor(x)


@elementwise(numpy=np.ceil)
def ceil(x):
    return np.ceil(x)


@elementwise(numpy=(np.round, np.rint))
def round_(x):
    return np.rint(x)


@elementwise(numpy=np.equal, dtype=bool)
def equal(a, b):
    return a == b


@elementwise(numpy=np.not_equal, dtype=bool)
def not_equal(a, b):
    return a != b


@elementwise(numpy=np.less, dtype=bool)
def less(a, b):
    return a < b


@elementwise(numpy=np.less_equal, dtype=bool)
def less_equal(a, b):
    return a <= b


@elementwise(numpy=np.greater, dtype=bool)
def greater(a, b):
    return a > b


@elementwise(numpy=np.greater_equal, dtype=bool)
def greater_equal(a, b):
    return a >= b


@elementwise(numpy=(np.logical_and, np.bitwise_and), dtype=bool)
def logical_and(a, b):
    return np.logical_and(a, b)


@elementwise(numpy=(np.logical_or, np.bitwise_or), dtype=bool)
def logical_or(a, b):
    return np.logical_or(a, b)


@elementwise(numpy=(np.logical_xor, np.bitwise_xor), dtype=bool)
def logical_xor(a, b):
    return np.logical_xor(a, b)


@elementwise(numpy=(np.logical_not, np.invert), dtype=bool)
def logical_not(x):
    return np.logical_not(x)


@elementwise()
def bitwise_and(a, b):
    return a & b


@elementwise(numpy=np.isnan, dtype=bool)
def isnan(x):
    return x != x


@elementwise(numpy=np.isinf, dtype=bool)
def isinf(x):
    return np.abs(x) == np.inf


@elementwise(numpy=np.isfinite, dtype=bool)
def isfinite(x):
    return np.abs(x) < np.inf


@elementwise(numpy=np.where)
def where(condition, a, b):
    return np.where(condition, a, b)


@where.vjp
def _(g, y, condition, a, b):
    return None, where(condition, g, 0), where(condition, 0, g)


class _Cast(MapPrimitive):
    @functools.cached_property
    def expression(self) -> tuple[list[str], ast.expr]:
        return ["x"], ast.parse("cast(x, dtype)", mode="eval").body

    def __call__(self, x: Any, dtype: Any) -> Any:
        return self.bind([x], dtype=np.dtype(dtype).name)


def _cast(x, dtype):
    """`x` as `dtype`; floats are truncated toward zero when cast to integers."""
    return np.asarray(x).astype(dtype)


cast = _Cast("cast", _cast)


@cast.vjp
def _(g, y, x, dtype):
    return cast(g, x.dtype) if x.dtype.kind == "f" else None


class _StopGradient(MapPrimitive):
    def __call__(self, x: Any) -> Any:
        return self.bind([x])


def _identity(x):
    return x


stop_gradient = _StopGradient("stop_gradient", _identity)


@numpy_op(np.clip)
def clip(x: Any, minimum_value: Any = None, maximum_value: Any = None) -> Any:
    """`x` limited to [minimum_value, maximum_value]; the gradient passes inside the closed range."""
    y = x if minimum_value is None else maximum(x, minimum_value)
    return y if maximum_value is None else minimum(y, maximum_value)
