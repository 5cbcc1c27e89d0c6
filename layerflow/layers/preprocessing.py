"""Images made ready for a model, inside it.  Arguments and defaults: INVENTORY 2.7."""

from __future__ import annotations

from typing import Any

import numpy as np

from layerflow.errors import ArgumentError
from layerflow.graph import ops
from layerflow.layers.base import Layer
from layerflow.layers.core import positive_integer
from layerflow.layers.spatial import Spatial
from layerflow.layers.unknown_extents import need_known
from layerflow.registry import factory


class Rescaling(Layer):
    """x * scale + offset, as floats: rescaling(scale=1 / 255) takes bytes to [0, 1].

    Args:
        scale: a number, or an array that broadcasts to a sample.
        offset: likewise.
    """

    supports_masking = True

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.scale, self.offset = (
            np.asarray(n, self.dtype) if isinstance(n, (list, tuple)) else n for n in (scale, offset)
        )

    def call(self, x):
        x = x if x.dtype.kind == "f" else ops.cast(x, self.dtype)
        return x * self.scale + self.offset


class _Sized(Spatial):
    """Base: images of another height and width."""

    rank = 2

    def __init__(self, height: int, width: int, data_format: str | None = None, **kwargs: Any):
        super().__init__(data_format, **kwargs)
        self.height = positive_integer(self, "height", height)
        self.width = positive_integer(self, "width", width)


class Resizing(_Sized):
    """Images of [batch, height, width, channels] brought to another size; the corners stay where they are, as in TF.js.

    Args:
        height, width: of the output.
        interpolation: "bilinear" or "nearest".
        crop_to_aspect_ratio: must be False.
        data_format: "channels_last" (the default) or "channels_first".
    """

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(height, width, data_format, **kwargs)
        self.interpolation = self.option("interpolation", interpolation, ("bilinear", "nearest"))
        if crop_to_aspect_ratio:
            raise ArgumentError(f"{self.name}: crop_to_aspect_ratio is not supported; put a center_crop in front.")

    def call(self, x):
        x, size = self.as_float(x), (self.height, self.width)
        return ops.resize(x, size, self.interpolation, align_corners=True, data_format=self.data_format)


class CenterCrop(_Sized):
    """The middle of the images of [batch, height, width, channels]; smaller images are enlarged to the size.

    Args:
        height, width: of the output.
        data_format: "channels_last" (the default) or "channels_first".
    """

    def call(self, x):
        x, size = self.as_float(x), (self.height, self.width)
        need_known(self.name, x)
        found = [x.shape[axis] for axis in self.spatial_axes]
        if any(n < wanted for n, wanted in zip(found, size, strict=True)):
            return ops.resize(x, size, "bilinear", data_format=self.data_format)
        begin, kept = [0] * 4, [-1] * 4
        for axis, n, wanted in zip(self.spatial_axes, found, size, strict=True):
            begin[axis], kept[axis] = (n - wanted) // 2, wanted
        return ops.slice_(x, begin, kept)


rescaling = factory(Rescaling)
resizing = factory(Resizing)
center_crop = factory(CenterCrop)
