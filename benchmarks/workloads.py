"""The workloads, as plain data that every peer reads the same way.

A model is a list of layers (dicts).  Weights are a list with an entry for each layer, of NumPy arrays in Keras's layout
(dense: in x out; conv: rows, columns, in, out; bn: gamma, beta, moving mean, moving variance; lstm: kernel, recurrent
kernel, bias, gates in the order input, forget, cell, output; gru: the same with gates update, reset, candidate and two
biases, [2, 3 units], the reset after the recurrent product; attention: query, key, value, output, each with kernel and
bias).  All peers start from the same weights and see the same batches, so that their losses must agree.

NumPy is imported by the functions that need it, so that it counts as part of a peer's own import.
"""

from __future__ import annotations

import math
from typing import Any

Spec = dict[str, Any]


def layer(kind: str, **settings: Any) -> Spec:
    return {"kind": kind, **settings}


def dense(units: int, act: str | None = None) -> Spec:
    return layer("dense", units=units, act=act)


def conv(filters: int, pad: str = "valid", act: str | None = None, bias: bool = True) -> Spec:
    return layer("conv", units=filters, size=3, pad=pad, act=act, bias=bias)


def conv_bn_relu(filters: int) -> list[Spec]:
    normalization = layer("bn", momentum=0.99, eps=1e-3)
    return [conv(filters, pad="same", bias=False), normalization, layer("relu")]


def encoder(heads: int, units: int) -> list[Spec]:
    """A block of a transformer: `attention` and `feed`, a dense layer with relu and one back, add to what they get."""
    normalization = layer("ln", eps=1e-3)
    return [layer("attention", heads=heads), normalization, layer("feed", units=units), normalization]


def sgd(lr: float, momentum: float = 0.0) -> Spec:
    return {"kind": "sgd", "lr": lr, "momentum": momentum}


ADAM = {"kind": "adam", "lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-7}

# `predict`: batch sizes.  `parity`: how far the losses of the first steps may differ between peers, relative; None
# where dropout makes them differ (then the first loss is compared, roughly, and predictions).
WORKLOADS: dict[str, Spec] = {
    "W1": {
        "title": "MLP 784-32-10, batch 32, SGD",
        "input": [784], "classes": 10, "batch": 32, "optimizer": sgd(0.1),
        "layers": [dense(32, "relu"), dense(10, "softmax")],
        "predict": [1, 32], "parity": 0.01,
    },
    "W2": {
        "title": "CNN for MNIST, 594,922 weights, batch 128, Adam",
        "input": [28, 28, 1], "classes": 10, "batch": 128, "optimizer": ADAM,
        "layers": [
            conv(32, act="relu"), conv(32, act="relu"), layer("maxpool", size=2),
            conv(64, act="relu"), conv(64, act="relu"), layer("maxpool", size=2),
            layer("flatten"), layer("dropout", rate=0.25), dense(512, "relu"),
            layer("dropout", rate=0.5), dense(10, "softmax"),
        ],
        "predict": [1, 256], "parity": None,
    },
    "W3": {
        "title": "LSTM(128) over 28 x 28, dense 10, batch 64, Adam",
        "input": [28, 28], "classes": 10, "batch": 64, "optimizer": ADAM,
        "layers": [layer("lstm", units=128), dense(10, "softmax")],
        "predict": [1, 64], "parity": 0.01,
    },
    "W3g": {
        "title": "GRU(128) over 28 x 28, dense 10, batch 64, Adam",
        "input": [28, 28], "classes": 10, "batch": 64, "optimizer": ADAM,
        "layers": [layer("gru", units=128), dense(10, "softmax")],
        "predict": [1, 64], "parity": 0.01,
    },
    "W4": {
        "title": "MLP 1024-1024-1024-10, batch 256, Adam",
        "input": [1024], "classes": 10, "batch": 256, "optimizer": ADAM,
        "layers": [dense(1024, "relu"), dense(1024, "relu"), dense(10, "softmax")],
        "predict": [], "parity": 0.02,
    },
    "W5": {
        "title": "MLP 13-64-64-1, batch 32, Adam",
        "input": [13], "classes": None, "batch": 32, "optimizer": ADAM,
        "layers": [dense(64, "relu"), dense(64, "relu"), dense(1)],
        "predict": [], "fit": {"rows": 5000, "epochs": 10}, "parity": 0.01,
    },
    "W6": {
        "title": "ConvNet 32x32x3, three times conv-bn-relu (32, 64, 128), batch 64, SGD with momentum",
        "input": [32, 32, 3], "classes": 10, "batch": 64, "optimizer": sgd(0.01, 0.9),
        "layers": [*conv_bn_relu(32), *conv_bn_relu(64), *conv_bn_relu(128), layer("gap"), dense(10, "softmax")],
        "predict": [], "parity": 0.02,
    },
    "W7": {
        "title": "Transformer encoder, 2 blocks of 4 heads and 512 units on 128 x 128, batch 32, Adam",
        "input": [128, 128], "classes": 10, "batch": 32, "optimizer": ADAM,
        "layers": [*encoder(4, 512), *encoder(4, 512), layer("gap"), dense(10, "softmax")],
        "predict": [1, 32], "parity": 0.02,
    },
}  # fmt: skip


def get(name: str) -> Spec:
    """The workload of that name, with the name in it."""
    return {**WORKLOADS[name], "id": name}


def shapes(spec: Spec) -> list[list[int]]:
    """Shape of an example before each layer, then after the last."""
    found, shape = [], list(spec["input"])
    for described in spec["layers"]:
        found.append(list(shape))
        match described["kind"]:
            case "conv":
                cut = described["size"] - 1 if described["pad"] == "valid" else 0
                shape = [shape[0] - cut, shape[1] - cut, described["units"]]
            case "maxpool":
                shape = [shape[0] // described["size"], shape[1] // described["size"], shape[2]]
            case "flatten":
                shape = [math.prod(shape)]
            case "gap":
                shape = [shape[-1]]
            case "dense" | "lstm" | "gru":
                shape = [described["units"]]
    return [*found, shape]


def init_weights(spec: Spec, seed: int = 1) -> list[list[Any]]:
    """Glorot uniform kernels, orthogonal recurrent ones, zero biases (of an LSTM's forget gate: 1)."""
    import numpy as np

    draw = Draw(np, seed)
    pairs = zip(spec["layers"], shapes(spec), strict=False)
    return [draw.weights(described, shape) for described, shape in pairs]


class Draw:
    """First weights, one layer after the other."""

    def __init__(self, np: Any, seed: int):
        self.np, self.rng = np, np.random.default_rng(seed)

    def glorot(self, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Any:
        limit = (6.0 / (fan_in + fan_out)) ** 0.5
        return self.rng.uniform(-limit, limit, shape).astype(self.np.float32)

    def dense(self, inputs: int, units: int) -> list[Any]:
        return [self.glorot((inputs, units), inputs, units), self.np.zeros(units, self.np.float32)]

    def weights(self, described: Spec, shape: list[int]) -> list[Any]:
        """Of a layer for examples of that shape."""
        units, c = described.get("units", 0), shape[-1]
        match described["kind"]:
            case "dense":
                return self.dense(c, units)
            case "conv":
                k = described["size"]
                kernel = self.glorot((k, k, c, units), k * k * c, k * k * units)
                return [kernel, *[self.np.zeros(units, self.np.float32)] * described["bias"]]
            case "bn":
                return [self.np.full(c, v, self.np.float32) for v in (1, 0, 0, 1)]
            case "ln":
                return [self.np.full(c, v, self.np.float32) for v in (1, 0)]
            case "lstm" | "gru" as kind:
                return self.recurrent(kind, c, units)
            case "attention":
                return self.attention(c, described["heads"])
            case "feed":
                return [*self.dense(c, units), *self.dense(units, c)]
        return []

    def recurrent(self, kind: str, inputs: int, units: int) -> list[Any]:
        np, columns = self.np, {"lstm": 4, "gru": 3}[kind] * units
        kernel = self.glorot((inputs, columns), inputs, columns)
        orthogonal = np.linalg.qr(self.rng.standard_normal((columns, units)))[0].T
        bias = np.zeros(columns if kind == "lstm" else (2, columns), np.float32)
        if kind == "lstm":
            bias[units : 2 * units] = 1
        return [kernel, np.ascontiguousarray(orthogonal, np.float32), bias]

    def attention(self, features: int, heads: int) -> list[Any]:
        np, split = self.np, (heads, features // heads)
        into = [[self.glorot((features, *split), features, features), np.zeros(split, np.float32)] for _ in range(3)]
        out = [self.glorot((*split, features), features, features), np.zeros(features, np.float32)]
        return [*into[0], *into[1], *into[2], *out]


def data(spec: Spec, rows: int, seed: int = 2) -> tuple[Any, Any]:
    """x (float32) and y (one-hot rows, or a column for regression)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, *spec["input"]), dtype=np.float32)
    if spec["classes"]:
        return x, np.eye(spec["classes"], dtype=np.float32)[rng.integers(0, spec["classes"], rows)]
    y = np.sin(x[:, :1]) + x[:, 1:2] * x[:, 2:3] + 0.1 * rng.standard_normal((rows, 1))
    return x, y.astype(np.float32)


def batches(spec: Spec, count: int = 8) -> list[tuple[Any, Any]]:
    n = spec["batch"]
    x, y = data(spec, count * n)
    return [(x[i : i + n].copy(), y[i : i + n].copy()) for i in range(0, count * n, n)]
