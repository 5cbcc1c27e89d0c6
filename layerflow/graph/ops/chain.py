"""TF.js's chain methods, `x.mat_mul(w).add(b).relu()`, on symbols, variables and tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from layerflow.errors import nearest
from layerflow.graph import symbolic
from layerflow.graph.tensor import Tensor
from layerflow.graph.variable import Variable

CLASSES = (symbolic.SymbolicTensor, Variable, Tensor)
NAMES = (
    "abs acos acosh add all any arg_max arg_min argmax argmin as1d as2d as3d as4d as5d as_scalar as_type asin "
    "asinh atan atan2 atanh avg_pool batch_norm batch_to_space_nd broadcast_to cast ceil clip clip_by_value "
    "conv1d conv2d conv2d_transpose cos cosh cumprod cumsum depth_to_space depthwise_conv2d dilation2d div "
    "div_no_nan divide dot elu equal erf euclidean_norm exp expand_dims expm1 flatten floor floor_div "
    "floor_divide gather gather_nd greater greater_equal is_finite is_inf is_nan isfinite isinf isnan leaky_relu "
    "less less_equal local_response_normalization log log1p log_sigmoid log_softmax log_sum_exp logical_and "
    "logical_not logical_or logical_xor logsumexp mat_mul matmul max max_pool maximum mean min minimum mirror_pad "
    "mod mul multiply neg negative norm not_equal one_hot outer_product pad pool pow power prelu prod reciprocal "
    "relu relu6 repeat reshape reshape_as resize_bilinear resize_nearest_neighbor reverse round rsqrt selu "
    "separable_conv2d sigmoid sign sin sinh slice softmax softplus space_to_batch_nd split sqrt square "
    "squared_difference squeeze step stop_gradient strided_slice sub subtract sum tan tanh tile topk transpose "
    "unique unsorted_segment_sum unstack "
).split()
# NumPy calls a method with its own arguments (np.sum(tensor) ends there): then it is NumPy's.
NUMPY_ARGUMENTS = frozenset(("dtype", "out", "order", "initial", "where", "casting"))


def _method(name: str, op: Callable) -> Callable:
    def method(self, *args, **kwargs):
        if kwargs and isinstance(self, Tensor) and kwargs.keys() & NUMPY_ARGUMENTS and hasattr(np.ndarray, name):
            return getattr(np.ndarray, name)(np.asarray(self), *args, **kwargs)
        return op(self, *args, **kwargs)

    method.__name__ = name
    method.__doc__ = op.__doc__
    return method


def _special(ops: Mapping[str, Any]) -> dict[str, Callable]:
    """Methods whose arguments are not those of the op in order."""

    def together(op: Callable) -> Callable:
        def joined(x: Any, others: Any, axis: int = 0) -> Any:
            return op([x, *(others if isinstance(others, (list, tuple)) else [others])], axis)

        joined.__doc__ = op.__doc__
        return joined

    return {
        "concat": together(ops["concat"]),
        "stack": together(ops["stack"]),
        "where": lambda x, condition, other: ops["where"](condition, x, other),
        "to_float": lambda x: ops["cast"](x, "float32"),
        "to_int": lambda x: ops["cast"](x, "int32"),
        "to_bool": lambda x: ops["not_equal"](x, 0),
    }


def _unknown(self: Any, name: str) -> NoReturn:
    """For attributes that do not exist: names the nearest op."""
    if name.startswith("_"):
        raise AttributeError(name)
    known = [n for n in dir(type(self)) if not n.startswith("_")]
    raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.{nearest(name, known)[:200]}")


def install(ops: Mapping[str, Any]) -> None:
    """Gives the three classes their methods."""
    for name, op in {**{n: ops[n] for n in NAMES}, **_special(ops)}.items():
        for cls in CLASSES:
            setattr(cls, name, _method(name, op))
    for cls in CLASSES:
        cls.__getattr__ = _unknown  # type: ignore[attr-defined]
