"""Muon: steps of matrices made orthogonal; everything else as AdamW."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from layerflow.graph import ops
from layerflow.graph.variable import Variable
from layerflow.optimizers.base import Optimizer, decayed
from layerflow.optimizers.descent import OPTIMIZERS


@OPTIMIZERS.register()
class Muon(Optimizer):
    """m = momentum m + g; w -= lr sqrt(max(w.shape)) rms_rate orthogonal(g + momentum m) (Jordan et al. 2024)

    `orthogonal` takes ns_steps steps x = a x + (b A + c A A) x, A = x x^T, from x of norm 1 (Newton and Schulz), which
    bring the singular values near 1.  Without `nesterov` it is that of m; with rms_rate None the factor
    sqrt(max(shape)) rms_rate (Liu et al. 2025) is left out.  Only weights of two axes are treated so; others, those of
    embeddings (unless exclude_embeddings is False), and weights whose name contains one of `exclude_layers` (regular
    expressions) follow Adam, with learning rate adam_lr_ratio lr and adam_weight_decay.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004,
        epsilon: float = 1e-7,
        weight_decay: float | None = 0.004,
        exclude_layers: Sequence[str] | None = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.7750,
        muon_c: float = 2.0315,
        adam_lr_ratio: float = 1.0,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
        **settings: Any,
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, **settings)
        self.adam_beta_1, self.adam_beta_2, self.epsilon = float(adam_beta_1), float(adam_beta_2), float(epsilon)
        self.adam_weight_decay, self.adam_lr_ratio = adam_weight_decay, float(adam_lr_ratio)
        self.exclude_layers, self.exclude_embeddings = list(exclude_layers or ()), bool(exclude_embeddings)
        self.muon_a, self.muon_b, self.muon_c = float(muon_a), float(muon_b), float(muon_c)
        self.momentum, self.ns_steps, self.nesterov = float(momentum), int(ns_steps), bool(nesterov)
        self.rms_rate = rms_rate

    def _follows_adam(self, variable: Variable) -> bool:
        name = variable.name
        return (
            len(variable.shape) != 2
            or (self.exclude_embeddings and "embedding" in name.lower())
            or any(re.search(pattern, name) for pattern in self.exclude_layers)
        )

    @property
    def slots(self) -> Mapping[str, float]:
        return {"momentum": 0.0, "velocity": 0.0}

    def slots_of(self, variable: Variable) -> Mapping[str, Any]:
        return self.slots if self._follows_adam(variable) else {"momentum": 0.0}

    def decay_of(self, variable: Variable) -> float | None:
        decay = super().decay_of(variable)
        excluded = self.weight_decay is not None and decay is None
        return decay if excluded or not self._follows_adam(variable) else self.adam_weight_decay

    def update(self, param, grad, slots, step, learning_rate):
        if "velocity" in slots:
            return self._adam(param, grad, slots, step, learning_rate)
        m = self.momentum * slots["momentum"] + grad
        move = self._orthogonal(grad + self.momentum * m if self.nesterov else m)
        scale = 1.0 if self.rms_rate is None else math.sqrt(max(param.shape)) * self.rms_rate
        return param - learning_rate * scale * move, {"momentum": m}

    def _adam(self, param: Any, grad: Any, slots: Mapping[str, Any], step: Any, learning_rate: Any):
        m = self.adam_beta_1 * slots["momentum"] + (1.0 - self.adam_beta_1) * grad
        v = self.adam_beta_2 * slots["velocity"] + (1.0 - self.adam_beta_2) * ops.square(grad)
        rate = learning_rate * self.adam_lr_ratio * ops.sqrt(decayed(self.adam_beta_2, step))
        rate = rate / decayed(self.adam_beta_1, step)
        return param - rate * m / (ops.sqrt(v) + self.epsilon), {"momentum": m, "velocity": v}

    def _orthogonal(self, x: Any) -> Any:
        upright = x.shape[0] > x.shape[1]
        x = ops.transpose(x) if upright else x
        x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)
        for _ in range(self.ns_steps):
            a = ops.matmul(x, ops.transpose(x))
            x = self.muon_a * x + ops.matmul(self.muon_b * a + self.muon_c * ops.matmul(a, a), x)
        return ops.transpose(x) if upright else x
