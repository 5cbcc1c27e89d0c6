"""A function of arrays as a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from layerflow import activations
from layerflow.errors import ArgumentError
from layerflow.layers.base import Layer


class Function(Layer):
    """A function of arrays, in NumPy terms, as a layer without weights.

    A model that holds it can be saved if the function has a name: if it is registered (`lf.register_class`).

    Args:
        function: takes the input, or several inputs one after the other, and returns the output.

    >>> distance = lf.layers.function(lambda a, b: np.sqrt(np.sum(np.square(a - b), axis=-1, keepdims=True)))
    >>> a, b = lf.input(shape=[2]), lf.input(shape=[2])
    >>> model = lf.model(inputs=[a, b], outputs=distance.apply([a, b]))
    >>> model.predict([np.array([[0, 0]]), np.array([[3, 4]])]).tolist()
    [[5.0]]
    """

    supports_masking = True

    def __init__(self, function: Callable[..., Any] | str, **kwargs: Any):
        super().__init__(**kwargs)
        self.function = activations.get(function)
        if not callable(self.function):
            raise ArgumentError(f"{self.name}: function must be a function, got {function!r}.")

    def call(self, inputs):
        return self.function(*inputs) if isinstance(inputs, (list, tuple)) else self.function(inputs)


def function(function: Callable[..., Any] | str, **kwargs: Any) -> Function:
    """The layer that applies a function; see `Function`.  Usable as a decorator."""
    return Function(function, **kwargs)
