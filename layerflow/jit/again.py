"""Again: a short step with arrays like the last ones, as a built-in function of the interpreter.

Around 30 microseconds of work, Python code would cost a tenth of that.  So native code itself looks at what has
changed, at type, shape and layout of the arrays, sets learning rate and counters, runs the step and makes the result:
CPython calls it as it calls `len`.  What it compares and sets is in words, an array that the function holds.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from layerflow.jit import library
from layerflow.jit.array_objects import Likeness

Address = int


class _Definition(ctypes.Structure):
    """`PyMethodDef` of the interpreter's stable interface."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("text", ctypes.c_char_p),
    )


_FASTCALL = 0x0080  # METH_FASTCALL: arguments come as an array and their number


class _Words(np.ndarray):
    """The words of one function, and the objects whose addresses they contain."""

    kept: Any


def function(
    step: Address,
    table: Address,
    arrays: Sequence[tuple[Likeness, int]],
    guards: Sequence[tuple[ctypes.c_int64, int]],
    scalars: Iterable[tuple[Address, Address, int]],
    results: Sequence[np.ndarray],
    count: Address,
    kept: Any,
) -> Any:
    """A built-in function of arrays, which runs a step on the calling thread and holds the interpreter meanwhile.

    Args:
        step: `lf_step` of the program.
        table: its context table.
        arrays: for each argument what it must be like, and the word of the table for its address.
        guards: numbers, and what they must be.
        scalars: for each from where to where it is copied, and how (COPY, NEXT or NARROW of `again_text`).
        results: float32 arrays with one element each.
        count: of a number that grows by 1 with each step; 0 for none.
        kept: objects that live as long as the function.

    Returns:
        A function.  It gives what the results hold as a float, or a list of floats if there are several; the last
        argument if there is none.  It does nothing and gives None for other arguments or where a number is another one.
    """
    parts: list[list[Sequence[int]]] = [
        [(ctypes.addressof(number), expected) for number, expected in guards],
        list(scalars),
        [(word, *like.words) for like, word in arrays],
        [(result.ctypes.data,) for result in results],
    ]
    words = [step, table, count, *_interface(), *map(len, parts)]
    held = np.array([*words, *(n for part in parts for entry in part for n in entry)], np.int64).view(_Words)
    held.kept = (guards, arrays, results, kept)
    return ctypes.pythonapi.PyCFunction_NewEx(ctypes.byref(_definition()), held, None)


@functools.cache
def _definition() -> _Definition:
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.argtypes, make.restype = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p), ctypes.py_object
    return _Definition(b"again", library.runtime_code().function("lf_again"), _FASTCALL, None)


@functools.cache
def _interface() -> tuple[Address, ...]:
    """Addresses of None and of what native code calls of the interpreter."""
    names = ("Py_IncRef", "PyFloat_FromDouble", "PyList_New", "PyList_SetItem")
    functions = (ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0 for name in names)
    return (id(None), *functions)
