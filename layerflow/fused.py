"""`lf.fused`: a product or convolution with bias and activation, which the compiler fuses in any spelling."""

from __future__ import annotations

from typing import Any

from layerflow import activations
from layerflow.graph import ops
from layerflow.registry import accepts_camel_case


def _finished(y: Any, bias: Any, activation: Any, alpha: Any) -> Any:
    y = y if bias is None else y + bias
    if activation == "prelu":
        return ops.prelu(y, alpha)
    if activation in ("leakyrelu", "leakyRelu", "leaky_relu"):
        return ops.leaky_relu(y, 0.2 if alpha is None else alpha)
    return activations.get(activation)(y)


@accepts_camel_case
def mat_mul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    bias: Any = None,
    activation: Any = "linear",
    prelu_activation_weights: Any = None,
    leakyrelu_alpha: float | None = None,
) -> Any:
    """activation(a @ b + bias)"""
    alpha = prelu_activation_weights if activation == "prelu" else leakyrelu_alpha
    return _finished(ops.matmul(a, b, transpose_a, transpose_b), bias, activation, alpha)


@accepts_camel_case
def conv2d(
    x: Any,
    filter: Any,
    strides: Any = 1,
    pad: Any = "valid",
    data_format: str = "channelsLast",
    dilations: Any = 1,
    bias: Any = None,
    activation: Any = "linear",
    prelu_activation_weights: Any = None,
    leakyrelu_alpha: float | None = None,
) -> Any:
    """activation(conv2d(x, filter) + bias)"""
    alpha = prelu_activation_weights if activation == "prelu" else leakyrelu_alpha
    return _finished(ops.conv2d(x, filter, strides, pad, data_format, dilations), bias, activation, alpha)


@accepts_camel_case
def depthwise_conv2d(
    x: Any,
    filter: Any,
    strides: Any = 1,
    pad: Any = "valid",
    data_format: str = "channelsLast",
    dilations: Any = 1,
    bias: Any = None,
    activation: Any = "linear",
    prelu_activation_weights: Any = None,
    leakyrelu_alpha: float | None = None,
) -> Any:
    """activation(depthwise_conv2d(x, filter) + bias)"""
    alpha = prelu_activation_weights if activation == "prelu" else leakyrelu_alpha
    return _finished(ops.depthwise_conv2d(x, filter, strides, pad, data_format, dilations), bias, activation, alpha)
