"""Keras 3's optimizers without bias correction: SGD, RMSprop, Adagrad, Adadelta, Ftrl, Lion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from layerflow import registry
from layerflow.errors import ArgumentError
from layerflow.graph import ops
from layerflow.optimizers.base import Optimizer
from layerflow.optimizers.common import number

OPTIMIZERS = registry.Names("optimizer")


@OPTIMIZERS.register()
class SGD(Optimizer):
    """v = m v - lr g; w += v, or with `nesterov` w += m v - lr g (Sutskever et al. 2013)

    Raises:
        ArgumentError: momentum is not from 0 to 1.
    """

    def __init__(self, learning_rate: Any = 0.01, momentum: float = 0.0, nesterov: bool = False, **settings: Any):
        super().__init__(learning_rate, **settings)
        self.momentum, self.nesterov = number(self, "momentum", momentum, 0.0, 1.0), bool(nesterov)

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
class RMSprop(Optimizer):
    """v = rho v + (1 - rho) g**2; w -= lr g / sqrt(v + epsilon) (Hinton 2012)

    With `momentum` m the steps are summed, s = m s + step; with `centered` the square of the mean gradient is taken
    off v (Graves 2013).
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **settings: Any,
    ):
        super().__init__(learning_rate, **settings)
        self.rho, self.momentum = float(rho), float(momentum)
        self.epsilon, self.centered = float(epsilon), bool(centered)

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
    """acc += g**2; w -= lr g / sqrt(acc + epsilon) (Duchi et al. 2011)"""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **settings: Any,
    ):
        super().__init__(learning_rate, **settings)
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

    def __init__(self, learning_rate: Any = 0.001, rho: float = 0.95, epsilon: float = 1e-7, **settings: Any):
        super().__init__(learning_rate, **settings)
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
class Lion(Optimizer):
    """w -= lr sign(beta_1 m + (1 - beta_1) g); then m = beta_2 m + (1 - beta_2) g (Chen et al. 2023)

    Raises:
        ArgumentError: beta_1 is not above 0 and at most 1.
    """

    SLOTS: ClassVar[Mapping[str, float]] = {"momentum": 0.0}

    def __init__(self, learning_rate: Any = 0.001, beta_1: float = 0.9, beta_2: float = 0.99, **settings: Any):
        super().__init__(learning_rate, **settings)
        if not 0.0 < beta_1 <= 1.0:
            raise ArgumentError(f"Lion: beta_1 must be above 0 and at most 1, got {beta_1!r}.")
        self.beta_1, self.beta_2 = float(beta_1), float(beta_2)

    def update(self, param, grad, slots, step, learning_rate):
        m = slots["momentum"]
        move = ops.sign(self.beta_1 * m + (1.0 - self.beta_1) * grad)
        return param - learning_rate * move, {"momentum": self.beta_2 * m + (1.0 - self.beta_2) * grad}


@OPTIMIZERS.register()
class Ftrl(Optimizer):
    """Follow the regularized leader (McMahan et al. 2013), with l1 and l2 penalties that make weights exactly zero.

    n' = n + g**2; z += g + 2 shrinkage w - (n'**-p - n**-p) / lr w;
    w = (clip(z, -l1, l1) - z) / (n'**-p / lr + 2 l2 + beta / lr), p being learning_rate_power.

    Raises:
        ArgumentError: learning_rate_power is above 0, or another argument but beta below 0.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
        **settings: Any,
    ):
        super().__init__(learning_rate, **settings)
        self.learning_rate_power = number(self, "learning_rate_power", learning_rate_power, most=0.0)
        self.initial_accumulator_value = number(self, "initial_accumulator_value", initial_accumulator_value, 0.0)
        self.l1_regularization_strength = number(self, "l1_regularization_strength", l1_regularization_strength, 0.0)
        self.l2_regularization_strength = number(self, "l2_regularization_strength", l2_regularization_strength, 0.0)
        self.l2_shrinkage_regularization_strength = number(
            self, "l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength, 0.0
        )
        self.beta = float(beta)

    @property
    def slots(self) -> Mapping[str, float]:
        return {"accumulator": self.initial_accumulator_value, "linear": 0.0}

    def _root(self, acc: Any) -> Any:
        power = -self.learning_rate_power
        return ops.sqrt(acc) if power == 0.5 else ops.power(acc, power)

    def update(self, param, grad, slots, step, learning_rate):
        l1, n = self.l1_regularization_strength, slots["accumulator"]
        acc = n + ops.square(grad)
        shrunk = grad + 2.0 * self.l2_shrinkage_regularization_strength * param
        z = slots["linear"] + shrunk - (self._root(acc) - self._root(n)) / learning_rate * param
        curved = (self._root(acc) + self.beta) / learning_rate + 2.0 * self.l2_regularization_strength
        return (ops.clip(z, -l1, l1) - z) / curved, {"accumulator": acc, "linear": z}
