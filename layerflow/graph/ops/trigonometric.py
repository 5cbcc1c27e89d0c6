"""Kind *map*: sines, hyperbolic functions and their inverses; written as in elementwise.py."""

from __future__ import annotations

import numpy as np

from layerflow.graph.ops.elementwise import rsqrt
from layerflow.graph.ops.primitive import elementwise


@elementwise(numpy=np.sin)
def sin(x):
    return np.sin(x)


@sin.vjp
def _(g, y, x):
    return g * cos(x)


@elementwise(numpy=np.cos)
def cos(x):
    return np.cos(x)


@cos.vjp
def _(g, y, x):
    return -g * sin(x)


@elementwise(numpy=np.tan)
def tan(x):
    return np.tan(x)


@tan.vjp
def _(g, y, x):
    return g * (1 + y * y)


@elementwise(numpy=np.arcsin)
def asin(x):
    return np.arcsin(x)


@asin.vjp
def _(g, y, x):
    return g * rsqrt(1 - x * x)


@elementwise(numpy=np.arccos)
def acos(x):
    return np.arccos(x)


@acos.vjp
def _(g, y, x):
    return -g * rsqrt(1 - x * x)


@elementwise(numpy=np.arctan)
def atan(x):
    return np.arctan(x)


@atan.vjp
def _(g, y, x):
    return g / (1 + x * x)


@elementwise(numpy=np.arctan2)
def atan2(a, b):
    return np.arctan2(a, b)


@atan2.vjp
def _(g, y, a, b):
    r = a * a + b * b
    return g * b / r, -g * a / r


@elementwise(numpy=np.sinh)
def sinh(x):
    return np.sinh(x)


@sinh.vjp
def _(g, y, x):
    return g * cosh(x)


@elementwise(numpy=np.cosh)
def cosh(x):
    return np.cosh(x)


@cosh.vjp
def _(g, y, x):
    return g * sinh(x)


@elementwise(numpy=np.arcsinh)
def asinh(x):
    return np.arcsinh(x)


@asinh.vjp
def _(g, y, x):
    return g * rsqrt(x * x + 1)


@elementwise(numpy=np.arccosh)
def acosh(x):
    return np.arccosh(x)


@acosh.vjp
def _(g, y, x):
    return g * rsqrt(x * x - 1)


@elementwise(numpy=np.arctanh)
def atanh(x):
    return np.arctanh(x)


@atanh.vjp
def _(g, y, x):
    return g / (1 - x * x)
