"""Step: one training, evaluation or prediction step of a model as a compiled program.

The one place where layers and jit meet.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from layerflow import config
from layerflow.graph import autodiff, execution, ops
from layerflow.graph.ir import Graph
from layerflow.graph.ops import random
from layerflow.graph.ops.primitive import placeholder
from layerflow.graph.shapes import Shape
from layerflow.graph.symbolic import SymbolicTensor
from layerflow.graph.trace import tracing
from layerflow.jit import program as make_program
from layerflow.jit import shortcuts, watched
from layerflow.jit import singles as make_singles
from layerflow.losses import Loss
from layerflow.models import masks
from layerflow.models.lengths import OpenLengths

PREDICT_BATCH = 256  # samples of one native batch of a prediction: bounds the memory of activations


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a program is specialised to: trailing shapes and types of the arrays, not the number of samples."""

    xs: tuple[tuple[Shape, str], ...]
    ys: tuple[tuple[Shape, str], ...]
    ws: tuple[tuple[Shape, str], ...]
    compiled: bool


Arrays = Sequence[np.ndarray]


def described(arrays: Arrays | None) -> tuple[tuple[Shape, str], ...]:
    return tuple((a.shape[1:], a.dtype.str) for a in arrays or ())


def signature_of(xs: Arrays, ys: Arrays = (), ws: Arrays | None = None) -> Signature:
    return Signature(described(xs), described(ys), described(ws), config.jit())


def graph_dtype(array: np.ndarray, wanted: np.dtype | None = None) -> np.dtype:
    """The type an array has inside the graph: integers stay integers (32 bits), anything else is a float."""
    if wanted is not None:
        return wanted
    return np.dtype(np.int32) if array.dtype.kind in "iu" else np.dtype(config.floatx())


def native(array: np.ndarray) -> np.ndarray:
    """The array in a type that compiled code reads."""
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return array.view(np.uint8) if array.dtype == bool else array


class Step:
    """Runs batches of a model.

    Args:
        model: a built model; for "train" and "test" a compiled one.
        mode: "train", "test" or "predict".
    """

    def __init__(self, model: Any, mode: str):
        self.model = model
        self.mode = mode
        self.programs: dict[Signature, Any] = {}
        self._latest: tuple[Signature, Any] | None = None
        self._direct: Any = None  # the short way of the last single batch
        self.lead: int | None = None  # examples of a batch, if every batch must have so many
        self.lengths = OpenLengths(model)

    def rows_at_once(self, wanted: int) -> int:
        """Examples that a prediction computes at a time, about `wanted`."""
        return wanted

    @property
    def names(self) -> list[str]:
        """Columns of the results: the loss, with several outputs the loss of each, then the metrics."""
        several = [f"{name}_loss" for name in self.model.output_names] if len(self.model.outputs) > 1 else []
        return ["loss", *several, *(key for entries in self.model.metrics for key, _ in entries)]

    @functools.cached_property
    def streaming(self) -> dict[str, Any]:
        """The states of the metrics that gather over batches, by name."""
        compilation = self.model.compilation
        return compilation.running.get(self.mode, {}) if compilation else {}

    @functools.cached_property
    def columns(self) -> list[str]:
        """What `run` and `run_many` give of each batch: `names` without the streaming metrics."""
        streaming = self.streaming
        return [name for name in self.names if name not in streaming]

    def running(self) -> dict[str, Any]:
        """The values of the streaming metrics over all batches since `reset`, by name."""
        return {name: state.result() for name, state in self.streaming.items()}

    def reset(self) -> None:
        """The streaming metrics of this mode begin anew."""
        self.model.reset_metrics(self.mode)

    # --- graphs --------------------------------------------------------------

    def graph(
        self,
        xs: Arrays,
        ys: Arrays = (),
        ws: Arrays | None = None,
        grad_only: bool = False,
        signature: Signature | None = None,
    ) -> Graph:
        """The traced graph for arrays of these shapes and types.

        Args:
            grad_only: without the optimizer's update, for dumps.
            signature: the shapes to trace for, if lengths are to stay open.
        """
        model, like = self.model, signature or signature_of(xs, ys, ws)
        inputs = [
            placeholder((self.lead, *shape), graph_dtype(a, s.dtype), f"x{i}")
            for i, (a, (shape, _), s) in enumerate(zip(xs, like.xs, model.inputs, strict=True))
        ]
        labels = [
            placeholder((self.lead, *shape), graph_dtype(a), f"y{i}")
            for i, (a, (shape, _)) in enumerate(zip(ys, like.ys, strict=True))
        ]
        weights = [placeholder((self.lead, *shape), None, f"w{i}") for i, (shape, _) in enumerate(like.ws)]
        with tracing() as record:
            outputs, found, penalties = model.replay_masked(inputs, self.mode == "train")
            if self.mode != "train":
                kept = set(model.state_variables)
                record.updates = {v: value for v, value in record.updates.items() if v in kept}
            if self.mode == "predict":
                return record.graph(inputs, outputs)
            results = self._results(outputs, found, labels, weights, penalties)
            if self.mode == "train":
                self._update(record, results[0], grad_only)
            if not grad_only:
                self._accumulate(outputs, found, labels, weights)
            return record.graph([*inputs, *labels, *weights], [self._number(r) for r in results])

    def _results(
        self,
        outputs: Sequence[Any],
        found: Sequence[Any],
        labels: Sequence[Any],
        weights: Sequence[Any],
        penalties: Sequence[Any],
    ) -> list[Any]:
        """Total loss, losses of several outputs, metrics; `found` are the masks of the outputs."""
        model = self.model
        losses = []
        for i, (loss, label, output, mask) in enumerate(zip(model.loss_functions, labels, outputs, found, strict=True)):
            weight = weights[i] if weights else None
            if isinstance(loss, Loss):
                losses.append(masks.loss(loss, label, output, weight, mask))
            else:
                losses.append(masks.mean(loss(label, output), weight, mask))
        factors = model.loss_weights or [1.0] * len(losses)
        total: Any = sum(
            (v if f == 1 else v * f for v, f in zip(losses[1:], factors[1:], strict=True)),
            losses[0] if factors[0] == 1 else losses[0] * factors[0],
        )
        for penalty in [*penalties, *(make() for make in model.losses)]:
            total = total + penalty
        metrics = [
            masks.mean(metric(label, output), None, mask)
            for entries, label, output, mask in zip(model.metrics, labels, outputs, found, strict=True)
            for key, metric in entries
            if key not in self.streaming
        ]
        return [total, *(losses if len(losses) > 1 else []), *metrics]

    def _accumulate(
        self, outputs: Sequence[Any], found: Sequence[Any], labels: Sequence[Any], weights: Sequence[Any]
    ) -> None:
        """Records how the batch changes the states of the streaming metrics; masked elements weigh nothing."""
        model, streaming = self.model, self.streaming
        for i, (entries, label, output, mask) in enumerate(zip(model.metrics, labels, outputs, found, strict=True)):
            for key, _ in entries:
                if key in streaming:
                    weight = weights[i] if weights and key in model.compilation.weighted else None
                    streaming[key].update(label, output, masks.weight(weight, mask))

    @staticmethod
    def _number(value: Any) -> Any:
        """A result in the float type of the logs."""
        if isinstance(value, SymbolicTensor) and value.dtype.name != config.floatx():
            return ops.cast(value, config.floatx())
        return value

    def _update(self, record: Any, loss: Any, grad_only: bool) -> None:
        variables = list(self.model.trainable_weights)
        gradients = autodiff.gradients(loss, variables)
        pairs = [(v, g) for v, g in zip(variables, gradients, strict=True) if g is not None]
        if grad_only:
            record.updates.update(dict(pairs))
            return
        execution.apply_updates(record, self.model.optimizer, pairs)

    # --- running -------------------------------------------------------------

    def program(
        self, xs: Sequence[np.ndarray], ys: Sequence[np.ndarray] = (), ws: Sequence[np.ndarray] | None = None
    ) -> Any:
        """The program for arrays like these, compiled at first use."""
        signature = signature_of(xs, ys, ws)
        if self._latest is not None and self._latest[0] == signature:
            return self._latest[1]
        program = self.lengths.program(self, signature, xs, ys, ws) or self.programs.get(signature)
        if program is None:
            program = self.programs[signature] = self.compile(signature, xs, ys, ws)
        self._latest = (signature, program)
        return program

    def compile(self, signature: Signature, xs: Arrays, ys: Arrays, ws: Arrays | None) -> Any:
        """A new program for a signature that these arrays have."""
        graph = self.graph(xs, ys, ws, signature=signature)
        types = {op: a.dtype for op, a in zip(graph.inputs, [*xs, *ys, *(ws or ())], strict=True)}
        return watched(make_program(graph, types), graph, self._advance)

    def _advance(self, count: int) -> None:
        """Batches that were good before one that was not."""
        self.model.optimizer.advance(count)

    def _scalars(self) -> dict[str, float]:
        if self.mode != "train":
            return {"seed": random.seed_value(), "step": 0}
        scalars = self.model.optimizer.scalars()
        return {"seed": random.seed_value(), "step": scalars["iteration"], **scalars}

    def report(self, numbers: Sequence[float]) -> dict[str, Any]:
        """Numbers of `columns` and the running values of the streaming metrics, in the order of `names`."""
        known: dict[str, Any] = dict(zip(self.columns, numbers, strict=True))
        if not self.streaming:
            return known
        known.update(self.running())
        return {name: known[name] for name in self.names}

    def results(
        self, xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], ws: Sequence[np.ndarray] | None = None
    ) -> list[Any]:
        """One batch as `run` does it: a number a name of `names`; of streaming metrics the running value."""
        numbers = self.numbers(xs, ys, ws)
        return list(self.report(numbers).values()) if self.streaming else numbers

    def run(
        self, xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], ws: Sequence[np.ndarray] | None = None
    ) -> np.ndarray:
        """One batch of all rows; in "train" mode the weights are updated.

        Returns:
            One number a name of `columns`: loss and metrics of this batch (before the update).
        """
        return np.array(self.numbers(xs, ys, ws), config.floatx())

    def numbers(
        self, xs: Sequence[np.ndarray], ys: Sequence[np.ndarray], ws: Sequence[np.ndarray] | None
    ) -> list[float]:
        """As `run`, with the results as Python numbers."""
        if ws is None:
            results = self._directly([*xs, *ys], xs, ys)
            if results is not None:
                if self.mode == "train":
                    self.model.optimizer.advance()
                return [r.item() for r in results]
        return self._run(xs, ys, ws, None, len(xs[0]), 0, 1)[0].tolist()

    def _directly(
        self, arrays: list[np.ndarray], xs: Sequence[np.ndarray], ys: Sequence[np.ndarray]
    ) -> list[np.ndarray] | None:
        """One batch by the short way, if the arrays can be used where they are."""
        direct = self._direct
        if direct is None or not direct.fits(arrays) or not config.jit():
            if not config.jit():
                return None
            direct = self._direct = self.program(xs, ys).direct(arrays)
            if direct is None:
                return None
        return direct(arrays, self._scalars())

    def shortcut(self, x: np.ndarray, y: np.ndarray | None = None) -> Any:
        """A call for batches just like this one, which has been run: see `layerflow.jit.shortcuts`; None without it."""
        direct = self._direct
        arrays = [x] if y is None else [x, y]
        if direct is None or self.streaming or not config.jit() or not direct.fits(arrays):
            return None
        if direct.sampled != (y is None):  # predictions are rows, what training gives is numbers
            return None
        if y is None:
            return shortcuts.prediction(direct, x, self._scalars)
        optimizer = self.model.optimizer
        random_ops = any(name != "iteration" for name, _ in direct.counter_words)
        scalars = self._scalars if random_ops else optimizer.scalars
        return shortcuts.training(direct, x, y, scalars, optimizer.advance, optimizer.clock)

    def run_many(
        self,
        xs: Sequence[np.ndarray],
        ys: Sequence[np.ndarray],
        ws: Sequence[np.ndarray] | None,
        order: np.ndarray | None,
        batch_size: int,
        first: int,
        count: int,
    ) -> np.ndarray:
        """Batches `first` .. `first + count` in one native call; rows are taken in the order of `order` (int64).

        Returns:
            [count, len(columns)]: each batch's loss and metrics.
        """
        return self._run(xs, ys, ws, order, batch_size, first, count)

    def _run(self, xs, ys, ws, order, batch_size, first, count) -> np.ndarray:
        arrays = [native(a) for a in (*xs, *ys, *(ws or ()))]
        n, m = len(xs), len(ys)
        program = self.program(arrays[:n], arrays[n : n + m], arrays[n + m :])
        columns = program.run_batches(arrays, self._scalars(), batch_size, order, first, count)
        if self.mode == "train":
            self.model.optimizer.advance(count)
        out = np.empty((count, len(columns)), columns[0].dtype)
        for at, column in enumerate(columns):
            out[:, at] = column
        return out

    def singles(
        self,
        xs: Sequence[np.ndarray],
        ys: Sequence[np.ndarray],
        ws: Sequence[np.ndarray] | None,
        order: np.ndarray | None,
        batch_size: int,
    ) -> Callable[[int], list[float]]:
        """A function from the number of a batch to its results: as `run_many` with a count of 1, but faster."""
        arrays = [native(a) for a in (*xs, *ys, *(ws or ()))]
        n, m = len(xs), len(ys)
        program = self.program(arrays[:n], arrays[n : n + m], arrays[n + m :])
        short = make_singles(program, arrays, batch_size, order)
        if short is None:
            return lambda batch: self._run(xs, ys, ws, order, batch_size, batch, 1)[0].tolist()
        trained = self.model.optimizer if self.mode == "train" else None

        def run(batch: int) -> list[float]:
            results = short(batch, self._scalars())
            if trained is not None:
                trained.advance()
            return [result.item() for result in results]

        return run

    def predict(self, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs for all rows."""
        if len(xs[0]) <= PREDICT_BATCH:
            results = self._directly(list(xs), xs, ())
            if results is not None:
                return results
        arrays = [native(a) for a in xs]
        return self.program(arrays).run_batches(arrays, self._scalars(), min(PREDICT_BATCH, max(1, len(arrays[0]))))
