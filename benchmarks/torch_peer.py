"""PyTorch, eager or compiled: images channels first, which trains faster here than channels last; fused optimizers."""

from __future__ import annotations

import importlib
import os
import types
from collections.abc import Callable
from typing import Any

from benchmarks import workloads
from benchmarks.workloads import Spec

PACKAGES = ["torch", "numpy"]


class Peer:
    def __init__(self, threads: int, compiled: bool = False):
        os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no helper processes
        self.torch: Any = importlib.import_module("torch")
        self.torch.set_num_threads(threads)
        self.torch.set_num_interop_threads(1)
        self.blocks: Any = importlib.import_module("benchmarks.torch_blocks")
        self.compiled = compiled

    def versions(self) -> dict[str, str]:
        return {"torch": self.torch.__version__}

    # --- building --------------------------------------------------------------

    def layer(self, described: Spec, shape: list[int]) -> tuple[Any, list[Any]]:
        """A module and its parameters in the order of the workload's weights."""
        nn, units = self.torch.nn, described.get("units")
        match described["kind"]:
            case "dense":
                m = nn.Linear(shape[0], units)
                return m, [m.weight, m.bias]
            case "conv":
                pad = 0 if described["pad"] == "valid" else "same"
                m = nn.Conv2d(shape[-1], units, described["size"], padding=pad, bias=described["bias"])
                return m, [m.weight, m.bias][: 1 + described["bias"]]
            case "bn":
                m = nn.BatchNorm2d(shape[-1], eps=described["eps"], momentum=1 - described["momentum"])
                return m, [m.weight, m.bias, m.running_mean, m.running_var]
            case "maxpool":
                return nn.MaxPool2d(described["size"]), []
            case "dropout":
                return nn.Dropout(described["rate"]), []
            case "relu":
                return nn.ReLU(), []
            case "gap":
                return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), []
            case _:
                return nn.Flatten(), []

    def model(self, spec: Spec, weights: list[list[Any]], softmax: bool) -> Any:
        nn, layers, flattened = self.torch.nn, [], None
        for described, arrays, shape in zip(spec["layers"], weights, workloads.shapes(spec), strict=False):
            if len(shape) == 2 and (made := self.blocks.module(described, shape, arrays)):
                layers.append(made)
                continue
            made, parameters = self.layer(described, shape)
            layers.append(made)
            if described["kind"] == "flatten":
                flattened = shape
            for parameter, array in zip(parameters, arrays, strict=True):
                if described["kind"] == "dense" and array.ndim == 2:
                    if flattened:  # rows come in the order rows, columns, channels; torch flattens channels first
                        array = array.reshape(*flattened, -1).transpose(2, 0, 1, 3).reshape(array.shape)
                        flattened = None
                    array = array.T
                elif array.ndim == 4:
                    array = array.transpose(3, 2, 0, 1)
                self.blocks.put(parameter, array)
            if described.get("act") == "relu":
                layers.append(nn.ReLU())
            elif described.get("act") == "softmax" and softmax:
                layers.append(nn.Softmax(dim=1))
        return nn.Sequential(*layers)

    def optimizer(self, spec: Spec, model: Any) -> Any:
        o, optim = spec["optimizer"], self.torch.optim
        if o["kind"] == "adam":
            return optim.Adam(model.parameters(), lr=o["lr"], betas=(o["beta1"], o["beta2"]), eps=o["eps"], fused=True)
        return optim.SGD(model.parameters(), lr=o["lr"], momentum=o["momentum"], fused=True)

    def images(self, x: Any) -> Any:
        tensor = self.torch.from_numpy(x)
        return tensor.permute(0, 3, 1, 2).contiguous() if tensor.ndim == 4 else tensor

    def stage(self, spec: Spec) -> Callable[[Any, Any], tuple[Any, Any]]:
        def stage(x: Any, y: Any) -> tuple[Any, Any]:
            labels = self.torch.from_numpy(y)
            return self.images(x), labels.argmax(1) if spec["classes"] else labels

        return stage

    def stepper(self, spec: Spec, weights: list[list[Any]]) -> Callable[[Any], Any]:
        nn = self.torch.nn
        model = self.model(spec, weights, softmax=False).train()
        optimizer = self.optimizer(spec, model)
        criterion = nn.CrossEntropyLoss() if spec["classes"] else nn.MSELoss()

        def forward(x: Any, y: Any) -> Any:
            return criterion(model(x), y)

        run = self.torch.compile(forward, dynamic=False) if self.compiled else forward

        def step(batch: Any) -> Any:
            optimizer.zero_grad()
            loss = run(*batch)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    # --- what is measured --------------------------------------------------------

    def train(self, spec: Spec, weights: list[list[Any]]) -> types.SimpleNamespace:
        step = self.stepper(spec, weights)
        return types.SimpleNamespace(stage=self.stage(spec), step=step, wait=lambda loss: loss.item())

    def predict(self, spec: Spec, weights: list[list[Any]]) -> Callable[[Any], Any]:
        model = self.model(spec, weights, softmax=True).eval()
        if self.compiled:
            model = self.torch.compile(model, dynamic=False)

        def predict(x: Any) -> Any:
            with self.torch.inference_mode():
                return model(self.images(x)).numpy()

        return predict

    def fit(self, spec: Spec, weights: list[list[Any]], fast: bool) -> Callable[..., float]:
        """Highest level: DataLoader and a loop.  Fast: slices of shuffled tensors."""
        torch, stage, step, n = self.torch, self.stage(spec), self.stepper(spec, weights), spec["batch"]

        def fit(x: Any, y: Any, epochs: int) -> float:
            x, y = stage(x, y)
            dataset = torch.utils.data.TensorDataset(x, y)
            loader = torch.utils.data.DataLoader(dataset, batch_size=n, shuffle=True)
            loss: Any = None
            for _ in range(epochs):
                order = torch.randperm(len(x)) if fast else None
                for batch in zip(x[order].split(n), y[order].split(n), strict=True) if fast else loader:
                    loss = step(batch)
            return loss.item()

        return fit
