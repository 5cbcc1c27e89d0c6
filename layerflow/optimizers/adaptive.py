"""Keras 3's optimizers with bias correction: Adam and its relatives, Lamb, Adafactor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from layerflow.errors import ArgumentError
from layerflow.graph import ops
from layerflow.optimizers.base import Optimizer, decayed
from layerflow.optimizers.descent import OPTIMIZERS


class _Moments(Optimizer):
    """Base of those that keep m = beta_1 m + (1 - beta_1) g and v = beta_2 v + (1 - beta_2) g**2."""

    SLOTS: ClassVar[Mapping[str, float]] = {"m": 0.0, "v": 0.0}

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **settings: Any,
    ):
        super().__init__(learning_rate, **settings)
        self.beta_1, self.beta_2, self.epsilon = float(beta_1), float(beta_2), float(epsilon)

    def moments(self, grad: Any, slots: Mapping[str, Any]) -> dict[str, Any]:
        """m and v with this step's gradient."""
        return {
            "m": self.beta_1 * slots["m"] + (1.0 - self.beta_1) * grad,
            "v": self.beta_2 * slots["v"] + (1.0 - self.beta_2) * ops.square(grad),
        }


@OPTIMIZERS.register()
class Adam(_Moments):
    """w -= lr sqrt(1 - beta_2**t) / (1 - beta_1**t) m / (sqrt(v) + epsilon) (Kingma and Ba 2014)

    m and v are moving means of g and g**2; `amsgrad` divides by the largest v so far (Reddi et al. 2018).
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **settings: Any,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **settings)
        self.amsgrad = bool(amsgrad)

    @property
    def slots(self) -> Mapping[str, float]:
        return {**self.SLOTS, "v_max": 0.0} if self.amsgrad else self.SLOTS

    def update(self, param, grad, slots, step, learning_rate):
        new = self.moments(grad, slots)
        spread = new["v"]
        if self.amsgrad:
            spread = new["v_max"] = ops.maximum(slots["v_max"], spread)
        rate = learning_rate * ops.sqrt(decayed(self.beta_2, step)) / decayed(self.beta_1, step)
        return param - rate * new["m"] / (ops.sqrt(spread) + self.epsilon), new


@OPTIMIZERS.register("SparseAdam")
class LazyAdam(Adam):
    """Adam that leaves alone the rows of embeddings which a batch does not name: neither weights nor m and v change.

    A step then costs what the named rows cost, however large the vocabulary; rare words are not carried on by old
    momentum.  It is the formula of torch.optim.SparseAdam and of TensorFlow Addons' LazyAdam: t counts all steps, also
    those without the row.  Weights that are not gathered by index follow Adam.  So do all rows of a table that is also
    used as a matrix or has a regularizer: its gradient names all rows.
    """

    LAZY: ClassVar[bool] = True


@OPTIMIZERS.register()
class AdamW(Adam):
    """Adam with weight decay (Loshchilov and Hutter 2017): each update first takes weight_decay lr w off the weight.

    Raises:
        ArgumentError: weight_decay is None.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **settings: Any,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad=amsgrad, weight_decay=weight_decay, **settings)
        if weight_decay is None:
            raise ArgumentError("AdamW: weight_decay must be a number; without weight decay use Adam.")


@OPTIMIZERS.register()
class Adamax(_Moments):
    """u = max(beta_2 u, |g|); w -= lr / (1 - beta_1**t) m / (u + epsilon) (Kingma and Ba 2014, section 7)"""

    SLOTS: ClassVar[Mapping[str, float]] = {"m": 0.0, "u": 0.0}

    def update(self, param, grad, slots, step, learning_rate):
        m = self.beta_1 * slots["m"] + (1.0 - self.beta_1) * grad
        u = ops.maximum(self.beta_2 * slots["u"], ops.abs(grad))
        return param - learning_rate / decayed(self.beta_1, step) * m / (u + self.epsilon), {"m": m, "u": u}


@OPTIMIZERS.register()
class Nadam(_Moments):
    """Adam with Nesterov momentum (Dozat 2016).

    With mu_t = beta_1 (1 - 0.96**t / 2) and p_t the product of mu_1 ... mu_t:
    w -= lr (mu_(t+1) m / (1 - p_(t+1)) + (1 - mu_t) g / (1 - p_t)) / (sqrt(v / (1 - beta_2**t)) + epsilon).
    """

    SHARED: ClassVar[Mapping[str, float]] = {"u_product": 1.0}

    def _mu(self, step: Any) -> Any:
        return self.beta_1 * (1.0 - 0.5 * ops.exp(math.log(0.96) * step))

    def update(self, param, grad, slots, step, learning_rate):
        new = self.moments(grad, slots)
        now, after = self._mu(step), self._mu(step + 1.0)
        product = slots["u_product"] * now
        mean = after / (1.0 - product * after) * new["m"] + (1.0 - now) / (1.0 - product) * grad
        root = ops.sqrt(new["v"] * (1.0 / decayed(self.beta_2, step)))
        return param - learning_rate * mean / (root + self.epsilon), {**new, "u_product": product}


@OPTIMIZERS.register()
class Lamb(_Moments):
    """w -= lr |w| / |u| u with u = m' / (sqrt(v') + epsilon), m' and v' corrected as in Adam (You et al. 2019)

    |w| and |u| are the norms of the whole weight; where one of them is 0 their quotient counts as 1.
    """

    def update(self, param, grad, slots, step, learning_rate):
        new = self.moments(grad, slots)
        root = ops.sqrt(new["v"] * (1.0 / decayed(self.beta_2, step)))
        u = new["m"] * (1.0 / decayed(self.beta_1, step)) / (root + self.epsilon)
        size, length = ops.sum(ops.square(param)), ops.sum(ops.square(u))
        both = ops.logical_and(size > 0.0, length > 0.0)
        trust = ops.where(both, ops.sqrt(size / ops.where(both, length, 1.0)), 1.0)
        return param - trust * learning_rate * u, new


@OPTIMIZERS.register()
class Adafactor(Optimizer):
    """Adam's scaling with little memory: of g**2 only row and column means are kept (Shazeer and Stern 2018).

    For a weight [..., n, m] the slots are r [..., n] and c [..., m] over its last two axes, b = 1 - t**beta_2_decay:
    r = b r + (1 - b) mean(g**2 + epsilon_1, -1), c likewise over axis -2, v = r c / mean(r).  Weights of one
    axis keep v.
    u = g / sqrt(v); w -= max(epsilon_2, rms(w)) min(lr, 1 / sqrt(t)) u / max(1, rms(u) / clip_threshold).
    As in Keras the rate is bounded by 1 / sqrt(t) whether or not `relative_step` is set.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
        **settings: Any,
    ):
        super().__init__(learning_rate, **settings)
        self.beta_2_decay, self.epsilon_1, self.epsilon_2 = float(beta_2_decay), float(epsilon_1), float(epsilon_2)
        self.clip_threshold, self.relative_step = float(clip_threshold), bool(relative_step)

    @property
    def slots(self) -> Mapping[str, float]:
        return {"r": 0.0, "c": 0.0, "v": 0.0}

    def slots_of(self, variable: Any) -> Mapping[str, Any]:
        shape = variable.shape
        if len(shape) < 2:
            return {"v": 0.0}
        return {"r": np.zeros(shape[:-1], variable.dtype), "c": np.zeros((*shape[:-2], shape[-1]), variable.dtype)}

    def update(self, param, grad, slots, step, learning_rate):
        fresh = ops.exp(self.beta_2_decay * ops.log(step))
        square = ops.square(grad) + self.epsilon_1
        if len(param.shape) < 2:
            v = (1.0 - fresh) * slots["v"] + fresh * square
            new, u = {"v": v}, grad * ops.rsqrt(v)
        else:
            r = (1.0 - fresh) * slots["r"] + fresh * ops.mean(square, -1)
            c = (1.0 - fresh) * slots["c"] + fresh * ops.mean(square, -2)
            new = {"r": r, "c": c}
            rows, columns = ops.rsqrt(r / ops.mean(r, -1, keepdims=True)), ops.rsqrt(c)
            u = grad * ops.expand_dims(rows, -1) * ops.expand_dims(columns, -2)
        rate = ops.minimum(learning_rate, ops.rsqrt(step)) * ops.maximum(self.epsilon_2, _rms(param))
        return param - rate / ops.maximum(1.0, _rms(u) / self.clip_threshold) * u, new


def _rms(x: Any) -> Any:
    return ops.sqrt(ops.mean(ops.square(x)))
