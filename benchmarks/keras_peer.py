"""Keras 3 on JAX, and on TensorFlow with and without XLA (its own choice on a CPU is without)."""

from __future__ import annotations

import importlib
import os
import types
from collections.abc import Callable
from typing import Any

from benchmarks.workloads import Spec

PACKAGES = ["keras", "numpy"]
BACKENDS = {"jax": ["jax", "jaxlib"], "tensorflow": ["tensorflow-cpu", "tensorflow"]}


class Peer:
    def __init__(self, threads: int, backend: str, jit_compile: bool | str = "auto"):
        os.environ["KERAS_BACKEND"] = backend
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        if backend == "tensorflow":
            threading = importlib.import_module("tensorflow").config.threading
            threading.set_intra_op_parallelism_threads(threads)
            threading.set_inter_op_parallelism_threads(threads)
        self.keras: Any = importlib.import_module("keras")
        self.backend, self.jit_compile = backend, jit_compile

    def versions(self) -> dict[str, str]:
        backend = importlib.import_module(self.backend)
        return {"keras": self.keras.__version__, self.backend: backend.__version__}

    def layer(self, described: Spec, x: Any) -> Any:
        """A layer that is applied to `x` alone."""
        layers, units, act = self.keras.layers, described.get("units"), described.get("act")
        match described["kind"]:
            case "dense":
                return layers.Dense(units, activation=act)
            case "conv":
                size, pad, bias = described["size"], described["pad"], described["bias"]
                return layers.Conv2D(units, size, padding=pad, activation=act, use_bias=bias)
            case "bn":
                return layers.BatchNormalization(momentum=described["momentum"], epsilon=described["eps"])
            case "ln":
                return layers.LayerNormalization(epsilon=described["eps"])
            case "lstm":
                return layers.LSTM(units)
            case "gru":
                return layers.GRU(units)
            case "maxpool":
                return layers.MaxPooling2D(described["size"])
            case "dropout":
                return layers.Dropout(described["rate"])
            case "relu":
                return layers.ReLU()
            case "gap":
                return layers.GlobalAveragePooling2D() if len(x.shape) == 4 else layers.GlobalAveragePooling1D()
            case _:
                return layers.Flatten()

    def applied(self, described: Spec, x: Any) -> tuple[Any, list[Any]]:
        """What an entry of the workload makes of `x`, and its layers in the order of their weights."""
        layers, features = self.keras.layers, x.shape[-1]
        match described["kind"]:
            case "attention":
                attention = layers.MultiHeadAttention(described["heads"], features // described["heads"])
                return layers.Add()([x, attention(x, x)]), [attention]
            case "feed":
                wide, back = layers.Dense(described["units"], activation="relu"), layers.Dense(features)
                return layers.Add()([x, back(wide(x))]), [wide, back]
        layer = self.layer(described, x)
        return layer(x), [layer]

    def model(self, spec: Spec, weights: list[list[Any]], **settings: Any) -> Any:
        keras, o = self.keras, spec["optimizer"]
        x = inputs = keras.Input(spec["input"])
        for described, arrays in zip(spec["layers"], weights, strict=True):
            x, made = self.applied(described, x)
            rest = iter(arrays)
            for layer in made:
                layer.set_weights([next(rest) for _ in layer.weights[: len(arrays)]])
        model = keras.Model(inputs, x)
        if o["kind"] == "adam":
            optimizer = keras.optimizers.Adam(o["lr"], beta_1=o["beta1"], beta_2=o["beta2"], epsilon=o["eps"])
        else:
            optimizer = keras.optimizers.SGD(o["lr"], momentum=o["momentum"])
        loss = "categorical_crossentropy" if spec["classes"] else "mse"
        model.compile(optimizer=optimizer, loss=loss, jit_compile=self.jit_compile, **settings)
        return model

    def train(self, spec: Spec, weights: list[list[Any]]) -> types.SimpleNamespace:
        model, native = self.model(spec, weights), self.keras.ops.convert_to_tensor

        def wait(loss: Any) -> float:
            model.reset_metrics()  # what Keras reports is a running mean
            return float(loss)

        return types.SimpleNamespace(
            stage=lambda x, y: (native(x), native(y)), step=lambda batch: model.train_on_batch(*batch), wait=wait
        )

    def predict(self, spec: Spec, weights: list[list[Any]]) -> Callable[[Any], Any]:
        return self.model(spec, weights).predict_on_batch

    def predict_api(self, spec: Spec, weights: list[list[Any]]) -> Callable[[Any], Any]:
        model = self.model(spec, weights)
        return lambda x: model.predict(x, batch_size=len(x), verbose=0)

    def fit(self, spec: Spec, weights: list[list[Any]], fast: bool) -> Callable[..., float]:
        """`model.fit` as most people call it.  Fast: many steps for each return to Python."""
        model = self.model(spec, weights, steps_per_execution=32 if fast else 1)

        def fit(x: Any, y: Any, epochs: int) -> float:
            history = model.fit(x, y, epochs=epochs, batch_size=spec["batch"], verbose=0)
            return history.history["loss"][-1]

        return fit
