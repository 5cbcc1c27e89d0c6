"""Normalizations of each sample besides LayerNormalization.  Arguments and defaults: Keras 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.graph.shapes import text
from layerflow.layers.base import Layer
from layerflow.layers.core import positive_integer
from layerflow.layers.normalizing import Normalizing
from layerflow.layers.signatures import as_list
from layerflow.layers.spatial import keep_settings
from layerflow.layers.topology import InputSpec
from layerflow.registry import factory


class GroupNormalization(Normalizing):
    """Gives each of `groups` parts of the channels of a sample mean 0 and deviation 1, then gamma and beta (Wu and He
    2018).

    Weights: gamma and beta, [channels].

    Args:
        groups: parts; they must divide the channels.  -1: as many as there are channels.
        axis: that of the channels.
        epsilon: added to the variance.
        center: whether there is a beta.
        scale: whether there is a gamma.

    >>> layer = lf.layers.group_normalization(groups=2)
    >>> layer.apply([[1.0, 3.0, 10.0, 30.0]]).numpy().round(2)
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
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
        self.groups = -1 if groups == -1 else positive_integer(self, "groups", groups)
        self.axis = int(axis)
        self._keep(epsilon, center, scale)
        keep_settings(self, "gamma", gamma_initializer, gamma_regularizer, gamma_constraint, "ones")
        keep_settings(self, "beta", beta_initializer, beta_regularizer, beta_constraint)

    def build(self, input_shape):
        (axis,) = self._known_axes(input_shape, [self.axis])
        channels = input_shape[axis]
        if self.groups != -1 and channels % self.groups:
            raise ShapeError(
                f"{self.name}: the {channels} channels (axis {self.axis}) of an input of shape {text(input_shape)} do "
                f"not divide into {self.groups} groups. Choose groups that divide them."
            )
        self._make_gamma_and_beta([channels])
        self.input_spec = InputSpec(ndim=len(input_shape), axes={axis: channels})

    def call(self, x):
        x = x if x.dtype.kind == "f" else ops.cast(x, self.dtype)
        rank, shape = len(x.shape), ops.shape_of(x)
        axis = self.axis % rank
        channels = x.shape[axis]
        groups = channels if self.groups == -1 else self.groups
        parted = ops.reshape(x, (*shape[:axis], groups, channels // groups, *shape[axis + 1 :]))
        over = [a for a in range(1, rank + 1) if a != axis]
        mean = ops.mean(parted, over, keepdims=True)
        variance = ops.mean(ops.square(parted - ops.stop_gradient(mean)), over, keepdims=True)
        y = ops.reshape((parted - mean) * ops.rsqrt(variance + self.epsilon), shape)
        spread = (-1, *[1] * (rank - 1 - axis))
        y = y * ops.reshape(self.gamma, spread) if self.scale else y
        return y + ops.reshape(self.beta, spread) if self.center else y


class RMSNormalization(Normalizing):
    """Divides by the root of the mean square along `axis`, times a trained scale (Zhang and Sennrich 2019).

    Weights: scale, of the extents of the axes.

    Args:
        axis: one axis or several.
        epsilon: added to the mean square.

    >>> lf.layers.rms_normalization().apply([[3.0, 3.0, 3.0], [0.0, 0.0, 9.0]]).numpy().round(2)
    array([[1.  , 1.  , 1.  ],
           [0.  , 0.  , 1.73]], dtype=float32)
    """

    def __init__(self, axis: int | Sequence[int] = -1, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = [int(a) for a in as_list(axis)]
        self._keep(epsilon, False, True)

    def build(self, input_shape):
        axes = sorted(self._known_axes(input_shape, self.axis))
        self._spread = [n if axis in axes else 1 for axis, n in enumerate(input_shape)][axes[0] :]
        self.scale_weight = self.add_weight("scale", [input_shape[axis] for axis in axes], None, "ones")
        self.input_spec = InputSpec(ndim=len(input_shape), axes={axis: input_shape[axis] for axis in axes})

    def call(self, x):
        x = x if x.dtype.kind == "f" else ops.cast(x, self.dtype)
        factor = ops.rsqrt(ops.mean(ops.square(x), self.axis, keepdims=True) + self.epsilon)
        return x * factor * ops.reshape(self.scale_weight, self._spread)


class UnitNormalization(Layer):
    """Divides by the Euclidean length along `axis`.  Any shape.

    Args:
        axis: one axis or several.

    >>> lf.layers.unit_normalization().apply([[3.0, 4.0]]).print()
    [[0.6, 0.8]]
    """

    supports_masking = True

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = [int(a) for a in as_list(axis)]
        if not self.axis:
            raise ArgumentError(f"{self.name}: axis must be a whole number or a list of them, got {axis!r}.")

    def call(self, x):
        x = x if x.dtype.kind == "f" else ops.cast(x, self.dtype)
        squares = ops.sum(ops.square(x), self.axis, keepdims=True)
        return x * ops.rsqrt(ops.maximum(squares, 1e-12))


group_normalization = factory(GroupNormalization)
rms_normalization = factory(RMSNormalization)
unit_normalization = factory(UnitNormalization)
