"""Convolutions of each channel for itself, and these followed by a mixture of the channels.  INVENTORY 2.2."""

from __future__ import annotations

from typing import Any

from layerflow.graph import ops
from layerflow.layers.convolutional import Windowed
from layerflow.layers.core import positive_integer
from layerflow.layers.spatial import Sizes, keep_settings, make_weight
from layerflow.registry import factory


class Depthwise(Windowed):
    """Base: `depth_multiplier` kernels for each channel."""

    # Keras writes its plain convolution's settings into files of these layers, too.
    FILE_NOTES = frozenset({"groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint"})
    depth_multiplier: int

    def _make_depthwise_kernel(self, channels: int) -> None:
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self.depthwise_kernel = make_weight(self, "depthwise_kernel", shape, "depthwise")

    def convolved(self, x):
        # One channel in and one out a group: the compiler has vectors of channels for exactly that.
        groups = self.depthwise_kernel.shape[-2] * self.depth_multiplier
        if self.depth_multiplier > 1:
            x = ops.repeat(x, self.depth_multiplier, self.channel_axis)
        kernel = ops.reshape(self.depthwise_kernel, (*self.kernel_size, 1, groups))
        return ops.conv(x, kernel, **self._moving, groups=groups)


class DepthwiseConv(Depthwise):
    """Base of the depthwise convolutions; `DepthwiseConv2D` says what the arguments are."""

    def __init__(
        self,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_normal",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        bias = (bias_initializer, bias_regularizer, bias_constraint)
        moving = (kernel_size, strides, padding, data_format, dilation_rate)
        super().__init__(*moving, activation, use_bias, bias, activity_regularizer=activity_regularizer, **kwargs)
        self.depth_multiplier = positive_integer(self, "depth_multiplier", depth_multiplier)
        settings = (depthwise_initializer, depthwise_regularizer, depthwise_constraint)
        keep_settings(self, "depthwise", *settings, default="glorot_normal")

    def build(self, input_shape):
        channels = self._bind_channels(input_shape)
        self._make_depthwise_kernel(channels)
        self._make_bias(channels * self.depth_multiplier)


class DepthwiseConv1D(DepthwiseConv):
    """Depthwise convolution of [batch, steps, channels].  Arguments and weights as for DepthwiseConv2D.

    >>> layer = lf.layers.depthwise_conv1d(kernel_size=2, weights=[[[[1], [10]], [[1], [10]]], [0, 0]])
    >>> layer.apply([[[1, 1], [2, 2], [3, 3]]]).print()  # each channel has a kernel of its own
    [[[ 3., 30.],
      [ 5., 50.]]]
    """

    rank = 1


class DepthwiseConv2D(DepthwiseConv):
    """Each channel of [batch, height, width, channels] convolved with kernels of its own; no channels are mixed.

    Weights: depthwise_kernel [*kernel_size, channels, depth_multiplier], bias [channels * depth_multiplier].  The
    outputs of one channel lie beside each other.

    Args:
        kernel_size: extent of the kernels, one number or one an axis.
        strides: steps of the kernels.
        padding: "valid" (none) or "same" (as many outputs as inputs, divided by the strides).
        depth_multiplier: outputs for each channel.
        data_format: "channels_last" (the default) or "channels_first".
        dilation_rate: distance between neighbours in the kernel; not together with strides.
        activation: name or function; None is linear.
        use_bias: whether there is a bias.

    >>> layer = lf.layers.depthwise_conv2d(kernel_size=3, depth_multiplier=2)
    >>> layer.apply(np.ones((1, 8, 8, 3))).shape
    (1, 6, 6, 6)
    >>> [w.shape for w in layer.weights]
    [(3, 3, 3, 2), (6,)]
    """

    rank = 2


class SeparableConv(Depthwise):
    """Base of the separable convolutions; `SeparableConv2D` says what the arguments are."""

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        bias = (bias_initializer, bias_regularizer, bias_constraint)
        moving = (kernel_size, strides, padding, data_format, dilation_rate)
        super().__init__(*moving, activation, use_bias, bias, activity_regularizer=activity_regularizer, **kwargs)
        self.filters = positive_integer(self, "filters", filters)
        self.depth_multiplier = positive_integer(self, "depth_multiplier", depth_multiplier)
        depthwise = (depthwise_initializer, depthwise_regularizer, depthwise_constraint)
        pointwise = (pointwise_initializer, pointwise_regularizer, pointwise_constraint)
        keep_settings(self, "depthwise", *depthwise, default="glorot_uniform")
        keep_settings(self, "pointwise", *pointwise, default="glorot_uniform")

    def build(self, input_shape):
        channels = self._bind_channels(input_shape)
        self._make_depthwise_kernel(channels)
        shape = (*[1] * self.rank, channels * self.depth_multiplier, self.filters)
        self.pointwise_kernel = make_weight(self, "pointwise_kernel", shape, "pointwise")
        self._make_bias(self.filters)

    def convolved(self, x):
        return ops.conv(super().convolved(x), self.pointwise_kernel, data_format=self.data_format)


class SeparableConv1D(SeparableConv):
    """Separable convolution of [batch, steps, channels].  Arguments and weights as for SeparableConv2D.

    >>> layer = lf.layers.separable_conv1d(filters=16, kernel_size=3, use_bias=False)
    >>> layer.apply(np.ones((1, 10, 8))).shape
    (1, 8, 16)
    >>> layer.count_params()  # 3 * 8 + 8 * 16; a conv1d has 3 * 8 * 16
    152
    """

    rank = 1


class SeparableConv2D(SeparableConv):
    """A depthwise convolution of [batch, height, width, channels], then a 1x1 convolution that mixes the channels.

    Weights: depthwise_kernel [*kernel_size, channels, depth_multiplier], pointwise_kernel [1, 1, channels *
    depth_multiplier, filters], bias [filters].

    Args:
        filters: channels of the output.
        kernel_size: extent of the kernels of the first part, one number or one an axis.
        strides: steps of these kernels.
        padding: "valid" (none) or "same" (as many outputs as inputs, divided by the strides).
        data_format: "channels_last" (the default) or "channels_first".
        dilation_rate: distance between neighbours in the kernel; not together with strides.
        depth_multiplier: outputs of the first part for each channel.
        activation: name or function; None is linear.
        use_bias: whether there is a bias.

    >>> layer = lf.layers.separable_conv2d(filters=64, kernel_size=3, use_bias=False)
    >>> layer.apply(np.ones((1, 8, 8, 32))).shape
    (1, 6, 6, 64)
    >>> layer.count_params()  # a conv2d has 3 * 3 * 32 * 64 = 18432
    2336
    """

    rank = 2


depthwise_conv1d = factory(DepthwiseConv1D)
depthwise_conv2d = factory(DepthwiseConv2D)
separable_conv1d = factory(SeparableConv1D)
separable_conv2d = factory(SeparableConv2D)
