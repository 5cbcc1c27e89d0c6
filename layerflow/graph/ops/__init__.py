"""Every operation: functions that take symbols, variables, tensors, arrays and numbers alike."""

from __future__ import annotations

import numpy as np

from layerflow.graph import recall, symbolic
from layerflow.graph.ops import chain
from layerflow.graph.ops.blocks import (
    add_n,
    as1d,
    as2d,
    as3d,
    as4d,
    as5d,
    as_scalar,
    batch_to_space_nd,
    broadcast_args,
    concat,
    concat1d,
    concat2d,
    concat3d,
    concat4d,
    depth_to_space,
    diag,
    ensure_shape,
    meshgrid,
    mirror_pad,
    pad1d,
    pad2d,
    pad3d,
    pad4d,
    reshape_as,
    reverse,
    reverse1d,
    reverse2d,
    reverse3d,
    reverse4d,
    slice1d,
    slice2d,
    slice3d,
    slice4d,
    space_to_batch_nd,
    strided_slice,
)
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
from layerflow.graph.ops.custom import with_gradient
from layerflow.graph.ops.elementwise import (
    abs_ as abs,
)
from layerflow.graph.ops.elementwise import (
    add,
    bitwise_and,
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
from layerflow.graph.ops.normalizing import (
    band_part,
    batch_norm,
    batch_norm2d,
    batch_norm3d,
    batch_norm4d,
    dilation2d,
    euclidean_norm,
    gram_schmidt,
    local_response_normalization,
    norm,
)
from layerflow.graph.ops.ordering import (
    argsort,
    boolean_mask,
    in_top_k,
    lower_bound,
    search_sorted,
    setdiff1d,
    sort,
    topk,
    unique,
    upper_bound,
    where_true,
)
from layerflow.graph.ops.pooling import avg_pool, max_pool, pool
from layerflow.graph.ops.primitive import placeholder
from layerflow.graph.ops.random import (
    dropout,
    multinomial,
    rand,
    rand_bernoulli,
    random_gamma,
    random_normal,
    random_poisson,
    random_standard_normal,
    random_uniform,
    random_uniform_int,
    truncated_normal,
)
from layerflow.graph.ops.rectified import (
    div_no_nan,
    elu,
    leaky_relu,
    log_sigmoid,
    moving_average,
    prelu,
    relu6,
    selu,
    step,
)
from layerflow.graph.ops.reduction import all_ as all
from layerflow.graph.ops.reduction import any_ as any
from layerflow.graph.ops.reduction import argmax, argmin, logsumexp, mean, prod, shape_of, std, variance
from layerflow.graph.ops.reduction import max_ as max
from layerflow.graph.ops.reduction import min_ as min
from layerflow.graph.ops.reduction import sum_ as sum
from layerflow.graph.ops.resizing import resize, resize_bilinear, resize_nearest_neighbor, up_sample
from layerflow.graph.ops.scans import cumprod, cumsum
from layerflow.graph.ops.scattering import (
    bincount,
    confusion_matrix,
    dense_bincount,
    gather_nd,
    scatter_nd,
    sparse_to_dense,
    tensor_scatter_update,
    unsorted_segment_sum,
)
from layerflow.graph.ops.signals import (
    basic_lstm_cell,
    flip_left_right,
    frame,
    grayscale_to_rgb,
    hamming_window,
    hann_window,
    multi_rnn_cell,
    rgb_to_grayscale,
)
from layerflow.graph.ops.transposed_convolution import conv2d_transpose, conv3d_transpose, conv_transpose
from layerflow.graph.ops.trigonometric import acos, acosh, asin, asinh, atan, atan2, atanh, cos, cosh, sin, sinh, tan
from layerflow.graph.tensor import Tensor
from layerflow.graph.variable import Variable

# The names of TF.js, for what has another one here.
mat_mul, sub, mul, div, pow, neg, floor_div = matmul, subtract, multiply, divide, power, negative, floor_divide
arg_max, arg_min, log_sum_exp, clip_by_value, as_type = argmax, argmin, logsumexp, clip, cast
is_nan, is_inf, is_finite, slice, avg_pool3d, max_pool3d = isnan, isinf, isfinite, slice_, avg_pool, max_pool

# The operations and the two classes they work on; not the modules they come from.
__all__ = [name for name, value in list(vars().items()) if callable(value) and not name.startswith("_")]

# What does more than compute from its arguments, or does not give symbols, runs anew in every trace.
_NOT_RECALLED = {
    "Tensor", "Variable", "assign", "assigned", "basic_lstm_cell", "broadcast_args", "dropout", "logits_of",
    "multi_rnn_cell", "multinomial", "placeholder", "rand", "rand_bernoulli", "random_gamma", "random_normal",
    "random_poisson", "random_standard_normal", "random_uniform", "random_uniform_int", "shape_of",
    "truncated_normal", "with_gradient",
}  # fmt: skip
_recalled = {id(globals()[_n]): recall.recalled(globals()[_n]) for _n in __all__ if _n not in _NOT_RECALLED}
globals().update({_n: _recalled.get(id(globals()[_n]), globals()[_n]) for _n in __all__})
symbolic.NUMPY_OPS.update({_f: _recalled[id(_op)] for _f, _op in symbolic.NUMPY_OPS.items() if id(_op) in _recalled})

symbolic.OPERATORS.update(
    add=add, subtract=subtract, multiply=multiply, divide=divide, floor_divide=floor_divide, mod=mod, power=power,
    matmul=matmul, less=less, less_equal=less_equal, greater=greater, greater_equal=greater_equal, equal=equal,
    not_equal=not_equal, logical_and=logical_and, logical_or=logical_or, logical_xor=logical_xor, negative=negative,
    abs=abs, logical_not=logical_not, getitem=getitem, transpose=transpose,
)  # fmt: skip
chain.install(globals())
