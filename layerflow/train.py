"""Optimizers with the formulas and defaults of TF.js (`tf.train.*`, INVENTORY 3.6), and their base class.

Adadelta's step uses the accumulated gradient of the steps before, as in TF.js; `lf.optimizers.Adadelta` is the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from layerflow import config, registry
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph import execution, ops
from layerflow.graph.variable import Variable

OPTIMIZERS = registry.Names("optimizer")
Slots = dict[str, Any]


class Optimizer(registry.Configurable):
    """Base of optimizers.

    A subclass declares `SLOTS` (name -> initial value of the arrays it keeps per weight) and `update`, which is graph
    code for one weight.  `learning_rate` may be set at any time: compiled steps read it, they do not contain it.
    """

    ALIASES: ClassVar[Mapping[str, str]] = {"lr": "learning_rate"}
    SLOTS: ClassVar[Mapping[str, float]] = {}

    def __init__(self, learning_rate: float):
        if not isinstance(learning_rate, (int, float, np.number)):
            raise ArgumentError(f"{type(self).__name__}: learning_rate must be a number, got {learning_rate!r}.")
        self.learning_rate = float(learning_rate)
        self.iterations = 0
        self._slots: dict[Variable, dict[str, Variable]] = {}

    def advance(self, batches: int = 1) -> None:
        """Counts batches whose gradients have been applied."""
        self.iterations += batches

    @property
    def slots(self) -> Mapping[str, float]:
        """Names of the arrays kept for each weight, with their initial value."""
        return self.SLOTS

    def update(self, param: Any, grad: Any, slots: Slots, step: Any, learning_rate: Any) -> tuple[Any, Slots]:
        """The weight and its slots after one step, as graph code.

        Args:
            param: the weight.
            grad: gradient of its shape.
            slots: arrays of its shape by name.
            step: float scalar, 1 at the first update.
            learning_rate: float scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} must define update(param, grad, slots, step, learning_rate).")

    def slot_variables(self, variable: Variable) -> dict[str, Variable]:
        """The arrays kept for a weight, made at first use: `<weight>/m` and so on."""
        kept = self._slots.get(variable)
        if kept is None:
            kept = {
                name: Variable(np.full(variable.shape, value), False, f"{variable.name}/{name}", variable.dtype)
                for name, value in self.slots.items()
            }
            self._slots[variable] = kept
        return kept

    def minimize(
        self, f: Callable[[], Any], return_cost: bool = False, var_list: Sequence[Variable] | None = None
    ) -> Any:
        """One step on the scalar that `f()` computes from variables.

        Args:
            f: the loss; traced at each call, compiled once.
            return_cost: whether to return the loss (before the step).
            var_list: the variables to change; by default all trainable ones that `f` uses.
        """
        cost = execution.minimize(self, f, var_list)
        return cost if return_cost else None

    def compute_gradients(
        self, f: Callable[[], Any], var_list: Sequence[Variable] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """(value of f(), {variable name: gradient})."""
        return execution.variable_grads(f, var_list)

    def apply_gradients(self, gradients: Iterable[tuple[Any, Variable]]) -> None:
        """One step with given (gradient, variable) pairs."""
        execution.apply_gradients(self, [(variable, grad) for grad, variable in gradients if grad is not None])

    def weight_names(self, variables: Sequence[Variable]) -> list[str]:
        """Names of `get_weights(variables)`: `iter`, then every weight's first slot, every weight's second one, ..."""
        return ["iter", *(f"{v.name}/{slot}" for slot in self.slots for v in variables)]

    def get_weights(self, variables: Sequence[Variable] | None = None) -> list[np.ndarray]:
        """The state: number of steps (int32 scalar), then the slots, in the order of `weight_names`."""
        variables = list(self._slots) if variables is None else variables
        kept = [self.slot_variables(v) for v in variables]
        return [np.int32(self.iterations).reshape(()), *(s[slot].numpy() for slot in self.slots for s in kept)]

    def set_weights(self, values: Sequence[Any], variables: Sequence[Variable] | None = None) -> None:
        """Restores what `get_weights` gave; nothing is changed if a shape does not fit."""
        variables = list(self._slots) if variables is None else variables
        targets = [self.slot_variables(v)[slot] for slot in self.slots for v in variables]
        if len(values) != len(targets) + 1:
            raise ShapeError(
                f"{type(self).__name__}.set_weights: {len(values)} arrays arrive, {len(targets) + 1} are kept."
            )
        arrays = [np.asarray(value) for value in values[1:]]
        for target, array in zip(targets, arrays, strict=True):
            if target.shape != array.shape:
                raise ShapeError(
                    f"{target.name}: values of shape {list(array.shape)} do not fit its shape {list(target.shape)}."
                )
        self.iterations = int(np.asarray(values[0]))
        for target, array in zip(targets, arrays, strict=True):
            target.assign(array)

    def set_learning_rate(self, learning_rate: float) -> None:
        self.learning_rate = float(learning_rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "learning_rate": self.learning_rate}

    def dispose(self) -> None:
        """Drops the slots."""
        self._slots.clear()
        vars(self).pop("_steps", None)


def decayed(beta: float, step: Any) -> Any:
    """1 - beta**step, precise where beta is near 1."""
    return -ops.expm1(step * math.log(beta)) if 0.0 < beta < 1.0 else 1.0


def _epsilon(value: float | None) -> float:
    return config.epsilon() if value is None else float(value)


@OPTIMIZERS.register()
class SGD(Optimizer):
    """w -= lr g"""

    def __init__(self, learning_rate: float = 0.01):
        super().__init__(learning_rate)

    def update(self, param, grad, slots, step, learning_rate):
        return param - learning_rate * grad, {}


@OPTIMIZERS.register()
class Momentum(Optimizer):
    """a = m a + g; w -= lr a, or with `use_nesterov` w -= lr (g + m a)"""

    SLOTS: ClassVar[Mapping[str, float]] = {"momentum": 0.0}

    def __init__(self, learning_rate: float, momentum: float, use_nesterov: bool = False):
        super().__init__(learning_rate)
        self.momentum, self.use_nesterov = float(momentum), bool(use_nesterov)

    def update(self, param, grad, slots, step, learning_rate):
        a = self.momentum * slots["momentum"] + grad
        return param - learning_rate * (grad + self.momentum * a if self.use_nesterov else a), {"momentum": a}


@OPTIMIZERS.register()
class Adagrad(Optimizer):
    """acc += g**2; w -= lr g / sqrt(acc + epsilon) (Duchi et al. 2011)"""

    def __init__(self, learning_rate: float, initial_accumulator_value: float = 0.1):
        super().__init__(learning_rate)
        self.initial_accumulator_value = float(initial_accumulator_value)
        self.epsilon = config.epsilon()

    @property
    def slots(self) -> Mapping[str, float]:
        return {"accumulator": self.initial_accumulator_value}

    def update(self, param, grad, slots, step, learning_rate):
        acc = slots["accumulator"] + ops.square(grad)
        return param - learning_rate * grad * ops.rsqrt(acc + self.epsilon), {"accumulator": acc}


@OPTIMIZERS.register()
class Adadelta(Optimizer):
    """u = g sqrt(acc_u + epsilon) / sqrt(acc_g + epsilon) with acc_g of the step before; w -= lr u (Zeiler 2012)"""

    SLOTS: ClassVar[Mapping[str, float]] = {"accum_grad": 0.0, "accum_var": 0.0}

    def __init__(self, learning_rate: float = 0.001, rho: float = 0.95, epsilon: float | None = None):
        super().__init__(learning_rate)
        self.rho, self.epsilon = float(rho), _epsilon(epsilon)

    def update(self, param, grad, slots, step, learning_rate):
        old, moved = slots["accum_grad"], slots["accum_var"]
        u = grad * ops.sqrt(moved + self.epsilon) * ops.rsqrt(old + self.epsilon)
        acc = self.rho * old + (1.0 - self.rho) * ops.square(grad)
        return param - learning_rate * u, {
            "accum_grad": acc,
            "accum_var": self.rho * moved + (1.0 - self.rho) * ops.square(u),
        }

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


@OPTIMIZERS.register()
class Adam(Optimizer):
    """w -= lr m' / (sqrt(v') + epsilon), m' and v' the corrected means of g and g**2 (Kingma and Ba 2014)"""

    SLOTS: ClassVar[Mapping[str, float]] = {"m": 0.0, "v": 0.0}

    def __init__(
        self, learning_rate: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, epsilon: float | None = None
    ):
        super().__init__(learning_rate)
        self.beta1, self.beta2, self.epsilon = float(beta1), float(beta2), _epsilon(epsilon)

    def update(self, param, grad, slots, step, learning_rate):
        m = self.beta1 * slots["m"] + (1.0 - self.beta1) * grad
        v = self.beta2 * slots["v"] + (1.0 - self.beta2) * ops.square(grad)
        rate = learning_rate / decayed(self.beta1, step)
        root = ops.sqrt(v * (1.0 / decayed(self.beta2, step)))
        return param - rate * m / (root + self.epsilon), {"m": m, "v": v}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


@OPTIMIZERS.register()
class Adamax(Optimizer):
    """u = max(beta2 u, |g|); w -= lr / (1 + decay t) / (1 - beta1**t) m / (u + epsilon)"""

    SLOTS: ClassVar[Mapping[str, float]] = {"m": 0.0, "v": 0.0}

    def __init__(
        self,
        learning_rate: float = 0.002,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float | None = None,
        decay: float = 0.0,
    ):
        super().__init__(learning_rate)
        self.beta1, self.beta2, self.epsilon, self.decay = float(beta1), float(beta2), _epsilon(epsilon), float(decay)

    def update(self, param, grad, slots, step, learning_rate):
        m = self.beta1 * slots["m"] + (1.0 - self.beta1) * grad
        u = ops.maximum(self.beta2 * slots["v"], ops.abs(grad))
        rate = learning_rate / decayed(self.beta1, step)
        if self.decay:
            rate = rate / (1.0 + self.decay * (step - 1.0))
        return param - rate * m / (u + self.epsilon), {"m": m, "v": u}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


@OPTIMIZERS.register()
class RMSProp(Optimizer):
    """ms = d ms + (1 - d) g**2; mom = m mom + lr g / sqrt(ms + epsilon); w -= mom

    With `centered` the square of the mean gradient is taken off ms (TF.js takes off epsilon too, which can give NaN).
    """

    def __init__(
        self,
        learning_rate: float,
        decay: float = 0.9,
        momentum: float = 0.0,
        epsilon: float | None = None,
        centered: bool = False,
    ):
        super().__init__(learning_rate)
        self.decay, self.momentum, self.epsilon, self.centered = (
            float(decay),
            float(momentum),
            _epsilon(epsilon),
            bool(centered),
        )

    @property
    def slots(self) -> Mapping[str, float]:
        return {"rms": 0.0, "momentum": 0.0, **({"mg": 0.0} if self.centered else {})}

    def update(self, param, grad, slots, step, learning_rate):
        rms = self.decay * slots["rms"] + (1.0 - self.decay) * ops.square(grad)
        new = {"rms": rms}
        spread = rms
        if self.centered:
            new["mg"] = self.decay * slots["mg"] + (1.0 - self.decay) * grad
            spread = rms - ops.square(new["mg"])
        new["momentum"] = self.momentum * slots["momentum"] + learning_rate * grad * ops.rsqrt(spread + self.epsilon)
        return param - new["momentum"], new

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


sgd = registry.factory(SGD)
momentum = registry.factory(Momentum)
adagrad = registry.factory(Adagrad)
adadelta = registry.factory(Adadelta)
adam = registry.factory(Adam)
adamax = registry.factory(Adamax)
rmsprop = registry.factory(RMSProp)

# What a bare name in `compile` means: TF.js's learning rates.
_RATES = {"sgd": 0.01, "adagrad": 0.01, "adadelta": 1.0, "adam": 0.001, "adamax": 0.002, "rmsprop": 0.001}


def get(identifier: Any) -> Optimizer:
    """The optimizer for a name (with TF.js's defaults) or a {class_name, config} mapping; an Optimizer as it is.

    Raises:
        UnknownNameError: no such name; the message says the nearest.
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, Mapping):
        return registry.construct(OPTIMIZERS, identifier)
    if isinstance(identifier, str):
        cls = registry.custom(identifier) or OPTIMIZERS.get(identifier)
        rate = _RATES.get(registry.fold(identifier))
        if cls is Momentum:
            return cls(learning_rate=0.01, momentum=0.9)
        return cls() if rate is None else cls(learning_rate=rate)
    raise ArgumentError(
        f'an optimizer must be a name such as "adam" or an object such as lf.train.adam(0.001), got {identifier!r}.'
    )
