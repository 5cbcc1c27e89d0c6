"""ConvLSTM2D: an LSTM whose states are images (Shi et al. 2015).  Arguments and defaults: INVENTORY 2.6."""

from __future__ import annotations

from typing import Any

from layerflow import activations
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import ops, shapes
from layerflow.graph.shapes import text
from layerflow.layers.cells import Cell, lstm_gates, open_forget_gate
from layerflow.layers.core import positive_integer
from layerflow.layers.recurrent import cell_from
from layerflow.layers.rnn import RNN
from layerflow.layers.signatures import several
from layerflow.layers.spatial import DATA_FORMATS, Sizes, keep_settings, make_weight
from layerflow.registry import factory, option, serialize_value, whole


class ConvLSTM2DCell(Cell):
    """One step of ConvLSTM2D: the input [batch, height, width, channels] is convolved as the arguments say, the state
    with stride 1 and padding "same".

    Arguments and weights as for ConvLSTM2D.

    >>> cell = lf.layers.conv_lstm2d_cell(filters=4, kernel_size=3, padding="same")
    >>> state = np.zeros((1, 16, 16, 4))
    >>> output, (h, c) = cell(np.ones((1, 16, 16, 3)), [state, state])
    >>> output.shape
    (1, 16, 16, 4)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
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
        self.filters = positive_integer(self, "filters", filters)
        self.kernel_size = self._pair("kernel_size", kernel_size)
        self.strides, self.dilation_rate = self._pair("strides", strides), self._pair("dilation_rate", dilation_rate)
        self.padding = option(f"{self.name}: padding", padding, ("valid", "same"))
        self.data_format = option(f"{self.name}: data_format", data_format or "channels_last", DATA_FORMATS)
        self.activation = activations.get(activation)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.use_bias, self.unit_forget_bias = bool(use_bias), unit_forget_bias
        keep_settings(self, "kernel", kernel_initializer, kernel_regularizer, kernel_constraint, "glorot_normal")
        keep_settings(
            self, "recurrent", recurrent_initializer, recurrent_regularizer, recurrent_constraint, "orthogonal"
        )
        keep_settings(self, "bias", bias_initializer, bias_regularizer, bias_constraint)
        self._keep_rates(dropout, recurrent_dropout, seed)
        self._image: tuple[int, ...] | None = None

    def _pair(self, argument: str, value: Any) -> tuple[int, int]:
        listed = list(value) if isinstance(value, (list, tuple)) else [value, value]
        if len(listed) != 2:
            raise ArgumentError(f"{self.name}: {argument} must be a whole number or two of them, got {value!r}.")
        first, second = (whole(f"{self.name}: {argument}", n, 1) for n in listed)
        return first, second

    def _config_value(self, name: str, given: Any) -> Any:
        made = self.__dict__.get(name)
        return serialize_value(made) if isinstance(made, (tuple, str)) else super()._config_value(name, given)

    @property
    def channel_axis(self) -> int:
        """Among the axes of one image."""
        return 2 if self.data_format == "channels_last" else 0

    def image_shape(self, shape: Any) -> tuple[int, ...]:
        """Shape of a state for images [batch, ...] of this shape.

        Raises:
            ShapeError: an extent is not known, or too small for the kernel.
        """
        images = tuple(shape[1:])
        if len(images) != 3 or None in images:
            raise ShapeError(
                f"{self.name}: images of shape {text(images)} must have a known height, width and channels. "
                "Give the first layer a complete input_shape, [steps, height, width, channels]."
            )
        out = list(images)
        for at, axis in enumerate(a for a in range(3) if a != self.channel_axis):
            reach = (self.kernel_size[at] - 1) * self.dilation_rate[at] + 1
            rest = images[axis] - (reach - 1 if self.padding == "valid" else 0)
            out[axis] = -(-rest // self.strides[at])
            if rest < 1:
                raise ShapeError(
                    f"{self.name}: images of shape {text(images)} are smaller than the kernel "
                    f"{list(self.kernel_size)}; use padding='same' or a smaller kernel_size."
                )
        out[self.channel_axis] = self.filters
        return tuple(out)

    @property
    def state_size(self) -> Any:
        return [self._image or (self.filters,)] * 2

    def build(self, input_shape):
        shape = tuple(input_shape[0] if several(input_shape) else input_shape)
        self._image = self.image_shape(shape)
        channels = shape[1 + self.channel_axis]
        self.kernel = make_weight(self, "kernel", (*self.kernel_size, channels, 4 * self.filters))
        inner = (*self.kernel_size, self.filters, 4 * self.filters)
        self.recurrent_kernel = make_weight(self, "recurrent_kernel", inner, "recurrent")
        if self.use_bias:
            self.bias = make_weight(self, "bias", (4 * self.filters,))
            if self.unit_forget_bias:
                open_forget_gate(self.bias, self.filters)

    def project(self, x, drawn):
        x = x if x.dtype.kind == "f" else ops.cast(x, self.dtype)
        x = x if drawn[0] is None else x * drawn[0]
        lead = ops.shape_of(x)[:-3]
        images = x if len(lead) == 1 else ops.reshape(x, (shapes.size(lead), *ops.shape_of(x)[-3:]))
        z = ops.conv(
            images,
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilations=self.dilation_rate,
        )
        if self.use_bias:
            z = z + (self.bias if self.channel_axis else ops.reshape(self.bias, (-1, 1, 1)))
        return z if len(lead) == 1 else ops.reshape(z, (*lead, *ops.shape_of(z)[1:]))

    def step(self, z, states, drawn, training=False):
        h = states[0] if drawn[1] is None else states[0] * drawn[1]
        z = z + ops.conv(h, self.recurrent_kernel, strides=(1, 1), padding="same", data_format=self.data_format)
        n = self.filters
        gates = [z[..., i * n : (i + 1) * n] if self.channel_axis else z[:, i * n : (i + 1) * n] for i in range(4)]
        h, c = lstm_gates(gates, states[1], self.activation, self.recurrent_activation)
        return h, [h, c]


class ConvLSTM2D(RNN):
    """LSTM over images [batch, steps, height, width, channels]: products with the kernels are convolutions (Shi et al.
    2015).

    Weights, gates in the order input, forget, candidate, output: kernel [*kernel_size, channels, 4 filters],
    recurrent_kernel [*kernel_size, filters, 4 filters], bias [4 filters].

    Args:
        filters: channels of the states and output.
        kernel_size: of both kernels; one number or two.
        strides, padding, data_format, dilation_rate: of the convolution of the input, as for Conv2D.
        activation, recurrent_activation, use_bias, unit_forget_bias, implementation: as for LSTM.
        dropout: share of the input's elements that is dropped while training, the same ones at every step.
        recurrent_dropout: likewise of the state.
        seed: gives this layer dropout masks of its own.
        kwargs: return_sequences, return_state, go_backwards, stateful: as for RNN.

    Raises:
        ShapeError: images of unknown extents, or smaller than the kernel.

    >>> film = np.ones((1, 5, 16, 16, 3))  # five images
    >>> lf.layers.conv_lstm2d(filters=4, kernel_size=3, padding="same").apply(film).shape
    (1, 16, 16, 4)
    >>> lf.layers.conv_lstm2d(filters=4, kernel_size=3, return_sequences=True).apply(film).shape
    (1, 5, 14, 14, 4)
    """

    LAYOUT = "[batch, steps, height, width, channels]"
    RANK = 5

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
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
        cell = cell_from(ConvLSTM2DCell, locals())
        super().__init__(cell, activity_regularizer=activity_regularizer, **kwargs)

    def _state_shapes(self, input_shape: Any) -> list[tuple[int, ...]]:
        return [self.cell.image_shape((input_shape[0], *input_shape[2:]))] * 2


conv_lstm2d_cell = factory(ConvLSTM2DCell)
conv_lstm2d = factory(ConvLSTM2D)
