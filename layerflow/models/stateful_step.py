"""StatefulStep: batches of a model whose layers keep states from batch to batch.  They are run one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layerflow.errors import DataError
from layerflow.graph import execution
from layerflow.graph.ir import Graph
from layerflow.models.step import Signature, Step, native, signature_of


class StatefulStep(Step):
    """As `Step`; every batch has the number of examples that the model was built for."""

    def __init__(self, model: Any, mode: str):
        super().__init__(model, mode)
        self.lead = self.fixed = int(model.inputs[0].shape[0])
        self.graphs: dict[Signature, Graph] = {}

    def rows_at_once(self, wanted: int) -> int:
        return max(1, wanted // self.fixed) * self.fixed

    def _check(self, rows: int, batch_size: int) -> None:
        if batch_size % self.fixed or rows % self.fixed or (self.mode != "predict" and batch_size != self.fixed):
            raise DataError(
                f'model "{self.model.name}" keeps states, for batches of {self.lead} examples; batches of {batch_size} '
                f"of {rows} examples do not fit. Pass batch_size={self.lead} and a multiple of {self.lead} examples."
            )

    def _batch(self, arrays: Sequence[np.ndarray], counts: tuple[int, int]) -> list[np.ndarray]:
        n, m = counts
        parts = arrays[:n], arrays[n : n + m], arrays[n + m :]
        key = signature_of(*parts)
        if key not in self.graphs:
            self.graphs[key] = self.graph(parts[0], parts[1], parts[2] or None)
        return execution.run(self.graphs[key], arrays, self._scalars())

    def _directly(self, arrays, xs, ys):
        return None

    def _run(self, xs, ys, ws, order, batch_size, first, count):
        self._check(len(xs[0]) if order is None else len(order), batch_size)
        arrays, out = [native(a) for a in (*xs, *ys, *(ws or ()))], []
        for batch in range(first, first + count):
            rows: Any = slice(batch * batch_size, (batch + 1) * batch_size)
            rows = rows if order is None else order[rows]
            out.append([float(r) for r in self._batch([a[rows] for a in arrays], (len(xs), len(ys)))])
            if self.mode == "train":
                self.model.optimizer.advance()
        return np.array(out)

    def predict(self, xs):
        self._check(len(xs[0]), len(xs[0]))
        arrays = [native(a) for a in xs]
        parts = [
            self._batch([a[at : at + self.fixed] for a in arrays], (len(xs), 0))
            for at in range(0, len(arrays[0]), self.fixed)
        ]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


def step_of(model: Any, mode: str) -> Step:
    """The step that fits the model."""
    return (StatefulStep if model.stateful else Step)(model, mode)
