"""Normalization by the statistics of a batch, or of each sample.  Arguments and defaults: INVENTORY 2.4."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.graph.shapes import text
from layerflow.layers.base import Layer
from layerflow.layers.core import share
from layerflow.layers.spatial import keep_settings, make_weight
from layerflow.layers.topology import InputSpec
from layerflow.registry import factory


class Normalizing(Layer):
    """Base: (x - mean) / sqrt(variance + epsilon) * gamma + beta."""

    supports_masking = True

    def _keep(self, epsilon: float, center: bool, scale: bool) -> None:
        if not epsilon >= 0:
            raise ArgumentError(f"{self.name}: epsilon must not be negative, got {epsilon!r}.")
        self.epsilon = float(epsilon)
        self.center, self.scale = bool(center), bool(scale)

    def _known_axes(self, input_shape: Sequence[int | None], axes: Sequence[int]) -> list[int]:
        """Axes counted from the front; their extents must be known, as weights depend on them."""
        rank = len(input_shape)
        for axis in axes:
            if not -rank <= axis < rank or axis % rank == 0:
                raise ShapeError(
                    f"{self.name}: axis {axis} is no axis of a sample of an input of shape {text(input_shape)}; "
                    f"choose one of 1 to {rank - 1}, or -1 for the last."
                )
            if input_shape[axis] is None:
                raise ShapeError(
                    f"{self.name}: axis {axis} of an input of shape {text(input_shape)} must be known. "
                    "Give the first layer an input_shape with this extent."
                )
        found = [axis % rank for axis in axes]
        if len(set(found)) != len(found):
            raise ArgumentError(f"{self.name}: axis {list(axes)} names an axis of {text(input_shape)} twice.")
        return found

    def _make_gamma_and_beta(self, shape: Sequence[int]) -> None:
        if self.scale:
            self.gamma = make_weight(self, "gamma", shape)
        if self.center:
            self.beta = make_weight(self, "beta", shape)


class BatchNormalization(Normalizing):
    """Makes each channel of a batch one of mean beta and deviation gamma (Ioffe and Szegedy 2015).

    While training, mean and (biased) variance are those of the batch, over all axes but `axis`; the moving statistics
    take part of them in each step.  Otherwise, and if the layer is frozen (`trainable = False`), the moving statistics
    are used and stay as they are.

    Weights: gamma, beta, moving_mean, moving_variance, each [channels]; the last two are not trained.

    Args:
        axis: that of the channels.
        momentum: share that the moving statistics keep in a step.
        epsilon: added to the variance.
        center: whether there is a beta.
        scale: whether there is a gamma.

    >>> layer, x = lf.layers.batch_normalization(momentum=0.5), np.array([[1.0], [3.0]])
    >>> layer.apply(x, training=True).numpy().round(2)
    array([[-1.],
           [ 1.]], dtype=float32)
    >>> layer.moving_mean.print()  # half of the way from 0 to the batch's 2
    [1.]
    >>> len(layer.trainable_weights), len(layer.weights)
    (2, 4)
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        axes: list[Any] = list(axis) if isinstance(axis, (list, tuple)) else [axis]  # Keras writes [3]
        if len(axes) != 1 or not isinstance(axes[0], numbers.Integral):
            raise ArgumentError(f"{self.name}: axis must be the number of one axis, got {axis!r}.")
        self.axis = int(axes[0])
        self.momentum = share(self, "momentum", momentum)
        self._keep(epsilon, center, scale)
        keep_settings(self, "gamma", gamma_initializer, gamma_regularizer, gamma_constraint, "ones")
        keep_settings(self, "beta", beta_initializer, beta_regularizer, beta_constraint)
        keep_settings(self, "moving_mean", moving_mean_initializer)
        keep_settings(self, "moving_variance", moving_variance_initializer, default="ones")

    def build(self, input_shape):
        (axis,) = self._known_axes(input_shape, [self.axis])
        channels = input_shape[axis]
        self._make_gamma_and_beta([channels])
        self.moving_mean = make_weight(self, "moving_mean", [channels], trainable=False)
        self.moving_variance = make_weight(self, "moving_variance", [channels], trainable=False)
        self.input_spec = InputSpec(ndim=len(input_shape), axes={axis: channels})

    def call(self, x, training=False):
        x = x if x.dtype.kind == "f" else ops.cast(x, self.dtype)
        last = len(x.shape) - 1
        axis = self.axis % (last + 1)
        if axis != last:
            x = ops.transpose(x, [*(i for i in range(last + 1) if i != axis), axis])
        if training and self.trainable:
            y = self._by_batch(x)
        else:
            y = self._scaled(x, self.moving_mean, self.moving_variance)
        return y if axis == last else ops.transpose(y, [*range(axis), last, *range(axis, last)])

    def _by_batch(self, x: Any) -> Any:
        """Normalized by the batch's own statistics, channels last; the moving ones are updated.

        Everything is done on rows [batch * ..., channels], so that the compiler sees plain sums over rows, here and
        in the gradients.  Two passes over the data: E[x^2] - E[x]^2 would be one, but its rounding error grows with
        (mean / deviation)^2, and in float32 it leaves nothing right (or a negative variance) for a mean of some
        thousand deviations.
        """
        rows = ops.reshape(x, (-1, x.shape[-1]))
        mean = ops.mean(rows, 0)
        # The deviations sum to zero, so what the mean does to the variance is nothing: no sum for it in the gradient.
        variance = ops.mean(ops.square(rows - ops.stop_gradient(mean)), 0)
        self._move(self.moving_mean, mean)
        self._move(self.moving_variance, variance)
        return ops.reshape(self._scaled(rows, mean, variance), ops.shape_of(x))

    def _move(self, moving: Any, batch: Any) -> None:
        old = ops.assigned(moving)  # by an earlier call of this layer in the same step, perhaps
        ops.assign(moving, old + (batch - old) * (1.0 - self.momentum))

    def _scaled(self, x: Any, mean: Any, variance: Any) -> Any:
        """One product and one sum an element: gamma, beta and the statistics meet in vectors of the channels."""
        factor = ops.rsqrt(variance + self.epsilon)
        factor = factor * self.gamma if self.scale else factor
        shift = self.beta - mean * factor if self.center else -mean * factor
        return x * factor + shift


class LayerNormalization(Normalizing):
    """Gives the elements of a sample along `axis` mean 0 and deviation 1, then times gamma plus beta (Ba et al. 2016).

    Weights: gamma and beta, of the extents of the axes.

    Args:
        axis: one axis or several.
        epsilon: added to the variance.
        center: whether there is a beta.
        scale: whether there is a gamma.

    >>> layer = lf.layers.layer_normalization()
    >>> layer.apply([[1.0, 3.0], [10.0, 30.0]]).numpy().round(2)
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        axes: list[Any] = list(axis) if isinstance(axis, (list, tuple)) else [axis]
        if not axes or not all(isinstance(a, numbers.Integral) for a in axes):
            raise ArgumentError(f"{self.name}: axis must be a whole number or a list of them, got {axis!r}.")
        self.axis = [int(a) for a in axes]
        self._keep(epsilon, center, scale)
        keep_settings(self, "gamma", gamma_initializer, gamma_regularizer, gamma_constraint, "ones")
        keep_settings(self, "beta", beta_initializer, beta_regularizer, beta_constraint)

    def build(self, input_shape):
        axes = sorted(self._known_axes(input_shape, self.axis))
        self._make_gamma_and_beta([input_shape[axis] for axis in axes])
        self.input_spec = InputSpec(ndim=len(input_shape), axes={axis: input_shape[axis] for axis in axes})

    def call(self, x):
        x = x if x.dtype.kind == "f" else ops.cast(x, self.dtype)
        rank = len(x.shape)
        axes = sorted(axis % rank for axis in self.axis)
        mean = ops.mean(x, axes, keepdims=True)
        variance = ops.mean(ops.square(x - ops.stop_gradient(mean)), axes, keepdims=True)
        y = (x - mean) * ops.rsqrt(variance + self.epsilon)
        y = y * self._spread(self.gamma, axes, rank) if self.scale else y
        return y + self._spread(self.beta, axes, rank) if self.center else y

    @staticmethod
    def _spread(weight: Any, axes: Sequence[int], rank: int) -> Any:
        """The weight with axes of 1 where the input has others, behind its first own one."""
        shape = [weight.shape[axes.index(axis)] if axis in axes else 1 for axis in range(axes[0], rank)]
        return weight if len(shape) == len(axes) else ops.reshape(weight, shape)


batch_normalization = factory(BatchNormalization)
layer_normalization = factory(LayerNormalization)
