"""Dense, activation, dropout, and layers that only move elements.  Arguments and defaults: INVENTORY 2.1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from layerflow import activations, constraints, initializers, regularizers
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.graph.ops.random import salt_of
from layerflow.graph.shapes import text
from layerflow.layers.base import Layer
from layerflow.layers.topology import InputSpec
from layerflow.registry import factory, option


def positive_integer(layer: Layer, argument: str, value: Any) -> int:
    """The value, if it is one that counts things."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or number != value:
        raise ArgumentError(f"{layer.name}: expected {argument} to be a positive integer, but got {value!r}.")
    return number


def share(layer: Layer, argument: str, value: Any, whole: bool = True) -> float:
    """The value as a number from 0 to 1; `whole`: 1 may be meant."""
    number = float(value)
    if not (0.0 <= number <= 1.0 and (whole or number < 1.0)):
        raise ArgumentError(f"{layer.name}: {argument} must lie in [0, 1{']' if whole else ')'}, got {value}.")
    return number


class Dense(Layer):
    """activation(x kernel + bias) along the last axis: [batch, ..., features] to [batch, ..., units].

    Weights: kernel [features, units], bias [units].

    Args:
        units: features of the output.
        activation: name or function; None is linear.
        use_bias: whether there is a bias.
        input_dim: features of one example, short for input_shape=[input_dim].

    Raises:
        ShapeError: inputs with less than 2 axes, or with another number of features than the layer was built for.

    >>> layer = lf.layers.dense(units=2, weights=[[[1, 0], [0, 1], [1, 1]], [10, 20]])
    >>> layer.apply([[1, 2, 3]]).print()
    [[14., 25.]]
    >>> lf.layers.dense(units=4, activation="relu").apply(np.ones((2, 5, 3))).shape  # along the last axis
    (2, 5, 4)
    """

    supports_masking = True

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_normal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        input_dim: int | None = None,
        **kwargs: Any,
    ):
        if input_dim is not None and not kwargs.get("input_shape") and not kwargs.get("batch_input_shape"):
            kwargs["input_shape"] = [input_dim]
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.units = positive_integer(self, "units", units)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer or "glorot_normal")
        self.bias_initializer = initializers.get(bias_initializer or "zeros")
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.input_spec = InputSpec(min_ndim=2)

    def build(self, input_shape):
        features = input_shape[-1]
        self.kernel = self.add_weight(
            "kernel",
            (features, self.units),
            None,
            self.kernel_initializer,
            self.kernel_regularizer,
            True,
            self.kernel_constraint,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                "bias", (self.units,), None, self.bias_initializer, self.bias_regularizer, True, self.bias_constraint
            )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: features})

    def call(self, x):
        y = ops.matmul(x, self.kernel)
        return self.activation(y + self.bias if self.use_bias else y)

    def get_config(self):
        config = super().get_config()
        config.pop("input_dim", None)
        return config


class Activation(Layer):
    """An activation function as a layer, for inputs of any shape.

    Args:
        activation: a name, or a function of an array in NumPy terms.

    Raises:
        UnknownNameError: no activation of this name; the message says the nearest one.

    >>> lf.layers.activation(activation="relu").apply([-2, 1, 0, 5]).print()
    [0., 1., 0., 5.]
    >>> lf.layers.activation(activation=lambda x: x * x).apply([-2, 1, 0, 5]).print()
    [ 4.,  1.,  0., 25.]
    """

    supports_masking = True

    def __init__(self, activation: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, x):
        return self.activation(x)


class Dropout(Layer):
    """While training, zeroes a share `rate` of the elements and scales the others by 1 / (1 - rate).  Any shape.

    Args:
        rate: in [0, 1].
        noise_shape: shape of the mask; 1 shares a decision along that axis, None takes the input's extent.
        seed: gives this layer masks of its own; they are a function of (seed, step, position).

    Raises:
        ArgumentError: another rate.

    >>> layer, x = lf.layers.dropout(rate=0.5), np.ones((1, 1000))
    >>> float(layer.apply(x).sum())  # nothing happens outside of training
    1000.0
    >>> y = layer.apply(x, training=True)
    >>> np.unique(y)  # the others are twice as large: the mean stays about the same
    Tensor([0., 2.], dtype=float32)
    """

    supports_masking = True

    def __init__(
        self, rate: float, noise_shape: Sequence[int | None] | None = None, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.rate, self.noise_shape, self.seed = share(self, "rate", rate), noise_shape, seed

    def call(self, x, training=False):
        if not training or self.rate == 0.0:
            return x
        return ops.dropout(x, self.rate, self.noise_shape, self.seed, salt_of(self.name))


class SpatialDropout(Dropout):
    """Base: whole channels are zeroed; `SpatialDropout2D` says what the arguments are."""

    rank: ClassVar[int]

    def __init__(self, rate: float, seed: int | None = None, data_format: str | None = None, **kwargs: Any):
        super().__init__(rate=rate, seed=seed, **kwargs)
        self.data_format = option(
            f"{self.name}: data_format", data_format or "channels_last", ("channels_last", "channels_first")
        )
        channels = 1 if self.data_format == "channels_first" else self.rank + 1
        self.noise_shape = [None if axis in (0, channels) else 1 for axis in range(self.rank + 2)]
        self.input_spec = InputSpec(ndim=self.rank + 2)


class SpatialDropout1D(SpatialDropout):
    """Dropout of whole channels of [batch, steps, channels].  Arguments as for SpatialDropout2D.

    >>> y = lf.layers.spatial_dropout1d(rate=0.5).apply(np.ones((1, 6, 50)), training=True)
    >>> bool((y == y[:, :1]).all())  # a channel is dropped at all steps or at none
    True
    """

    rank = 1


class SpatialDropout2D(SpatialDropout):
    """While training, zeroes a share `rate` of the channels of each image and scales the others by 1 / (1 - rate).

    Args:
        rate: in [0, 1].
        seed: gives this layer masks of its own.
        data_format: "channels_last" (the default) or "channels_first".

    >>> y = np.asarray(lf.layers.spatial_dropout2d(rate=0.5).apply(np.ones((1, 4, 4, 50)), training=True))
    >>> np.unique(y.sum(axis=(1, 2)))  # of 16 elements: none of a channel is left, or all
    array([ 0., 32.], dtype=float32)
    """

    rank = 2


class SpatialDropout3D(SpatialDropout):
    """Dropout of whole channels of [batch, depth, height, width, channels].  Arguments as for SpatialDropout2D.

    >>> y = np.asarray(lf.layers.spatial_dropout3d(rate=0.5).apply(np.ones((1, 2, 2, 2, 50)), training=True))
    >>> np.unique(y.sum(axis=(1, 2, 3)))
    array([ 0., 16.], dtype=float32)
    """

    rank = 3


class Flatten(Layer):
    """All axes but the batch become one: [batch, a, b, ...] to [batch, a b ...].

    Args:
        data_format: "channels_first" moves the channels last before flattening.

    Raises:
        ShapeError: an axis besides the batch whose extent is not known.

    >>> lf.layers.flatten().apply([[[1, 2], [3, 4]]]).print()
    [[1., 2., 3., 4.]]
    >>> lf.layers.flatten(data_format="channelsFirst").apply([[[1, 2], [3, 4]]]).print()
    [[1., 3., 2., 4.]]
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = (
            None if data_format is None else option("data_format", data_format, ("channels_first", "channels_last"))
        )

    def call(self, x):
        if any(n is None for n in x.shape[1:]):
            raise ShapeError(
                f"{self.name}: cannot flatten shape {text(x.shape)}: every axis but the batch must be known. "
                "Give the first layer a complete input_shape."
            )
        if self.data_format == "channels_first" and len(x.shape) > 2:
            x = ops.transpose(x, (0, *range(2, len(x.shape)), 1))
        return ops.reshape(x, (x.shape[0], math.prod(x.shape[1:])))


class Reshape(Layer):
    """Another shape for the same elements: [batch, ...] to [batch, *target_shape].

    Args:
        target_shape: without the batch; one extent may be -1 or None, which is then inferred.

    Raises:
        ShapeError: the input has another number of elements.

    >>> lf.layers.reshape(target_shape=[2, -1]).apply([[1, 2, 3, 4, 5, 6]]).print()
    [[[1., 2., 3.],
      [4., 5., 6.]]]
    """

    def __init__(self, target_shape: Sequence[int | None], **kwargs: Any):
        super().__init__(**kwargs)
        self.target_shape = tuple(-1 if n is None or n < 0 else int(n) for n in target_shape)
        if self.target_shape.count(-1) > 1:
            raise ArgumentError(
                f"{self.name}: can only specify one unknown dimension in target_shape, got {list(target_shape)}."
            )

    def call(self, x):
        known = math.prod(n for n in self.target_shape if n != -1)
        given = None if None in x.shape[1:] else math.prod(x.shape[1:])
        if given is not None and (given % known if -1 in self.target_shape and known else given != known):
            takes = f"a multiple of {known}" if -1 in self.target_shape else str(known)
            raise ShapeError(
                f"{self.name}: total size of new array must be unchanged: an example of shape {text(x.shape[1:])} "
                f"has {given} elements, target_shape {list(self.target_shape)} takes {takes}."
            )
        if given is not None and -1 in self.target_shape:
            return ops.reshape(x, (x.shape[0], *(given // known if n == -1 else n for n in self.target_shape)))
        return ops.reshape(x, (x.shape[0], *self.target_shape))


class Permute(Layer):
    """The axes of each example in another order.

    Args:
        dims: the axes of one example, counted from 1: (2, 1) swaps the first two.

    Raises:
        ArgumentError: `dims` are not the numbers from 1 on.

    >>> lf.layers.permute(dims=[2, 1]).apply([[[1, 2, 3], [4, 5, 6]]]).print()
    [[[1., 4.],
      [2., 5.],
      [3., 6.]]]
    """

    def __init__(self, dims: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.dims = tuple(int(d) for d in dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ArgumentError(
                f"{self.name}: dims must be the numbers 1 to {len(self.dims)} in some order, got {list(self.dims)}."
            )
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, x):
        return ops.transpose(x, (0, *self.dims))


class RepeatVector(Layer):
    """[batch, features] to [batch, n, features].

    Args:
        n: how often.

    >>> lf.layers.repeat_vector(n=2).apply([[1, 2, 3]]).print()
    [[[1., 2., 3.],
      [1., 2., 3.]]]
    """

    def __init__(self, n: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.n = positive_integer(self, "n", n)
        self.input_spec = InputSpec(ndim=2)

    def call(self, x):
        return ops.repeat(ops.expand_dims(x, 1), self.n, 1)


dense = factory(Dense)
activation = factory(Activation)
dropout = factory(Dropout)
spatial_dropout1d = factory(SpatialDropout1D)
spatial_dropout2d = factory(SpatialDropout2D)
spatial_dropout3d = factory(SpatialDropout3D)
flatten = factory(Flatten)
reshape = factory(Reshape)
permute = factory(Permute)
repeat_vector = factory(RepeatVector)
