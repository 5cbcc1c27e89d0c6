"""What layers over spatial axes share: the layout of their input, windows that move over it, weights by prefix."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any, ClassVar

from layerflow import constraints, initializers, regularizers
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.graph.shapes import text
from layerflow.graph.variable import Variable
from layerflow.layers.base import Layer
from layerflow.layers.topology import InputSpec
from layerflow.registry import option, serialize_value

Sizes = int | Sequence[int]
DATA_FORMATS = ("channels_last", "channels_first")
_AXES = {1: ["steps"], 2: ["height", "width"], 3: ["depth", "height", "width"]}


class Spatial(Layer):
    """Base: an input of a batch axis, `rank` spatial axes and a channel axis, in the order `data_format` says."""

    rank: ClassVar[int]
    data_format = "channels_last"

    def __init__(self, data_format: str | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = self.option("data_format", data_format or "channels_last", DATA_FORMATS)
        names = _AXES[self.rank]
        layout = [*names, "channels"] if self.channels_last else ["channels", *names]
        takes = f"{type(self).__name__} takes [batch, {', '.join(layout)}]; "
        self.input_spec = InputSpec(
            ndim=self.rank + 2,
            remedy=f"{takes}a reshape layer in front brings an input to that form.",
            one_short=f"{takes}x[{'..., None' if self.channels_last else ':, None'}] adds a channel axis.",
        )

    # Arguments

    def option(self, argument: str, value: Any, choices: Sequence[str]) -> str:
        """One of `choices`, in any spelling."""
        return option(f"{self.name}: {argument}", value, choices)

    def per_axis(self, argument: str, value: Any, least: int = 1) -> tuple[int, ...]:
        """A whole number of at least `least` for each spatial axis; one number counts for all of them."""
        listed = list(value) if isinstance(value, (list, tuple)) else [value] * self.rank
        if len(listed) != self.rank or not all(_is_whole(n, least) for n in listed):
            several = f", or {self.rank} of them" if self.rank > 1 else ""
            raise ArgumentError(
                f"{self.name}: {argument} must be a whole number of at least {least}{several}, but is {value!r}."
            )
        return tuple(int(n) for n in listed)

    def pairs(self, argument: str, value: Any) -> tuple[tuple[int, int], ...]:
        """(before, after) for each spatial axis, from one number, one number or one pair an axis."""
        listed = list(value) if isinstance(value, (list, tuple)) else [value] * self.rank
        if self.rank == 1 and len(listed) == 2:
            listed = [listed]
        both = [list(n) if isinstance(n, (list, tuple)) else [n, n] for n in listed]
        if len(both) != self.rank or any(len(pair) != 2 or not all(_is_whole(n, 0) for n in pair) for pair in both):
            each = "a number or (before, after)" if self.rank == 1 else f"a number, or {self.rank} numbers or pairs"
            raise ArgumentError(f"{self.name}: {argument} must be {each}, none negative, got {value!r}.")
        return tuple((int(before), int(after)) for before, after in both)

    def _config_value(self, name: str, given: Any) -> Any:
        """Sizes are written one an axis and options in the spelling of files, however they were given."""
        made = self.__dict__.get(name)
        if isinstance(made, (tuple, str)) and not callable(given):
            return serialize_value(made)
        return super()._config_value(name, given)

    # Shapes

    @property
    def channels_last(self) -> bool:
        return self.data_format == "channels_last"

    @property
    def channel_axis(self) -> int:
        return self.rank + 1 if self.channels_last else 1

    @property
    def spatial_axes(self) -> tuple[int, ...]:
        return tuple(range(1, self.rank + 1)) if self.channels_last else tuple(range(2, self.rank + 2))

    def channels_of(self, input_shape: Sequence[int | None]) -> int:
        """Channels of an input; they must be known, as weights depend on them."""
        channels = input_shape[self.channel_axis]
        if channels is None:
            raise ShapeError(
                f"{self.name}: the channels (axis {self.channel_axis}) of an input of shape {text(input_shape)} must "
                "be known. Give the first layer an input_shape with the number of channels."
            )
        if not channels:
            raise ShapeError(f"{self.name}: an input of shape {text(input_shape)} has no channels.")
        return channels

    def as_float(self, x: Any) -> Any:
        """The input; integers (bytes of an image) in the layer's floating type."""
        return x if x.dtype.kind == "f" else ops.cast(x, self.dtype)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and int(value) >= least


def keep_settings(
    layer: Layer, prefix: str, initializer: Any, regularizer: Any = None, constraint: Any = None, default: str = "zeros"
) -> None:
    """Sets `<prefix>_initializer`, `<prefix>_regularizer` and `<prefix>_constraint` from what the caller gave."""
    setattr(layer, f"{prefix}_initializer", initializers.get(initializer or default))
    setattr(layer, f"{prefix}_regularizer", regularizers.get(regularizer))
    setattr(layer, f"{prefix}_constraint", constraints.get(constraint))


def make_weight(
    layer: Layer, name: str, shape: Sequence[int], prefix: str | None = None, trainable: bool = True
) -> Variable:
    """The weight `name` with the settings kept under `prefix` (by default its name)."""
    initializer, regularizer, constraint = (
        getattr(layer, f"{prefix or name}_{setting}") for setting in ("initializer", "regularizer", "constraint")
    )
    return layer.add_weight(name, shape, None, initializer, regularizer, trainable, constraint)
