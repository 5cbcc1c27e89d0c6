"""layerflow as a peer, through its public interface."""

from __future__ import annotations

import os
import types
from typing import Any

PACKAGES = ["layerflow", "numpy", "llvmlite"]
WORKLOADS = ["W1", "W2", "W3", "W4", "W5", "W6"]  # those of ../shared/bench
DISK_CACHE = True  # for ../shared/bench: a second process measures a warm start


class Peer:
    def __init__(self, threads: int):
        # Where ../shared/bench wants compiled code: a folder for each measurement, empty at first.
        if folder := os.environ.get("NUMBA_CACHE_DIR"):
            os.environ["LAYERFLOW_CACHE_DIR"] = folder
        import layerflow

        layerflow.set_num_threads(threads)
        self.lf = layerflow

    def versions(self) -> dict[str, str]:
        return {"layerflow": self.lf.__version__}

    def layer(self, described: dict[str, Any], x: Any) -> Any:
        """A layer that is applied to `x` alone."""
        layers, units, act = self.lf.layers, described.get("units", 1), described.get("act")
        match described["kind"]:
            case "dense":
                return layers.dense(units=units, activation=act)
            case "conv":
                size, pad, bias = described["size"], described["pad"], described["bias"]
                return layers.conv2d(filters=units, kernel_size=size, padding=pad, activation=act, use_bias=bias)
            case "bn":
                return layers.batch_normalization(momentum=described["momentum"], epsilon=described["eps"])
            case "ln":
                return layers.layer_normalization(epsilon=described["eps"])
            case "lstm":
                return layers.lstm(units=units, recurrent_activation="sigmoid")
            case "gru":
                return layers.gru(units=units, recurrent_activation="sigmoid", reset_after=True)
            case "maxpool":
                return layers.max_pooling2d(pool_size=described["size"])
            case "dropout":
                return layers.dropout(rate=described["rate"])
            case "relu":
                return layers.re_lu()
            case "gap":
                return layers.global_average_pooling2d() if len(x.shape) == 4 else layers.global_average_pooling1d()
            case "flatten":
                return layers.flatten()
            case kind:
                raise ValueError(f"no layer for {kind!r}")

    def applied(self, described: dict[str, Any], x: Any) -> tuple[Any, list[Any]]:
        """What an entry of the workload makes of `x`, and its layers in the order of their weights."""
        layers, features = self.lf.layers, x.shape[-1]
        match described["kind"]:
            case "attention":
                heads = described["heads"]
                attention = layers.multi_head_attention(num_heads=heads, key_dim=features // heads)
                return layers.add().apply([x, attention.apply(x, x)]), [attention]
            case "feed":
                wide, back = layers.dense(units=described["units"], activation="relu"), layers.dense(units=features)
                return layers.add().apply([x, back.apply(wide.apply(x))]), [wide, back]
        layer = self.layer(described, x)
        return layer.apply(x), [layer]

    def model(self, spec: dict[str, Any], weights: list[list[Any]]) -> Any:
        x = inputs = self.lf.input(shape=spec["input"])
        for described, arrays in zip(spec["layers"], weights, strict=True):
            x, made = self.applied(described, x)
            rest = iter(arrays)
            for layer in made:
                layer.set_weights([next(rest) for _ in layer.weights])
        model = self.lf.model(inputs=inputs, outputs=x)
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
