"""Rectifiers and what is near them: steps, leaks, exponential tails."""

from __future__ import annotations

from typing import Any

from layerflow.errors import ArgumentError
from layerflow.graph.ops import elementwise as e


def step(x: Any, alpha: float = 0.0) -> Any:
    """1 where x > 0, else alpha; NaN stays NaN.  The gradient is 0."""
    rank_free = e.stop_gradient(x)
    return e.where(e.greater(rank_free, 0), rank_free * 0 + 1, e.where(e.equal(rank_free, rank_free), alpha, rank_free))


def relu6(x: Any) -> Any:
    """min(max(x, 0), 6)"""
    return e.clip(x, 0.0, 6.0)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else alpha (exp(x) - 1)"""
    # The minimum keeps exp finite in the branch that is not taken: infinity times the zero of `where` would be NaN.
    return e.where(e.greater(x, 0), x, alpha * e.expm1(e.minimum(x, 0.0)))


def selu(x: Any) -> Any:
    """scale * elu(x, alpha) with the constants of Klambauer et al. 2017"""
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


def leaky_relu(x: Any, alpha: float = 0.2) -> Any:
    """x where x > 0, else alpha x"""
    return e.where(e.greater(x, 0), x, e.multiply(x, alpha))


def prelu(x: Any, alpha: Any) -> Any:
    """x where x > 0, else alpha x, with alpha a tensor that is learned."""
    return e.where(e.greater(x, 0), x, e.multiply(alpha, x))


def log_sigmoid(x: Any) -> Any:
    """log(sigmoid(x)), exact where sigmoid underflows."""
    return e.negative(e.softplus(e.negative(x)))


def div_no_nan(a: Any, b: Any) -> Any:
    """a / b, and 0 where b is 0."""
    zero = e.equal(b, 0)
    return e.where(zero, 0.0, e.divide(a, e.where(zero, 1.0, b)))


def moving_average(v: Any, x: Any, decay: float, step: Any = None, zero_debias: bool = True) -> Any:
    """v + (x - v) (1 - decay), with `zero_debias` the change divided by 1 - decay**step.

    Args:
        v: the average so far (a variable stays as it is: assign the result).
        step: number of this update, from 1; needed for `zero_debias`.
    """
    if zero_debias and step is None:
        raise ArgumentError("moving_average: zero_debias needs `step`, the number of the update, or zero_debias=False.")
    change = e.subtract(x, v) * (1.0 - decay)
    return e.add(v, e.divide(change, e.subtract(1.0, e.power(decay, step))) if zero_debias else change)
