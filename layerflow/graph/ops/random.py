"""Random numbers as a pure function of (seed, step, position): the same bits in NumPy and in compiled code.

The bits are a counter-based hash: two rounds of a 32-bit finaliser (multiply, xor-shift) keyed by seed, step and a salt
that tells the generators of one graph apart.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from layerflow import config
from layerflow.errors import ShapeError, TraceError
from layerflow.graph import shapes, symbolic
from layerflow.graph.ops import elementwise as e
from layerflow.graph.ops import indexing, movement, reduction, trigonometric
from layerflow.graph.ops.primitive import elementwise
from layerflow.graph.symbolic import INPUT, Op, SymbolicTensor
from layerflow.graph.tensor import wrap

# Inputs of every graph that draws random numbers: set before a run, the same for all of its draws.
SEED = Op(INPUT, (), {"name": "seed"}, (), np.dtype(np.uint32))
STEP = Op(INPUT, (), {"name": "step"}, (), np.dtype(np.uint32))

_state = {"generator": np.random.default_rng(), "eager_step": 0, "seed": int(np.random.default_rng().integers(2**32))}


def set_seed(seed: int) -> None:
    """Fixes everything random from here on: initial weights, shuffling, dropout."""
    _state["generator"] = np.random.default_rng(seed)
    _state["seed"] = int(np.random.default_rng([seed, 1]).integers(2**32))
    _state["eager_step"] = 0
    config.changes.value += 1


def generator() -> np.random.Generator:
    """The process-wide generator that initializers and shuffling draw from."""
    return _state["generator"]


def seed_value() -> int:
    """The seed of graph random numbers."""
    return _state["seed"]


def get_state() -> dict[str, Any]:
    """Everything that decides which random numbers come next, as numbers and text; for `set_state`."""
    return {**_state, "generator": _state["generator"].bit_generator.state}


def set_state(state: Mapping[str, Any]) -> None:
    """Goes on as after `get_state`, in another process too."""
    made = np.random.default_rng(0)
    made.bit_generator.state = state["generator"]
    _state.update({**state, "generator": made})
    config.changes.value += 1


def next_step() -> int:
    """A step number never used before in this process, for draws outside a training loop."""
    _state["eager_step"] += 1
    return (2**31 + _state["eager_step"]) % 2**32


@elementwise()
def right_shift(a, b):
    return a >> b


@elementwise()
def bitwise_xor(a, b):
    return a ^ b


def hashed(x: Any) -> Any:
    """Finaliser of 32-bit words: multiply and xor-shift rounds, with the "lowbias32" constants of Chris Wellons."""
    x = bitwise_xor(x, right_shift(x, 16)) * 0x7FEB352D
    x = bitwise_xor(x, right_shift(x, 15)) * 0x846CA68B
    return bitwise_xor(x, right_shift(x, 16))


def random_bits(position: Any, seed: Any, step: Any, salt: int) -> Any:
    """32 hashed bits; positions, seed and step are uint32."""
    key = hashed(step * 0x85EBCA6B + salt) + seed
    return hashed(bitwise_xor(hashed(position + key), key))


def salt_of(text: str) -> int:
    """A salt from a name, the same in every process."""
    return zlib.crc32(text.encode())


def bits(shape: Any, salt: int, symbol: bool) -> Any:
    """uint32 words of this shape; symbolic, or drawn now."""
    if symbol:
        where = indexing.positions(shape, None, np.uint32)
        return random_bits(where, SymbolicTensor(SEED), SymbolicTensor(STEP), salt)
    where = np.arange(math.prod(int(n) for n in shape), dtype=np.uint32)
    words = random_bits(where, np.array([seed_value()], np.uint32), np.array([next_step()], np.uint32), salt)
    return words.reshape([int(n) for n in shape])


def unit(shape: shapes.Shape, salt: int, symbol: bool) -> Any:
    """Uniform floats in [0, 1) with 24 random bits."""
    words = bits(shape, salt, symbol)
    return e.cast(right_shift(words, 8), np.float32) * (1.0 / 2**24)


def _draw(
    shape: Any, like: Any, dtype: Any, seed: int | None, salt: int, now: Callable[..., Any], traced: Callable[..., Any]
) -> Any:
    """`now(generator, shape)` from the process-wide generator (or one of `seed`); in a trace `traced(shape, salt)`."""
    full = movement._shape(like) if like is not None else tuple(shape)
    in_trace = symbolic.current_trace.get() is not None or not shapes.is_static(full)
    if symbolic.is_symbolic(like) if like is not None else in_trace:
        y = traced(full, _salt(salt, seed))
        return y if dtype is None else e.cast(y, dtype)
    rng = generator() if seed is None else np.random.default_rng(seed)
    return wrap(now(rng, full).astype(dtype or np.float32))


def _salt(salt: int, seed: int | None) -> int:
    """What tells a draw from the others of its graph: the salt given, else the number of the draw in its trace."""
    trace = symbolic.current_trace.get()
    if salt or seed or trace is None:
        return salt + (seed or 0)
    trace.draws += 1
    return 0 if trace.draws == 1 else salt_of(f"draw{trace.draws}")


def _normal(shape: Any, key: int) -> Any:
    """Standard normal symbols by Box and Muller's transform."""
    radius = e.sqrt(-2.0 * e.log(1.0 - unit(shape, key, True)))
    return radius * trigonometric.cos(2.0 * math.pi * unit(shape, key ^ 0x5BD1E995, True))


def random_uniform(
    shape: Any = None,
    minval: float = 0.0,
    maxval: float = 1.0,
    dtype: Any = None,
    seed: int | None = None,
    salt: int = 0,
    like: Any = None,
) -> Any:
    """Uniform numbers in [minval, maxval).  In a trace a function of the step, else from the process-wide generator."""

    def traced(full: Any, key: int) -> Any:
        return unit(full, key, True) * (maxval - minval) + minval

    return _draw(shape, like, dtype, seed, salt, lambda rng, full: rng.uniform(minval, maxval, full), traced)


def random_normal(
    shape: Any = None,
    mean: float = 0.0,
    stddev: float = 1.0,
    dtype: Any = None,
    seed: int | None = None,
    salt: int = 0,
    like: Any = None,
) -> Any:
    """Normal numbers; Box and Muller's transform in a trace."""

    def traced(full: Any, key: int) -> Any:
        return _normal(full, key) * stddev + mean

    return _draw(shape, like, dtype, seed, salt, lambda rng, full: rng.normal(mean, stddev, full), traced)


def truncated_normal(
    shape: Any,
    mean: float = 0.0,
    stddev: float = 1.0,
    dtype: Any = None,
    seed: int | None = None,
    salt: int = 0,
    like: Any = None,
) -> Any:
    """Normal numbers within two standard deviations of the mean, others drawn again (in a trace six times at most)."""

    def now(rng: np.random.Generator, full: Any) -> np.ndarray:
        y = rng.standard_normal(full)
        while (outside := np.abs(y) > 2).any():
            y[outside] = rng.standard_normal(int(outside.sum()))
        return y * stddev + mean

    def traced(full: Any, key: int) -> Any:
        y = _normal(full, key)
        for again in range(1, 7):
            y = e.where(e.abs_(y) <= 2.0, y, _normal(full, key ^ again * 0x3C6EF372))
        return e.clip(y, -2.0, 2.0) * stddev + mean

    return _draw(shape, like, dtype, seed, salt, now, traced)


def random_standard_normal(shape: Any, dtype: Any = None, seed: int | None = None) -> Any:
    """Normal numbers with mean 0 and standard deviation 1."""
    return random_normal(shape, 0.0, 1.0, dtype, seed)


def random_uniform_int(shape: Any, minval: int, maxval: int, seed: int | None = None) -> Any:
    """Whole numbers in [minval, maxval), int32."""

    def traced(full: Any, key: int) -> Any:
        y = e.floor(unit(full, key, True) * float(maxval - minval))
        return e.minimum(e.cast(y, np.int32), maxval - minval - 1) + minval

    return _draw(shape, None, np.int32, seed, 0, lambda rng, full: rng.integers(minval, maxval, full), traced)


def rand_bernoulli(shape: Any, probability: Any = 0.5, dtype: Any = None, seed: int | None = None) -> Any:
    """1 with this probability (a number, or a tensor that broadcasts to `shape`), else 0."""

    def traced(full: Any, key: int) -> Any:
        return e.cast(e.less(unit(full, key, True), probability), np.float32)

    def now(rng: np.random.Generator, full: Any) -> np.ndarray:
        return rng.random(full) < np.asarray(probability)

    return _draw(shape, None, dtype, seed, 0, now, traced)


def multinomial(logits: Any, num_samples: int, seed: int | None = None, normalized: bool = False) -> Any:
    """Class numbers drawn from each row, int32 [batch, num_samples] (or [num_samples] for a vector).

    The largest of logits plus Gumbel noise is a draw from their softmax.

    Args:
        logits: [batch, classes] or [classes]; with `normalized` they are probabilities.
    """
    shape = movement._shape(logits)
    if len(shape) not in (1, 2):
        raise ShapeError(f"multinomial: logits must have rank 1 or 2, got {shapes.text(shape)}.")
    scores = e.log(logits) if normalized else logits
    full = (*shape[:-1], num_samples, shape[-1])
    u = random_uniform(full, 1e-7, 1.0, seed=seed)
    return reduction.argmax(movement.expand_dims(scores, -2) - e.log(-e.log(u)), -1)


def random_gamma(shape: Any, alpha: float, beta: float = 1.0, dtype: Any = None, seed: int | None = None) -> Any:
    """Numbers of the gamma distribution of shape `alpha` and rate `beta`; drawn outside of graphs."""
    return _outside("random_gamma", shape, dtype, seed, lambda rng, full: rng.gamma(alpha, 1.0 / beta, full))


def random_poisson(shape: Any, mean: float, dtype: Any = None, seed: int | None = None) -> Any:
    """Numbers of the Poisson distribution with this mean; drawn outside of graphs."""
    return _outside("random_poisson", shape, dtype, seed, lambda rng, full: rng.poisson(mean, full))


def rand(shape: Any, rand_function: Callable[[], float], dtype: Any = None) -> Any:
    """A tensor whose elements are what `rand_function()` gives, one call each."""
    count = math.prod(int(n) for n in shape)
    return wrap(np.array([rand_function() for _ in range(count)]).reshape(tuple(shape)).astype(dtype or np.float32))


def _outside(name: str, shape: Any, dtype: Any, seed: int | None, now: Callable[..., Any]) -> Any:
    """Draws that need an unknown number of tries: not for compiled code."""
    if symbolic.current_trace.get() is not None:
        raise TraceError(
            f"{name}: the number of tries a draw takes is not known, so it cannot be part of a compiled function; "
            "draw outside and pass the tensor in."
        )
    rng = generator() if seed is None else np.random.default_rng(seed)
    return wrap(np.asarray(now(rng, tuple(shape))).astype(dtype or np.float32))


def dropout(x: Any, rate: float, noise_shape: Any = None, seed: int | None = None, salt: int = 0) -> Any:
    """Zeroes a fraction `rate` of the elements and divides the others by 1 - rate.

    Args:
        noise_shape: extents of the mask; 1 shares one decision along that axis, None takes the extent of `x`.
    """
    if rate <= 0:
        return x
    if rate >= 1:
        return x * 0
    full = movement._shape(x)
    mask_shape = (
        full if noise_shape is None else tuple(n if m is None else m for m, n in zip(noise_shape, full, strict=True))
    )
    drawn = unit(mask_shape, salt + (seed or 0), symbolic.is_symbolic(x))
    return e.where(drawn >= rate, x * (1.0 / (1.0 - rate)), 0)
