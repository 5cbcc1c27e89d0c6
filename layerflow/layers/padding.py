"""Zeros around, edges off, elements repeated.  Arguments and defaults: INVENTORY 2.2; one and three axes: Keras."""

from __future__ import annotations

from typing import Any

from layerflow.errors import ShapeError
from layerflow.graph import ops
from layerflow.graph.shapes import text
from layerflow.layers.spatial import Sizes, Spatial
from layerflow.layers.unknown_extents import need_known
from layerflow.registry import factory


class ZeroPadding(Spatial):
    """Base of zero padding; `ZeroPadding2D` says what the arguments are."""

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.padding = self.pairs("padding", padding)

    def call(self, x):
        need_known(self.name, x)
        widths = dict(zip(self.spatial_axes, self.padding, strict=True))
        return ops.pad(x, [widths.get(axis, (0, 0)) for axis in range(self.rank + 2)])


class ZeroPadding1D(ZeroPadding):
    """Zeros before and after the steps of [batch, steps, channels].

    Args:
        padding: how many, or (before, after).
        data_format: "channels_last" (the default) or "channels_first".

    >>> lf.layers.zero_padding1d(padding=[2, 1]).apply([[[5], [6]]]).reshape([1, 5]).print()
    [[0., 0., 5., 6., 0.]]
    """

    rank = 1


class ZeroPadding2D(ZeroPadding):
    """Zeros around the images of [batch, height, width, channels].

    Args:
        padding: how many on every side, or (height, width), or ((top, bottom), (left, right)).
        data_format: "channels_last" (the default) or "channels_first".

    >>> x = np.ones((1, 1, 2, 1))
    >>> lf.layers.zero_padding2d(padding=[[1, 0], [0, 2]]).apply(x).reshape([2, 4]).print()
    [[0., 0., 0., 0.],
     [1., 1., 0., 0.]]
    """

    rank = 2


class ZeroPadding3D(ZeroPadding):
    """Zeros around [batch, depth, height, width, channels].  Arguments as for ZeroPadding2D, with one axis more.

    >>> lf.layers.zero_padding3d(padding=[0, 1, 1]).apply(np.ones((1, 10, 8, 8, 3))).shape
    (1, 10, 10, 10, 3)
    """

    rank = 3


class Cropping(Spatial):
    """Base of cropping; `Cropping2D` says what the arguments are."""

    def __init__(self, cropping: Any = 1, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.cropping = self.pairs("cropping", cropping)

    def call(self, x):
        need_known(self.name, x)
        begin, size = [0] * (self.rank + 2), [-1] * (self.rank + 2)
        for axis, (before, after) in zip(self.spatial_axes, self.cropping, strict=True):
            extent = x.shape[axis]
            if extent <= before + after:
                raise ShapeError(
                    f"{self.name}: cropping {[list(pair) for pair in self.cropping]} leaves nothing of an input of "
                    f"shape {text(x.shape)}. Crop less, or give larger inputs."
                )
            begin[axis], size[axis] = before, extent - before - after
        return ops.slice_(x, begin, size)


class Cropping1D(Cropping):
    """[batch, steps, channels] without the first and last steps.

    Args:
        cropping: how many at either end, or (first, last).
        data_format: "channels_last" (the default) or "channels_first".

    >>> lf.layers.cropping1d(cropping=[0, 2]).apply([[[1], [2], [3], [4]]]).reshape([1, 2]).print()
    [[1., 2.]]
    """

    rank = 1


class Cropping2D(Cropping):
    """The images of [batch, height, width, channels] without their edges.

    Args:
        cropping: how many on every side, or (height, width), or ((top, bottom), (left, right)).
        data_format: "channels_last" (the default) or "channels_first".

    >>> x = np.arange(9).reshape(1, 3, 3, 1)
    >>> lf.layers.cropping2d(cropping=[[1, 0], [1, 0]]).apply(x).reshape([2, 2]).print()
    [[4, 5],
     [7, 8]]
    """

    rank = 2

    def __init__(self, cropping: Any = 0, data_format: str | None = None, **kwargs: Any):
        super().__init__(cropping, data_format, **kwargs)


class Cropping3D(Cropping):
    """[batch, depth, height, width, channels] without its edges.  Arguments as for Cropping2D, with one axis more.

    >>> lf.layers.cropping3d(cropping=[0, 2, 2]).apply(np.ones((1, 10, 8, 8, 3))).shape
    (1, 10, 4, 4, 3)
    """

    rank = 3


class UpSampling(Spatial):
    """Base of upsampling; `UpSampling2D` says what the arguments are."""

    interpolation = "nearest"

    def __init__(self, size: Sizes = 2, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.size = self.per_axis("size", size)

    def call(self, x):
        return ops.up_sample(x, self.size, self.interpolation, data_format=self.data_format)


class UpSampling1D(UpSampling):
    """Every step of [batch, steps, channels] repeated.

    Args:
        size: how often.
        data_format: "channels_last" (the default) or "channels_first".

    >>> lf.layers.up_sampling1d(size=2).apply([[[1], [2]]]).reshape([1, 4]).print()
    [[1., 1., 2., 2.]]
    """

    rank = 1


class UpSampling2D(UpSampling):
    """The images of [batch, height, width, channels] larger by whole factors.

    Args:
        size: the factor, or (height, width).
        data_format: "channels_last" (the default) or "channels_first".
        interpolation: "nearest" repeats the elements; "bilinear" takes a mean of neighbours, with the first element at
            the position of the first one (as TF.js; Keras puts it half an element further).

    >>> x = np.array([[0.0, 4.0]]).reshape(1, 1, 2, 1)
    >>> lf.layers.up_sampling2d(size=[1, 2]).apply(x).reshape([4]).print()
    [0., 0., 4., 4.]
    >>> lf.layers.up_sampling2d(size=[1, 2], interpolation="bilinear").apply(x).reshape([4]).print()
    [0., 2., 4., 4.]
    """

    rank = 2

    def __init__(self, size: Sizes = 2, data_format: str | None = None, interpolation: str = "nearest", **kwargs: Any):
        super().__init__(size, data_format, **kwargs)
        self.interpolation = self.option("interpolation", interpolation, ("nearest", "bilinear"))

    def call(self, x):
        return super().call(self.as_float(x) if self.interpolation == "bilinear" else x)


class UpSampling3D(UpSampling):
    """Every element of [batch, depth, height, width, channels] repeated along three axes.

    Args:
        size: how often, one number or one an axis.
        data_format: "channels_last" (the default) or "channels_first".

    >>> lf.layers.up_sampling3d(size=[1, 2, 2]).apply(np.ones((1, 10, 8, 8, 3))).shape
    (1, 10, 16, 16, 3)
    """

    rank = 3


zero_padding1d = factory(ZeroPadding1D)
zero_padding2d = factory(ZeroPadding2D)
zero_padding3d = factory(ZeroPadding3D)
cropping1d = factory(Cropping1D)
cropping2d = factory(Cropping2D)
cropping3d = factory(Cropping3D)
up_sampling1d = factory(UpSampling1D)
up_sampling2d = factory(UpSampling2D)
up_sampling3d = factory(UpSampling3D)
