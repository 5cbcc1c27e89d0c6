"""layerflow as a peer of the shared benchmark, through its public interface: see README.md beside this file."""

import types

PACKAGES = ["layerflow", "numpy", "numba", "llvmlite"]
WORKLOADS = ["W1", "W4", "W5"]
DISK_CACHE = True


class Peer:
    def __init__(self, threads):
        import os

        # The benchmark gives every run an empty folder in NUMBA_CACHE_DIR and measures a warm start from it.
        if folder := os.environ.get("NUMBA_CACHE_DIR"):
            os.environ["LAYERFLOW_CACHE_DIR"] = folder
        import layerflow

        layerflow.set_num_threads(threads)
        self.lf = layerflow

    def versions(self):
        return {"layerflow": self.lf.__version__}

    def model(self, spec, weights):
        layers = self.lf.layers
        stack = []
        for described in spec["layers"]:
            first = {} if stack else {"input_shape": spec["input"]}
            stack.append(layers.dense(units=described["units"], activation=described["act"], **first))
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

    def train(self, spec, weights):
        model = self.model(spec, weights)
        return types.SimpleNamespace(
            stage=lambda x, y: (x, y), step=lambda batch: model.train_on_batch(*batch), wait=float
        )

    def predict(self, spec, weights):
        return self.model(spec, weights).predict_on_batch

    def predict_api(self, spec, weights):
        return self.model(spec, weights).predict

    def fit(self, spec, weights, fast):
        # `fit` is the fastest loop too: the number the faster loops of others are compared with.
        model = self.model(spec, weights)
        return lambda x, y, epochs: model.fit(x, y, epochs=epochs, batch_size=spec["batch"], verbose=0).history["loss"][
            -1
        ]
