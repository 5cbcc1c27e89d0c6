"""Embedding, and masking by value.  Arguments and defaults: INVENTORY 2.1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow import initializers
from layerflow.errors import ArgumentError, DataError, ShapeError
from layerflow.graph import ops
from layerflow.graph.shapes import text
from layerflow.graph.symbolic import is_symbolic
from layerflow.layers.base import Layer
from layerflow.layers.core import positive_integer
from layerflow.layers.spatial import keep_settings, make_weight
from layerflow.layers.topology import InputSpec
from layerflow.layers.unknown_extents import need_known
from layerflow.registry import factory


class Embedding(Layer):
    """A vector for each of `input_dim` whole numbers: [batch, steps] to [batch, steps, output_dim].

    Numbers outside of the vocabulary are refused before anything runs where they come from the data.  Inside of a
    model, computed from something else, they count as the nearest number of the vocabulary.

    Weights: embeddings [input_dim, output_dim].

    Args:
        input_dim: size of the vocabulary; inputs are 0 .. input_dim - 1.
        output_dim: features of a vector.
        embeddings_initializer: uniform in [-0.05, 0.05] unless given.
        mask_zero: 0 stands for nothing: layers behind leave these steps out.
        input_length: the number of steps, or a list for several axes; any by default.

    Raises:
        DataError: a number outside of the vocabulary.

    >>> layer = lf.layers.embedding(input_dim=3, output_dim=2, mask_zero=True, weights=[[[0, 0], [1, 2], [3, 4]]])
    >>> words = np.array([[2, 1, 0]])
    >>> layer.apply(words).print()
    [[[3., 4.],
      [1., 2.],
      [0., 0.]]]
    >>> layer.compute_mask(words).print()
    [[ True,  True, False]]
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "random_uniform",
        embeddings_regularizer: Any = None,
        activity_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        input_length: int | Sequence[int | None] | None = None,
        **kwargs: Any,
    ):
        listed = [input_length] if input_length is None or isinstance(input_length, int) else list(input_length)
        if kwargs.get("input_shape") is None and kwargs.get("batch_input_shape") is None:
            kwargs["input_shape"] = listed
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.input_dim = positive_integer(self, "input_dim", input_dim)
        self.output_dim = positive_integer(self, "output_dim", output_dim)
        keep_settings(
            self,
            "embeddings",
            embeddings_initializer,
            embeddings_regularizer,
            embeddings_constraint,
            "random_uniform",
        )
        self.mask_zero = self.supports_masking = bool(mask_zero)
        self.input_length = None if input_length is None else listed

    @property
    def vocabulary(self) -> int:
        """Inputs must be below this; models check their data by it."""
        return self.input_dim

    def build(self, input_shape):
        self.embeddings = make_weight(self, "embeddings", (self.input_dim, self.output_dim))

    def call(self, x):
        if self.input_length is not None:
            self._check_length(tuple(x.shape))
        if not is_symbolic(x):
            check_vocabulary(np.asarray(x), self.input_dim, self.name)
        indices = x if x.dtype == np.int32 else ops.cast(x, np.int32)
        return ops.gather(self.embeddings, indices)

    def _check_length(self, shape: tuple[Any, ...]) -> None:
        wanted = list(self.input_length or [])
        found = list(shape[1:])
        if len(found) != len(wanted) or any(None not in (a, b) and a != b for a, b in zip(found, wanted, strict=True)):
            raise ShapeError(
                f"{self.name}: input_length is {wanted}, but the input has shape {text(shape)}. "
                "Give sequences of this length, or leave input_length out."
            )

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """True where the input is not 0, with `mask_zero`."""
        return ops.not_equal(inputs, 0) if self.mask_zero else None


def check_vocabulary(indices: np.ndarray, size: int, where: str) -> None:
    """Raises DataError unless all indices are whole numbers in 0 .. size - 1."""
    if not indices.size:
        return
    low, high = indices.min(), indices.max()
    if not (low >= 0 and high < size):
        wrong = low if not low >= 0 else high
        remedy = f"give the layer input_dim={int(high) + 1}" if low >= 0 else "use numbers from 0 on"
        raise DataError(
            f"{where}: the input holds {wrong}, but the vocabulary goes from 0 to {size - 1}. "
            f"Correct the data, or {remedy}."
        )
    if indices.dtype.kind == "f" and bool((indices != np.floor(indices)).any()):
        raise DataError(f"{where}: the input holds numbers that are no whole numbers, and so stand for no word.")


class Masking(Layer):
    """Steps of [batch, steps, features] whose features all are `mask_value` are left out by the layers behind, by the
    loss and by metrics; their features become 0.

    Args:
        mask_value: what marks a step as missing.

    >>> x = np.array([[[1.0, 2.0], [-1.0, -1.0]]])  # the second step is missing
    >>> layer = lf.layers.masking(mask_value=-1, input_shape=[2, 2])
    >>> layer.compute_mask(x)
    Tensor([[ True, False]])
    >>> model = lf.sequential([layer, lf.layers.gru(units=3)])
    >>> bool(np.allclose(model.predict(x), model.layers[1].apply(x[:, :1])))  # the state of the first step
    True
    """

    supports_masking = True

    def __init__(self, mask_value: float | None = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        try:
            self.mask_value = 0.0 if mask_value is None else float(mask_value)
        except (TypeError, ValueError):
            raise ArgumentError(f"{self.name}: mask_value must be a number, got {mask_value!r}.") from None

    def _mask(self, x: Any, keepdims: bool) -> Any:
        return ops.any(ops.not_equal(x, self.mask_value), -1, keepdims=keepdims)

    def call(self, x):
        return ops.where(self._mask(x, True), x, 0.0)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """True where a step has another value than `mask_value`."""
        return self._mask(inputs, False)


class PositionEmbedding(Layer):
    """A trained vector for each place of a sequence [batch, steps, features], to be added to it.

    A call with `start_index` begins at that place.

    Weights: embeddings [sequence_length, features].

    Args:
        sequence_length: the most steps a sequence may have.
        initializer: of the vectors.

    Raises:
        ShapeError: a sequence that is longer.

    >>> words = lf.input(shape=[20], dtype="int32")
    >>> x = lf.layers.embedding(input_dim=100, output_dim=8).apply(words)
    >>> x = lf.layers.add([x, lf.layers.position_embedding(sequence_length=20).apply(x)])
    >>> lf.model(inputs=words, outputs=x).predict(np.zeros((1, 20))).shape
    (1, 20, 8)
    """

    supports_masking = True

    def __init__(self, sequence_length: int, initializer: Any = "glorot_uniform", **kwargs: Any):
        super().__init__(**kwargs)
        self.sequence_length = positive_integer(self, "sequence_length", sequence_length)
        self.initializer = initializers.get(initializer or "glorot_uniform")
        self.input_spec = InputSpec(ndim=3, remedy="PositionEmbedding takes [batch, steps, features].")

    def build(self, input_shape):
        if input_shape[-1] is None:
            raise ShapeError(f"{self.name}: the features of an input of shape {text(input_shape)} must be known.")
        self.embeddings = self.add_weight("embeddings", (self.sequence_length, input_shape[-1]), None, self.initializer)

    def call(self, x, start_index=0):
        need_known(self.name, x)
        end = int(start_index) + x.shape[1]
        if not 0 <= int(start_index) <= end <= self.sequence_length:
            raise ShapeError(
                f"{self.name}: steps {start_index} to {end} of an input of shape {text(x.shape)} go beyond "
                f"sequence_length={self.sequence_length}. Give the layer a larger one, or shorter sequences."
            )
        return ops.broadcast_to(self.embeddings[int(start_index) : end], ops.shape_of(x))


embedding = factory(Embedding)
position_embedding = factory(PositionEmbedding)
masking = factory(Masking)
