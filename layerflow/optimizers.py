"""Optimizers with the formulas, argument names and defaults of Keras 3 (INVENTORY 3.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from layerflow import registry
from layerflow.graph import ops
from layerflow.train import Optimizer, decayed

__all__ = ["OPTIMIZERS", "SGD", "Adadelta", "Adagrad", "Adam", "Adamax", "Optimizer", "RMSprop"]

OPTIMIZERS = registry.Names("optimizer")


@OPTIMIZERS.register()
class SGD(Optimizer):
    """v = m v - lr g; w += v, or with `nesterov` w += m v - lr g"""

    def __init__(self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False):
        super().__init__(learning_rate)
        self.momentum, self.nesterov = float(momentum), bool(nesterov)

    @property
    def slots(self) -> Mapping[str, float]:
        return {"momentum": 0.0} if self.momentum else {}

    def update(self, param, grad, slots, step, learning_rate):
        if not self.momentum:
            return param - learning_rate * grad, {}
        v = self.momentum * slots["momentum"] - learning_rate * grad
        move = self.momentum * v - learning_rate * grad if self.nesterov else v
        return param + move, {"momentum": v}


@OPTIMIZERS.register()
class Adam(Optimizer):
    """w -= lr sqrt(1 - beta_2**t) / (1 - beta_1**t) m / (sqrt(v) + epsilon); `amsgrad` uses the largest v so far"""

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
    ):
        super().__init__(learning_rate)
        self.beta_1, self.beta_2, self.epsilon, self.amsgrad = (
            float(beta_1),
            float(beta_2),
            float(epsilon),
            bool(amsgrad),
        )

    @property
    def slots(self) -> Mapping[str, float]:
        return {"m": 0.0, "v": 0.0, **({"v_max": 0.0} if self.amsgrad else {})}

    def update(self, param, grad, slots, step, learning_rate):
        new = {
            "m": self.beta_1 * slots["m"] + (1.0 - self.beta_1) * grad,
            "v": self.beta_2 * slots["v"] + (1.0 - self.beta_2) * ops.square(grad),
        }
        spread = new["v"]
        if self.amsgrad:
            spread = new["v_max"] = ops.maximum(slots["v_max"], spread)
        rate = learning_rate * ops.sqrt(decayed(self.beta_2, step)) / decayed(self.beta_1, step)
        return param - rate * new["m"] / (ops.sqrt(spread) + self.epsilon), new


@OPTIMIZERS.register()
class RMSprop(Optimizer):
    """v = rho v + (1 - rho) g**2; w -= lr g / sqrt(v + epsilon), with momentum and `centered` as in Keras"""

    def __init__(
        self,
        learning_rate: float = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
    ):
        super().__init__(learning_rate)
        self.rho, self.momentum, self.epsilon, self.centered = (
            float(rho),
            float(momentum),
            float(epsilon),
            bool(centered),
        )

    @property
    def slots(self) -> Mapping[str, float]:
        return {
            "velocity": 0.0,
            **({"momentum": 0.0} if self.momentum else {}),
            **({"average_gradient": 0.0} if self.centered else {}),
        }

    def update(self, param, grad, slots, step, learning_rate):
        new = {"velocity": self.rho * slots["velocity"] + (1.0 - self.rho) * ops.square(grad)}
        spread = new["velocity"]
        if self.centered:
            new["average_gradient"] = self.rho * slots["average_gradient"] + (1.0 - self.rho) * grad
            spread = spread - ops.square(new["average_gradient"])
        move = learning_rate * grad * ops.rsqrt(spread + self.epsilon)
        if self.momentum:
            move = new["momentum"] = self.momentum * slots["momentum"] + move
        return param - move, new


@OPTIMIZERS.register()
class Adagrad(Optimizer):
    """acc += g**2; w -= lr g / sqrt(acc + epsilon)"""

    def __init__(self, learning_rate: float = 0.001, initial_accumulator_value: float = 0.1, epsilon: float = 1e-7):
        super().__init__(learning_rate)
        self.initial_accumulator_value, self.epsilon = float(initial_accumulator_value), float(epsilon)

    @property
    def slots(self) -> Mapping[str, float]:
        return {"accumulator": self.initial_accumulator_value}

    def update(self, param, grad, slots, step, learning_rate):
        acc = slots["accumulator"] + ops.square(grad)
        return param - learning_rate * grad * ops.rsqrt(acc + self.epsilon), {"accumulator": acc}


@OPTIMIZERS.register()
class Adadelta(Optimizer):
    """u = g sqrt(acc_u + epsilon) / sqrt(acc_g + epsilon), acc_g with this step's gradient; w -= lr u (Zeiler 2012)"""

    SLOTS: ClassVar[Mapping[str, float]] = {"accum_grad": 0.0, "accum_var": 0.0}

    def __init__(self, learning_rate: float = 0.001, rho: float = 0.95, epsilon: float = 1e-7):
        super().__init__(learning_rate)
        self.rho, self.epsilon = float(rho), float(epsilon)

    def update(self, param, grad, slots, step, learning_rate):
        acc = self.rho * slots["accum_grad"] + (1.0 - self.rho) * ops.square(grad)
        moved = slots["accum_var"]
        u = grad * ops.sqrt(moved + self.epsilon) * ops.rsqrt(acc + self.epsilon)
        return param - learning_rate * u, {
            "accum_grad": acc,
            "accum_var": self.rho * moved + (1.0 - self.rho) * ops.square(u),
        }


@OPTIMIZERS.register()
class Adamax(Optimizer):
    """u = max(beta_2 u, |g|); w -= lr / (1 - beta_1**t) m / (u + epsilon)"""

    SLOTS: ClassVar[Mapping[str, float]] = {"m": 0.0, "u": 0.0}

    def __init__(self, learning_rate: float = 0.001, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-7):
        super().__init__(learning_rate)
        self.beta_1, self.beta_2, self.epsilon = float(beta_1), float(beta_2), float(epsilon)

    def update(self, param, grad, slots, step, learning_rate):
        m = self.beta_1 * slots["m"] + (1.0 - self.beta_1) * grad
        u = ops.maximum(self.beta_2 * slots["u"], ops.abs(grad))
        return param - learning_rate / decayed(self.beta_1, step) * m / (u + self.epsilon), {"m": m, "u": u}


def get(identifier: Any) -> Optimizer:
    """The optimizer for a name (with Keras's defaults) or a {class_name, config} mapping; an Optimizer as it is."""
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, Mapping):
        return registry.construct(OPTIMIZERS, identifier)
    return OPTIMIZERS.get(identifier)()
