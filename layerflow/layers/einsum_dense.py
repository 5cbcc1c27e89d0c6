"""EinsumDense: a product along any axes.  Arguments, defaults and rules of the equation: Keras 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layerflow import activations
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.graph.shapes import text
from layerflow.layers.base import Layer
from layerflow.layers.signatures import as_list
from layerflow.layers.spatial import keep_settings, make_weight
from layerflow.layers.topology import InputSpec
from layerflow.registry import factory

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class EinsumDense(Layer):
    """activation(einsum(equation, x, kernel) + bias): a dense layer over any axes.

    Weights: kernel and bias, of the extents that the letters of the equation have.

    Args:
        equation: of two operands, such as "abc,cd->abd"; "..." stands for any axes in front or at the end.
        output_shape: shape of one output without the batch (and without the axes of "..."), None where an extent is
            that of the input.
        activation: name or function; None is linear.
        bias_axes: letters of the output that the bias has, such as "d"; no bias by default.

    Raises:
        ArgumentError: an equation that cannot be read.
        ShapeError: an input or output_shape that does not fit it.

    >>> x = np.ones((2, 7, 8))
    >>> layer = lf.layers.einsum_dense("abc,cde->abde", output_shape=[None, 4, 2], bias_axes="de")  # 4 heads of 2
    >>> layer.apply(x).shape
    (2, 7, 4, 2)
    >>> [w.shape for w in layer.weights]
    [(8, 4, 2), (4, 2)]
    """

    supports_masking = True

    def __init__(
        self,
        equation: str,
        output_shape: int | Sequence[int | None],
        activation: Any = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.equation = str(equation).replace(" ", "")
        left, arrow, self._out = self.equation.partition("->")
        terms = left.split(",")
        plain = [t.replace("...", "") for t in (*terms, self._out)]
        if not arrow or len(terms) != 2 or not all(t.isalpha() and len(set(t)) == len(t) for t in plain):
            raise ArgumentError(
                f'{self.name}: equation {equation!r} is not of the form "abc,cd->abd", input and kernel to output, '
                "without a letter twice in one of them."
            )
        self._in, self._kernel = terms
        self.partial_output_shape = tuple(None if n is None else int(n) for n in as_list(output_shape))
        self.bias_axes = bias_axes
        if bias_axes and set(bias_axes) - set(self._out):
            raise ArgumentError(f"{self.name}: bias_axes {bias_axes!r} are not all axes of the output {self._out!r}.")
        self.activation = activations.get(activation)
        keep_settings(self, "kernel", kernel_initializer, kernel_regularizer, kernel_constraint, "glorot_uniform")
        keep_settings(self, "bias", bias_initializer, bias_regularizer, bias_constraint)

    def _letters(self, rank: int) -> tuple[str, str]:
        """Letters of the input's and output's axes, those of "..." spelled out."""
        spare = [c for c in _LETTERS if c not in self.equation]
        free = rank - len(self._in.replace("...", ""))
        if free < 0 or (free and "..." not in self._in):
            raise ShapeError(f"{self.name}: an input of {rank} axes does not fit {self._in!r} of {self.equation!r}.")
        rest = "".join(spare[:free])
        return self._in.replace("...", rest), self._out.replace("...", rest)

    def _extents(self, input_shape: Sequence[int | None]) -> dict[str, int | None]:
        """Extent of each letter."""
        inputs, outputs = self._letters(len(input_shape))
        extents = dict(zip(inputs, input_shape, strict=True))
        named = [c for c in outputs if c in self._out][1 if self._out[:3] != "..." else 0 :]
        if len(self.partial_output_shape) != len(named):
            raise ShapeError(
                f"{self.name}: output_shape {list(self.partial_output_shape)} must have {len(named)} entries, for "
                f"{''.join(named)!r} of {self.equation!r}."
            )
        for letter, extent in zip(named, self.partial_output_shape, strict=True):
            known = extents.get(letter)
            if extent is not None and None not in (known, extent) and known != extent:
                raise ShapeError(
                    f"{self.name}: {letter!r} of {self.equation!r} is {known} in the input {text(input_shape)}, "
                    f"{extent} in output_shape."
                )
            extents[letter] = known if extent is None else extent
        return extents

    def _shape(self, letters: str, extents: dict[str, int | None]) -> list[int]:
        missing = [c for c in letters if extents.get(c) is None]
        if missing:
            raise ShapeError(
                f"{self.name}: the extent of {missing[0]!r} of {self.equation!r} must be known: give it in "
                "output_shape, or the first layer a complete input_shape."
            )
        return [int(extents[c] or 0) for c in letters]

    def build(self, input_shape):
        extents = self._extents(input_shape)
        self.kernel = make_weight(self, "kernel", self._shape(self._kernel, extents))
        if self.bias_axes:
            _, outputs = self._letters(len(input_shape))
            first = min(outputs.index(c) for c in self.bias_axes)
            kept = [c if c in self.bias_axes else "" for c in outputs[first:]]
            shape = [self._shape(c, extents)[0] if c else 1 for c in kept]
            self.bias = make_weight(self, "bias", shape)
        self.input_spec = InputSpec(ndim=len(input_shape))

    def call(self, x):
        inputs, outputs = self._letters(len(x.shape))
        y = ops.einsum(f"{inputs},{self._kernel}->{outputs}", x, self.kernel)
        return self.activation(y + self.bias if self.bias_axes else y)


einsum_dense = factory(EinsumDense)
