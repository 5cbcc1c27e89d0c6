"""Images made ready for a model, inside it.  Arguments and defaults: INVENTORY 2.7."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import ArgumentError, ModelError
from layerflow.graph import ops
from layerflow.graph.ops import random
from layerflow.graph.symbolic import is_symbolic
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

    >>> images = np.array([[0, 51, 255]], np.uint8)
    >>> lf.layers.rescaling(scale=1 / 127.5, offset=-1).apply(images).print()
    [[-1.        , -0.59999996,  1.        ]]
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

    >>> x = np.array([[0.0, 4.0]]).reshape(1, 1, 2, 1)
    >>> lf.layers.resizing(height=1, width=3).apply(x).reshape([3]).print()
    [0., 2., 4.]
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

    >>> x = np.arange(16).reshape(1, 4, 4, 1)
    >>> lf.layers.center_crop(height=2, width=2).apply(x).reshape([2, 2]).print()
    [[ 5.,  6.],
     [ 9., 10.]]
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


class RandomWidth(Spatial):
    """Images of [batch, height, width, channels] stretched to a random width, another one in every call with
    `training=True`; without it they stay as they are.

    The new width is the old one times a number drawn between 1 + factor[0] and 1 + factor[1], rounded; all images of a
    call get the same one.  A compiled training step has fixed shapes, so that `fit` refuses a model with this layer:
    apply it to the data instead, and give the model an input_shape of unknown width.

    Args:
        factor: the least and the largest share of the width that is added, such as (-0.2, 0.3); a number f stands for
            (-f, f).
        interpolation: "bilinear" or "nearest".
        seed: gives this layer widths of its own, the same in every program.
        auto_vectorize: accepted; it changes nothing.
        data_format: "channels_last" (the default) or "channels_first".

    Raises:
        ArgumentError: factors that do not rise, or that leave no width.
        ModelError: it would be part of a compiled training step.

    >>> layer, x = lf.layers.random_width(factor=[-0.5, 0.5], seed=1), np.ones((8, 16, 20, 3))
    >>> [layer.apply(x, training=True).shape[2] for _ in range(4)]
    [20, 29, 13, 29]
    >>> layer.apply(x).shape
    (8, 16, 20, 3)
    >>> data = lf.data.array({"xs": x, "ys": np.ones(8)}).batch(4)
    >>> stretched = data.map(lambda e: {**e, "xs": layer.apply(e["xs"], training=True)})
    >>> [e["xs"].shape for e in stretched]
    [(4, 16, 16, 3), (4, 16, 18, 3)]
    """

    rank = 2

    def __init__(
        self,
        factor: float | Sequence[float],
        interpolation: str = "bilinear",
        seed: int | None = None,
        auto_vectorize: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(data_format, **kwargs)
        given: Any = factor
        pair = list(given) if isinstance(given, (list, tuple)) else [-given, given]
        if len(pair) != 2 or not -1 < pair[0] <= pair[1]:
            raise ArgumentError(
                f"{self.name}: factor must be a number of at least 0 and below 1, or two rising numbers above -1, got "
                f"{factor!r}."
            )
        self.low, self.high = (float(n) for n in pair)
        self.interpolation = self.option("interpolation", interpolation, ("bilinear", "nearest"))
        self._generator = None if seed is None else np.random.default_rng(seed)

    def call(self, x, training=False):
        if not training:
            return x
        if is_symbolic(x):
            raise ModelError(
                f"{self.name}: a random width in each batch cannot be part of a compiled training step, whose shapes "
                "are fixed. Take the layer out of the model and apply it to the batches: "
                "dataset.map(lambda e: {**e, 'xs': layer.apply(e['xs'], training=True)})."
            )
        x, (height, width) = self.as_float(x), (x.shape[axis] for axis in self.spatial_axes)
        drawn = (self._generator or random.generator()).uniform(1 + self.low, 1 + self.high)
        size = (height, max(1, round(width * drawn)))
        return ops.resize(x, size, self.interpolation, data_format=self.data_format)

    def _trace(self, inputs: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], list[Any]]:
        """The output's width is not known: it depends on what is drawn."""
        outputs, masks = super()._trace(inputs, {**kwargs, "training": False})
        shape: list[Any] = list(outputs[0].op.shape)
        shape[self.spatial_axes[1]] = None
        return [ops.placeholder(shape, outputs[0].dtype)], masks


rescaling = factory(Rescaling)
resizing = factory(Resizing)
center_crop = factory(CenterCrop)
random_width = factory(RandomWidth)
