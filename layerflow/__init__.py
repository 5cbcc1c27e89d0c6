"""layerflow: the TensorFlow.js Layers API for Python, on an engine that compiles the whole model.

import layerflow as lf

model = lf.sequential([lf.layers.dense(units=32, activation="relu", input_shape=[784]),
                       lf.layers.dense(units=10, activation="softmax")])
model.compile(optimizer="adam", loss="categoricalCrossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=5)
"""

from layerflow import (
    activations,
    callbacks,
    config,
    constraints,
    data,
    datasets,
    errors,
    fused,
    image,
    initializers,
    inspect,
    layers,
    linalg,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
    signal,
    train,
)
from layerflow.absent import message as _why_absent
from layerflow.callbacks import Callback, History
from layerflow.config import VERSION as __version__
from layerflow.config import set_num_threads
from layerflow.graph import execution as _execution
from layerflow.graph import random
from layerflow.graph.closures import custom_grad, grad, grads, value_and_grad, value_and_grads, variable_grads
from layerflow.graph.creation import (
    clone,
    eye,
    fill,
    linspace,
    ones,
    print_,
    range_,
    scalar,
    tensor1d,
    tensor2d,
    tensor3d,
    tensor4d,
    tensor5d,
    tensor6d,
    variable,
    zeros,
)
from layerflow.graph.creation import print_ as print
from layerflow.graph.creation import range_ as range
from layerflow.graph.execution import jit
from layerflow.graph.memory import dispose, keep, memory, tidy
from layerflow.graph.ops import *  # noqa: F403
from layerflow.graph.symbolic import SymbolicTensor
from layerflow.graph.tensor import Tensor, tensor
from layerflow.graph.variable import Variable
from layerflow.inspect import debug
from layerflow.jit import bind as _bind
from layerflow.jit import run as _run
from layerflow.jit.cpus import get_num_threads
from layerflow.layers import input, reset_names
from layerflow.layers import input as Input
from layerflow.models.cloning import clone_model
from layerflow.models.functional import Model, model
from layerflow.models.saving import load_layers_model
from layerflow.models.sequential import Sequential, sequential
from layerflow.models.topology_json import model_from_json
from layerflow.registry import custom_objects, register_class

_execution.set_runner(_run, _bind)


def __getattr__(name: str) -> object:
    """For names that are not here: why, or which is meant."""
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(_why_absent(name, globals()))
