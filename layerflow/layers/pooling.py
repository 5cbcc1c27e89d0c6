"""Pooling: the largest or the mean element of windows, or of all spatial axes.  INVENTORY 2.3."""

from __future__ import annotations

from typing import Any

from layerflow.graph import ops
from layerflow.layers.spatial import Sizes, Spatial
from layerflow.registry import factory


class Pooling(Spatial):
    """Base of pooling over windows; `MaxPooling2D` says what the arguments are."""

    def __init__(
        self,
        pool_size: Sizes = 2,
        strides: Sizes | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(data_format, **kwargs)
        self.pool_size = self.per_axis("pool_size", pool_size)
        self.strides = self.pool_size if strides is None else self.per_axis("strides", strides)
        self.padding = self.option("padding", padding, ("valid", "same"))


class MaxPooling(Pooling):
    """Base of max pooling."""

    def call(self, x):
        return ops.max_pool(self.as_float(x), self.pool_size, self.strides, self.padding, data_format=self.data_format)


class AveragePooling(Pooling):
    """Base of average pooling."""

    def call(self, x):
        return ops.avg_pool(self.as_float(x), self.pool_size, self.strides, self.padding, data_format=self.data_format)


class MaxPooling1D(MaxPooling):
    """Largest element of windows on [batch, steps, channels].  Arguments as for MaxPooling2D.

    >>> lf.layers.max_pooling1d(pool_size=2).apply([[[1], [5], [2], [4]]]).reshape([1, 2]).print()
    [[5., 4.]]
    """

    rank = 1


class MaxPooling2D(MaxPooling):
    """Largest element of windows on [batch, height, width, channels], for each channel.

    Args:
        pool_size: extent of the windows, one number or one an axis.
        strides: steps between windows; by default the pool_size, so that they do not overlap.
        padding: "valid" (whole windows only) or "same" (windows over the edge count what is inside).
        data_format: "channels_last" (the default) or "channels_first".

    >>> x = np.arange(16).reshape(1, 4, 4, 1)
    >>> lf.layers.max_pooling2d(pool_size=2).apply(x).reshape([2, 2]).print()
    [[ 5.,  7.],
     [13., 15.]]
    >>> lf.layers.max_pooling2d(pool_size=3, strides=1).apply(x).shape
    (1, 2, 2, 1)
    """

    rank = 2


class MaxPooling3D(MaxPooling):
    """Largest element of windows on [batch, depth, height, width, channels].  Arguments as for MaxPooling2D.

    >>> lf.layers.max_pooling3d(pool_size=[1, 2, 2]).apply(np.ones((1, 10, 8, 8, 3))).shape
    (1, 10, 4, 4, 3)
    """

    rank = 3


class AveragePooling1D(AveragePooling):
    """Mean of windows on [batch, steps, channels].  Arguments as for AveragePooling2D.

    >>> lf.layers.average_pooling1d(pool_size=2).apply([[[1], [5], [2], [4]]]).reshape([1, 2]).print()
    [[3., 3.]]
    """

    rank = 1


class AveragePooling2D(AveragePooling):
    """Mean of windows on [batch, height, width, channels], for each channel.

    Args:
        pool_size: extent of the windows, one number or one an axis.
        strides: steps between windows; by default the pool_size, so that they do not overlap.
        padding: "valid" (whole windows only) or "same" (windows over the edge are the mean of what is inside).
        data_format: "channels_last" (the default) or "channels_first".

    >>> x = np.arange(9).reshape(1, 3, 3, 1)
    >>> layer = lf.layers.average_pooling2d(pool_size=2, padding="same")
    >>> layer.apply(x).reshape([2, 2]).print()  # at the edges the mean of what is there
    [[2. , 3.5],
     [6.5, 8. ]]
    """

    rank = 2


class AveragePooling3D(AveragePooling):
    """Mean of windows on [batch, depth, height, width, channels].  Arguments as for AveragePooling2D.

    >>> lf.layers.average_pooling3d(pool_size=2).apply(np.ones((1, 4, 8, 8, 3))).shape
    (1, 2, 4, 4, 3)
    """

    rank = 3


class GlobalPooling(Spatial):
    """Base: all spatial axes are reduced; `GlobalMaxPooling2D` says what the arguments are."""

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.keepdims = bool(keepdims)


class GlobalMax(GlobalPooling):
    """Base of global max pooling."""

    def call(self, x):
        return ops.max(self.as_float(x), self.spatial_axes, self.keepdims)


class GlobalAverage(GlobalPooling):
    """Base of global average pooling."""

    def call(self, x):
        return ops.mean(self.as_float(x), self.spatial_axes, self.keepdims)


class GlobalMaxPooling1D(GlobalMax):
    """[batch, steps, channels] to the largest element of each channel.  Arguments as for GlobalMaxPooling2D.

    >>> lf.layers.global_max_pooling1d().apply([[[1, 8], [5, 2]]]).print()
    [[5., 8.]]
    """

    rank = 1


class GlobalMaxPooling2D(GlobalMax):
    """[batch, height, width, channels] to the largest element of each channel, [batch, channels].

    Args:
        data_format: "channels_last" (the default) or "channels_first".
        keepdims: keep the reduced axes as 1: [batch, 1, 1, channels].

    >>> x = np.arange(12).reshape(1, 2, 2, 3)
    >>> lf.layers.global_max_pooling2d().apply(x).print()
    [[ 9., 10., 11.]]
    """

    rank = 2


class GlobalMaxPooling3D(GlobalMax):
    """[batch, depth, height, width, channels] to the largest of each channel.  Arguments as for GlobalMaxPooling2D.

    >>> lf.layers.global_max_pooling3d().apply(np.ones((2, 4, 8, 8, 3))).shape
    (2, 3)
    """

    rank = 3


class GlobalAveragePooling1D(GlobalAverage):
    """[batch, steps, channels] to the mean of each channel, over the steps that a mask keeps if there is one.

    Arguments as for GlobalAveragePooling2D.

    >>> layer, x = lf.layers.global_average_pooling1d(), [[[1.0], [5.0], [102.0]]]
    >>> layer.apply(x).print()
    [[36.]]
    >>> layer.apply(x, mask=np.array([[True, True, False]])).print()
    [[3.]]
    """

    rank = 1
    supports_masking = True

    def call(self, x, mask=None):
        if mask is None:
            return super().call(x)
        kept = ops.expand_dims(ops.cast(mask, self.dtype), self.channel_axis)
        steps = self.spatial_axes
        count = ops.maximum(ops.sum(kept, steps, self.keepdims), 1.0)  # a sample without any step gives zeros
        return ops.sum(self.as_float(x) * kept, steps, self.keepdims) / count

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """None: the steps are gone."""


class GlobalAveragePooling2D(GlobalAverage):
    """[batch, height, width, channels] to the mean of each channel, [batch, channels].

    Args:
        data_format: "channels_last" (the default) or "channels_first".
        keepdims: keep the reduced axes as 1: [batch, 1, 1, channels].

    >>> x = np.arange(12).reshape(1, 2, 2, 3)
    >>> lf.layers.global_average_pooling2d().apply(x).print()
    [[4.5, 5.5, 6.5]]
    >>> lf.layers.global_average_pooling2d(keepdims=True).apply(x).shape
    (1, 1, 1, 3)
    """

    rank = 2


class GlobalAveragePooling3D(GlobalAverage):
    """[batch, depth, height, width, channels] to the mean of each channel.  Arguments as for GlobalAveragePooling2D.

    >>> lf.layers.global_average_pooling3d().apply(np.ones((2, 4, 8, 8, 3))).shape
    (2, 3)
    """

    rank = 3


max_pooling1d = max_pool1d = factory(MaxPooling1D)
max_pooling2d = max_pool2d = factory(MaxPooling2D)
max_pooling3d = max_pool3d = factory(MaxPooling3D)
average_pooling1d = avg_pool1d = avg_pooling1d = factory(AveragePooling1D)
average_pooling2d = avg_pool2d = avg_pooling2d = factory(AveragePooling2D)
average_pooling3d = avg_pool3d = avg_pooling3d = factory(AveragePooling3D)
global_max_pooling1d = global_max_pool1d = factory(GlobalMaxPooling1D)
global_max_pooling2d = global_max_pool2d = factory(GlobalMaxPooling2D)
global_max_pooling3d = global_max_pool3d = factory(GlobalMaxPooling3D)
global_average_pooling1d = global_avg_pool1d = factory(GlobalAveragePooling1D)
global_average_pooling2d = global_avg_pool2d = factory(GlobalAveragePooling2D)
global_average_pooling3d = global_avg_pool3d = factory(GlobalAveragePooling3D)
