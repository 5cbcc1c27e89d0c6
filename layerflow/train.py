"""Optimizers with the formulas and defaults of TF.js (`tf.train.*`, INVENTORY 3.6).

Adadelta's step uses the accumulated gradient of the steps before, as in TF.js; `lf.optimizers.Adadelta` is the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from layerflow import config, optimizers, registry
from layerflow.errors import ArgumentError, UnknownNameError
from layerflow.graph import ops
from layerflow.optimizers.base import Optimizer, decayed
from layerflow.optimizers.common import DEFAULTS

OPTIMIZERS = registry.Names("optimizer")


def _epsilon(value: float | None) -> float:
    return config.epsilon() if value is None else float(value)


class _Tfjs(Optimizer):
    """Base of those in this module: what TF.js does not know appears in files only where it is used."""

    API: ClassVar[str] = "tfjs"

    def get_config(self) -> dict[str, Any]:
        settings = super().get_config()
        return {k: v for k, v in settings.items() if k not in DEFAULTS or (k != "name" and v != DEFAULTS[k])}


@OPTIMIZERS.register()
class SGD(_Tfjs):
    """w -= lr g"""

    def __init__(self, learning_rate: Any = 0.01):
        super().__init__(learning_rate)

    def update(self, param, grad, slots, step, learning_rate):
        return param - learning_rate * grad, {}


@OPTIMIZERS.register()
class Momentum(_Tfjs):
    """a = m a + g; w -= lr a, or with `use_nesterov` w -= lr (g + m a)"""

    SLOTS: ClassVar[Mapping[str, float]] = {"momentum": 0.0}

    def __init__(self, learning_rate: Any, momentum: float, use_nesterov: bool = False):
        super().__init__(learning_rate)
        self.momentum, self.use_nesterov = float(momentum), bool(use_nesterov)

    def set_momentum(self, momentum: float) -> None:
        """Takes effect at the next step, which is compiled anew."""
        self.momentum = float(momentum)

    def update(self, param, grad, slots, step, learning_rate):
        a = self.momentum * slots["momentum"] + grad
        return param - learning_rate * (grad + self.momentum * a if self.use_nesterov else a), {"momentum": a}


@OPTIMIZERS.register()
class Adagrad(_Tfjs):
    """acc += g**2; w -= lr g / sqrt(acc + epsilon) (Duchi et al. 2011)"""

    def __init__(self, learning_rate: Any, initial_accumulator_value: float = 0.1):
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
class Adadelta(_Tfjs):
    """u = g sqrt(acc_u + epsilon) / sqrt(acc_g + epsilon) with acc_g of the step before; w -= lr u (Zeiler 2012)"""

    SLOTS: ClassVar[Mapping[str, float]] = {"accum_grad": 0.0, "accum_var": 0.0}

    def __init__(self, learning_rate: Any = 0.001, rho: float = 0.95, epsilon: float | None = None):
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


@OPTIMIZERS.register()
class Adam(_Tfjs):
    """w -= lr m' / (sqrt(v') + epsilon), m' and v' the corrected means of g and g**2 (Kingma and Ba 2014)"""

    SLOTS: ClassVar[Mapping[str, float]] = {"m": 0.0, "v": 0.0}

    def __init__(
        self, learning_rate: Any = 0.001, beta1: float = 0.9, beta2: float = 0.999, epsilon: float | None = None
    ):
        super().__init__(learning_rate)
        self.beta1, self.beta2, self.epsilon = float(beta1), float(beta2), _epsilon(epsilon)

    def update(self, param, grad, slots, step, learning_rate):
        m = self.beta1 * slots["m"] + (1.0 - self.beta1) * grad
        v = self.beta2 * slots["v"] + (1.0 - self.beta2) * ops.square(grad)
        rate = learning_rate / decayed(self.beta1, step)
        root = ops.sqrt(v * (1.0 / decayed(self.beta2, step)))
        return param - rate * m / (root + self.epsilon), {"m": m, "v": v}


@OPTIMIZERS.register()
class Adamax(_Tfjs):
    """u = max(beta2 u, |g|); w -= lr / (1 + decay t) / (1 - beta1**t) m / (u + epsilon)"""

    SLOTS: ClassVar[Mapping[str, float]] = {"m": 0.0, "v": 0.0}

    def __init__(
        self,
        learning_rate: Any = 0.002,
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


@OPTIMIZERS.register()
class RMSProp(_Tfjs):
    """ms = d ms + (1 - d) g**2; mom = m mom + lr g / sqrt(ms + epsilon); w -= mom

    With `centered` the square of the mean gradient is taken off ms (TF.js takes off epsilon too, which can give NaN).
    """

    def __init__(
        self,
        learning_rate: Any,
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
    """The optimizer for a name or a {class_name, config} mapping; an Optimizer as it is.

    A name means TF.js's optimizer with its defaults; those it does not have ("adamw", "lion") are Keras's.

    Raises:
        UnknownNameError: no such name; the message says the nearest.
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, Mapping):
        name = identifier.get("class_name", identifier.get("className"))
        return registry.construct(_names(name), identifier)
    if isinstance(identifier, str):
        cls = registry.custom(identifier) or _names(identifier).get(identifier)
        rate = _RATES.get(registry.fold(identifier)) if issubclass(cls, _Tfjs) else None
        if cls is Momentum:
            return cls(learning_rate=0.01, momentum=0.9)
        return cls() if rate is None else cls(learning_rate=rate)
    raise ArgumentError(
        f'an optimizer must be a name such as "adam" or an object such as lf.train.adam(0.001), got {identifier!r}.'
    )


def _names(name: Any) -> registry.Names:
    """Where an optimizer of this name is found."""
    if name in OPTIMIZERS or registry.custom(name) is not None:
        return OPTIMIZERS
    if name not in optimizers.OPTIMIZERS:
        raise UnknownNameError.of("optimizer", name, {*OPTIMIZERS.names(), *optimizers.OPTIMIZERS.names()})
    return optimizers.OPTIMIZERS
