"""Features made ready for a model, inside it.  Arguments and defaults: INVENTORY 2.7, and Keras 3 for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import ArgumentError, NotBuiltError, ShapeError
from layerflow.graph import ops
from layerflow.graph.shapes import text
from layerflow.graph.symbolic import is_symbolic
from layerflow.graph.variable import Variable
from layerflow.layers.base import Layer
from layerflow.layers.core import positive_integer
from layerflow.layers.embedding import check_vocabulary
from layerflow.layers.signatures import as_list
from layerflow.registry import factory, option

MODES = ("multi_hot", "one_hot", "count")


def encoded(layer: str, numbers: Any, size: int, mode: str, weights: Any = None) -> Any:
    """Whole numbers below `size` as rows of zeros and ones, or of counts."""
    rank = len(numbers.shape)
    if mode == "one_hot":
        if rank > 1 and numbers.shape[-1] == 1:
            numbers = ops.squeeze(numbers, -1)
        return ops.one_hot(numbers, size)
    if rank < 2:
        raise ShapeError(f"{layer}: {mode} needs an input of [batch, numbers], got {text(numbers.shape)}.")
    rows = ops.one_hot(numbers, size)
    if mode == "count":
        return ops.sum(rows if weights is None else rows * ops.expand_dims(weights, -1), -2)
    return ops.max(rows, -2)


class CategoryEncoding(Layer):
    """Whole numbers below `num_tokens` as rows of zeros and ones: [batch, numbers] to [batch, num_tokens].

    Numbers that are too large or negative are refused where they come from the data.

    Args:
        num_tokens: how many different numbers there are.
        output_mode: "multi_hot": ones for all numbers of a sample; "one_hot": a row for each number; "count": how often
            each number is in the sample.  A call with `count_weights` counts each by its weight.

    Raises:
        DataError: a number that is not below `num_tokens`.

    >>> lf.layers.category_encoding(num_tokens=4).apply([[1, 3, 3]]).print()
    [[0., 1., 0., 1.]]
    >>> lf.layers.category_encoding(num_tokens=4, output_mode="count").apply([[1, 3, 3]]).print()
    [[0., 1., 0., 2.]]
    >>> lf.layers.category_encoding(num_tokens=4, output_mode="oneHot").apply([[1], [2]]).print()
    [[0., 1., 0., 0.],
     [0., 0., 1., 0.]]
    """

    def __init__(self, num_tokens: int, output_mode: str = "multi_hot", **kwargs: Any):
        super().__init__(**kwargs)
        self.num_tokens = positive_integer(self, "num_tokens", num_tokens)
        self.output_mode = option(f"{self.name}: output_mode", output_mode, MODES)

    @property
    def vocabulary(self) -> int:
        return self.num_tokens

    def call(self, x, count_weights=None):
        if count_weights is not None and self.output_mode != "count":
            raise ArgumentError(f'{self.name}: count_weights go with output_mode="count", not {self.output_mode!r}.')
        if not is_symbolic(x):
            check_vocabulary(np.asarray(x), self.num_tokens, self.name)
        return encoded(self.name, ops.cast(x, np.int32), self.num_tokens, self.output_mode, count_weights)

    def _config_value(self, name: str, given: Any) -> Any:
        return self.output_mode if name == "output_mode" else super()._config_value(name, given)


def adapted_to(layer: str, data: Any) -> np.ndarray:
    """The data that `adapt` was given, an array or a dataset of arrays (or of {"xs", "ys"}), as one array."""
    if hasattr(data, "__next__") or (hasattr(data, "batch") and hasattr(data, "__iter__")):
        parts = [e["xs"] if isinstance(e, dict) else e[0] if isinstance(e, (tuple, list)) else e for e in data]
        data = np.concatenate([np.atleast_2d(np.asarray(part)) for part in parts])
    array = np.asarray(data)
    if array.dtype.kind not in "fiub" or not array.size or not np.isfinite(array).all():
        raise ArgumentError(f"{layer}: adapt needs numbers, at least one and none NaN, in an array [batch, ...].")
    return array


class Normalization(Layer):
    """(x - mean) / deviation, with the mean and deviation of the data that `adapt` saw, or that are given.

    Weights, not trained: mean and variance of the extents of the axes, count []; none where mean and variance are
    given.

    Args:
        axis: axes with a mean of their own each; None: one mean for all.
        mean, variance: instead of `adapt`.
        invert: from normalized values back.

    Raises:
        ArgumentError: only one of mean and variance; `adapt` with data that are no numbers.

    >>> layer = lf.layers.normalization()
    >>> layer.adapt([[0.0, 10.0], [2.0, 30.0]])  # before training, with the training data
    >>> layer.apply([[2.0, 20.0]]).print()
    [[1., 0.]]
    >>> lf.layers.normalization(mean=10.0, variance=4.0).apply([[14.0]]).print()
    [[2.]]
    """

    supports_masking = True

    def __init__(
        self,
        axis: int | Sequence[int] | None = -1,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.axis = None if axis is None else [int(a) for a in as_list(axis)]
        if (mean is None) != (variance is None):
            raise ArgumentError(f"{self.name}: give both mean and variance, or neither and call adapt.")
        self.given = None if mean is None else (np.asarray(mean), np.asarray(variance))
        self.invert = bool(invert)

    def _kept(self, shape: Sequence[int | None]) -> list[int]:
        rank = len(shape)
        if any(not -rank <= a < rank for a in self.axis or []):
            raise ShapeError(f"{self.name}: axis {self.axis} is out of range for an input of shape {text(shape)}.")
        kept = sorted(a % rank for a in self.axis or [])
        if any(shape[a] is None for a in kept):
            raise ShapeError(f"{self.name}: axes {self.axis} of an input of shape {text(shape)} must be known.")
        return kept

    def build(self, input_shape):
        kept = self._kept(input_shape)
        shape = [int(input_shape[a]) for a in kept]
        self._spread = [n if a in kept else 1 for a, n in enumerate(input_shape)]
        if self.given is not None:
            self.mean: Any = np.broadcast_to(self.given[0], shape).astype(self.dtype)
            self.variance: Any = np.broadcast_to(self.given[1], shape).astype(self.dtype)
            return
        self.mean = self.add_weight("mean", shape, None, "zeros", trainable=False)
        self.variance = self.add_weight("variance", shape, None, "ones", trainable=False)
        self.count = self.add_weight("count", (), None, "zeros", trainable=False)

    def adapt(self, data: Any) -> None:
        """Takes mean and variance from data: an array [batch, ...] or a dataset of such.

        Raises:
            ArgumentError: no numbers, or mean and variance were given to the constructor.
        """
        if self.given is not None:
            raise ArgumentError(f"{self.name}: mean and variance were given; make the layer without them to adapt it.")
        array = adapted_to(self.name, data)
        array = array[:, None] if array.ndim == 1 else array
        self._build_once([(None, *array.shape[1:])])
        over = tuple(a for a in range(array.ndim) if a not in self._kept(array.shape))
        self.mean.assign(array.mean(over, dtype=np.float64))
        self.variance.assign(array.var(over, dtype=np.float64))
        self.count.assign(array.size // max(1, self.mean.size))

    def call(self, x):
        x = x if x.dtype.kind == "f" else ops.cast(x, self.dtype)
        mean, variance = (ops.reshape(n, self._spread) for n in (self.mean, self.variance))
        deviation = ops.maximum(ops.sqrt(variance), 1e-7)
        return x * deviation + mean if self.invert else (x - mean) / deviation


class Discretization(Layer):
    """The number of the bin in which a value lies: bins begin at the boundaries.  Any shape.

    Args:
        bin_boundaries: rising numbers; n of them make n + 1 bins.  Or
        num_bins: how many bins `adapt` shall make, so that each holds equally much of the data.
        epsilon: kept for files.
        output_mode: "int", or "one_hot", "multi_hot", "count" as in CategoryEncoding.

    Raises:
        ArgumentError: boundaries that do not rise; both arguments or none.
        NotBuiltError: applied to an array before `adapt`.

    >>> lf.layers.discretization(bin_boundaries=[0.0, 10.0]).apply([[-3.0, 0.0, 4.0, 50.0]]).print()
    [[0, 1, 1, 2]]
    >>> layer = lf.layers.discretization(num_bins=4)
    >>> layer.adapt(np.arange(100.0))
    >>> layer.bin_boundaries
    [24.75, 49.5, 74.25]
    """

    def __init__(
        self,
        bin_boundaries: Sequence[float] | None = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if (bin_boundaries is None) == (num_bins is None):
            raise ArgumentError(f"{self.name}: give either bin_boundaries, or num_bins and call adapt.")
        self.num_bins = None if num_bins is None else positive_integer(self, "num_bins", num_bins)
        self.bin_boundaries = None if bin_boundaries is None else [float(b) for b in bin_boundaries]
        if self.bin_boundaries is not None and sorted(self.bin_boundaries) != self.bin_boundaries:
            raise ArgumentError(f"{self.name}: bin_boundaries must rise, got {self.bin_boundaries}.")
        edges = np.zeros(self.num_bins - 1) if self.num_bins else np.asarray(self.bin_boundaries)
        self._edges = Variable(edges, False, f"{self.name}/bin_boundaries", self.dtype)
        self.epsilon = float(epsilon)
        self.output_mode = option(f"{self.name}: output_mode", output_mode, ("int", *MODES))

    def adapt(self, data: Any) -> None:
        """Makes the boundaries of `num_bins` bins that hold equally much of the data, an array or a dataset."""
        if self.num_bins is None:
            raise ArgumentError(
                f"{self.name}: the bin_boundaries were given; make the layer with num_bins to adapt it."
            )
        inner = np.arange(1, self.num_bins) / self.num_bins
        found = np.quantile(adapted_to(self.name, data).astype(np.float64), inner)
        self.bin_boundaries = [float(b) for b in found]
        self._edges.assign(found)

    def call(self, x):
        if self.bin_boundaries is None and not is_symbolic(x):
            raise NotBuiltError(f"{self.name}: call adapt with data first, or make the layer with bin_boundaries.")
        values = ops.expand_dims(x if x.dtype.kind == "f" else ops.cast(x, self.dtype), -1)
        numbers = ops.sum(ops.cast(ops.greater_equal(values, self._edges), np.int32), -1)
        if self.output_mode == "int":
            return numbers
        return encoded(self.name, numbers, self._edges.size + 1, self.output_mode)

    def get_config(self):
        """With the boundaries that `adapt` made: a loaded layer has them."""
        config = super().get_config()
        known = {} if self.bin_boundaries is None else {"bin_boundaries": self.bin_boundaries, "num_bins": None}
        return {**config, **known, "output_mode": self.output_mode}


category_encoding = factory(CategoryEncoding)
normalization = factory(Normalization)
discretization = factory(Discretization)
