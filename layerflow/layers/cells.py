"""Cells: one step of a recurrence.  Equations, arguments and defaults: INVENTORY 2.6.

A cell's work falls in two parts: what its input contributes (`project`, done for all steps as one product) and what it
makes of that and of its states (`step`, done once a step).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from layerflow import activations
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops
from layerflow.graph.ops.random import salt_of
from layerflow.graph.shapes import text
from layerflow.layers.base import Layer
from layerflow.layers.core import positive_integer, share
from layerflow.layers.signatures import as_list, several
from layerflow.layers.spatial import keep_settings, make_weight
from layerflow.registry import factory

Drawn = tuple[Any, Any]  # dropout masks of a call, the same for all steps: of the input, of the recurrent state


def state_shapes(cell: Any) -> list[tuple[int, ...]]:
    """Shapes of a cell's states for one example, from its `state_size`: numbers, shapes, or a list of them."""
    size = getattr(cell, "state_size", None)
    if size is None:
        raise ArgumentError(
            f"{getattr(cell, 'name', cell)!r} is no cell: it needs an attribute state_size, the number of features of "
            "its state (a list for several states)."
        )
    sizes = size if isinstance(size, list) or (isinstance(size, tuple) and len(size) != 1) else as_list(size)
    return [tuple(int(n) for n in as_list(s)) for s in sizes]


class Cell(Layer):
    """Base of the cells.

    A cell of your own is any layer with `state_size` and a `call` of either form: `call(inputs, states)` that returns
    (output, new states), or `call([inputs, *states])` that returns [output, *new states].

    >>> class Leaky(lf.layers.Layer):
    ...     state_size = 4
    ...     def build(self, input_shape):
    ...         self.w = self.add_weight("w", (input_shape[-1], 4), initializer="glorotNormal")
    ...     def call(self, inputs, states):
    ...         h = 0.9 * states[0] + 0.1 * np.tanh(inputs @ self.w)
    ...         return h, [h]
    """

    output_state: int | None = 0  # which of the states the output is, if it is one
    dropout = recurrent_dropout = 0.0
    seed: int | None = None

    @property
    def state_size(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must have a state_size.")

    def _keep_rates(self, dropout: float, recurrent_dropout: float, seed: int | None) -> None:
        self.dropout = share(self, "dropout", dropout or 0.0)
        self.recurrent_dropout = share(self, "recurrent_dropout", recurrent_dropout or 0.0)
        self.seed = seed

    def draw(self, x: Any, states: Sequence[Any], training: bool, steps: bool = True) -> Any:
        """Dropout masks of one call, None where nothing is dropped.

        Args:
            x: the input, [batch, steps, ...] or, without `steps`, [batch, ...].
        """
        if not training:
            return (None, None)
        first = x[:, 0] if steps else x
        kinds = ((first, self.dropout, "input"), (states[0], self.recurrent_dropout, "recurrent"))
        masks = [
            ops.dropout(ops.ones_like(like), rate, None, self.seed, salt_of(f"{self.path}/{kind}")) if rate else None
            for like, rate, kind in kinds
        ]
        return (ops.expand_dims(masks[0], 1) if steps and masks[0] is not None else masks[0], masks[1])

    def project(self, x: Any, drawn: Any) -> Any:
        """What the input, [batch, ...] or [batch, steps, ...], contributes."""
        raise NotImplementedError(f"{type(self).__name__} must define project(x, drawn).")

    def step(self, z: Any, states: Sequence[Any], drawn: Any, training: bool = False) -> tuple[Any, list[Any]]:
        """Output and new states from the contribution of the input at one step."""
        raise NotImplementedError(f"{type(self).__name__} must define step(z, states, drawn).")

    def call(self, inputs, training=False):
        x, *states = as_list(inputs)
        wanted = len(state_shapes(self))
        if len(states) != wanted:
            raise ArgumentError(f"{self.name} is called with a list of the input and {wanted} state(s): [x, h, ...].")
        drawn = self.draw(x, states, training, steps=False)
        y, new = self.step(self.project(x, drawn), states, drawn, training)
        return [y, *new]

    def __call__(self, inputs: Any, states: Any = None, **kwargs: Any) -> Any:
        """`cell([x, *states])` gives [output, *states]; `cell(x, states)` gives (output, states)."""
        if states is None:
            return self.apply(inputs, **kwargs)
        y, *new = self.apply([inputs, *as_list(states)], **kwargs)
        return y, new

    def _features(self, input_shape: Any) -> int:
        shape = input_shape[0] if several(input_shape) else input_shape
        if shape[-1] is None:
            raise ShapeError(
                f"{self.name}: the features (last axis) of an input of shape {text(shape)} must be known. "
                "Give the first layer an input_shape, [steps, features]."
            )
        return int(shape[-1])


class GatedCell(Cell):
    """Base of the cells with dense gates: kernel [features, n units], recurrent_kernel [units, n units], bias."""

    GATES: ClassVar[int] = 1

    def _keep_settings(self, given: Mapping[str, Any]) -> None:
        """Keeps the arguments that all of these cells have; `given` are the arguments of the constructor."""
        self.units = positive_integer(self, "units", given["units"])
        self.activation = activations.get(given["activation"])
        if "recurrent_activation" in given:
            self.recurrent_activation = activations.get(given["recurrent_activation"])
        self.use_bias = bool(given["use_bias"])
        for prefix, default in (("kernel", "glorot_normal"), ("recurrent", "orthogonal"), ("bias", "zeros")):
            settings = (given[f"{prefix}_{what}"] for what in ("initializer", "regularizer", "constraint"))
            keep_settings(self, prefix, *settings, default=default)
        self._keep_rates(given["dropout"], given["recurrent_dropout"], given["seed"])

    @property
    def state_size(self) -> Any:
        return self.units

    def build(self, input_shape):
        columns = self.GATES * self.units
        self.kernel = make_weight(self, "kernel", (self._features(input_shape), columns))
        self.recurrent_kernel = make_weight(self, "recurrent_kernel", (self.units, columns), "recurrent")
        if self.use_bias:
            self.bias = make_weight(self, "bias", self._bias_shape())

    def _bias_shape(self) -> tuple[int, ...]:
        return (self.GATES * self.units,)

    def project(self, x, drawn):
        x = x if x.dtype.kind == "f" else ops.cast(x, self.dtype)
        z = ops.matmul(x if drawn[0] is None else x * drawn[0], self.kernel)
        return z + self._input_bias() if self.use_bias else z

    def _input_bias(self) -> Any:
        return self.bias

    def _previous(self, states: Sequence[Any], drawn: Any) -> Any:
        return states[0] if drawn[1] is None else states[0] * drawn[1]

    def _gates(self, z: Any) -> list[Any]:
        return [z[:, i * self.units : (i + 1) * self.units] for i in range(z.shape[-1] // self.units)]


class SimpleRNNCell(GatedCell):
    """One step of SimpleRNN, h = activation(x kernel + h recurrent_kernel + bias): [batch, features] and the state
    [batch, units] to the output, which is the new state.

    Arguments and weights as for SimpleRNN.

    >>> cell = lf.layers.simple_rnn_cell(units=1, activation="linear", weights=[[[1]], [[0.5]], [0]])
    >>> output, states = cell(np.array([[5.0]]), [np.array([[4.0]])])
    >>> output.print()
    [[7.]]
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_normal",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._keep_settings(locals())

    def step(self, z, states, drawn, training=False):
        h = self.activation(z + ops.matmul(self._previous(states, drawn), self.recurrent_kernel))
        return h, [h]


class GRUCell(GatedCell):
    """One step of GRU (Cho et al. 2014): z and r = recurrent_activation(...), c = activation(x W + (r h) U + b),
    h = z h + (1 - z) c.  [batch, features] and the state [batch, units] to the output, which is the new state.

    Arguments and weights as for GRU.

    >>> layer = lf.layers.rnn([lf.layers.gru_cell(units=8), lf.layers.gru_cell(units=4)])  # one on top of the other
    >>> layer.apply(np.ones((2, 7, 3))).shape
    (2, 4)
    """

    GATES = 3

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "hard_sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_normal",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        implementation: int | None = None,
        reset_after: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._keep_settings(locals())
        self.reset_after = bool(reset_after)

    def _bias_shape(self):
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def _input_bias(self):
        return self.bias[0] if self.reset_after else self.bias

    def step(self, z, states, drawn, training=False):
        h, n = self._previous(states, drawn), self.units
        xz, xr, xc = self._gates(z)
        if self.reset_after:
            inner = ops.matmul(h, self.recurrent_kernel)
            hz, hr, hc = self._gates(inner + self.bias[1] if self.use_bias else inner)
        else:
            hz, hr = self._gates(ops.matmul(h, self.recurrent_kernel[:, : 2 * n]))
        update, reset = self.recurrent_activation(xz + hz), self.recurrent_activation(xr + hr)
        inner = reset * hc if self.reset_after else ops.matmul(reset * h, self.recurrent_kernel[:, 2 * n :])
        new = update * h + (1.0 - update) * self.activation(xc + inner)
        return new, [new]


class LSTMCell(GatedCell):
    """One step of LSTM (Hochreiter and Schmidhuber 1997): i, f, o = recurrent_activation(...),
    c = f c + i activation(...), h = o activation(c).
    [batch, features] and the states h and c, [batch, units], to the output h and the new states.

    Arguments and weights as for LSTM.

    >>> cell = lf.layers.lstm_cell(units=4)
    >>> output, (h, c) = cell(np.ones((2, 3)), [np.zeros((2, 4)), np.zeros((2, 4))])
    >>> bool((output == h).all()), c.shape
    (True, (2, 4))
    """

    GATES = 4

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "hard_sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_normal",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool | None = None,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        implementation: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._keep_settings(locals())
        self.unit_forget_bias = unit_forget_bias

    @property
    def state_size(self):
        return [self.units, self.units]

    def build(self, input_shape):
        super().build(input_shape)
        if self.unit_forget_bias and self.use_bias:
            open_forget_gate(self.bias, self.units)

    def step(self, z, states, drawn, training=False):
        z = z + ops.matmul(self._previous(states, drawn), self.recurrent_kernel)
        h, c = lstm_gates(self._gates(z), states[1], self.activation, self.recurrent_activation)
        return h, [h, c]


def open_forget_gate(bias: Any, units: int) -> None:
    """Sets the bias of the forget gate to one (Jozefowicz et al. 2015)."""
    value = bias.numpy()
    value[units : 2 * units] = 1
    bias.assign(value)


def lstm_gates(gates: Sequence[Any], c: Any, activation: Any, recurrent_activation: Any) -> tuple[Any, Any]:
    """Output and cell state from the four gates' sums i, f, c, o."""
    zi, zf, zc, zo = gates
    c = recurrent_activation(zf) * c + recurrent_activation(zi) * activation(zc)
    return recurrent_activation(zo) * activation(c), c


simple_rnn_cell = factory(SimpleRNNCell)
gru_cell = factory(GRUCell)
lstm_cell = factory(LSTMCell)
