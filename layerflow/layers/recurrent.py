"""SimpleRNN, GRU and LSTM.  Arguments and defaults: INVENTORY 2.6."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from layerflow.layers.cells import Cell, GRUCell, LSTMCell, SimpleRNNCell
from layerflow.layers.rnn import RNN
from layerflow.registry import factory


def cell_from(cls: type[Cell], given: Mapping[str, Any]) -> Cell:
    """The cell of a layer that takes the cell's arguments as its own; `given` are those of the layer."""
    names = [p for p in inspect.signature(cls.__init__).parameters if p not in ("self", "kwargs")]
    return cls(**{name: given[name] for name in names})


class SimpleRNN(RNN):
    """The plain recurrence h = activation(x kernel + h recurrent_kernel + bias).

    Weights: kernel [features, units], recurrent_kernel [units, units], bias [units].

    Args:
        units: features of the state and output.
        activation: name or function.
        use_bias: whether there is a bias.
        dropout: share of the input's features that is dropped while training, the same ones at every step.
        recurrent_dropout: likewise of the state.
        seed: gives this layer dropout masks of its own.
        kwargs: return_sequences, return_state, go_backwards, stateful: see `RNN`.
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
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        cell = cell_from(SimpleRNNCell, locals())
        super().__init__(cell, activity_regularizer=activity_regularizer, **kwargs)


class GRU(RNN):
    """Gated recurrent unit (Cho et al. 2014).

    Weights, gates in the order update, reset, candidate: kernel [features, 3 units], recurrent_kernel
    [units, 3 units], bias [3 units], with `reset_after` [2, 3 units].

    Args:
        units: features of the state and output.
        activation: of the candidate.
        recurrent_activation: of the gates; hard_sigmoid, clip(0.2 x + 0.5, 0, 1), unless given.
        use_bias: whether there is a bias.
        dropout, recurrent_dropout, seed: see `SimpleRNN`.
        implementation: accepted; it changes nothing.
        reset_after: the reset gate acts after the product with the recurrent kernel (Keras's default), not before.
        kwargs: return_sequences, return_state, go_backwards, stateful: see `RNN`.
    """

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
        activity_regularizer: Any = None,
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
        cell = cell_from(GRUCell, locals())
        super().__init__(cell, activity_regularizer=activity_regularizer, **kwargs)


class LSTM(RNN):
    """Long short-term memory (Hochreiter and Schmidhuber 1997); its states are h, the output, and c.

    Weights, gates in the order input, forget, candidate, output: kernel [features, 4 units], recurrent_kernel
    [units, 4 units], bias [4 units].

    Args:
        units: features of the states and output.
        activation: of the candidate and of the cell state on its way out.
        recurrent_activation: of the gates; hard_sigmoid, clip(0.2 x + 0.5, 0, 1), unless given.
        use_bias: whether there is a bias.
        unit_forget_bias: the bias of the forget gate starts at 1.
        dropout, recurrent_dropout, seed: see `SimpleRNN`.
        implementation: accepted; it changes nothing.
        kwargs: return_sequences, return_state, go_backwards, stateful: see `RNN`.
    """

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
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        implementation: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        cell = cell_from(LSTMCell, locals())
        super().__init__(cell, activity_regularizer=activity_regularizer, **kwargs)


simple_rnn = factory(SimpleRNN)
gru = factory(GRU)
lstm = factory(LSTM)
