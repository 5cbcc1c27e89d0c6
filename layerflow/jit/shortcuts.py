"""Shortcuts: a compiled step called again with arrays just like the last ones, in one Python function.

A step of a small model runs some tens of microseconds, and then little of Python is left in the processor's caches:
each function called and each object looked at costs several times what it does in a loop of its own.  So what was
found out at the last call is kept in local variables, and one comparison of `config.changes` stands for all else.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from layerflow.config import changes
from layerflow.graph.tensor import Tensor
from layerflow.jit.repeated import FIELDS, address_of

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
        advance: is called after each step.

    Returns:
        A function (x, y) -> what the step gives, a float or a list of floats; it does nothing and returns None if an
        array is of another type, shape or layout or anything else has changed.
    """
    x_kind, x_dtype, x_shape = type(x), x.dtype, x.shape
    y_kind, y_dtype, y_shape = type(y), y.dtype, y.shape
    results = direct.results
    alone = results[0] if len(results) == 1 else None
    program, lock, installed, then = direct.program, direct.program.lock, direct.installed, changes[0]
    fill, run = _filler(direct, scalars), _runner(direct, *direct.input_words)

    def call(x: Any, y: Any) -> Any:
        if (
            type(x) is not x_kind
            or type(y) is not y_kind
            or x.dtype is not x_dtype
            or y.dtype is not y_dtype
            or x.shape != x_shape
            or y.shape != y_shape
            or not x.flags.c_contiguous
            or not y.flags.c_contiguous
            or changes[0] != then
        ):
            return None
        with lock:
            if program.current is not direct or direct.installed != installed:
                return None
            fill()
            run(x, y)
            advance()
            return alone.item() if alone is not None else [result.item() for result in results]

    return call


def prediction(direct: Direct, x: np.ndarray, scalars: Scalars) -> Any:
    """As `training`: a function x -> the only output, a tensor [rows, ...] of its own at each call, or None."""
    kind, dtype, shape = type(x), x.dtype, x.shape
    out_shape, out_dtype = direct.results[0].shape, direct.results[0].dtype
    program, lock, installed, then = direct.program, direct.program.lock, direct.installed, changes[0]
    fill, run = _filler(direct, scalars), _runner(direct, *direct.input_words, *direct.output_words)
    new = np.ndarray.__new__

    def call(x: Any) -> Any:
        if (
            type(x) is not kind
            or x.dtype is not dtype
            or x.shape != shape
            or not x.flags.c_contiguous
            or changes[0] != then
        ):
            return None
        with lock:
            if program.current is not direct or direct.installed != installed:
                return None
            result = new(Tensor, out_shape, out_dtype)
            fill()
            run(x, result)
            return result

    return call


def _runner(direct: Direct, *places: tuple[int, ...]) -> Callable[[np.ndarray, np.ndarray], None]:
    """Runs the step with two arrays, whose addresses go to these words of the table, one of each thread's."""
    again = direct.program.entry.again
    if direct.team == 1 and FIELDS and again is not None:
        table_and_slots = (ctypes.c_int64 * 3)(direct.address, places[0][0], places[1][0])
        return functools.partial(again, table_and_slots)
    words = direct.words

    def run(*arrays: np.ndarray) -> None:
        for array, where in zip(arrays, places, strict=True):
            for at in where:
                words[at] = address_of(array)
        direct.program.entry.run(direct.address, direct.team)

    return run


def _filler(direct: Direct, scalars: Scalars) -> Callable[[], None]:
    """Sets what the kernels read besides arrays."""
    words, counters, floats = direct.words, direct.counter_words, direct.floats

    def fill() -> None:
        given = scalars()
        for name, places in counters:
            for at in places:
                words[at] = given[name]
        for name, view in floats:
            view[0] = given[name]

    return fill if counters or floats else lambda: None
