"""Repeated calls of one program that differ little: what does not change between them is set once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from layerflow import config
from layerflow.jit.array_objects import address_of
from layerflow.jit.values import BATCH, COUNT, GATHER, ITERATION_BASE, SEED, START, STEP_BASE, TOTAL

if TYPE_CHECKING:
    from layerflow.jit.executable import Executable


class Repeated:
    """Calls of one program that differ little: what does not change is set once, by `_install`."""

    program: Executable
    rows: int
    wanted: int | None = None  # threads that were asked for when it was set

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
