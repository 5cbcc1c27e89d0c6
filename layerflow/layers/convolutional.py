"""Convolutions and their transposes.  Arguments and defaults: INVENTORY 2.2; groups and output_padding: Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from layerflow import activations
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.graph.shapes import text
from layerflow.layers.core import positive_integer
from layerflow.layers.spatial import Sizes, Spatial, keep_settings, make_weight
from layerflow.layers.topology import InputSpec
from layerflow.registry import factory


class Windowed(Spatial):
    """Base: a kernel that moves over the spatial axes, then a bias and an activation."""

    PADDINGS: ClassVar[tuple[str, ...]] = ("valid", "same")

    def __init__(
        self,
        kernel_size: Sizes,
        strides: Sizes,
        padding: str,
        data_format: str | None,
        dilation_rate: Sizes,
        activation: Any,
        use_bias: bool,
        bias: Sequence[Any],
        /,
        **kwargs: Any,
    ):
        super().__init__(data_format, **kwargs)
        self.kernel_size = self.per_axis("kernel_size", kernel_size)
        self.strides = self.per_axis("strides", strides)
        if not isinstance(padding, str):
            raise ArgumentError(
                f"{self.name}: padding must be one of {', '.join(self.PADDINGS)}, got {padding!r}. To pad by a number "
                "of elements put a layer in front, such as zero_padding2d(padding=1)."
            )
        self.padding = self.option("padding", padding, self.PADDINGS)
        self.dilation_rate = self.per_axis("dilation_rate", dilation_rate)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ArgumentError(
                f"{self.name}: strides {list(self.strides)} and dilation_rate {list(self.dilation_rate)} cannot both "
                "be larger than 1: where the kernel would stand is not defined. Set one of them to 1."
            )
        self.activation = activations.get(activation)
        self.use_bias = bool(use_bias)
        keep_settings(self, "bias", *bias)

    def _bind_channels(self, input_shape: Sequence[int | None]) -> int:
        """Channels of the input; the layer takes no other number of them from now on."""
        channels = self.channels_of(input_shape)
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={self.channel_axis: channels})
        return channels

    def _make_bias(self, channels: int) -> None:
        if self.use_bias:
            self.bias = make_weight(self, "bias", (channels,))

    def convolved(self, x: Any) -> Any:
        """The output before bias and activation."""
        raise NotImplementedError(f"{type(self).__name__} must define convolved(x).")

    def call(self, x):
        y = self.convolved(self.as_float(x))
        if self.use_bias:
            y = y + (self.bias if self.channels_last else ops.reshape(self.bias, (-1, *[1] * self.rank)))
        return self.activation(y)

    @property
    def _moving(self) -> dict[str, Any]:
        """What the operations want to know about how the kernel moves."""
        return {
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilations": self.dilation_rate,
        }


class Conv(Windowed):
    """Base of the plain convolutions; `Conv2D` says what the arguments are."""

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_normal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        bias = (bias_initializer, bias_regularizer, bias_constraint)
        moving = (kernel_size, strides, padding, data_format, dilation_rate)
        super().__init__(*moving, activation, use_bias, bias, activity_regularizer=activity_regularizer, **kwargs)
        self.filters = positive_integer(self, "filters", filters)
        self.groups = positive_integer(self, "groups", groups)
        if self.filters % self.groups:
            raise ArgumentError(
                f"{self.name}: {self.filters} filters do not divide into {self.groups} groups; choose groups that do."
            )
        keep_settings(self, "kernel", kernel_initializer, kernel_regularizer, kernel_constraint, "glorot_normal")

    def build(self, input_shape):
        channels = self._bind_channels(input_shape)
        if channels % self.groups:
            raise ShapeError(
                f"{self.name}: the {channels} channels of an input of shape {text(input_shape)} do not divide into "
                f"{self.groups} groups. Choose groups that divide both the channels and the {self.filters} filters."
            )
        self.kernel = make_weight(self, "kernel", (*self.kernel_size, channels // self.groups, self.filters))
        self._make_bias(self.filters)

    def convolved(self, x):
        return ops.conv(x, self.kernel, **self._moving, groups=self.groups)


class Conv1D(Conv):
    """Convolution of [batch, steps, channels].  Arguments and weights as for Conv2D; padding may be "causal" too:
    an output then sees no later step.

    >>> mean = np.full((2, 1, 1), 0.5)  # the mean of a step and the one before it
    >>> layer = lf.layers.conv1d(filters=1, kernel_size=2, padding="causal", use_bias=False, weights=[mean])
    >>> layer.apply([[[2], [4], [6]]]).print()
    [[[1.],
      [3.],
      [5.]]]
    """

    rank = 1
    PADDINGS = ("valid", "same", "causal")


class Conv2D(Conv):
    """Convolution of [batch, height, width, channels]: kernels move over the images, one for each output channel.

    Weights: kernel [*kernel_size, channels / groups, filters], bias [filters].

    Args:
        filters: channels of the output.
        kernel_size: extent of the kernel, one number or one an axis.
        strides: steps of the kernel.
        padding: "valid" (none) or "same" (as many outputs as inputs, divided by the strides).
        data_format: "channels_last" (the default) or "channels_first".
        dilation_rate: distance between neighbours in the kernel; not together with strides.
        groups: the channels are cut into as many groups, and so are the filters: each sees one group.
        activation: name or function; None is linear.
        use_bias: whether there is a bias.

    >>> images = np.ones((32, 28, 28, 1))
    >>> lf.layers.conv2d(filters=8, kernel_size=3, activation="relu").apply(images).shape
    (32, 26, 26, 8)
    >>> lf.layers.conv2d(filters=8, kernel_size=3, strides=2, padding="same").apply(images).shape
    (32, 14, 14, 8)
    >>> edges = np.array([[-1, 1]]).reshape(1, 2, 1, 1)
    >>> layer = lf.layers.conv2d(filters=1, kernel_size=[1, 2], use_bias=False, weights=[edges])
    >>> layer.apply(np.array([[[0, 0, 5, 5]]]).reshape(1, 1, 4, 1)).reshape([1, 3]).print()
    [[0., 5., 0.]]
    """

    rank = 2


class Conv3D(Conv):
    """Convolution of [batch, depth, height, width, channels].  Arguments and weights as for Conv2D.

    >>> layer = lf.layers.conv3d(filters=4, kernel_size=[1, 3, 3])  # within each of 10 slices
    >>> layer.apply(np.ones((2, 10, 16, 16, 1))).shape
    (2, 10, 14, 14, 4)
    """

    rank = 3


class ConvTranspose(Windowed):
    """Base of the transposed convolutions; `Conv2DTranspose` says what the arguments are."""

    FILE_NOTES = frozenset({"groups"})

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        output_padding: Sizes | None = None,
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_normal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        bias = (bias_initializer, bias_regularizer, bias_constraint)
        moving = (kernel_size, strides, padding, data_format, dilation_rate)
        super().__init__(*moving, activation, use_bias, bias, activity_regularizer=activity_regularizer, **kwargs)
        self.filters = positive_integer(self, "filters", filters)
        self.output_padding = None if output_padding is None else self.per_axis("output_padding", output_padding, 0)
        if any(a >= s for a, s in zip(self.output_padding or (), self.strides, strict=False)):
            raise ArgumentError(
                f"{self.name}: output_padding {list(self.output_padding or ())} must be smaller than the strides "
                f"{list(self.strides)}."
            )
        keep_settings(self, "kernel", kernel_initializer, kernel_regularizer, kernel_constraint, "glorot_normal")

    def build(self, input_shape):
        channels = self._bind_channels(input_shape)
        self.kernel = make_weight(self, "kernel", (*self.kernel_size, self.filters, channels))
        self._make_bias(self.filters)

    def convolved(self, x):
        return ops.conv_transpose(x, self.kernel, **self._moving, output_padding=self.output_padding)


class Conv1DTranspose(ConvTranspose):
    """Transposed convolution of [batch, steps, channels].  Arguments and weights as for Conv2DTranspose.

    >>> layer = lf.layers.conv1d_transpose(filters=1, kernel_size=2, strides=2, weights=[[[[1]], [[10]]], [0]])
    >>> layer.apply([[[1], [2]]]).reshape([1, 4]).print()
    [[ 1., 10.,  2., 20.]]
    """

    rank = 1


class Conv2DTranspose(ConvTranspose):
    """Transposed convolution of [batch, height, width, channels]: enlarges as a Conv2D with these arguments shrinks.

    Weights: kernel [*kernel_size, filters, channels], bias [filters].

    Args:
        filters: channels of the output.
        kernel_size: extent of the kernel, one number or one an axis.
        strides: how many times larger the output is.
        padding: "same" (extent * stride) or "valid" (extent * stride + max(kernel_size - stride, 0)).
        output_padding: elements more than the fewest outputs, in place of these extents; below the strides.
        data_format: "channels_last" (the default) or "channels_first".
        dilation_rate: distance between neighbours in the kernel; not together with strides.
        activation: name or function; None is linear.
        use_bias: whether there is a bias.

    >>> small = lf.layers.conv2d(filters=8, kernel_size=3, strides=2, padding="same").apply(np.ones((1, 28, 28, 1)))
    >>> small.shape
    (1, 14, 14, 8)
    >>> lf.layers.conv2d_transpose(filters=1, kernel_size=3, strides=2, padding="same").apply(small).shape
    (1, 28, 28, 1)
    """

    rank = 2


class Conv3DTranspose(ConvTranspose):
    """Transposed convolution of [batch, depth, height, width, channels].  Arguments as for Conv2DTranspose.

    >>> lf.layers.conv3d_transpose(filters=2, kernel_size=2, strides=2).apply(np.ones((1, 4, 8, 8, 3))).shape
    (1, 8, 16, 16, 2)
    """

    rank = 3


conv1d = factory(Conv1D)
conv2d = factory(Conv2D)
conv3d = factory(Conv3D)
conv1d_transpose = factory(Conv1DTranspose)
conv2d_transpose = factory(Conv2DTranspose)
conv3d_transpose = factory(Conv3DTranspose)
