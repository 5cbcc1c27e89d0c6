"""Bound: a compiled graph of known shapes with its variables, to be run again and again on new arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.graph.ir import Graph
from layerflow.graph.shapes import static
from layerflow.graph.symbolic import Op
from layerflow.jit import pipeline
from layerflow.jit.array_objects import address_of
from layerflow.jit.executable import Executable, leaves_of
from layerflow.jit.repeated import Repeated
from layerflow.jit.values import BATCH, COUNT, GATHER, ORDER, START, TOTAL


class Bound(Repeated):
    """What does not change between the calls is written into the program's tables once.

    Graphs of the same structure share a program; each takes it over when its turn comes.
    """

    def __init__(self, program: Executable, graph: Graph, constants: Sequence[Op]):
        self.program, self.graph = program, graph
        mine = dict(zip(leaves_of(graph), program.leaves, strict=True))
        buffers = program.plan.buffers
        self.sources = [buffers.get(mine[op]) for op in constants]
        self.shapes = [([static(n) for n in b.op.shape], b.op.dtype) for b in program.outputs]
        self.rows = 1

    def _install(self, team: int) -> None:
        program = self.program
        program._prepare(1, team)
        program._bind_leaves(self.graph)  # captured arrays get their address at each call
        program._bound_graph = None
        table = program.table
        table[:, [GATHER, ORDER, BATCH, TOTAL, START, COUNT]] = (0, 0, 1, 1, 0, 1)
        starts = [program.module.slots * t for t in range(program.threads)]
        self._find_words(starts)
        everywhere = lambda slot: tuple(s + slot for s in starts)  # noqa: E731
        read = [*program.inputs, *self.sources]
        self.reads = [None if b is None else (everywhere(b.slot), b.op.dtype) for b in read]
        for b in program.outputs:
            program._advance(b.op, 0, 0)
        advance = program.module.advance
        self.writes = [everywhere(advance[b.op]) if b.op in advance else () for b in program.outputs]

    def __call__(
        self, arguments: Sequence[np.ndarray], captured: Sequence[np.ndarray], scalars: dict[str, Any]
    ) -> list[np.ndarray]:
        program = self.program
        with program.lock:
            words = self._ready()
            held = []  # alive until the run is over
            for read, array in zip(self.reads, (*arguments, *captured)):  # noqa: B905 (as many as when it was made)
                if read is not None:
                    places, dtype = read
                    if array.dtype != dtype or not array.flags.c_contiguous:
                        array = np.ascontiguousarray(array, dtype)
                        held.append(array)
                    where = address_of(array)
                    for at in places:
                        words[at] = where
            results = [np.empty(shape, dtype) for shape, dtype in self.shapes]
            for places, array in zip(self.writes, results):  # noqa: B905
                where = address_of(array)
                for at in places:
                    words[at] = where
            self._go(scalars)
            return results


def bind(graph: Graph, constants: Sequence[Op]) -> Bound:
    """A graph without a batch, ready to be run."""
    return Bound(pipeline.shared(graph), graph, constants)
