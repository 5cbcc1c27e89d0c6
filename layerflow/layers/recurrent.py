"""SimpleRNN, GRU and LSTM.  Arguments and defaults: INVENTORY 2.6."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from layerflow.layers.cells import Cell, GRUCell, LSTMCell, SimpleRNNCell
from layerflow.layers.rnn import RNN
from layerflow.registry import factory


def cell_from(cls: type[Cell], given: Mapping[str, Any]) -> Cell:
    """The cell of a layer that takes the cell's arguments as its own; `given` are those of the layer.

    It has the name that the layer was given: messages about arguments should name what the user wrote.
    """
    names = [p for p in inspect.signature(cls.__init__).parameters if p not in ("self", "kwargs")]
    return cls(**{name: given[name] for name in names}, name=given["kwargs"].get("name"))


class SimpleRNN(RNN):
    """The plain recurrence h = activation(x kernel + h recurrent_kernel + bias) over [batch, steps, features].

    Weights: kernel [features, units], recurrent_kernel [units, units], bias [units].

    Args:
        units: features of the state and output.
        activation: name or function.
        use_bias: whether there is a bias.
        dropout: share of the input's features that is dropped while training, the same ones at every step.
        recurrent_dropout: likewise of the state.
        seed: gives this layer dropout masks of its own.
        kwargs: return_sequences, return_state, go_backwards, stateful, ...: as for RNN.

    >>> x = np.ones((2, 7, 3))
    >>> lf.layers.simple_rnn(units=4).apply(x).shape
    (2, 4)
    >>> lf.layers.simple_rnn(units=4, return_sequences=True).apply(x).shape
    (2, 7, 4)
    >>> total = lf.layers.simple_rnn(units=1, activation="linear", weights=[[[1]], [[1]], [0]])
    >>> total.apply([[[1.0], [2.0], [3.0]]]).print()
    [[6.]]
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
    """Gated recurrent unit (Cho et al. 2014) over [batch, steps, features].

    Weights, gates in the order update, reset, candidate: kernel [features, 3 units], recurrent_kernel
    [units, 3 units], bias [3 units], with `reset_after` [2, 3 units].

    Args:
        units: features of the state and output.
        activation: of the candidate.
        recurrent_activation: of the gates; hard_sigmoid, clip(0.2 x + 0.5, 0, 1), unless given.
        use_bias: whether there is a bias.
        dropout, recurrent_dropout, seed: as for SimpleRNN.
        implementation: accepted; it changes nothing.
        reset_after: the reset gate acts after the product with the recurrent kernel (Keras's default), not before.
        kwargs: return_sequences, return_state, go_backwards, stateful, ...: as for RNN.

    >>> x = np.ones((2, 7, 3))
    >>> layer = lf.layers.gru(units=4, reset_after=True)
    >>> layer.apply(x).shape
    (2, 4)
    >>> [w.shape for w in layer.weights]
    [(3, 12), (4, 12), (2, 12)]
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
    """Long short-term memory (Hochreiter and Schmidhuber 1997) over [batch, steps, features]; its states are h, the
    output, and c.

    Weights, gates in the order input, forget, candidate, output: kernel [features, 4 units], recurrent_kernel
    [units, 4 units], bias [4 units].

    Args:
        units: features of the states and output.
        activation: of the candidate and of the cell state on its way out.
        recurrent_activation: of the gates; hard_sigmoid, clip(0.2 x + 0.5, 0, 1), unless given.
        use_bias: whether there is a bias.
        unit_forget_bias: the bias of the forget gate starts at 1 (Keras's default).
        dropout, recurrent_dropout, seed: as for SimpleRNN.
        implementation: accepted; it changes nothing.
        kwargs: return_sequences, return_state, go_backwards, stateful, ...: as for RNN.

    >>> x = lf.input(shape=[None, 3])  # any number of steps
    >>> y, h, c = lf.layers.lstm(units=4, return_sequences=True, return_state=True).apply(x)
    >>> y.shape, h.shape, c.shape
    ((None, None, 4), (None, 4), (None, 4))
    >>> model = lf.sequential([lf.layers.lstm(units=8, input_shape=[None, 3]), lf.layers.dense(units=1)])
    >>> model.predict(np.ones((2, 50, 3))).shape
    (2, 1)
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
