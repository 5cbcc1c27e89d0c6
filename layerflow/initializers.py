"""Initial values of weights.  Truncated normals have the variance asked for, as in Keras and unlike TF.js."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from layerflow import config, registry
from layerflow.errors import ArgumentError, ShapeError
from layerflow.graph.ops import random

INITIALIZERS = registry.Names("initializer")
PIECE = 1 << 16  # elements drawn at a time
# Standard deviation of a unit normal cut at two deviations.
TRUNCATED_DEVIATION = 0.87962566103423978


class Initializer(registry.Configurable):
    """Base: override `values(shape, rng)`.  Called with a shape and a dtype it returns an array.

    An initializer with a seed gives the same values at every call; others draw from the process-wide generator that
    `lf.random.set_seed` resets.
    """

    seed: int | None = None
    APART: ClassVar[bool] = False  # elements are drawn one after another, each for itself

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> np.ndarray:
        rng = random.generator() if self.seed is None else np.random.default_rng(self.seed)
        shape, dtype = tuple(int(n) for n in shape), np.dtype(dtype or config.floatx())
        if not self.APART:
            return np.asarray(self.values(shape, rng), dtype)
        out = np.empty(math.prod(shape), dtype)
        for at in range(0, out.size, PIECE):  # numbers are drawn in double precision: not all of them at a time
            part = out[at : at + PIECE]
            part[...] = self.values(part.shape, rng)
        return out.reshape(shape)

    def values(self, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define values(shape, rng).")


def _known(*aliases: str) -> Callable[[type], type]:
    return INITIALIZERS.register(*aliases)


@_known()
class Zeros(Initializer):
    """All 0."""

    def values(self, shape, rng):
        return np.zeros(shape)


@_known()
class Ones(Initializer):
    """All 1."""

    def values(self, shape, rng):
        return np.ones(shape)


@_known()
class Constant(Initializer):
    """All `value`."""

    def __init__(self, value: float):
        self.value = value

    def values(self, shape, rng):
        return np.broadcast_to(np.asarray(self.value), shape)


@_known("uniform")
class RandomUniform(Initializer):
    """Uniform in [minval, maxval)."""

    APART: ClassVar[bool] = True

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None):
        self.minval, self.maxval, self.seed = minval, maxval, seed

    def values(self, shape, rng):
        return rng.uniform(self.minval, self.maxval, shape)


@_known("normal")
class RandomNormal(Initializer):
    """Normal with this mean and standard deviation."""

    APART: ClassVar[bool] = True

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None):
        self.mean, self.stddev, self.seed = mean, stddev, seed

    def values(self, shape, rng):
        return rng.normal(self.mean, self.stddev, shape)


@_known()
class TruncatedNormal(Initializer):
    """Normal within two standard deviations of the mean; values outside are drawn again."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None):
        self.mean, self.stddev, self.seed = mean, stddev, seed

    def values(self, shape, rng):
        return self.mean + self.stddev * _truncated(shape, rng)


def _truncated(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    values = np.asarray(rng.standard_normal(shape))
    while (outside := np.abs(values) > 2).any():
        values[outside] = rng.standard_normal(int(outside.sum()))
    return values


@_known()
class Identity(Initializer):
    """`gain` on the diagonal of a matrix."""

    def __init__(self, gain: float = 1.0):
        self.gain = gain

    def values(self, shape, rng):
        if len(shape) != 2:
            raise ShapeError(f"Identity initializes matrices, not a weight of shape {list(shape)}.")
        return self.gain * np.eye(*shape)


@_known()
class Orthogonal(Initializer):
    """An orthogonal matrix times `gain`; leading axes count as rows (Saxe et al. 2013)."""

    def __init__(self, gain: float = 1.0, seed: int | None = None):
        self.gain, self.seed = gain, seed

    def values(self, shape, rng):
        if len(shape) < 2:
            raise ShapeError(f"Orthogonal initializes weights of rank 2 or more, not shape {list(shape)}.")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diag(r))
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


def fans(shape: Sequence[int]) -> tuple[float, float]:
    """Inputs and outputs a unit of this weight sees; spatial axes of convolutions multiply both."""
    if len(shape) < 2:
        n = float(math.prod(shape))
        return n, n
    field = math.prod(shape[:-2])
    return float(shape[-2] * field), float(shape[-1] * field)


@_known()
class VarianceScaling(Initializer):
    """Variance scale / n, where n is the fan in, the fan out or their mean (Glorot and Bengio 2010, He et al. 2015).

    Args:
        mode: "fan_in", "fan_out" or "fan_avg".
        distribution: "normal" and "truncated_normal" (both cut at two deviations), "untruncated_normal" or "uniform".
    """

    MODES = ("fan_in", "fan_out", "fan_avg")
    DISTRIBUTIONS = ("normal", "truncated_normal", "untruncated_normal", "uniform")

    def __init__(self, scale: float = 1.0, mode: str = "fan_in", distribution: str = "normal", seed: int | None = None):
        if scale < 0:
            raise ArgumentError(f"VarianceScaling: scale must not be negative, got {scale}.")
        self.scale, self.seed = scale, seed
        self.mode = registry.option("mode", mode, self.MODES)
        self.distribution = registry.option("distribution", distribution, self.DISTRIBUTIONS)

    def values(self, shape, rng):
        fan_in, fan_out = fans(shape)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        deviation = math.sqrt(self.scale / max(1.0, n))
        if self.distribution == "uniform":
            limit = math.sqrt(3.0) * deviation
            return rng.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return rng.normal(0.0, deviation, shape)
        return deviation / TRUNCATED_DEVIATION * _truncated(shape, rng)

    def get_config(self) -> dict[str, Any]:
        return {"scale": self.scale, "mode": self.mode, "distribution": self.distribution, "seed": self.seed}

    def get_class_name(self) -> str:
        # The named special cases are written as what they are, as TF.js does.
        return "VarianceScaling"


def _special(name: str, scale: float, mode: str, distribution: str, doc: str) -> type[VarianceScaling]:
    def __init__(self, seed: int | None = None):
        VarianceScaling.__init__(self, scale, mode, distribution, seed)  # type: ignore[call-overload]

    return _known()(type(name, (VarianceScaling,), {"__init__": __init__, "__doc__": doc, "__module__": __name__}))


GlorotUniform = _special("GlorotUniform", 1.0, "fan_avg", "uniform", "Uniform with variance 2 / (fan in + fan out).")
GlorotNormal = _special("GlorotNormal", 1.0, "fan_avg", "normal", "Normal with variance 2 / (fan in + fan out).")
HeNormal = _special("HeNormal", 2.0, "fan_in", "normal", "Normal with variance 2 / fan in.")
HeUniform = _special("HeUniform", 2.0, "fan_in", "uniform", "Uniform with variance 2 / fan in.")
LeCunNormal = _special("LeCunNormal", 1.0, "fan_in", "normal", "Normal with variance 1 / fan in.")
LeCunUniform = _special("LeCunUniform", 1.0, "fan_in", "uniform", "Uniform with variance 1 / fan in.")

zeros = registry.factory(Zeros)
ones = registry.factory(Ones)
constant = registry.factory(Constant)
random_uniform = registry.factory(RandomUniform)
random_normal = registry.factory(RandomNormal)
truncated_normal = registry.factory(TruncatedNormal)
identity = registry.factory(Identity)
orthogonal = registry.factory(Orthogonal)
variance_scaling = registry.factory(VarianceScaling)
glorot_uniform = registry.factory(GlorotUniform)
glorot_normal = registry.factory(GlorotNormal)
he_normal = registry.factory(HeNormal)
he_uniform = registry.factory(HeUniform)
le_cun_normal = lecun_normal = registry.factory(LeCunNormal)
le_cun_uniform = lecun_uniform = registry.factory(LeCunUniform)


def get(identifier: Any) -> Callable[..., Any]:
    """The initializer for a name, an object, a function (shape, dtype) -> array, or a {class_name, config} mapping."""
    if isinstance(identifier, Mapping):
        return registry.construct(INITIALIZERS, identifier)
    if isinstance(identifier, str):
        return (registry.custom(identifier) or INITIALIZERS.get(identifier))()
    if isinstance(identifier, type) and issubclass(identifier, Initializer):
        return identifier()
    if callable(identifier):
        return identifier
    raise ArgumentError(f"an initializer must be a name, an Initializer or a function, got {identifier!r}.")
