"""Shortcuts: a compiled step called again with arrays just like the last ones, in one Python function.

A step of a small model runs some tens of microseconds, and then little of Python is left in the processor's caches:
each function called and each object looked at costs several times what it does in a loop of its own.  So what was
found out at the last call is kept in local variables, and one comparison of `config.changes` stands for all else.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from layerflow.config import changes
from layerflow.graph.tensor import Tensor
from layerflow.jit.repeated import FIELDS, Likeness

if TYPE_CHECKING:
    from layerflow.jit.repeated import Direct

Scalars = Callable[[], Mapping[str, float]]


def training(direct: Direct, x: np.ndarray, y: np.ndarray, scalars: Scalars, advance: Callable[[], None]) -> Any:
    """A function of the arrays of one batch.

    Args:
        direct: has just run these arrays.
        x: inputs.
        y: labels.
        scalars: what the step reads besides.
        advance: is called after each step, before another thread's.

    Returns:
        A function (x, y) -> what the step gives, a float or a list of floats; it does nothing and returns None if an
        array is of another type, shape or layout or anything else has changed.
    """
    results = direct.results
    alone = results[0].item if len(results) == 1 else None

    def numbers() -> float | list[float]:
        advance()
        return alone() if alone is not None else [result.item() for result in results]

    return _runner(direct, scalars, (x, y), direct.input_words, numbers)


def prediction(direct: Direct, x: np.ndarray, scalars: Scalars) -> Any:
    """As `training`: a function x -> the only output, a tensor [rows, ...] of its own at each call, or None."""
    out, new = direct.results[0], np.ndarray.__new__
    out_shape, out_dtype = out.shape, out.dtype
    like = new(Tensor, out_shape, out_dtype)
    run = _runner(direct, scalars, (x, like), [*direct.input_words, *direct.output_words], lambda: True)

    def call(x: Any) -> Any:
        result = new(Tensor, out_shape, out_dtype)
        return result if run(x, result) else None

    return call


def _runner(
    direct: Direct,
    scalars: Scalars,
    arrays: Sequence[np.ndarray],
    places: Sequence[tuple[int, ...]],
    found: Callable[[], Any],
) -> Any:
    """A function that runs the step with two arrays.

    Args:
        direct: the call to be made again.
        scalars: what the step reads besides.
        arrays: what the arrays must be like.
        places: for each array the words of the table for its address, one of each thread's.
        found: gives the result.

    Returns:
        A function of the arrays: the result, or None if they are not alike, or settings, or the table, have been set
        for another call meanwhile.
    """
    program, lock, installed, go = direct.program, direct.program.lock, direct.installed, _go(direct, arrays, places)
    fill, given = _filler(direct), scalars if direct.counter_words or direct.floats else dict
    then = changes[0]

    def run(a: Any, b: Any) -> Any:
        with lock:
            if changes[0] != then or program.current is not direct or direct.installed != installed:
                return None
            fill(given())
            return found() if go(a, b) else None

    return run


def _filler(direct: Direct) -> Callable[[Mapping[str, float]], None]:
    """Hands over what a step reads besides arrays; often that is the learning rate alone."""
    if direct.counter_words or len(direct.floats) != 1:
        return direct.set_scalars
    ((name, view),) = direct.floats

    def fill(scalars: Mapping[str, float]) -> None:
        view[0] = scalars[name]

    return fill


def _go(direct: Direct, arrays: Sequence[np.ndarray], places: Sequence[tuple[int, ...]]) -> Callable[[Any, Any], Any]:
    """Looks at two arrays, hands over their addresses and runs the kernels: in one native call where that is possible.

    The function tells whether they are alike, and so whether it has run anything.
    """
    likes = [Likeness(array) for array in arrays]
    if direct.team == 1 and FIELDS:
        words = [direct.address]
        for like, place in zip(likes, places, strict=True):
            words += [place[0], *like.words]
        native = functools.partial(direct.program.again, (ctypes.c_int64 * len(words))(*words))
        native.__dict__["likes"] = likes  # what the words point to lives as long as they do
        return native

    def go(*given: Any) -> bool:
        if not all(like(array) for like, array in zip(likes, given, strict=True)):
            return False
        direct.set_addresses(given, places)
        direct.program.entry.run(direct.address, direct.team)
        return True

    return go
