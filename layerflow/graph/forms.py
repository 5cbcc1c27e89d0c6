"""Forms: traced closures made ready to run, and the memory that finds them again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from layerflow import config
from layerflow.graph import execution, trace
from layerflow.graph.ir import Graph
from layerflow.graph.ops.primitive import as_op
from layerflow.graph.recall import Recall

MAX_FORMS = 64  # structures of one closure that are remembered
MAX_ALIKE = 3  # structures that differ in numbers only, until numbers become inputs of the code


class Memory:
    """What is kept from the traces of one closure: results of op functions, and forms that run what was traced."""

    def __init__(self) -> None:
        self.recall = Recall()
        self.forms: dict[Any, Form] = {}
        self._alike: Counter[str] = Counter()

    def form(self, key: Any, make: Callable[[], Form]) -> Form:
        """The form for this key, made at first use."""
        found = self.forms.get(key)
        if found is None:
            if len(self.forms) >= MAX_FORMS:
                self.forms.clear()
            found = self.forms[key] = make()
            skeleton = found.graph.skeleton
            self._alike[skeleton] += 1
            if self._alike[skeleton] >= MAX_ALIKE:  # a number of the closure changes from call to call
                self.recall.let_floats_move()
        return found


class Form:
    """A graph ready to run on the arrays of a later trace with the same ops.

    Args:
        numbers: which array of a trace each captured constant is.
        rest: what belongs to the outputs.
    """

    def __init__(self, graph: Graph, recall: Recall, rest: Any = None):
        numbered = {op: key[0] for key, op in recall.constants.items()}
        constants = [op for op in graph.constants if op in numbered]
        self.numbers = [numbered[op] for op in constants]
        self.graph, self.rest = graph, rest
        self.run = execution.bind(graph, constants)

    def __call__(self, arguments: Sequence[np.ndarray], record: trace.Trace, scalars: dict[str, Any]) -> list[Any]:
        assert record.captures is not None
        arrays = record.captures.arrays
        return self.run(arguments, [arrays[n] for n in self.numbers], scalars)


def mode() -> tuple[Any, ...]:
    """Settings that a form depends on."""
    return config.jit(), config.winograd(), config.check_numerics()


def updates(record: trace.Trace) -> tuple[Any, ...]:
    return tuple((v, as_op(value, v.dtype)) for v, value in record.updates.items()) if record.updates else ()
