"""Every operation: functions that take symbols, variables, tensors, arrays and numbers alike."""

from __future__ import annotations

import numpy as np

from layerflow.graph import symbolic
from layerflow.graph.ops.composite import (
    assign,
    assigned,
    l2_normalize,
    log_softmax,
    logits_of,
    moments,
    sigmoid,
    sigmoid_cross_entropy,
    softmax,
    softmax_cross_entropy,
    sparse_softmax_cross_entropy,
    squared_difference,
)
from layerflow.graph.ops.contraction import dot, einsum, matmul, outer_product
from layerflow.graph.ops.convolution import conv, conv1d, conv2d, conv3d, depthwise_conv2d, separable_conv2d
from layerflow.graph.ops.elementwise import (
    abs_ as abs,
)
from layerflow.graph.ops.elementwise import (
    add,
    cast,
    ceil,
    clip,
    divide,
    equal,
    erf,
    exp,
    expm1,
    floor,
    floor_divide,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    mod,
    multiply,
    negative,
    not_equal,
    power,
    reciprocal,
    relu,
    rsqrt,
    sign,
    softplus,
    sqrt,
    square,
    stop_gradient,
    subtract,
    tanh,
    where,
)
from layerflow.graph.ops.elementwise import (
    round_ as round,
)
from layerflow.graph.ops.filling import full_like, ones_like, zeros_like
from layerflow.graph.ops.indexing import arange, gather, one_hot, scatter_add
from layerflow.graph.ops.indexing import extent_along as extent
from layerflow.graph.ops.loop import scan
from layerflow.graph.ops.movement import (
    broadcast_to,
    concatenate,
    expand_dims,
    flatten,
    flip,
    getitem,
    pad,
    repeat,
    reshape,
    slice_,
    split,
    squeeze,
    stack,
    tile,
    transpose,
    unstack,
)
from layerflow.graph.ops.pooling import avg_pool, max_pool, pool
from layerflow.graph.ops.primitive import placeholder
from layerflow.graph.ops.random import dropout, random_normal, random_uniform, truncated_normal
from layerflow.graph.ops.reduction import all_ as all
from layerflow.graph.ops.reduction import any_ as any
from layerflow.graph.ops.reduction import argmax, argmin, logsumexp, mean, prod, shape_of, std, variance
from layerflow.graph.ops.reduction import max_ as max
from layerflow.graph.ops.reduction import min_ as min
from layerflow.graph.ops.reduction import sum_ as sum
from layerflow.graph.ops.resizing import resize, resize_bilinear, resize_nearest_neighbor, up_sample
from layerflow.graph.ops.transposed_convolution import conv2d_transpose, conv3d_transpose, conv_transpose
from layerflow.graph.ops.trigonometric import acos, acosh, asin, asinh, atan, atan2, atanh, cos, cosh, sin, sinh, tan
from layerflow.graph.tensor import Tensor
from layerflow.graph.variable import Variable

# The operations and the two classes they work on; not the modules they come from.
__all__ = [name for name, value in list(vars().items()) if callable(value) and not name.startswith("_")]

symbolic.OPERATORS.update(
    add=add, subtract=subtract, multiply=multiply, divide=divide, floor_divide=floor_divide, mod=mod, power=power,
    matmul=matmul, less=less, less_equal=less_equal, greater=greater, greater_equal=greater_equal, equal=equal,
    not_equal=not_equal, logical_and=logical_and, logical_or=logical_or, logical_xor=logical_xor, negative=negative,
    abs=abs, logical_not=logical_not, getitem=getitem, transpose=transpose,
)  # fmt: skip

# TF.js's chain methods: x.mat_mul(w).add(b).relu()
METHODS = {
    name: globals()[name]
    for name in (
        "abs acos acosh add all any argmax argmin asin asinh atan atanh avg_pool broadcast_to cast ceil clip conv1d "
        "conv2d conv2d_transpose cos cosh depthwise_conv2d divide dot equal erf exp expand_dims expm1 flatten floor "
        "floor_divide gather greater greater_equal isfinite isinf isnan less less_equal log log1p log_softmax "
        "logical_and logical_not logical_or logical_xor logsumexp matmul max max_pool maximum mean min minimum mod "
        "multiply negative not_equal one_hot pad pool power prod reciprocal relu repeat reshape resize_bilinear "
        "resize_nearest_neighbor round rsqrt separable_conv2d sigmoid sign sin sinh softmax softplus split sqrt "
        "square squared_difference squeeze stop_gradient subtract sum tan tanh tile transpose unstack"
    ).split()
}
METHODS.update(
    mat_mul=matmul, sub=subtract, mul=multiply, div=divide, pow=power, neg=negative, arg_max=argmax, arg_min=argmin,
    log_sum_exp=logsumexp, clip_by_value=clip, as_type=cast, slice=slice_, where=where,
    concat=lambda x, other, axis=0: concatenate([x, other], axis),
)  # fmt: skip


def _method(name, op):
    def method(self, *args, **kwargs):
        if not isinstance(self, Tensor) or not (
            kwargs.keys() & {"dtype", "out", "order", "initial", "where", "casting"}
        ):
            return op(self, *args, **kwargs)
        # NumPy's own calling convention (np.sum(tensor) ends here): hand it on.
        return getattr(np.ndarray, name)(np.asarray(self), *args, **kwargs)

    method.__name__ = name
    method.__doc__ = op.__doc__
    return method


for _name, _op in METHODS.items():
    for _class in (symbolic.SymbolicTensor, Variable, Tensor):
        setattr(_class, _name, _method(_name, _op))
