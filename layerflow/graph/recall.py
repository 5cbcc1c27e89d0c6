"""Recall: what op functions gave in earlier traces of a closure, so that tracing it again costs little.

A closure that is minimized runs whole at each call, as any Python function: what it prints, how it branches and the
numbers it reads have their effect each time.  Only the functions of `ops`, which depend on nothing but their
arguments, do not run again when their arguments are those of an earlier trace.  Captured arrays are arguments by
number: the first one that a trace meets is array 0, the next one array 1.  So new arrays of the same shapes and types
give the same ops, and the same ops are the same compiled step.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from layerflow import config, registry
from layerflow.graph import symbolic
from layerflow.graph.symbolic import CONSTANT, Kind, Op, SymbolicTensor
from layerflow.graph.tensor import Tensor
from layerflow.graph.variable import Variable

MAX_RESULTS = 8192  # a closure whose numbers change at each call must not grow this without end


def _settings() -> tuple[Any, ...]:
    """What op functions depend on beside their arguments."""
    return config.floatx(), config.check_numerics()


class Recall:
    """Results of op functions by their arguments, shared by the traces of one closure (or one optimizer)."""

    def __init__(self) -> None:
        self.results: dict[Any, Any] = {}
        self.constants: dict[tuple[int, tuple[int, ...], np.dtype], Op] = {}
        self.settings = _settings()
        self.floats_move = False

    def let_floats_move(self) -> None:
        """From now on Python floats in arithmetic are captured like arrays: new values need no new code."""
        if not self.floats_move:
            self.floats_move = True
            self.results = {}

    def captures(self) -> Captures:
        """For one trace."""
        if self.settings != _settings() or len(self.results) > MAX_RESULTS:
            self.results, self.settings = {}, _settings()
        return Captures(self)


class _Unkeyed(Exception):
    """An argument that has no key; the op function runs."""


class Captures:
    """The arrays that one trace met, in order, and the results it shares with other traces."""

    __slots__ = ("arrays", "numbers", "recall")

    def __init__(self, recall: Recall):
        self.recall = recall
        self.arrays: list[np.ndarray] = []
        self.numbers: dict[int, int] = {}

    def number(self, array: np.ndarray) -> int:
        """The number of an array in this trace; the list keeps it alive, so that its id stays its own."""
        found = self.numbers.get(id(array))
        if found is None:
            found = self.numbers[id(array)] = len(self.arrays)
            self.arrays.append(array)
        return found

    def constant(self, array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> Op:
        """The op of a captured array (as `dtype`), the same one in every trace."""
        key = (self.number(array), shape, dtype)
        op = self.recall.constants.get(key)
        if op is None:
            op = self.recall.constants[key] = Op(CONSTANT, (), {}, shape, dtype)
        return op

    def call(self, function: Callable, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`function(*args, **kwargs)`, from memory if its arguments are known."""
        if self.recall.floats_move and getattr(function, "kind", None) is Kind.MAP:
            args = self._with_captured_floats(args)
        try:
            key = (function, *[self._key(a) for a in args])
            if kwargs:
                key += tuple([(k, self._key(v)) for k, v in kwargs.items()])
        except _Unkeyed:
            return function(*args, **kwargs)
        results = self.recall.results
        known = results.get(key)
        if known is not None:
            return list(known) if type(known) is list else known
        before = len(self.arrays)
        result = function(*args, **kwargs)
        # An array made and captured inside would not be numbered when the result is recalled.
        if len(self.arrays) == before and _is_symbols(result):
            results[key] = result
        return result

    def _with_captured_floats(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments with Python floats beside a float symbol as captured scalars of its type."""
        if not any(isinstance(a, (float, np.floating)) for a in args):
            return args
        dtypes = [a.dtype for a in args if isinstance(a, (SymbolicTensor, Variable))]
        if not dtypes or any(d.kind != "f" for d in dtypes):
            return args
        dtype = np.result_type(*dtypes)
        return tuple([self._captured(a, dtype) if isinstance(a, (float, np.floating)) else a for a in args])

    def _captured(self, number: Any, dtype: np.dtype) -> SymbolicTensor:
        array = np.asarray(number, dtype)
        return SymbolicTensor(self.constant(array, (), dtype))

    def _key(self, value: Any) -> Any:
        kind = type(value)
        if kind is SymbolicTensor:
            return value.op
        if kind is Variable:
            return value
        if kind is Tensor or kind is np.ndarray:
            return self.number(value), value.shape, value.dtype
        if kind is float or kind is int or kind is bool:
            return kind, value if value else str(value)  # 1, 1.0 and True are not the same, nor are 0.0 and -0.0
        if isinstance(value, np.generic):
            return kind, value.item() or str(value)
        if kind is str or value is None or kind is np.dtype or kind is type:
            return value
        if kind is tuple or kind is list:
            return kind, *map(self._key, value)
        raise _Unkeyed


def _is_symbols(result: Any) -> bool:
    if type(result) is SymbolicTensor:
        return True
    return type(result) in (list, tuple) and all(type(r) is SymbolicTensor for r in result)


def recalled(function: Callable) -> Callable:
    """A form of an op function that does not run again for arguments known from an earlier trace."""
    current = symbolic.current_trace.get
    spelled = _spelling(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        trace = current()
        if kwargs:
            kwargs = spelled(kwargs)
        if trace is None or trace.captures is None:
            return function(*args, **kwargs)
        return trace.captures.call(function, args, kwargs)

    return call


def _spelling(function: Callable) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Puts arguments in camelCase (`keepDims`) under the function's own names."""
    try:
        names = {registry.fold(n): n for n in inspect.signature(function).parameters}
    except (TypeError, ValueError):
        names = {}

    def spelled(kwargs: dict[str, Any]) -> dict[str, Any]:
        if all(map(str.islower, kwargs)):
            return kwargs
        return {names.get(registry.fold(k), k): v for k, v in kwargs.items()}

    return spelled
