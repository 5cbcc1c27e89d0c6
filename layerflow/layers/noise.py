"""Noise while training.  Arguments and formulas: INVENTORY 2.7; AlphaDropout as Keras (TF.js has a sign wrong)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from layerflow.errors import ArgumentError
from layerflow.graph import ops
from layerflow.graph.ops.random import salt_of
from layerflow.layers.base import Layer
from layerflow.layers.core import share
from layerflow.registry import factory

# The two constants of selu (Klambauer et al. 2017).
_ALPHA, _SCALE = 1.6732632423543772, 1.0507009873554805


class Noise(Layer):
    """Base: something random is done to the input while training, from (seed, step, position) as in Dropout."""

    supports_masking = True

    def __init__(self, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed = seed

    def call(self, x, training=False):
        x = x if x.dtype.kind == "f" else ops.cast(x, self.dtype)
        return self.noisy(x) if training else x

    def noisy(self, x: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define noisy(x).")

    def _normal(self, x: Any, mean: float, stddev: float) -> Any:
        drawn = ops.random_normal(None, mean, stddev, None, self.seed, salt_of(self.name), like=x)
        return ops.cast(drawn, x.dtype)


class GaussianNoise(Noise):
    """While training, adds normal noise of mean 0.

    Args:
        stddev: standard deviation of the noise.
        seed: gives this layer noise of its own.

    >>> layer, x = lf.layers.gaussian_noise(stddev=0.1), np.zeros((1, 10000))
    >>> float(layer.apply(x).sum())  # nothing happens outside of training
    0.0
    >>> round(float(np.std(layer.apply(x, training=True))), 2)
    0.1
    """

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any):
        super().__init__(seed, **kwargs)
        if not float(stddev) >= 0:
            raise ArgumentError(f"{self.name}: stddev must not be negative, got {stddev}.")
        self.stddev = float(stddev)

    def noisy(self, x):
        return x + self._normal(x, 0.0, self.stddev)


class GaussianDropout(Noise):
    """While training, multiplies by normal noise of mean 1 and deviation sqrt(rate / (1 - rate)) (Srivastava 2014).

    Args:
        rate: in [0, 1): the noise is as strong as that of a dropout of this rate.
        seed: gives this layer noise of its own.

    >>> y = lf.layers.gaussian_dropout(rate=0.2).apply(np.ones((1, 100000)), training=True)
    >>> round(float(np.mean(y)), 1), round(float(np.std(y)), 1)
    (1.0, 0.5)
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(seed, **kwargs)
        self.rate = share(self, "rate", rate, whole=False)

    def noisy(self, x):
        return x * self._normal(x, 1.0, math.sqrt(self.rate / (1.0 - self.rate))) if self.rate else x


class AlphaDropout(Noise):
    """Dropout that keeps mean and variance of what selu gives: dropped elements become selu's lower bound, then all
    are scaled and shifted (Klambauer et al. 2017).

    Args:
        rate: in [0, 1), the share that is dropped.
        noise_shape: shape of the mask; 1 shares a decision along that axis, None takes the input's extent.
        seed: gives this layer masks of its own.

    >>> x = np.random.default_rng(0).normal(size=(1, 100000))
    >>> y = lf.layers.alpha_dropout(rate=0.2).apply(x, training=True)
    >>> abs(float(np.mean(y))) < 0.02, abs(float(np.std(y)) - 1) < 0.02
    (True, True)
    """

    def __init__(
        self, rate: float, noise_shape: Sequence[int | None] | None = None, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(seed, **kwargs)
        self.rate, self.noise_shape = share(self, "rate", rate, whole=False), noise_shape

    def noisy(self, x):
        if not self.rate:
            return x
        bound = -_ALPHA * _SCALE
        a = 1.0 / math.sqrt((1.0 - self.rate) * (1.0 + self.rate * bound**2))
        scaled = ops.dropout(ops.ones_like(x), self.rate, self.noise_shape, self.seed, salt_of(self.name))
        kept = ops.greater(scaled, 0.0)
        return a * ops.where(kept, x, bound) - a * bound * self.rate


gaussian_noise = factory(GaussianNoise)
gaussian_dropout = factory(GaussianDropout)
alpha_dropout = factory(AlphaDropout)
