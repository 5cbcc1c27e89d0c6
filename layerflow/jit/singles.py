"""One batch at a time of the same arrays, with next to no Python between: what a callback for every batch needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.jit.executable import Executable
from layerflow.jit.repeated import Repeated
from layerflow.jit.values import BATCH, COUNT, START, TOTAL


class Singles(Repeated):
    """Repeated calls of one program, each with one batch of the same arrays: the arrays are bound once.

    Args:
        program: whose outputs are one number a batch.
        arrays: one row a sample.
        batch_size: rows of a batch; the last one may be smaller.
        order: rows are taken in this order (int64), by default as they stand.  Its contents may change between calls.
    """

    def __init__(self, program: Executable, arrays: Sequence[np.ndarray], batch_size: int, order: np.ndarray | None):
        self.program, self.arrays, self.batch_size, self.order = program, arrays, batch_size, order
        self.rows, self.extents = min(batch_size, len(arrays[0])), program.extents_of(arrays)

    def _install(self, team: int) -> None:
        program, total = self.program, len(self.arrays[0])
        program._prepare(self.rows, team, self.extents)
        self.held = program._bind_arguments(self.arrays, self.batch_size, self.order, total, 0)
        self.results = program._make_outputs(total, self.batch_size, 1)
        table, slots = program.table, program.module.slots
        for word, value in ((BATCH, self.batch_size), (TOTAL, total), (COUNT, 1)):
            table[:, word] = value
        self._find_words([slots * t for t in range(program.threads)])
        # Where the kernels read the arrays as they stand, each batch has its own address.
        self.moving = []
        for buffer, array in zip(program.inputs, self.arrays, strict=True):
            word = program.module.advance.get(buffer.op)
            if word is not None and table[0, word + 1]:
                places = tuple(slots * t + word for t in range(program.threads))
                self.moving.append((places, array.ctypes.data, array.strides[0] * self.batch_size))
        self.starts = tuple(slots * t + START for t in range(program.threads))

    def __call__(self, batch: int, scalars: dict[str, float]) -> list[np.ndarray]:
        """Outputs of batch number `batch`: the same arrays [1] at each call, overwritten."""
        program = self.program
        with program.lock:
            words = self._ready()
            for at in self.starts:
                words[at] = batch
            for places, base, stride in self.moving:
                for at in places:
                    words[at] = base + batch * stride
            self._go(scalars)
            return self.results


def singles(program: Any, arrays: Sequence[np.ndarray], batch_size: int, order: np.ndarray | None) -> Singles | None:
    """A short way to run single batches; None for a program that has none (an interpreted one)."""
    return Singles(program, arrays, batch_size, order) if isinstance(program, Executable) else None
