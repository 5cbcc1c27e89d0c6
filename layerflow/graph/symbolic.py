"""Op, the immutable node of the op graph, and SymbolicTensor, the handle a user computes with."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import itertools
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from layerflow import config
from layerflow.errors import TraceError
from layerflow.graph import shapes

# NumPy function, ufunc or (ufunc, "reduce") -> the op that does it on symbols.  Filled where ops are declared: this
# module knows none.
NUMPY_OPS: dict[Any, Callable] = {}
# Operator name ("add", "getitem", ...) -> the op, for the operators below.
OPERATORS: dict[str, Callable] = {}

current_trace: ContextVar[Any] = ContextVar("layerflow_trace", default=None)
current_layer: ContextVar[str] = ContextVar("layerflow_layer", default="")
_serial = itertools.count()
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_interned: weakref.WeakValueDictionary[tuple, Op] = weakref.WeakValueDictionary()


class Kind(enum.Enum):
    """How an operation is lowered: the compiler knows kinds, never single operations."""

    LEAF = "leaf"  # input, parameter, constant, literal
    MAP = "map"  # one output element from one element of each operand
    REDUCE = "reduce"  # axes folded with an associative operation
    CONTRACT = "contract"  # products summed over a shared axis
    MOVE = "move"  # the same elements elsewhere
    INDEX = "index"  # elements chosen by integers, or integers made from positions
    COMPOSITE = "composite"  # written as other ops before it is compiled
    LOOP = "loop"  # a graph of its own run step by step, and its results


@dataclasses.dataclass(frozen=True, eq=False)
class Leaf:
    """The primitive of a value that is given, not computed."""

    name: str
    kind: Kind = Kind.LEAF


INPUT = Leaf("input")  # data of a batch; attrs: name
PARAMETER = Leaf("parameter")  # payload: the Variable
CONSTANT = Leaf("constant")  # payload: a captured array
LITERAL = Leaf("literal")  # attrs: value
GIVEN = (INPUT, PARAMETER, CONSTANT)


class Op:
    """One operation: primitive, input ops, attributes, the shape and dtype of its result.

    Equal operations are one object (hash-consing), so `is` compares computations.  `layer` is the name of the layer
    that made it first, for dumps and messages.  `payload` is what a leaf stands for (Variable or array); `origin`
    remembers that a value is a softmax or sigmoid of logits, so that losses can use the stable form.
    """

    __slots__ = (
        "__weakref__",
        "attrs",
        "dtype",
        "forward",
        "inputs",
        "layer",
        "origin",
        "payload",
        "primitive",
        "serial",
        "shape",
        "site",
    )

    def __init__(self, primitive, inputs, attrs, shape, dtype, payload=None):
        self.primitive = primitive
        self.inputs: tuple[Op, ...] = inputs
        self.attrs: Mapping[str, Any] = attrs
        self.shape: shapes.Shape = shape
        self.dtype: np.dtype = dtype
        # What is made of literals alone is shared by all layers and belongs to none.
        self.layer = current_layer.get() if any(i.layer or i.primitive in GIVEN for i in inputs) else ""
        self.payload: Any = payload
        self.origin: tuple[str, Op] | None = None
        self.forward: Op | None = None  # while numerics are checked: the op whose gradient this is part of
        self.site = ""  # while numerics are checked: the line of the user's program
        self.serial = next(_serial)

    @property
    def name(self) -> str:
        return self.primitive.name

    def __repr__(self) -> str:
        return f"<Op {self.name} {shapes.text(self.shape)} {self.dtype}>"


def intern(primitive, inputs: Sequence[Op], attrs: Mapping[str, Any], shape: shapes.Shape, dtype: np.dtype) -> Op:
    """The one Op for this computation."""
    key = (primitive.name, tuple(map(id, inputs)), tuple(sorted(attrs.items())), shape, dtype.str)
    op = _interned.get(key)
    if op is None:
        op = Op(primitive, tuple(inputs), attrs, shape, dtype)
        _interned[key] = op
    if config.check_numerics() and not op.site:
        op.site = _site()
    return op


def _site() -> str:
    """`file:line` of the user's function that is being traced; "" where only layerflow's own code runs."""
    found, frame = "", sys._getframe(1)
    while frame is not None:
        own = frame.f_code.co_filename.startswith(_PACKAGE)
        if found and own:
            return found
        if not own and not found:
            found = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@contextlib.contextmanager
def layer_scope(name: str) -> Iterator[None]:
    """Ops made inside carry this layer name."""
    token = current_layer.set(name)
    try:
        yield
    finally:
        current_layer.reset(token)


def _binary(name: str, reflected: bool = False) -> Callable:
    def method(self, other):
        if not isinstance(other, (SymbolicTensor, Operators, np.ndarray, np.generic, int, float, bool, list, tuple)):
            return NotImplemented
        return OPERATORS[name](other, self) if reflected else OPERATORS[name](self, other)

    return method


def _unary(name: str) -> Callable:
    def method(self):
        return OPERATORS[name](self)

    return method


class Operators:
    """Python operators and NumPy protocols in terms of ops; shared by SymbolicTensor and Variable."""

    __slots__ = ()
    __array_priority__ = 1000

    __add__, __radd__ = _binary("add"), _binary("add", True)
    __sub__, __rsub__ = _binary("subtract"), _binary("subtract", True)
    __mul__, __rmul__ = _binary("multiply"), _binary("multiply", True)
    __truediv__, __rtruediv__ = _binary("divide"), _binary("divide", True)
    __floordiv__, __rfloordiv__ = _binary("floor_divide"), _binary("floor_divide", True)
    __mod__, __rmod__ = _binary("mod"), _binary("mod", True)
    __pow__, __rpow__ = _binary("power"), _binary("power", True)
    __matmul__, __rmatmul__ = _binary("matmul"), _binary("matmul", True)
    __lt__, __le__, __gt__, __ge__ = map(_binary, ("less", "less_equal", "greater", "greater_equal"))
    __and__, __or__, __xor__ = map(_binary, ("logical_and", "logical_or", "logical_xor"))
    __neg__, __abs__, __invert__ = map(_unary, ("negative", "abs", "logical_not"))

    def __pos__(self):
        return self

    def __getitem__(self, key):
        return OPERATORS["getitem"](self, key)

    @property
    def T(self):
        return OPERATORS["transpose"](self)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        op = NUMPY_OPS.get(ufunc)
        if kwargs.get("out") is not None:
            raise TraceError(f"np.{ufunc.__name__}: `out=` cannot write into a symbol; use the returned value.")
        if method == "reduce" and op is not None:
            reduce_op = NUMPY_OPS.get((ufunc, "reduce"))
            if reduce_op is not None:
                return reduce_op(inputs[0], axis=kwargs.get("axis", 0), keepdims=kwargs.get("keepdims", False))
        if method != "__call__" or op is None:
            raise TraceError(
                f"np.{ufunc.__name__} ({method}) has no symbolic form; write it with layerflow ops or NumPy functions "
                "that have one."
            )
        return op(*inputs, **{k: v for k, v in kwargs.items() if k not in ("out", "where") or v not in (None, True)})

    def __array_function__(self, func, types, args, kwargs):
        op = NUMPY_OPS.get(func)
        if op is None:
            raise TraceError(
                f"np.{func.__name__} has no symbolic form; write it with layerflow ops or NumPy functions that have "
                "one."
            )
        return op(*args, **kwargs)


class SymbolicTensor(Operators):
    """A value of the graph: shape (None for the batch), dtype and where it comes from, but no numbers."""

    __slots__ = ("__weakref__", "_name", "op", "source")

    if TYPE_CHECKING:  # the methods of ops/chain.py

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, op: Op, name: str | None = None, source: Any = None):
        self.op = op
        self._name = name
        self.source = source  # the layer graph's node; the op graph does not look at it

    @property
    def shape(self) -> tuple[int | None, ...]:
        return shapes.to_user(self.op.shape)

    @property
    def dtype(self) -> np.dtype:
        return self.op.dtype

    @property
    def name(self) -> str:
        return self._name or f"{self.op.name}_{self.op.serial}"

    @name.setter
    def name(self, value: str) -> None:
        self._name = value

    @property
    def rank(self) -> int:
        return len(self.op.shape)

    @property
    def ndim(self) -> int:
        return len(self.op.shape)

    @property
    def size(self):
        total = shapes.size(self.op.shape)
        return None if isinstance(total, shapes.Dim) else total

    def __repr__(self) -> str:
        return f"SymbolicTensor({self.name!r}, shape={shapes.text(self.op.shape)}, dtype={self.op.dtype})"

    def __eq__(self, other):  # comparison is an op, as in NumPy
        if other is None or isinstance(other, str):
            return False
        return OPERATORS["equal"](self, other)

    def __ne__(self, other):
        if other is None or isinstance(other, str):
            return True
        return OPERATORS["not_equal"](self, other)

    __hash__ = object.__hash__

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise TraceError(f"{self!r} has no values yet, so {what} is not possible while a graph is built; {instead}")

    def __bool__(self):
        self._refuse(
            "bool() (an `if`, `and`, `or`, `max(...)` or `min(...)`)",
            "use np.where, np.maximum, np.minimum or np.logical_and.",
        )

    def __float__(self):
        self._refuse("float()", "keep it symbolic, or run the model and read the result.")

    def __int__(self):
        self._refuse("int()", "keep it symbolic (ops.cast), or run the model and read the result.")

    __index__ = __int__

    def __len__(self):
        self._refuse("len()", "use x.shape, where None stands for the batch.")

    def __iter__(self):
        self._refuse("iteration", "use lf.unstack, lf.split or indexing.")

    def __array__(self, dtype=None, copy=None):
        self._refuse("conversion to an ndarray (np.asarray)", "use NumPy functions on the symbol itself.")


def recalls() -> bool:
    """Whether this is a trace that numbers its captured arrays, to be compared with earlier ones."""
    trace = current_trace.get()
    return trace is not None and trace.captures is not None


def is_symbolic(value: Any) -> bool:
    """True for a symbol, and for a variable while a graph is being traced."""
    return isinstance(value, SymbolicTensor) or (current_trace.get() is not None and hasattr(value, "variable_op"))
