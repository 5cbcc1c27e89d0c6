"""Programs whose results are looked at: a NaN or infinity is traced back to the op that made it.

The program runs as usual.  When the loss or a variable it updates is not finite, the batch runs again, uncompiled and
from the values that the variables had before it, and every op is looked at in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from layerflow.errors import NumericsError
from layerflow.graph import numerics
from layerflow.graph.ir import Graph
from layerflow.graph.symbolic import Op
from layerflow.jit.interpreter import values_of


class _State:
    """A copy of the variables that a graph updates."""

    def __init__(self, graph: Graph):
        self.storages = [parameter.payload._storage for parameter, _ in graph.updates]
        self.copies = [s.copy() for s in self.storages]

    def restore(self) -> None:
        for storage, copy in zip(self.storages, self.copies, strict=True):
            storage[...] = copy

    def is_bad(self) -> bool:
        return any(map(numerics.is_bad, self.storages))


def _explained(
    graph: Graph,
    arguments: Sequence[np.ndarray],
    scalars: Mapping[str, float],
    rows: int = 0,
    captured: Mapping[Op, np.ndarray] | None = None,
) -> NumericsError:
    values = values_of(graph, arguments, scalars, rows, captured)
    found = numerics.explain(graph.ops, graph.outputs, graph.updates, values)
    if found is None:
        found = NumericsError(
            "the compiled code made a NaN or infinity that the uncompiled operations do not make; numbers near the end "
            "of the type's range may do that. LAYERFLOW_JIT=0 runs uncompiled."
        )
    if "iteration" in scalars:
        found.step = int(scalars["iteration"])
    return found


class Watched:
    """A program for batches (compiled or interpreted) that is looked at after each call.

    Args:
        program: what runs.
        graph: what it was made from.
        advance: told how many batches were good before the bad one.
    """

    def __init__(self, program: Any, graph: Graph, advance: Callable[[int], None]):
        self.program, self.source, self.advance = program, graph, advance

    def __getattr__(self, name: str) -> Any:
        return getattr(self.program, name)

    def direct(self, arrays: Sequence[np.ndarray]) -> None:
        """No short way: every batch is looked at."""

    def run_batches(
        self,
        arguments: Sequence[np.ndarray],
        scalars: dict[str, float],
        batch_size: int,
        order: np.ndarray | None = None,
        first: int = 0,
        count: int | None = None,
    ) -> list[np.ndarray]:
        """See `Executable.run_batches`.

        Raises:
            NumericsError: names the op; the variables are as before the batch that failed.
        """
        before = _State(self.source)
        results = self.program.run_batches(arguments, scalars, batch_size, order, first, count)
        if numerics.is_bad(results[0]) or before.is_bad():
            before.restore()
            self._find(arguments, scalars, batch_size, order, first, len(results[0]))
        return results

    def _find(self, arguments, scalars, batch_size, order, first, count) -> None:
        """Batch by batch up to the one that fails."""
        for b in range(count):
            now = {k: v + b if k in ("step", "iteration") else v for k, v in scalars.items()}
            before = _State(self.source)
            results = self.program.run_batches(arguments, now, batch_size, order, first + b, 1)
            if not (numerics.is_bad(results[0]) or before.is_bad()):
                continue
            before.restore()
            self.advance(b)
            rows = slice((first + b) * batch_size, (first + b + 1) * batch_size)
            taken = [a[rows] if order is None else a[order[rows]] for a in arguments]
            error = _explained(self.source, taken, now, len(taken[0]))
            error.batch = first + b
            raise error


def watched_call(call: Callable, graph: Graph, constants: Sequence[Op]) -> Callable:
    """A bound graph (see `jit.bind`) that is looked at after each call."""

    def checked(
        arguments: Sequence[np.ndarray], captured: Sequence[np.ndarray], scalars: dict[str, Any]
    ) -> list[np.ndarray]:
        before = _State(graph)
        results = call(arguments, captured, scalars)
        if any(map(numerics.is_bad, results)) or before.is_bad():
            before.restore()
            raise _explained(graph, arguments, scalars, captured=dict(zip(constants, captured, strict=True)))
        return results

    return checked
