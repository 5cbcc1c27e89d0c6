"""Repeated calls of one program that differ little: what does not change between them is set once."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from layerflow import config
from layerflow.jit.values import BATCH, COUNT, GATHER, ITERATION_BASE, SEED, START, STEP_BASE, TOTAL

if TYPE_CHECKING:
    from layerflow.jit.executable import Executable


class Repeated:
    """Calls of one program that differ little: what does not change is set once, by `_install`."""

    program: Executable
    rows: int
    wanted: int | None = None  # threads that were asked for when it was set
    installed: int = 0  # times that it was set

    def _install(self, team: int) -> None:
        """Sets what does not change from call to call, for so many threads."""
        raise NotImplementedError(f"{type(self).__name__} must define _install(team).")

    def _ready(self) -> Any:
        """Installs what is not; the words of the table.  The program's lock is held."""
        program, wanted = self.program, config.num_threads()
        if program.current is not self or wanted != self.wanted:
            self.wanted = wanted
            self.team = program._thread_count(self.rows)
            self._install(self.team)
            self.installed += 1
            program.current = self
        return self.words

    def _find_words(self, starts: Sequence[int]) -> None:
        """Where the numbers that change from call to call stand in the table, whose threads begin at `starts`."""
        program = self.program
        self.words: Any = program.table.reshape(-1).data
        self.address = program.table.ctypes.data
        self.alone = program.entry.alone
        used = {b.op.attrs["name"] for b in program.plan.buffers.values() if b.role == "scalar"}
        known = (("seed", SEED), ("step", STEP_BASE), ("iteration", ITERATION_BASE))
        self.counter_words = [(name, tuple(s + word for s in starts)) for name, word in known if name in used]
        self.floats = [(name, program._scalar_views[name]) for name, _, _ in program.scalar_names]

    def set_scalars(self, scalars: Mapping[str, float]) -> None:
        """What the kernels read besides arrays."""
        words = self.words
        for name, places in self.counter_words:
            for at in places:
                words[at] = scalars[name]
        for name, view in self.floats:
            view[0] = scalars[name]

    def set_addresses(self, arrays: Sequence[np.ndarray], places: Sequence[tuple[int, ...]]) -> None:
        """Where arrays are; `places`: for each the words, one of each thread's table."""
        words = self.words
        for array, where in zip(arrays, places):  # noqa: B905 (lengths were compared in `fits`)
            address = address_of(array)
            for at in where:
                words[at] = address

    def _go(self, scalars: dict[str, float]) -> None:
        self.set_scalars(scalars)
        if self.team == 1:
            self.alone(self.address, 0, 1)
        else:
            self.program.entry.run(self.address, self.team)


class Direct(Repeated):
    """Repeated calls of one program with single batches of one size: what does not change is set once."""

    def __init__(self, program: Executable, arrays: Sequence[np.ndarray]):
        self.program = program
        self.like = tuple((a.shape, a.dtype) for a in arrays)
        self.rows, self.extents = len(arrays[0]), program.extents_of(arrays)
        self.sampled = any(b.per_sample for b in program.outputs)

    def fits(self, arrays: Sequence[np.ndarray]) -> bool:
        """Whether arrays have the shapes, types and layout this call was made for."""
        for array, (shape, dtype) in zip(arrays, self.like, strict=True):
            if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
                return False
        return True

    def _install(self, team: int) -> None:
        program = self.program
        program._prepare(self.rows, team, self.extents)
        table = program.table
        table[:, [GATHER, BATCH, TOTAL, START, COUNT]] = (0, self.rows, self.rows, 0, 1)
        self.results = program._make_outputs(self.rows, self.rows, 1)
        advance, slots = program.module.advance, program.module.slots
        starts = [slots * t for t in range(program.threads)]
        for buffer in program.inputs:
            program._advance(buffer.op, 0, 0)
        self.input_words = [tuple(s + advance[b.op] for s in starts) for b in program.inputs]
        self.output_words = [tuple(s + advance[b.op] for s in starts) for b in program.outputs]
        self._find_words(starts)

    def __call__(self, arrays: Sequence[np.ndarray], scalars: dict[str, float]) -> list[np.ndarray]:
        """Outputs of one batch.  Outputs without a batch axis are the same arrays at each call, overwritten."""
        program = self.program
        with program.lock:
            self._ready()
            self.set_addresses(arrays, self.input_words)
            results = self.results
            if self.sampled:
                results = [np.empty(a.shape, a.dtype) for a in results]
                self.set_addresses(results, self.output_words)
            self._go(scalars)
            return results


# Where array objects have what native code reads of them, with CPython on 64 bits.
TYPE_FIELD, DATA_FIELD, RANK_FIELD, EXTENTS_FIELD, DTYPE_FIELD, FLAGS_FIELD = 8, 16, 24, 32, 56, 64
CONTIGUOUS = 1  # flag: elements in order, without gaps
_WORD, _INT = ctypes.c_size_t, ctypes.c_int
AGAIN = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.py_object, ctypes.py_object)  # `lf_again` of entries


class Likeness:
    """What arrays of one kind have in common, as native code compares them: type, element type, rank and extents."""

    def __init__(self, array: np.ndarray):
        self.kept = type(array), array.dtype  # their addresses stay theirs as long as they are held
        self.shape = array.shape
        self.extents = (ctypes.c_int64 * max(1, array.ndim))(*array.shape)
        self.words = (id(self.kept[0]), id(self.kept[1]), array.ndim, ctypes.addressof(self.extents))

    def __call__(self, array: Any) -> bool:
        """Whether an object is such an array, its elements in order."""
        kind, dtype = self.kept
        return type(array) is kind and array.dtype is dtype and array.shape == self.shape and array.flags.c_contiguous


def _data_pointer(array: np.ndarray) -> int:
    return array.ctypes.data


def _field_pointer(array: np.ndarray) -> int:
    """The data pointer, read from the array object: five times faster than `array.ctypes`."""
    return _WORD.from_address(id(array) + DATA_FIELD).value


def _has_fields() -> bool:
    """Whether array objects are laid out so."""
    if sys.implementation.name != "cpython" or sys.maxsize <= 2**32 or object.__basicsize__ != DATA_FIELD:
        return False
    probe = np.zeros((3, 5), np.float32)
    return all(map(_has_fields_of, (probe, probe.T, probe[1:, 2:], np.zeros(7, np.int64), np.zeros(()))))


def _has_fields_of(array: np.ndarray) -> bool:
    at = id(array)
    words = (_WORD.from_address(at + field).value for field in (TYPE_FIELD, DATA_FIELD, DTYPE_FIELD))
    if tuple(words) != (id(type(array)), array.ctypes.data, id(array.dtype)):
        return False
    rank, flags = (_INT.from_address(at + field).value for field in (RANK_FIELD, FLAGS_FIELD))
    if rank != array.ndim or bool(flags & CONTIGUOUS) != array.flags.c_contiguous:
        return False
    extents = _WORD.from_address(at + EXTENTS_FIELD).value
    return not rank or tuple((_WORD * rank).from_address(extents)) == array.shape


FIELDS = _has_fields()
address_of: Callable[[np.ndarray], int] = _field_pointer if FIELDS else _data_pointer
