"""Layers: classes (`Dense`) and the functions that make them (`dense`)."""

from __future__ import annotations

from layerflow.layers.advanced_activations import (
    ELU,
    LeakyReLU,
    PReLU,
    ReLU,
    Softmax,
    ThresholdedReLU,
    elu,
    leaky_relu,
    prelu,
    re_lu,
    relu,
    softmax,
    thresholded_relu,
)
from layerflow.layers.base import Layer
from layerflow.layers.core import (
    Activation,
    Dense,
    Dropout,
    Flatten,
    Permute,
    RepeatVector,
    Reshape,
    activation,
    dense,
    dropout,
    flatten,
    permute,
    repeat_vector,
    reshape,
)
from layerflow.layers.input_layer import InputLayer, input, input_layer  # noqa: A004 - the guides' name
from layerflow.layers.merge import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    dot,
    maximum,
    minimum,
    multiply,
    subtract,
)
from layerflow.layers.reading import LAYERS, deserialize
from layerflow.layers.topology import InputSpec, reset_names

__all__ = [
    "ELU", "LAYERS", "Activation", "Add", "Average", "Concatenate", "Dense", "Dot", "Dropout", "Flatten", "InputLayer",
    "InputSpec", "Layer", "LeakyReLU", "Maximum", "Minimum", "Multiply", "PReLU", "Permute", "ReLU", "RepeatVector",
    "Reshape", "Softmax", "Subtract", "ThresholdedReLU", "activation", "add", "average", "concatenate", "dense", "deserialize",
    "dot", "dropout", "elu", "flatten", "input", "input_layer", "leaky_relu", "maximum", "minimum", "multiply", "permute",
    "prelu", "re_lu", "relu", "repeat_vector", "reset_names", "reshape", "softmax", "subtract", "thresholded_relu",
]  # fmt: skip

for _layer in list(globals().values()):
    if isinstance(_layer, type) and issubclass(_layer, Layer) and _layer is not Layer:
        LAYERS.add(_layer, _layer.__name__)
