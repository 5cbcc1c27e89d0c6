"""Shortcuts: a compiled step called again with arrays just like the last ones.

A step of a small model runs some tens of microseconds, and then little of Python is left in the processor's caches:
each function called and each object looked at costs several times what it does in a loop of its own.  So what was
found out at the last call is kept, one comparison of `config.changes` stands for all else, and where possible native
code does the rest (`again`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from layerflow.config import changes
from layerflow.graph.tensor import Tensor
from layerflow.jit.again_text import COPY, NARROW, NEXT
from layerflow.jit.array_objects import FIELDS, Likeness

if TYPE_CHECKING:
    from layerflow.jit.repeated import Direct

Scalars = Callable[[], Mapping[str, float]]
Places = Sequence[tuple[int, ...]]
SHORT_WORK = 1e7  # multiply-adds of a step during which the interpreter may be held
SHORT_BYTES = 8 << 20  # of memory


class Clock(Protocol):
    """The number of batches so far and the learning rate: fields of a `ctypes.Structure`."""

    batches: Any
    rate: Any


def training(
    direct: Direct, x: np.ndarray, y: np.ndarray, scalars: Scalars, advance: Callable[[], None], clock: Clock
) -> Any:
    """A function of the arrays of one batch.

    Args:
        direct: has just run these arrays.
        x: inputs.
        y: labels.
        scalars: what the step reads besides.
        advance: is called after each step, before another thread's.
        clock: where native code finds the scalars and counts batches.

    Returns:
        A function (x, y) -> what the step gives, a float or a list of floats; it does nothing and returns None if an
        array is of another type, shape or layout or anything else has changed.
    """
    results = direct.results
    native = _native(direct, (x, y), direct.input_words, clock, results)
    if native is not None:
        return native
    alone = results[0].item if len(results) == 1 else None

    def numbers() -> float | list[float]:
        advance()
        return alone() if alone is not None else [result.item() for result in results]

    return _runner(direct, scalars, (x, y), direct.input_words, numbers)


def prediction(direct: Direct, x: np.ndarray, scalars: Scalars) -> Any:
    """As `training`: a function x -> the only output, a tensor [rows, ...] of its own at each call, or None."""
    out, new = direct.results[0], np.ndarray.__new__
    out_shape, out_dtype = out.shape, out.dtype
    like, places = new(Tensor, out_shape, out_dtype), [*direct.input_words, *direct.output_words]
    native = _native(direct, (x, like), places, None, ())
    if native is not None:
        return lambda x: native(x, new(Tensor, out_shape, out_dtype))
    run = _runner(direct, scalars, (x, like), places, lambda: True)

    def call(x: Any) -> Any:
        result = new(Tensor, out_shape, out_dtype)
        return result if run(x, result) else None

    return call


# --- in native code --------------------------------------------------------------------


def _native(
    direct: Direct, arrays: Sequence[np.ndarray], places: Places, clock: Clock | None, results: Sequence[np.ndarray]
) -> Any:
    """The step as a built-in function, or None: for short steps on one thread, whose scalars native code finds."""
    if not FIELDS or not _is_short(direct, arrays) or any(r.dtype != np.float32 for r in results):
        return None
    moves = _moves(direct, clock)
    if moves is None:
        return None
    return direct.program.builtin(
        direct,
        [(Likeness(array), place[0]) for array, place in zip(arrays, places, strict=True)],
        (changes, changes.value),
        moves,
        results,
        _field(clock, "batches") if clock is not None else 0,
        (direct, clock),
    )


def _is_short(direct: Direct, arrays: Sequence[np.ndarray]) -> bool:
    """Whether other Python threads may wait until a step is over: it takes less than about a millisecond."""
    program = direct.program
    size = program.arena.nbytes + program.weights_bytes + sum(a.nbytes for a in arrays)
    return direct.team == 1 and program.sample_work * direct.rows <= SHORT_WORK and size <= SHORT_BYTES


def _moves(direct: Direct, clock: Clock | None) -> list[tuple[int, int, int]] | None:
    """From where to where scalars are copied before each step, and how; None if any is found elsewhere.

    The seed stays in the table: a new one ends shortcuts, by `config.changes`.
    """
    counters = [at for name, (at, *_) in direct.counter_words if name != "seed"]
    if clock is None:  # the step counts nothing, and its counters stay as they are
        return None if direct.floats else []
    moves = [(_field(clock, "batches"), direct.address + 8 * at, NEXT) for at in counters]
    for name, view in direct.floats:
        if name != "learning_rate":
            return None
        how = NARROW if view.dtype == np.float32 else COPY
        moves.append((_field(clock, "rate"), view.ctypes.data, how))
    return moves


def _field(clock: Any, name: str) -> int:
    return ctypes.addressof(clock) + getattr(type(clock), name).offset


# --- in Python -------------------------------------------------------------------------


def _runner(
    direct: Direct,
    scalars: Scalars,
    arrays: Sequence[np.ndarray],
    places: Places,
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
    program, lock, settings = direct.program, direct.program.lock, direct.program.settings
    likes, run_all = [Likeness(array) for array in arrays], direct.program.entry.run
    settled, then = settings.value, changes.value

    def run(*given_arrays: Any) -> Any:
        with lock:
            if changes.value != then or settings.value != settled or program.current is not direct:
                return None
            if not all(like(array) for like, array in zip(likes, given_arrays, strict=True)):
                return None
            direct.set_scalars(scalars())
            direct.set_addresses(given_arrays, places)
            run_all(direct.address, direct.team)
            return found()

    return run
