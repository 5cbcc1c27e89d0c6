"""layerflow as a peer, through its public interface."""

from __future__ import annotations

import os
import types
from typing import Any

PACKAGES = ["layerflow", "numpy", "numba", "llvmlite"]
WORKLOADS = ["W1", "W2", "W4", "W5", "W6"]
DISK_CACHE = True  # for ../shared/bench: a second process measures a warm start


class Peer:
    def __init__(self, threads: int):
        # Every measurement has an empty folder of its own for compiled code.
        if folder := os.environ.get("NUMBA_CACHE_DIR"):
            os.environ["LAYERFLOW_CACHE_DIR"] = folder
        import layerflow

        layerflow.set_num_threads(threads)
        self.lf = layerflow

    def versions(self) -> dict[str, str]:
        return {"layerflow": self.lf.__version__}

    def layer(self, described: dict[str, Any], first: dict[str, Any]) -> Any:
        layers, units, act = self.lf.layers, described.get("units", 1), described.get("act")
        match described["kind"]:
            case "dense":
                return layers.dense(units=units, activation=act, **first)
            case "conv":
                size, pad, bias = described["size"], described["pad"], described["bias"]
                return layers.conv2d(
                    filters=units, kernel_size=size, padding=pad, activation=act, use_bias=bias, **first
                )
            case "bn":
                return layers.batch_normalization(momentum=described["momentum"], epsilon=described["eps"])
            case "maxpool":
                return layers.max_pooling2d(pool_size=described["size"])
            case "dropout":
                return layers.dropout(rate=described["rate"])
            case "relu":
                return layers.re_lu()
            case "gap":
                return layers.global_average_pooling2d()
            case "flatten":
                return layers.flatten()
            case kind:
                raise ValueError(f"no layer for {kind!r}")

    def model(self, spec: dict[str, Any], weights: list[list[Any]]) -> Any:
        shape = {"input_shape": spec["input"]}
        stack = [self.layer(described, {} if at else shape) for at, described in enumerate(spec["layers"])]
        model = self.lf.sequential(stack)
        for layer, arrays in zip(model.layers, weights, strict=True):
            layer.set_weights(arrays)
        o, optimizers = spec["optimizer"], self.lf.optimizers
        if o["kind"] == "adam":
            optimizer = optimizers.Adam(o["lr"], beta_1=o["beta1"], beta_2=o["beta2"], epsilon=o["eps"])
        else:
            optimizer = optimizers.SGD(o["lr"], momentum=o["momentum"])
        model.compile(optimizer, "categorical_crossentropy" if spec["classes"] else "mse")
        return model

    def train(self, spec: dict[str, Any], weights: list[list[Any]]) -> types.SimpleNamespace:
        model = self.model(spec, weights)
        return types.SimpleNamespace(
            stage=lambda x, y: (x, y), step=lambda batch: model.train_on_batch(*batch), wait=float
        )

    def predict(self, spec: dict[str, Any], weights: list[list[Any]]) -> Any:
        return self.model(spec, weights).predict_on_batch

    def predict_api(self, spec: dict[str, Any], weights: list[list[Any]]) -> Any:
        model = self.model(spec, weights)
        return lambda x: model.predict(x, batch_size=len(x))

    def fit(self, spec: dict[str, Any], weights: list[list[Any]], fast: bool) -> Any:
        # `fit` is the fastest loop too: the number the faster loops of others are compared with.
        model = self.model(spec, weights)

        def fit(x: Any, y: Any, epochs: int) -> float:
            return model.fit(x, y, epochs=epochs, batch_size=spec["batch"], verbose=0).history["loss"][-1]

        return fit
