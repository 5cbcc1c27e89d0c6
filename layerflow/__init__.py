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
    initializers,
    inspect,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
    train,
)
from layerflow.callbacks import Callback, History
from layerflow.config import VERSION as __version__
from layerflow.config import set_num_threads
from layerflow.graph import execution as _execution
from layerflow.graph import random
from layerflow.graph.creation import (
    eye,
    fill,
    linspace,
    ones,
    range_,
    scalar,
    tensor1d,
    tensor2d,
    tensor3d,
    tensor4d,
    variable,
    zeros,
)
from layerflow.graph.execution import grad, jit, value_and_grad, variable_grads
from layerflow.graph.ops import *  # noqa: F403
from layerflow.graph.ops import slice_ as slice
from layerflow.graph.symbolic import SymbolicTensor
from layerflow.graph.tensor import Tensor, tensor
from layerflow.graph.variable import Variable
from layerflow.inspect import debug
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

_execution.set_runner(_run)
