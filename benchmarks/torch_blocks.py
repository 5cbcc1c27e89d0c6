"""Torch modules for [batch, steps, features] that take a workload's weights; imported when a workload needs them."""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.workloads import Spec

torch: Any = importlib.import_module("torch")
nn: Any = torch.nn


def put(parameter: Any, array: Any) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(array.copy()))


def linear(kernel: Any, bias: Any) -> Any:
    """A Linear with a kernel [in, out], either of which may be several axes."""
    bias = bias.reshape(-1)
    kernel = kernel.reshape(-1, bias.size)
    made = nn.Linear(*kernel.shape)
    put(made.weight, kernel.T)
    put(made.bias, bias)
    return made


class Attention(nn.Module):
    """x + attention(x).  One product gives query, key and value: faster here than nn.MultiheadAttention."""

    def __init__(self, heads: int, arrays: list[Any]):
        super().__init__()
        parts = [linear(*arrays[at : at + 2]) for at in (0, 2, 4)]
        self.heads, width = heads, arrays[-1].size
        self.inputs, self.output = nn.Linear(width, 3 * width), linear(*arrays[6:])
        with torch.no_grad():
            self.inputs.weight.copy_(torch.cat([part.weight for part in parts]))
            self.inputs.bias.copy_(torch.cat([part.bias for part in parts]))

    def forward(self, x: Any) -> Any:
        batch, steps, width = x.shape
        split = self.inputs(x).view(batch, steps, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        found = nn.functional.scaled_dot_product_attention(query, key, value)
        return x + self.output(found.transpose(1, 2).reshape(batch, steps, width))


class Feed(nn.Module):
    """x + dense(relu(dense(x)))."""

    def __init__(self, arrays: list[Any]):
        super().__init__()
        self.wide, self.back = linear(*arrays[:2]), linear(*arrays[2:])

    def forward(self, x: Any) -> Any:
        return x + self.back(torch.relu(self.wide(x)))


class Recurrent(nn.Module):
    """The output after the last step of an LSTM or GRU."""

    def __init__(self, kind: str, arrays: list[Any]):
        super().__init__()
        kernel, recurrent, bias = arrays
        self.layer = {"lstm": nn.LSTM, "gru": nn.GRU}[kind](len(kernel), len(recurrent), batch_first=True)
        if kind == "lstm":
            put(self.layer.bias_ih_l0, bias)
            put(self.layer.bias_hh_l0, 0 * bias)
            self.layer.bias_hh_l0.requires_grad_(False)  # one trained bias, as the others have
        else:
            kernel, recurrent, *both = map(reset_first, (kernel, recurrent, *bias))
            put(self.layer.bias_ih_l0, both[0])
            put(self.layer.bias_hh_l0, both[1])
        put(self.layer.weight_ih_l0, kernel.T)
        put(self.layer.weight_hh_l0, recurrent.T)

    def forward(self, x: Any) -> Any:
        return self.layer(x)[0][:, -1]


def reset_first(array: Any) -> Any:
    """The gates of a GRU in torch's order: reset, update, candidate."""
    parts = array.reshape(*array.shape[:-1], 3, -1)
    return parts[..., [1, 0, 2], :].reshape(array.shape)


class MeanOfSteps(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.mean(1)


def module(described: Spec, shape: list[int], arrays: list[Any]) -> Any:
    """The module of a layer for sequences with its weights, or None: the kind is not one of them."""
    match described["kind"]:
        case "attention":
            return Attention(described["heads"], arrays)
        case "feed":
            return Feed(arrays)
        case "lstm" | "gru" as kind:
            return Recurrent(kind, arrays)
        case "ln":
            made = nn.LayerNorm(shape[-1], eps=described["eps"])
            put(made.weight, arrays[0])
            put(made.bias, arrays[1])
            return made
        case "gap" if len(shape) == 2:
            return MeanOfSteps()
    return None
