"""Activations with parameters.  Arguments and defaults: INVENTORY 2.1 (Softmax: the last axis, as in Keras)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from layerflow import activations, constraints, initializers, regularizers
from layerflow.errors import ArgumentError
from layerflow.graph import ops
from layerflow.layers.base import Layer
from layerflow.layers.topology import InputSpec
from layerflow.registry import factory


class ReLU(Layer):
    """max(x, 0), and at most `max_value` if given.  Any shape.

    Args:
        max_value: the largest output; None sets no limit.

    >>> lf.layers.re_lu(max_value=6).apply([-2.0, 3.0, 8.0]).print()
    [0., 3., 6.]
    """

    supports_masking = True

    def __init__(self, max_value: float | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.max_value = max_value

    def call(self, x):
        return ops.relu(x) if self.max_value is None else ops.clip(x, 0.0, float(self.max_value))


class ELU(Layer):
    """x where x > 0, else alpha (exp(x) - 1) (Clevert et al. 2015).  Any shape.

    Args:
        alpha: what outputs come down to is -alpha.

    >>> lf.layers.elu(alpha=2).apply([-100.0, 0.0, 3.0]).print()
    [-2.,  0.,  3.]
    """

    supports_masking = True

    def __init__(self, alpha: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.alpha = float(alpha)

    def call(self, x):
        return activations.elu(x, self.alpha)


class LeakyReLU(Layer):
    """x where x > 0, else alpha x.  Any shape.

    Args:
        alpha: slope of the negative side; `negative_slope`, as Keras calls it, is taken too.

    >>> lf.layers.leaky_relu(alpha=0.5).apply([-2.0, 3.0]).print()
    [-1.,  3.]
    """

    supports_masking = True
    ALIASES: ClassVar[Mapping[str, str]] = {"negative_slope": "alpha"}

    def __init__(self, alpha: float = 0.3, **kwargs: Any):
        super().__init__(**kwargs)
        self.alpha = float(alpha)

    def call(self, x):
        return activations.leaky_relu(x, self.alpha)


class ThresholdedReLU(Layer):
    """x where x > theta, else 0.  Any shape.

    Args:
        theta: the threshold.

    >>> lf.layers.thresholded_relu(theta=2).apply([-2.0, 1.5, 3.0]).print()
    [0., 0., 3.]
    """

    supports_masking = True

    def __init__(self, theta: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.theta = float(theta)

    def call(self, x):
        return ops.where(x > self.theta, x, 0.0)


class PReLU(Layer):
    """x where x > 0, else alpha x with a trained alpha (He et al. 2015).

    Weights: alpha, of the shape of one example, with 1 for the shared axes.

    Args:
        shared_axes: axes (from 1) along which one alpha is shared.

    Raises:
        ShapeError: an axis that is not shared and whose extent is not known.

    >>> layer = lf.layers.prelu(alpha_initializer=lf.initializers.constant(value=0.5))
    >>> layer.apply([[-2.0, 3.0]]).print()
    [[-1.,  3.]]
    >>> images = lf.layers.prelu(shared_axes=[1, 2])
    >>> images.apply(np.ones((1, 8, 8, 3))).shape, images.alpha.shape  # an alpha for each channel
    ((1, 8, 8, 3), (1, 1, 3))
    """

    supports_masking = True

    def __init__(
        self,
        alpha_initializer: Any = "zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: int | Sequence[int] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.alpha_initializer = initializers.get(alpha_initializer or "zeros")
        self.alpha_regularizer = regularizers.get(alpha_regularizer)
        self.alpha_constraint = constraints.get(alpha_constraint)
        axes = [shared_axes] if isinstance(shared_axes, int) else list(shared_axes or [])
        if any(axis < 1 for axis in axes):
            raise ArgumentError(f"{self.name}: shared_axes count from 1, the first axis after the batch; got {axes}.")
        self.shared_axes = axes

    def build(self, input_shape):
        shape = [1 if axis in self.shared_axes else n for axis, n in enumerate(input_shape) if axis > 0]
        self.alpha = self.add_weight(
            "alpha", shape, None, self.alpha_initializer, self.alpha_regularizer, True, self.alpha_constraint
        )
        fixed = {axis: n for axis, n in enumerate(input_shape) if axis > 0 and axis not in self.shared_axes}
        self.input_spec = InputSpec(ndim=len(input_shape), axes=fixed)

    def call(self, x):
        return ops.relu(x) + self.alpha * ops.minimum(x, 0.0)


class Softmax(Layer):
    """exp(x) / sum(exp(x)): positive numbers with a sum of 1.

    A call with a `mask` of the input's shape gives 0 where it is False.

    Args:
        axis: along which the sum goes, one axis or several.

    >>> lf.layers.softmax().apply(np.log([[1.0, 3.0]])).print()
    [[0.25, 0.75]]
    >>> lf.layers.softmax().apply([[0.0, 0.0, 5.0]], mask=np.array([[True, True, False]])).print()
    [[0.5, 0.5, 0. ]]
    """

    supports_masking = True

    def __init__(self, axis: int | Sequence[int] = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis if isinstance(axis, int) else tuple(axis)

    def call(self, x, mask=None):
        if mask is not None and len(mask.shape) == len(x.shape):  # a mask of steps says nothing about features
            x = x + (1.0 - ops.cast(mask, x.dtype)) * -1e9
        if isinstance(self.axis, int):
            return ops.softmax(x, self.axis)
        return ops.exp(x - ops.logsumexp(x, self.axis, keepdims=True))


relu = re_lu = factory(ReLU)
elu = factory(ELU)
leaky_relu = factory(LeakyReLU)
thresholded_relu = factory(ThresholdedReLU)
prelu = factory(PReLU)
softmax = factory(Softmax)
